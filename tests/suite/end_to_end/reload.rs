//! New files: good ones soon, bad ones never, and no request in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use wicket_client::{Event, Http1, Request, SimClient, Tunnel};

use crate::world::log::lines_with;
use crate::world::pki::PKI;
use crate::world::{ORDERS, ORDERS_POLICY, World, address_of, eventually, reason, within_a_second};

/// Asks until the answer has this status; a request in between may be cut.
async fn answers(world: &World, tunnel: &Tunnel, status: u16) {
    loop {
        let mut http = world.http(tunnel, ORDERS).await;
        if http.send(Request::get(ORDERS, "/v1/items")).await.is_ok_and(|response| response.status == status) {
            return;
        }
    }
}

/// The bundle in force, as the last good load recorded it.
fn bundle(world: &World) -> Value {
    world.audited("policy-loaded").last().unwrap()["bundle"].clone()
}

/// Moves a policy file behind a link within the directory.
fn behind_a_link(world: &World, name: &str) -> std::path::PathBuf {
    let (path, store) = (world.path("policies").join(name), world.path("policies/store"));
    fs::create_dir(&store).unwrap();
    fs::copy(&path, store.join(name)).unwrap();
    symlink(format!("store/{name}"), path.with_extension("link")).unwrap();
    fs::rename(path.with_extension("link"), path).unwrap();
    store.join(name)
}

