//! One tunnel floods, and another on the same shard is served meanwhile.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use wicket_client::ip::{self, Tcp};
use wicket_client::{Error, Tunnel};
use wicketgate::clock;

use crate::proxy::h2::{END_HEADERS, END_STREAM, Frames, HEADERS, block, frame, rapid_resets};
use crate::world::{ORDERS, PATIENCE, World, address_of};

const ENHANCE_YOUR_CALM: u32 = 11;
/// The requests of the neighbour.
const REQUESTS: usize = 4;
/// How many streams one tunnel may have where nothing else is said.
const MAX_STREAMS: usize = 100;
/// How many requests one HTTP/2 connection may have.
const MAX_H2_STREAMS: usize = 128;

/// Bob's requests are answered while Alice floods. Her flood has no end, and tells of every round that it did: there is
/// one before each request, and one behind the last.
async fn serves_bob_during(world: &World, bob: &Tunnel, flood: impl AsyncFnOnce(watch::Sender<u64>) -> Infallible) {
    let (rounds, mut done) = watch::channel(0);
    let mut goes_on = async || {
        let more = tokio::time::timeout(PATIENCE, done.changed()).await;
        more.expect("the flood stands still").expect("a flood");
    };
    let neighbour = async {
        for number in 0..REQUESTS {
            goes_on().await;
            assert_eq!(world.get(bob, &format!("/v1/items/{number}")).await.status, 200);
        }
        goes_on().await;
    };
    tokio::select! {
        never = flood(rounds) => match never {},
        () = neighbour => {}
    }
}

/// The header block of a request that the backend does not answer.
fn held() -> Vec<u8> {
    block(&[(":method", b"GET"), (":scheme", b"http"), (":authority", ORDERS.as_bytes()), (":path", b"/v1/hold")])
}

/// A connection that writes bursts, each from a stream on, until the server ends it. It is tried again while those that
/// were ended leave no room for it.
async fn pour(tunnel: &Tunnel, address: Ipv4Addr, burst: impl Fn(u32) -> Vec<u8>) {
    let stream = loop {
        match tunnel.tcp_within(address, 80, PATIENCE).await {
            Err(Error::Reset) => {}
            opened => break opened.unwrap(),
        }
    };
    let mut frames = Frames::over(stream).await;
    let mut sent = 0;
    while frames.write(&burst(1 + 2 * sent)).await {
        sent += 100;
        assert!(sent < 100_000, "all streams were taken");
    }
    frames.until_closed().await;
    assert_eq!(frames.goaway, Some(ENHANCE_YOUR_CALM));
}

/// How many requests of this person the server has looked at.
async fn requests_of(world: &World, person: &str) -> u64 {
    let sessions = world.sessions().await;
    let session = sessions.iter().find(|session| session["user"] == person).unwrap();
    session["requests"].as_u64().unwrap()
}

#[tokio::test]
async fn nt_23_a_tunnel_is_served_while_another_resets_its_requests_on_many_connections() {
    let world = World::start().await;
    let (alice, bob) = (Rc::new(world.connect("alice").await), world.connect("bob").await);
    let address = address_of(&alice, ORDERS).await;
    let flooding = LocalSet::new();
    let serving = serves_bob_during(&world, &bob, async |rounds| {
        let mut connections = JoinSet::new();
        for _ in 0..20 {
            let (alice, rounds, block) = (Rc::clone(&alice), rounds.clone(), held());
            connections.spawn_local(async move {
                loop {
                    pour(&alice, address, |first| rapid_resets(&block, first, 100)).await;
                    rounds.send_modify(|rounds| *rounds += 1);
                }
            });
        }
        match connections.join_next().await.unwrap() {
            Ok(never) => never,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    });
    flooding.run_until(serving).await;
    let looked_at = requests_of(&world, "alice").await;
    // What her connections have at hand at once would be more between any two steps of Bob's.
    assert!(looked_at < 10_000, "{looked_at} of Alice's requests came before {REQUESTS} of Bob's");
    drop((flooding, alice));
    world.stop().await;
}

#[tokio::test]
async fn nt_23_a_tunnel_is_served_while_another_opens_a_hundred_thousand_streams() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let address = address_of(&alice, ORDERS).await;
    let connections = Cell::new(0);
    let block = held();
    serves_bob_during(&world, &bob, async |rounds| {
        loop {
            connections.set(connections.get() + 1);
            let stream = |number| frame(HEADERS, END_HEADERS | END_STREAM, number, &block);
            pour(&alice, address, |first| (first..).step_by(2).take(100).flat_map(stream).collect()).await;
            rounds.send_modify(|rounds| *rounds += 1);
        }
    })
    .await;
    let seen = world.orders.seen().len() - REQUESTS;
    assert!(seen <= MAX_H2_STREAMS * connections.get(), "{seen} requests of {} connections", connections.get());
    world.stop().await;
}

#[tokio::test]
async fn nt_23_a_tunnel_is_served_while_another_leaves_as_many_heads_unfinished_as_it_may() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let address = address_of(&alice, ORDERS).await;
    let mut open = VecDeque::new();
    serves_bob_during(&world, &bob, async |rounds| {
        loop {
            match alice.tcp(address, 80).await {
                Ok(mut stream) => {
                    stream.write_all(b"GET /v1/items HTTP/1.1\r\nHo").await.unwrap();
                    open.push_back(stream);
                    assert!(open.len() <= MAX_STREAMS, "more than a tunnel may have");
                }
                Err(error) => {
                    assert_eq!((error, open.len() >= MAX_STREAMS - 2), (Error::Reset, true), "{}", open.len());
                    open.pop_front().unwrap().reset();
                    rounds.send_modify(|rounds| *rounds += 1);
                }
            }
        }
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn nt_23_a_tunnel_is_served_while_another_never_completes_a_handshake() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let service = address_of(&alice, ORDERS).await;
    alice.ignore_tcp();
    let (before, began) = (alice.packets(), clock::now());
    let pings = Cell::new(0);
    serves_bob_during(&world, &bob, async |rounds| {
        let mut ports = (1024..=u16::MAX).cycle();
        loop {
            for port in ports.by_ref().take(1000) {
                alice.send_raw_packet(ip::tcp((alice.address(), port), (service, 80), 1, Tcp::SYN, b"")).await;
            }
            assert!(alice.ping(alice.gateway()).await, "the tunnel lives");
            pings.set(pings.get() + 1);
            rounds.send_modify(|rounds| *rounds += 1);
        }
    })
    .await;
    // Whoever does not complete a handshake is forgotten after ten seconds.
    let most = MAX_STREAMS as u64 * (1 + (clock::now() - began).as_secs() / 10);
    let after = alice.packets();
    let accepted = (after.received - before.received) - (after.resets - before.resets) - pings.get();
    assert!(accepted <= most, "{accepted} handshakes were begun by the server, {most} are allowed");
    world.stop().await;
}
