//! What works: every client, every method, every protocol, and every byte of it.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use wicket_client::{ClientKind, Ended, Http2, Method, Request, Resolved, Settings};

use crate::world::backend::{hex, pattern};
use crate::world::pki::PKI;
use crate::world::{ORDERS, World, address_of};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn every_client_with_every_method_connects_resolves_and_calls() {
    let world = World::builder().set("tunnel", r#"methods = ["eap-mschapv2", "mschapv2", "pap"]"#).start().await;
    for client in [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp] {
        for method in [Method::EapMsChapV2, Method::MsChapV2, Method::Pap] {
            let mut profile = world.profile("alice").client(client);
            profile.method = method;
            let tunnel =
                world.try_connect(profile).await.unwrap_or_else(|error| panic!("{client:?} {method:?}: {error}"));
            let response = world.get(&tunnel, "/v1/items").await;
            assert_eq!(response.status, 200, "{client:?} {method:?}: {}", response.text());
            assert!(response.text().contains(r#""person":"alice""#), "{}", response.text());
            assert!(tunnel.ping(tunnel.gateway()).await, "{client:?} {method:?}");
            assert_eq!(tunnel.disconnect().await, Ended::Closed, "{client:?} {method:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn tls_1_2_is_enough_for_a_tunnel() {
    let world = World::start().await;
    let settings = Settings { tls12_only: true, ..Settings::default() };
    let tunnel = world.try_connect_with(world.profile("alice"), settings).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_hurries_is_served() {
    let world = World::start().await;
    let tunnel = world.try_connect(world.profile("alice").cheat(wicket_client::Cheat::EagerConnect)).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_name_a_ping_and_a_dhcpinform_are_answered_in_the_tunnel() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    assert_eq!(
        (tunnel.address().to_string(), tunnel.gateway().to_string()),
        ("198.18.7.2".into(), "198.18.7.1".into())
    );
    assert_eq!(tunnel.up().dns, [tunnel.gateway()]);
    assert!(tunnel.ping(tunnel.gateway()).await);
    assert_eq!(tunnel.resolve_type(ORDERS, wicket_client::dns::AAAA).await, Ok(Resolved::NoData));
    let ack = tunnel.inform().await.unwrap();
    assert_eq!(wicket_client::dhcp::option(&ack, 6), Some(&tunnel.gateway().octets()[..]), "the DNS server");
    assert_eq!(wicket_client::dhcp::option(&ack, 15), Some(&b"api.example.test"[..]), "the suffix");
    world.stop().await;
}

#[tokio::test]
async fn https_in_the_tunnel_is_http_2_when_alpn_says_so() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    for (alpn, version) in [(&[&b"h2"[..]][..], 2), (&[b"http/1.1"], 1), (&[], 1), (&[b"h2", b"http/1.1"], 2)] {
        let stream = world.open(&tunnel, ORDERS, 443).await;
        let stream = wicket_client::tls(stream, PKI.roots.clone(), ORDERS, alpn).await.unwrap();
        let request = Request::get(ORDERS, "/v1/items");
        let response = match version {
            2 => Http2::new(stream).await.unwrap().send(request).await.unwrap(),
            _ => wicket_client::request(stream, request).await.unwrap(),
        };
        assert_eq!(response.status, 200, "{alpn:?}: {}", response.text());
    }
    let seen = world.orders.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| seen.header("host") == ORDERS && seen.header("x-forwarded-proto") == "https"));
    world.stop().await;
}

#[tokio::test]
async fn http_2_by_prior_knowledge_is_served_on_port_80() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    let stream = TokioIo::new(world.open(&tunnel, ORDERS, 80).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
    let mut owner = JoinSet::new();
    owner.spawn(connection);
    let call = async |path: &str| {
        let request = http::Request::post(format!("http://{ORDERS}{path}")).body(Full::from("body")).unwrap();
        sender.clone().send_request(request).await.unwrap().status().as_u16()
    };
    assert_eq!(tokio::join!(call("/v1/one"), call("/v1/two")), (200, 200));
    assert_eq!(world.orders.seen().len(), 2);
    drop((sender, owner));
    world.stop().await;
}

#[tokio::test]
async fn ten_mebibytes_up_arrive_as_they_are() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    let body = pattern(10 * MIB);
    let response = world.send(&tunnel, Request::post(ORDERS, "/v1/upload", body.clone())).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.text().contains(&hash(&body)), "{}", response.text());
    assert_eq!(tunnel.packets().duplicate_bytes, 0, "the inner link loses nothing, so nothing comes twice");
    let end = world.record(|record| record["event"] == "end").await;
    assert_eq!(end["req"]["bytes"], 10 * MIB, "{end}");
    world.stop().await;
}

#[tokio::test]
async fn fifty_mebibytes_down_arrive_as_they_are() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    let response = world.get(&tunnel, &format!("/v1/bytes/{}", 50 * MIB)).await;
    assert_eq!((response.status, response.body.len()), (200, 50 * MIB));
    assert_eq!(hash(&response.body), hash(&pattern(50 * MIB)));
    assert_eq!((tunnel.packets().duplicate_bytes, tunnel.packets().gaps), (0, 0));
    let end = world.record(|record| record["event"] == "end").await;
    assert_eq!((&end["resp"]["bytes"], &end["result"]), (&(50 * MIB).into(), &"complete".into()), "{end}");
    world.stop().await;
}

#[tokio::test]
async fn streams_of_many_tunnels_run_side_by_side() {
    let world = World::start().await;
    let expected = hash(&pattern(MIB));
    let mut tunnels = Vec::new();
    for person in ["alice", "alice", "bob", "bob"] {
        tunnels.push((person, std::sync::Arc::new(world.connect(person).await)));
    }
    let mut calls = JoinSet::new();
    for (person, tunnel) in &tunnels {
        let address = address_of(tunnel, ORDERS).await;
        for _ in 0..8 {
            let (tunnel, person) = (tunnel.clone(), *person);
            calls.spawn(async move {
                let mut http = wicket_client::Http1::new(tunnel.tcp(address, 80).await.unwrap()).await.unwrap();
                let body = http.send(Request::get(ORDERS, format!("/v1/bytes/{MIB}"))).await.unwrap().body;
                let echo = http.send(Request::get(ORDERS, "/v1/items")).await.unwrap();
                assert!(echo.text().contains(&format!(r#""person":"{person}""#)), "{}", echo.text());
                hash(&body)
            });
        }
    }
    let hashes = calls.join_all().await;
    assert_eq!(hashes.len(), 32);
    assert!(hashes.iter().all(|hash| *hash == expected));
    world.stop().await;
}

fn hash(bytes: &Bytes) -> String {
    hex(&Sha256::digest(bytes))
}