#[tokio::test]
async fn a_bad_bundle_keeps_the_old_one_and_names_the_place() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let before = bundle(&world);
    let wrong = ORDERS_POLICY.replacen("paths ", "path = []\npaths ", 1);
    let record = world.reload_after(|| world.write_policy("orders.toml", &wrong)).await;
    let line = 1 + wrong.lines().position(|line| line.starts_with("path =")).unwrap();
    assert_eq!((&record["event"], &record["kept"]), (&"policy-load-failed".into(), &before));
    assert!(record["file"].as_str().unwrap().ends_with("policies/orders.toml"), "{record}");
    assert_eq!((&record["line"], &record["column"]), (&line.into(), &1.into()), "{record}");
    assert!(record["message"].as_str().unwrap().contains("`path`"), "{record}");
    assert_eq!(record["hint"], "did you mean `paths`?", "{record}");
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    assert_eq!(world.admin("/readyz").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn what_is_recorded_of_a_bad_bundle_is_an_error_and_not_advice() {
    let world = World::start().await;
    let advice = "[[deny]]\nid = \"idle\"\nwho = \"admins\"\nmethods = [\"PUT\"]\npaths = [\"/unused\"]\n";
    let failing = "[[test]]\nname = \"fails\"\nreq = \"GET /v1/items\"\nexpect = \"allow\"\n";
    let wrong = format!("{ORDERS_POLICY}\n{advice}{failing}");
    let record = world.reload_after(|| world.write_policy("orders.toml", &wrong)).await;
    assert_eq!((&record["event"], &record["code"]), (&"policy-load-failed".into(), &"test-failed".into()), "{record}");
    world.stop().await;
}

#[tokio::test]
async fn a_good_bundle_is_used_within_a_second_of_being_written() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    world.write_policy("orders.toml", &ORDERS_POLICY.replace("\"GET\", ", ""));
    within_a_second("the new answer", answers(&world, &alice, 403)).await;
    let refused = world.get(&alice, "/v1/items").await;
    assert_eq!(reason(&refused), "no-rule");
    world.write_policy("orders.toml", ORDERS_POLICY);
    within_a_second("the old answer", answers(&world, &alice, 200)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_new_api_appears_and_a_removed_one_disappears_in_live_tunnels() {
    let world = World::start().await;
    let (alice, carol) = (world.connect("alice").await, world.connect("carol").await);
    let address = address_of(&carol, crate::world::PAYROLL).await;
    fs::remove_file(world.path("policies/payroll.toml")).unwrap();
    let more = ORDERS_POLICY.replace("\"orders\"", "\"stock\"").replace(ORDERS, "stock.api.example.test");
    world.write_policy("stock.toml", &more);
    let stock =
        async { while alice.resolve("stock.api.example.test").await == Ok(wicket_client::Resolved::NxDomain) {} };
    within_a_second("the new host", stock).await;
    assert_eq!(world.send(&alice, Request::get("stock.api.example.test", "/v1/items")).await.status, 200);
    let gone = async { while carol.tcp_within(address, 80, crate::world::SILENCE).await.is_ok() {} };
    within_a_second("the end of the old host", gone).await;
    world.stop().await;
}

#[tokio::test]
async fn nt_51_whatever_is_wrong_with_a_file_the_old_bundle_serves() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let before = bundle(&world);
    let path = behind_a_link(&world, "orders.toml");
    let with = |from: &str, to: &str| {
        assert!(ORDERS_POLICY.contains(from), "{from}");
        ORDERS_POLICY.replacen(from, to, 1).replace("{orders}", &world.orders.address.to_string()).into_bytes()
    };
    let good = with("", "");
    let variants: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown key", with("id      = \"use\"", "id = \"use\"\nwhoo = \"admins\"")),
        ("a key of a later version", with("id      = \"use\"", "id = \"use\"\nwhen = \"true\"")),
        // Any text may be a group of an issuer or of the user file, so the name that a file can get wrong is the subject's.
        ("a misspelt subject", with("[\"developers\", \"admins\"]", "[\"developpers\"]")),
        ("no methods", with("[\"GET\", \"POST\"]", "[]")),
        ("a method that is none", with("[\"GET\", \"POST\"]", "[\"*\"]")),
        ("an empty path", with("[\"/v1/**\"]", "[\"\"]")),
        ("a pattern in the middle", with("/v1/**", "/**/v1")),
        ("a table twice", with("[[allow]]", "[upstream]\nurl = \"http://localhost:1\"\n[[allow]]")),
        ("a rule twice", with("id      = \"delete\"", "id = \"use\"")),
        ("another file's name", with("\"orders\"", "\"oders\"")),
        ("a host outside its file's rights", with("orders.api.example.test", "ORDERS_.test")),
        ("a wrong type", with("policy_version = 1", "policy_version = \"1\"")),
        ("a future language", with("policy_version = 1", "policy_version = 2")),
        ("metadata as upstream", with("http://{orders}", "http://169.254.169.254")),
        ("half a file", good[..good.len() - 20].to_vec()),
        ("nothing", Vec::new()),
        ("no text", vec![0xFF; 100]),
        ("a million lines", [&good[..], &b"#\n".repeat(1_000_000)].concat()),
        ("two MiB", [&good[..], &[b'#'; 2 << 20]].concat()),
        ("a test that fails", [&good[..], FAILING_TEST.as_bytes()].concat()),
    ];
    for (what, text) in variants {
        let failed = world.audited("policy-load-failed").len();
        let record = world.reload_after(|| crate::world::put_bytes(&path, &text)).await;
        assert_eq!(record["event"], "policy-load-failed", "{what}: {record}");
        assert_eq!(world.audited("policy-load-failed")[failed]["kept"], before, "{what}");
        assert_eq!(world.get(&alice, "/v1/items").await.status, 200, "{what}");
    }
    // A file with a hole takes no room on the disk.
    let huge = world.path("huge.toml");
    fs::File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    let record = world.reload_after(|| fs::rename(&huge, &path).unwrap()).await;
    assert_eq!((&record["code"], &record["kept"]), (&"too-large".into(), &before), "{record}");
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    let failed = world.audited("policy-load-failed").len();
    fs::write(world.path("elsewhere.toml"), &good).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(world.path("elsewhere.toml"), &path).unwrap();
    world.order_reload().await;
    eventually("a link out of the directory", async || world.audited("policy-load-failed").len() > failed).await;
    assert_eq!(world.audited("policy-load-failed")[failed]["code"], "outside");
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    assert_eq!(world.audited("policy-loaded").len(), 1, "no bad file was ever in force");
    world.stop().await;
}

const FAILING_TEST: &str = r#"
[[test]]
name   = "nobody deletes"
as     = { groups = ["admins"] }
req    = "DELETE /v1/items/1"
expect = "deny"
"#;

#[tokio::test]
async fn a_config_map_is_swapped_by_its_link() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let policies = world.path("policies");
    let generation = |name: &str, text: &str| {
        fs::create_dir(policies.join(name)).unwrap();
        let text = text.replace("{orders}", &world.orders.address.to_string());
        fs::write(policies.join(name).join("orders.toml"), text).unwrap();
    };
    let point = |name: &str| {
        symlink(name, policies.join("..data_tmp")).unwrap();
        fs::rename(policies.join("..data_tmp"), policies.join("..data")).unwrap();
    };
    generation("..one", ORDERS_POLICY);
    generation("..two", &ORDERS_POLICY.replace("\"GET\", ", ""));
    point("..one");
    fs::remove_file(policies.join("orders.toml")).unwrap();
    symlink("..data/orders.toml", policies.join("orders.toml")).unwrap();
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    point("..two");
    within_a_second("the new answer", answers(&world, &alice, 403)).await;
    world.stop().await;
}

