//! Bearer tokens: whose they are, who made them, for whom, and until when.

use serde_json::{Value, json};
use wicket_client::{Request, Response, Tunnel};

use crate::world::issuer::now;
use crate::world::{IDENTITY, ISSUERS, ORDERS, ORDERS_POLICY, World, reason};

async fn send(world: &World, tunnel: &Tunnel, token: &str) -> Response {
    world.send(tunnel, Request::get(ORDERS, "/v1/items").bearer(token)).await
}

/// The decision that an answer belongs to.
fn decision(world: &World, response: &Response) -> Value {
    let problem: Value = serde_json::from_slice(&response.body).unwrap();
    let records = world.audited("decision");
    records.into_iter().find(|record| record["decision_id"] == problem["decision_id"]).expect("a record")
}

#[tokio::test]
async fn nt_36_a_persons_token_in_another_persons_tunnel_is_a_conflict_and_recorded() {
    let world = World::builder().issuers().start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let token = world.issuer().token("alice");
    assert_eq!(send(&world, &alice, &token).await.status, 200);
    let refused = send(&world, &bob, &token).await;
    assert_eq!((refused.status, &*reason(&refused)), (401, "identity-conflict"));
    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer "));
    let record = decision(&world, &refused);
    assert_eq!((&record["outcome"], &record["reason"]), (&"deny".into(), &"identity-conflict".into()));
    assert_eq!(record["user"]["id"], "bob");
    assert_eq!(record["token"]["sub"], "id-of-alice", "{record}");
    assert_eq!(world.orders.seen().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn nt_36_the_conflict_of_two_persons_is_an_alarm() {
    let world = World::builder().issuers().start().await;
    let bob = world.connect("bob").await;
    let refused = send(&world, &bob, &world.issuer().token("alice")).await;
    let alarms = world.audited("alarm");
    assert_eq!(alarms.len(), 1);
    assert_eq!((&alarms[0]["alarm"], &alarms[0]["user"]), (&"identity-conflict".into(), &"bob".into()));
    assert_eq!((&alarms[0]["other"], &alarms[0]["session"]), (&"alice".into(), &world.sessions().await[0]["id"]));
    assert_eq!(alarms[0]["decision_id"], decision(&world, &refused)["decision_id"]);
    world.stop().await;
}

#[tokio::test]
async fn a_token_of_nobody_or_of_a_machine_is_a_conflict() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    for change in [
        json!({ "preferred_username": null }),
        json!({ "preferred_username": "" }),
        json!({ "preferred_username": ["alice"] }),
        json!({ "preferred_username": 7 }),
        json!({ "client_id": "id-of-alice" }),
        json!({ "idtyp": "app" }),
        json!({ "sub": "system:serviceaccount:batch:alice" }),
    ] {
        let refused = send(&world, &alice, &world.issuer().token_with("alice", change.clone())).await;
        assert_eq!((refused.status, &*reason(&refused)), (401, "identity-conflict"), "{change}");
    }
    assert_eq!(world.orders.seen().len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn nt_27_nt_28_nt_29_a_token_that_is_wrong_in_any_way_is_refused_with_the_reason() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let (issuer, now) = (world.issuer(), now());
    let change = |change: Value| issuer.token_with("alice", change);
    let good = issuer.token("alice");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = issuer.token("bob");
    let (_, foreign_signature) = other.rsplit_once('.').unwrap();
    let bad: Vec<(&str, String, &str)> = vec![
        ("alg none", issuer.unsigned("alice"), "token-invalid"),
        ("HS256 with the RSA key", issuer.confused("alice"), "token-invalid"),
        ("the signature of another token", format!("{signed}.{foreign_signature}"), "token-invalid"),
        ("no signature", format!("{signed}."), "token-invalid"),
        ("a signature in twice its length", format!("{signed}.{signature}{signature}"), "token-invalid"),
        ("no JWT", "abc".to_owned(), "token-invalid"),
        ("nothing", String::new(), "token-invalid"),
        ("another issuer", change(json!({ "iss": "https://evil.example" })), "token-invalid"),
        ("a slash more", change(json!({ "iss": format!("{}/", issuer.url) })), "token-invalid"),
        ("no issuer", change(json!({ "iss": null })), "token-invalid"),
        ("another audience", change(json!({ "aud": "another" })), "token-audience"),
        ("other audiences", change(json!({ "aud": ["another", "wicketgate2"] })), "token-audience"),
        ("no audience", change(json!({ "aud": null })), "token-audience"),
        ("audience of a wrong type", change(json!({ "aud": { "wicketgate": true } })), "token-audience"),
        ("expired", change(json!({ "exp": now - 3600 })), "token-expired"),
        ("no end", change(json!({ "exp": null })), "token-invalid"),
        ("an end as text", change(json!({ "exp": (now + 600).to_string() })), "token-invalid"),
        ("a negative end", change(json!({ "exp": -1 })), "token-invalid"),
        ("an end beyond all time", change(json!({ "exp": 1e300 })), "token-invalid"),
        ("not yet valid", change(json!({ "nbf": now + 3600 })), "token-invalid"),
        ("a beginning as text", change(json!({ "nbf": "0" })), "token-invalid"),
        ("issued in the future", change(json!({ "iat": now + 3600 })), "token-invalid"),
        ("an authentication in the future", change(json!({ "auth_time": now + 3600 })), "token-invalid"),
        ("no subject", change(json!({ "sub": null })), "token-invalid"),
    ];
    for (what, token, expected) in bad {
        let refused = send(&world, &alice, &token).await;
        assert_eq!((refused.status, &*reason(&refused)), (401, expected), "{what}: {}", refused.text());
        assert!(!refused.text().contains("ey"), "no part of a token comes back");
        assert_eq!(decision(&world, &refused)["reason"], expected, "{what}");
    }
    assert_eq!(world.orders.seen().len(), 0);
    let several = change(json!({ "aud": ["another", "wicketgate"] }));
    assert_eq!(send(&world, &alice, &several).await.status, 200, "one of several audiences is ours");
    world.stop().await;
}

#[tokio::test]
async fn two_tokens_in_one_request_are_refused() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let token = world.issuer().token("alice");
    let both = Request::get(ORDERS, "/v1/items").bearer(&token).bearer(&token);
    assert_eq!(world.send(&alice, both).await.status, 400);
    assert_eq!(world.orders.seen().len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn nt_62_no_issuer_states_the_groups_of_another() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let delete = |token: String| Request::new(http::Method::DELETE, ORDERS, "/v1/items/1").bearer(&token);
    let groups = json!({ "groups": ["admins"] });
    let partner = world.send(&alice, delete(world.partner().token_with("alice", groups.clone()))).await;
    assert_eq!((partner.status, &*reason(&partner)), (403, "no-rule-for-subject"), "{}", partner.text());
    let corp = world.send(&alice, delete(world.issuer().token_with("alice", groups.clone()))).await;
    assert_eq!(corp.status, 200, "the same claim of the issuer that may state it: {}", corp.text());
    let claimed = json!({ "groups": ["admins"], "iss": world.issuer().url });
    let forged = world.send(&alice, delete(world.partner().token_with("alice", claimed))).await;
    assert_eq!((forged.status, &*reason(&forged)), (401, "token-invalid"), "corp's name does not make it corp's");
    let metrics = world.admin("/metrics").await.text();
    assert!(metrics.contains(r#"wicketgate_token_groups_ignored_total{issuer="partner"}"#), "counted");
    assert!(metrics.contains("# HELP wicketgate_token_groups_ignored_total "), "and described");
    assert_eq!(world.orders.seen().len(), 1);
    let asserted = &world.orders.seen()[0];
    assert_eq!(asserted.header("wicketgate-groups"), "admins,developers");
    world.stop().await;
}

#[tokio::test]
async fn a_tokens_groups_count_for_its_request_alone() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let mut http = world.http(&alice, ORDERS).await;
    let delete = || Request::new(http::Method::DELETE, ORDERS, "/v1/items/1");
    let token = world.issuer().token_with("alice", json!({ "groups": ["admins"] }));
    assert_eq!(http.send(delete().bearer(&token)).await.unwrap().status, 200);
    assert_eq!(http.send(delete()).await.unwrap().status, 403, "on the same connection");
    drop(http);
    world.stop().await;
}

#[tokio::test]
async fn an_api_with_login_wants_a_token_and_passes_or_strips_it_as_it_says() {
    let strict = ORDERS_POLICY
        .replace("hosts ", "login = [\"corp\"]\nhosts ")
        .replace("max_body", "authorization = \"strip\"\nmax_body");
    let world = World::builder().issuers().policy("orders.toml", &strict).start().await;
    let alice = world.connect("alice").await;
    let without = world.get(&alice, "/v1/items").await;
    assert_eq!((without.status, &*reason(&without)), (401, "login-required"));
    let partner = send(&world, &alice, &world.partner().token("alice")).await;
    assert_eq!((partner.status, &*reason(&partner)), (401, "login-required"));
    assert_eq!(send(&world, &alice, &world.issuer().token("alice")).await.status, 200);
    assert!(world.orders.seen()[0].headers.get("authorization").is_none());
    world.stop().await;
}

#[tokio::test]
async fn an_issuer_that_a_reload_removes_no_longer_counts() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let token = world.issuer().token("alice");
    assert_eq!(send(&world, &alice, &token).await.status, 200);
    let partner_only = ISSUERS[ISSUERS.find("[issuers.partner]").unwrap()..].to_owned() + IDENTITY;
    assert_eq!(
        world.reload_after(|| world.write_policy("_identity.toml", &partner_only)).await["event"],
        "policy-loaded"
    );
    let refused = send(&world, &alice, &token).await;
    assert_eq!((refused.status, &*reason(&refused)), (401, "token-invalid"), "remembered or not");
    world.stop().await;
}
