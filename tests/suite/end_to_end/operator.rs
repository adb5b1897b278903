//! What the operator does and sees: start, health, sessions, drain.

use wicket_client::{Ended, Error, Request};

use super::revoke::{download, ends};
use crate::world::{A_SECOND, ORDERS, ORDERS_POLICY, World, eventually, within_a_second};

#[tokio::test]
async fn health_readiness_and_metrics_are_told_and_no_names() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    world.get(&alice, "/v1/items").await;
    assert_eq!((world.admin("/healthz").await.status, world.admin("/readyz").await.status), (200, 200));
    let metrics = world.admin("/metrics").await.text();
    for line in metrics.lines().filter(|line| line.starts_with("wicketgate_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(metrics.contains(&format!("# HELP {family} ")), "{line}");
    }
    for line in [r#"wicketgate_requests_total{outcome="allow",reason="allowed"}"#, r#"wicketgate_logins_total{"#] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(metrics.contains("wicketgate_tunnels_max 10000\n"), "{metrics}");
    for name in ["tls", "services.ca", "authorities.root"] {
        let line = format!("wicketgate_cert_not_after_seconds{{certificate=\"{name}\"}} ");
        assert!(metrics.contains(&line), "{name}: {metrics}");
    }
    assert!(!metrics.contains("alice"));
    for path in ["/sessions", "/", "/healthz/x"] {
        assert_eq!(world.admin(path).await.status, 404, "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_operator_sees_sessions_and_ending_one_cuts_its_download_at_once() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let (cut, mut goes_on) = (download(&world, &alice).await, download(&world, &bob).await);
    let sessions = world.sessions().await;
    assert_eq!(sessions.len(), 2);
    let row = &sessions[0];
    assert_eq!(
        (&row["user"], &row["method"], &row["source"]),
        (&"alice".into(), &"eap-mschapv2".into(), &"127.0.0.1".into())
    );
    assert_eq!(row["requests"], 1);
    let path = format!("/sessions/{}", row["id"].as_str().unwrap());
    assert_eq!(world.operate(http::Method::DELETE, &path).await.status, 204);
    within_a_second("the end of the download", ends(cut)).await;
    within_a_second("the end of the tunnel", alice.closed()).await;
    eventually("the end of the session", async || world.operate(http::Method::DELETE, &path).await.status == 404).await;
    assert!(goes_on.frame().await.unwrap().is_ok(), "nobody else's");
    let down = world.record(|record| record["event"] == "tunnel-down").await;
    assert_eq!((&down["user"], &down["reason"]), (&"alice".into(), &"killed".into()));
    drop(goes_on);
    world.stop().await;
}

#[tokio::test]
async fn a_bad_bundle_at_start_serves_nothing_until_it_is_mended() {
    let broken = ORDERS_POLICY.replace("methods", "method");
    let world = World::builder().policy("orders.toml", &broken).launch().await;
    let ready = world.admin("/readyz").await;
    assert_eq!((ready.status, world.admin("/healthz").await.status), (503, 200));
    assert!(ready.text().contains("no valid policies"), "{}", ready.text());
    let alice = world.connect("alice").await;
    assert_eq!(alice.resolve(ORDERS).await, Ok(wicket_client::Resolved::NxDomain));
    world.write_policy("orders.toml", ORDERS_POLICY);
    within_a_second("readiness", async { while world.admin("/readyz").await.status != 200 {} }).await;
    eventually("the host", async || matches!(alice.resolve(ORDERS).await, Ok(wicket_client::Resolved::Addresses(_))))
        .await;
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200, "in the tunnel that was there before");
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let files = World::builder().write().await;
    std::fs::write(files.path("users.toml"), "this is no user file").unwrap();
    let path = files.config();
    let (config, _) = wicketgate::config::load(&path).unwrap();
    let (_stop, stopped) = tokio::sync::oneshot::channel();
    let (_reload, reloads) = tokio::sync::mpsc::channel(1);
    let orders = wicketgate::server::Orders { stop: stopped, reload: reloads };
    let served = wicketgate::server::run(path, config, 1, crate::world::metrics(), orders, |_| panic!("ready")).await;
    assert!(format!("{:#}", served.unwrap_err()).contains("users.toml"));
}

#[tokio::test]
async fn a_drain_lets_open_requests_finish_and_takes_no_new_ones() {
    let mut world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let mut http = world.http(&alice, ORDERS).await;
    let mut held = Box::pin(http.send(Request::get(ORDERS, "/v1/hold")));
    tokio::select! {
        _ = &mut held => panic!("not held"),
        () = eventually("the request at the backend", async || world.orders.seen().len() == 1) => {}
    }
    world.drain();
    let idle = within_a_second("the end of the tunnel without requests", bob.closed()).await;
    assert!(matches!(idle, Ended::Disconnected(_)), "{idle:?}");
    let refused = world.try_connect(world.profile("bob")).await.err().expect("no new tunnels");
    assert!(matches!(refused, Error::Tcp(_) | Error::Http(503) | Error::Lost), "{refused}");
    assert_eq!(world.admin("/readyz").await.status, 503);
    assert!(!world.has_ended());
    world.orders.release();
    let response = held.await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    drop(http);
    let ended = alice.closed().await;
    assert!(matches!(ended, Ended::Disconnected(_)), "{ended:?}");
    within_a_second("the end of the server", async { eventually("it", async || world.has_ended()).await }).await;
    assert!(!world.path("admin.sock").exists());
    world.stop().await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_connections_without_requests() {
    let mut world = World::start().await;
    let alice = world.connect("alice").await;
    let mut http = world.http(&alice, ORDERS).await;
    assert_eq!(http.send(Request::get(ORDERS, "/v1/items")).await.unwrap().status, 200);
    world.drain();
    tokio::time::timeout(A_SECOND, alice.closed()).await.expect("the tunnel ends at once");
    world.stop().await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_connections_that_have_not_logged_in() {
    let mut world = World::start().await;
    let _stranger = world.tls(&[]).await.unwrap();
    world.drain();
    within_a_second("the end of the server", async { eventually("it", async || world.has_ended()).await }).await;
}