const RELOADS: usize = 100;

#[tokio::test]
async fn nt_52_a_hundred_reloads_under_load_show_no_request_a_mixed_generation() {
    let world = World::start().await;
    let path = behind_a_link(&world, "orders.toml");
    // Rule and upstream change together: a request judged by one generation and sent by another would show.
    let even = ORDERS_POLICY.replace("\"use\"", "\"even\"");
    let odd = ORDERS_POLICY.replace("\"use\"", "\"odd\"").replace("{orders}", "{payroll}");
    world.reload_after(|| crate::world::put(&path, &world.policy(&even))).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    let mut tunnels = Vec::new();
    for person in ["alice", "bob"] {
        let tunnel = Arc::new(world.connect(person).await);
        let address = address_of(&tunnel, ORDERS).await;
        for _ in 0..2 {
            load.spawn(calls(Arc::clone(&tunnel), address, Arc::clone(&over)));
        }
        tunnels.push(tunnel);
    }
    for round in 0..RELOADS {
        let record = world
            .reload_after(|| crate::world::put(&path, &world.policy(if round % 2 == 0 { &odd } else { &even })))
            .await;
        assert_eq!(record["event"], "policy-loaded", "{record}");
    }
    over.store(true, Ordering::Relaxed);
    let sent: usize = load.join_all().await.into_iter().sum();
    assert!(sent > RELOADS, "{sent} requests are no load");

    let decisions: BTreeMap<String, Value> = world
        .audited("decision")
        .into_iter()
        .map(|record| (record["decision_id"].as_str().unwrap().to_owned(), record))
        .collect();
    let mut rules_of_bundles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (backend, rule) in [(&world.orders, "orders/even"), (&world.payroll, "orders/odd")] {
        assert!(!backend.seen().is_empty());
        for seen in backend.seen() {
            let record = &decisions[seen.header("wicketgate-decision")];
            assert_eq!(record["rule"], rule, "{record}");
            let bundle = record["bundle"].as_str().unwrap().to_owned();
            rules_of_bundles.entry(bundle).or_default().insert(rule.to_owned());
        }
    }
    assert!(rules_of_bundles.values().all(|rules| rules.len() == 1), "{rules_of_bundles:?}");
    assert_eq!(world.orders.seen().len() + world.payroll.seen().len(), sent);
    drop(tunnels);
    world.stop().await;
}

/// Calls until it is over; every call is answered by an API.
async fn calls(tunnel: Arc<Tunnel>, address: std::net::Ipv4Addr, over: Arc<AtomicBool>) -> usize {
    let mut http = Http1::new(tunnel.tcp(address, 80).await.unwrap()).await.unwrap();
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let response = http.send(Request::get(ORDERS, "/v1/items")).await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        sent += 1;
        // The load must not keep the reloads from the processor.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    sent
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_clients_and_live_sessions_go_on() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let mut kept = world.http(&alice, ORDERS).await;
    world.write_server_certificate(&PKI.renewed);
    let shown = async || world.tls(&[]).await.unwrap().get_ref().1.peer_certificates().unwrap()[0] == PKI.renewed.der();
    eventually("the new certificate", shown).await;
    assert_eq!(kept.send(Request::get(ORDERS, "/v1/items")).await.unwrap().status, 200);
    let bob = world.connect("bob").await;
    assert_eq!(world.get(&bob, "/v1/items").await.status, 200, "bound to the new certificate");
    assert_eq!(world.sessions().await.len(), 2);
    drop(kept);
    world.stop().await;
}

