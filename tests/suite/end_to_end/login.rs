//! Who gets in: passwords, their refusals, back-off, and how many sessions there may be.

use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::task::JoinSet;
use wicket_client::{ClientKind, Error, Method, Profile, Tunnel};

use crate::world::log::lines_with;
use crate::world::pki::PKI;
use crate::world::{PATIENCE, World, eventually, within_a_second};

fn with(world: &World, person: &str, password: &str, method: Method) -> Profile {
    let mut profile = world.profile(person);
    profile.password = password.to_owned();
    profile.method = method;
    profile
}

async fn refusal(world: &World, person: &str, password: &str, method: Method) -> Error {
    world.try_connect(with(world, person, password, method)).await.err().expect("a refusal")
}

/// The records of so many refused logins: each is written when its connection ends.
async fn refusals(world: &World, count: usize) -> Vec<Value> {
    eventually("the records", async || world.audited("login-refused").len() >= count).await;
    world.audited("login-refused")
}

/// The names of a record's fields, in order.
fn shape(record: &Value) -> Vec<&str> {
    record.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn wrong_password_and_unknown_user_are_answered_and_recorded_alike() {
    let world = World::builder().set("tunnel", r#"methods = ["eap-mschapv2", "mschapv2", "pap"]"#).start().await;
    for method in [Method::EapMsChapV2, Method::MsChapV2, Method::Pap] {
        for person in ["alice", "mallory", "bob"] {
            assert_eq!(refusal(&world, person, "a guess", method).await, Error::Refused(691), "{person} {method:?}");
        }
    }
    let records = refusals(&world, 9).await;
    for record in &records {
        assert_eq!(shape(record), shape(&records[0]), "{record}");
        assert_eq!(record["reason"], "credentials", "{record}");
    }
    assert!(world.audited("tunnel-up").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn only_the_right_password_tells_that_an_account_is_disabled() {
    let world = World::builder().user("dave", &["developers"]).start().await;
    world.reload_after(|| _ = world.users().set_disabled("dave", true).unwrap()).await;
    for method in [Method::EapMsChapV2, Method::MsChapV2] {
        assert_eq!(refusal(&world, "dave", "a guess", method).await, Error::Refused(691), "{method:?}");
        assert_eq!(refusal(&world, "dave", crate::world::PASSWORD, method).await, Error::Refused(647), "{method:?}");
    }
    let reasons: Vec<Value> = refusals(&world, 4).await.into_iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons, ["credentials", "disabled", "credentials", "disabled"]);
    assert!(world.audited("tunnel-up").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn every_spelling_of_a_name_is_the_same_person() {
    let world = World::start().await;
    for name in ["alice", "ALICE", "CORP\\Alice"] {
        for client in [ClientKind::Windows, ClientKind::Pppd] {
            let mut profile = world.profile(name).client(client);
            profile.method = Method::MsChapV2;
            let tunnel = world.try_connect(profile).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(world.get(&tunnel, "/v1/items").await.text().contains(r#""person":"alice""#));
            tunnel.disconnect().await;
        }
    }
    assert!(world.audited("tunnel-up").iter().all(|record| record["user"] == "alice"));
    world.stop().await;
}

#[tokio::test]
async fn pap_is_refused_unless_it_is_switched_on() {
    let world = World::start().await;
    let pap = with(&world, "alice", crate::world::PASSWORD, Method::Pap);
    assert!(world.try_connect(pap.clone()).await.is_err());
    assert!(world.audited("tunnel-up").is_empty());
    world.stop().await;
    let world = World::builder().set("tunnel", r#"methods = ["pap"]"#).start().await;
    let tunnel = world.try_connect(pap).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    assert_eq!(world.audited("tunnel-up")[0]["method"], "pap");
    assert!(world.try_connect(world.profile("alice")).await.is_err(), "and then nothing else is on");
    world.stop().await;
}

#[tokio::test]
async fn guessing_from_one_address_locks_nobody_out_at_another() {
    let world = World::start().await;
    for _ in 0..4 {
        refusal(&world, "alice", "a guess", Method::MsChapV2).await;
    }
    let right = refusal(&world, "alice", crate::world::PASSWORD, Method::MsChapV2).await;
    assert_eq!(right, Error::Refused(691), "in back-off the right password is answered like a wrong one");
    assert_eq!(refusals(&world, 4).await.len(), 4);
    let sum = world.record(|record| record["event"] == "logins-refused").await;
    assert_eq!((&sum["reason"], &sum["count"]), (&"locked".into(), &1.into()), "such refusals are summed");
    let elsewhere = world.through(Ipv4Addr::new(127, 0, 0, 2)).await;
    let tunnel = Tunnel::connect(elsewhere, PKI.roots.clone(), world.profile("alice")).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    assert!(world.audited("tunnel-up")[0]["source"].as_str().unwrap().starts_with("127.0.0.2:"));
    assert_eq!(world.get(&world.connect("bob").await, "/v1/items").await.status, 200, "and nobody else waits");
    world.stop().await;
}

#[tokio::test]
async fn one_session_too_many_ends_the_persons_oldest() {
    let world = World::builder().set("tunnel", "max_sessions_per_user = 2").start().await;
    let (oldest, middle) = (world.connect("alice").await, world.connect("alice").await);
    let bob = world.connect("bob").await;
    let newest = world.connect("alice").await;
    let ended = within_a_second("the end of the oldest", oldest.closed()).await;
    assert!(matches!(ended, wicket_client::Ended::Disconnected(_)), "{ended:?}");
    for alive in [&middle, &bob, &newest] {
        assert_eq!(world.get(alive, "/v1/items").await.status, 200);
    }
    let down = world.record(|record| record["event"] == "tunnel-down").await;
    assert_eq!((&down["user"], &down["session"]), (&"alice".into(), &world.audited("tunnel-up")[0]["session"]));
    assert_eq!(world.sessions().await.len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn a_full_server_takes_nobody_more_until_somebody_leaves() {
    let world = World::builder().set("tunnel", "max_sessions = 2").start().await;
    let (alice, _bob) = (world.connect("alice").await, world.connect("bob").await);
    // Her tunnel may be up for the moment that it takes to look for room.
    match world.try_connect(world.profile("carol")).await {
        Err(error) => assert!(matches!(error, Error::Disconnected(_)), "{error:?}"),
        Ok(tunnel) => {
            let ended = within_a_second("the end of her tunnel", tunnel.closed()).await;
            assert!(matches!(ended, wicket_client::Ended::Disconnected(_)), "{ended:?}");
        }
    }
    let record = world.record(|record| record["event"] == "login-refused").await;
    assert_eq!(record["reason"], "full");
    alice.disconnect().await;
    eventually("room", async || world.sessions().await.len() == 1).await;
    world.connect("carol").await;
    world.stop().await;
}

#[tokio::test]
async fn one_address_has_only_so_many_connections_that_have_not_logged_in() {
    let world = World::builder().set("listen", "max_unauthenticated_per_source = 2").start().await;
    let logged_in = world.connect("alice").await;
    let (first, second) = (world.tls(&[]).await.unwrap(), world.tls(&[]).await.unwrap());
    let third = world.tcp().await;
    let peer = third.local_addr().unwrap();
    assert!(wicket_client::tls(third, PKI.roots.clone(), crate::world::SERVER_NAME, &[]).await.is_err());
    let about = format!("peer={peer}");
    eventually("one line about it", async || lines_with(&about).len() == 1).await;
    let elsewhere = world.through(Ipv4Addr::new(127, 0, 0, 3)).await;
    Tunnel::connect(elsewhere, PKI.roots.clone(), world.profile("bob")).await.unwrap();
    drop(first);
    eventually("the place of the first", async || world.try_connect(world.profile("bob")).await.is_ok()).await;
    assert_eq!(world.get(&logged_in, "/v1/items").await.status, 200, "who has logged in does not count");
    drop(second);
    world.stop().await;
}

#[tokio::test]
async fn connections_beyond_max_unauthenticated_wait_and_are_served_later() {
    let world = World::builder().set("listen", "max_unauthenticated = 2").start().await;
    let held = [world.tls(&[]).await.unwrap(), world.tls(&[]).await.unwrap()];
    let mut waiting = JoinSet::new();
    let (listen, profile) = (world.listen, world.profile("alice"));
    waiting.spawn(Tunnel::connect(listen, PKI.roots.clone(), profile));
    assert!(tokio::time::timeout(crate::world::SILENCE, waiting.join_next()).await.is_err(), "served above the limit");
    drop(held);
    let tunnel = tokio::time::timeout(PATIENCE, waiting.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}