#[tokio::test]
async fn a_login_that_began_before_a_renewal_is_bound_to_the_certificate_that_it_saw() {
    let world = World::start().await;
    let mut stream = world.tls(&[]).await.unwrap();
    let mut client = SimClient::new(world.profile("alice"), &PKI.server.der(), [7; 32], wicketgate::clock::now());
    world.write_server_certificate(&PKI.renewed);
    let shown = async || world.tls(&[]).await.unwrap().get_ref().1.peer_certificates().unwrap()[0] == PKI.renewed.der();
    eventually("the new certificate", shown).await;
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let up = async {
        loop {
            client.poll_transmit(&mut output);
            stream.write_all(&output).await.unwrap();
            stream.flush().await.unwrap();
            output.clear();
            match client.poll_event() {
                Some(Event::Up(_)) => return,
                Some(Event::Ended(ended)) => panic!("{ended:?}"),
                Some(_) => {}
                None => {
                    assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0);
                    client.handle_input(&input, wicketgate::clock::now());
                    input.clear();
                }
            }
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, up).await.expect("the tunnel");
    eventually("the session", async || world.sessions().await.len() == 1).await;
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_renewed_services_ca_issues_the_certificates_of_the_hosts_anew() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let issuer = async || {
        let stream = world.open(&alice, ORDERS, 443).await;
        let tls = wicket_client::tls(stream, PKI.roots.clone(), ORDERS, &[]).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[1].clone().into_owned()
    };
    assert_eq!(issuer().await, PKI.services.der());
    world.write_pem("tls/services-ca", &PKI.renewed_services);
    eventually("a certificate of the renewed CA", async || issuer().await == PKI.renewed_services.der()).await;
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_not_taken() {
    let world = World::start().await;
    let record =
        world.reload_after(|| crate::world::put(&world.path("tls/server.pem"), &PKI.renewed.certificate)).await;
    assert_eq!((&record["what"], &record["result"]), (&"certificate".into(), &"kept".into()), "{record}");
    let stream = world.tls(&[]).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], PKI.server.der());
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_server_without_users_starts_and_takes_the_first_one() {
    let files = World::builder().write().await;
    for name in ["users.toml", "users.key"] {
        fs::remove_file(files.path(name)).unwrap();
    }
    let world = World::run(files).await;
    assert_eq!(world.admin("/readyz").await.status, 200);
    let record = world.reload_after(|| world.add_user("alice", &["developers"])).await;
    assert_eq!((&record["what"], &record["result"]), (&"users".into(), &"replaced".into()), "{record}");
    let alice = world.connect("alice").await;
    fs::remove_file(world.path("users.toml")).unwrap();
    world.order_reload().await;
    world.record(|record| record["what"] == "users" && record["result"] == "kept").await;
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200, "a file that is gone turns nobody out");
    world.stop().await;
}

#[tokio::test]
async fn a_user_file_is_taken_when_its_mode_or_that_of_its_key_is_mended() {
    let world = World::start().await;
    for (name, groups) in [("users.toml", ["admins"]), ("users.key", ["developers"])] {
        let mode = |mode| fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
        let kept = || world.audit(|record| record["what"] == "users" && record["result"] == "kept").len();
        let before = kept();
        mode(0o644);
        world.set_groups("alice", &groups);
        eventually("the refusal", async || kept() > before).await;
        let taken = world.audited("users-reloaded").len();
        mode(0o600);
        eventually("the new users", async || world.audited("users-reloaded").len() > taken).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_bad_user_file_keeps_the_old_one_and_a_bad_bundle_does_not_keep_a_disabled_user() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let good = fs::read_to_string(world.path("users.toml")).unwrap();
    let record = world.reload_after(|| crate::world::put(&world.path("users.toml"), "[[user]]\nname = 7\n")).await;
    assert_eq!((&record["what"], &record["result"]), (&"users".into(), &"kept".into()), "{record}");
    world.connect("bob").await;
    crate::world::put(&world.path("users.toml"), &good);
    world.write_policy("orders.toml", "this is no policy");
    world.users().set_disabled("alice", true).unwrap();
    within_a_second("the end of Alice's tunnel", alice.closed()).await;
    world.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_kept_and_told() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let text = fs::read_to_string(world.config()).unwrap();
    crate::world::put(&world.config(), &text.replace("[network]", "[network]\ngateway = \"198.18.7.9\""));
    world.order_reload().await;
    let told = async || lines_with("needs a restart").iter().any(|line| line.contains("[network]"));
    eventually("the warning", told).await;
    assert!(alice.ping("198.18.7.1".parse().unwrap()).await);
    assert_eq!(world.connect("bob").await.gateway().to_string(), "198.18.7.1");
    world.stop().await;
}
