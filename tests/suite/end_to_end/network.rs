//! What exists inside a tunnel: the hosts of this person, and nothing else, not even its absence.

use std::net::Ipv4Addr;
use std::time::Duration;

use wicket_client::ip::{self, Tcp};
use wicket_client::{Error, Request, Resolved, Tunnel, dns};

use crate::world::log::lines_with;
use crate::world::{ORDERS, PATIENCE, PAYROLL, SILENCE, World, address_of, eventually, reason};

/// Sends many packets, and says whether nothing at all came back, though an echo behind them was answered.
async fn silent(tunnel: &Tunnel, packets: Vec<Vec<u8>>) -> bool {
    let before = tunnel.packets().received;
    for packet in packets {
        tunnel.send_raw_packet(packet).await;
    }
    assert!(tunnel.ping(tunnel.gateway()).await, "the tunnel lives");
    // What is answered at once came before the echo; what is repeated would come a little later.
    tokio::time::sleep(SILENCE / 3).await;
    tunnel.packets().received == before + 1
}

/// A segment of every kind.
fn segments(from: Ipv4Addr, to: Ipv4Addr) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for port in [80, 443, 53, 22, 1] {
        for flags in [
            Tcp::SYN,
            Tcp::ACK,
            Tcp::SYN | Tcp::ACK,
            Tcp::FIN,
            Tcp::FIN | Tcp::ACK,
            Tcp::RST,
            Tcp::RST | Tcp::ACK,
            Tcp::SYN | Tcp::FIN,
            Tcp::SYN | Tcp::RST,
            0,
            0x3F,
        ] {
            packets.push(ip::tcp((from, 40_000 + u16::from(flags)), (to, port), 1, flags, b""));
        }
        packets.push(ip::udp((from, 40_000), (to, port), b"anybody there?"));
    }
    packets.push(ip::icmp_echo(from, to, 1, 1));
    packets.push(ip::packet(from, to, 47, b"GRE"));
    packets
}

#[tokio::test]
async fn nt_46_a_spoofed_source_is_dropped_and_the_session_lives() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    let service = address_of(&tunnel, ORDERS).await;
    let mut packets = Vec::new();
    for source in ["198.18.7.1", "198.18.7.3", "198.18.7.130", "127.0.0.1", "0.0.0.0", "255.255.255.255", "10.0.0.1"] {
        let source: Ipv4Addr = source.parse().unwrap();
        packets.extend(segments(source, service));
        packets.extend(segments(source, tunnel.gateway()));
        packets.push(ip::udp((source, 68), (Ipv4Addr::BROADCAST, 67), &wicket_client::dhcp::inform(source, 7)));
    }
    assert!(silent(&tunnel, packets).await);
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn the_hint_that_a_profile_is_force_tunnel_is_logged_while_the_session_lives() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    for _ in 0..3 {
        assert!(tunnel.tcp(Ipv4Addr::new(1, 1, 1, 1), 443).await.is_err());
    }
    let hint = "sends connections for the internet into the tunnel: its profile is force-tunnel";
    eventually("the hint", async || !lines_with(hint).is_empty()).await;
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn nt_46_broadcasts_martians_fragments_and_ipv6_are_dropped_and_the_session_lives() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    let (from, service) = (tunnel.address(), address_of(&tunnel, ORDERS).await);
    let mut packets = Vec::new();
    for to in ["255.255.255.255", "224.0.0.1", "239.255.255.250", "198.18.7.2", "0.0.0.0", "240.0.0.1"] {
        let to: Ipv4Addr = to.parse().unwrap();
        packets.extend(segments(from, to));
        packets.push(ip::udp((from, 138), (to, 138), b"netbios"));
    }
    let whole = ip::tcp((from, 40_000), (service, 80), 1, Tcp::SYN, b"");
    // More Fragments; then an offset; then a length that lies; then IPv6.
    for (at, value) in [(6, 0x20), (7, 0x02), (2, 0xFF), (0, 0x60), (0, 0x4F)] {
        let mut broken = whole.clone();
        broken[at] = value;
        packets.push(broken);
    }
    for end in [0, 1, 19, 20, 39] {
        packets.push(whole[..end].to_vec());
    }
    // Two fragments that overlap, in both orders: bytes 0 to 16 of the segment, and 8 to 20.
    let fragment = |more: u8, offset: u8, range: std::ops::Range<usize>| {
        let mut fragment = ip::packet(from, service, 6, &whole[20..][range]);
        fragment[6..8].copy_from_slice(&[more, offset]);
        ip::set_header_checksum(&mut fragment);
        fragment
    };
    let (first, second) = (fragment(0x20, 0, 0..16), fragment(0, 1, 8..20));
    packets.extend([first.clone(), second.clone(), second, first]);
    // The same SYN over IPv6: behind nothing, and behind Hop-by-Hop and Destination Options.
    for (next, extensions) in [(6, &[][..]), (0, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0])] {
        let length = u8::try_from(extensions.len() + 20).unwrap();
        let mut v6 = vec![0x60, 0, 0, 0, 0, length, next, 64];
        v6.extend([from, service].map(|address| address.to_ipv6_mapped().octets()).concat());
        packets.push([&v6[..], extensions, &whole[20..]].concat());
    }
    assert!(silent(&tunnel, packets).await);
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn nt_47_a_hidden_address_is_as_silent_as_an_unused_one() {
    let world = World::start().await;
    let (alice, carol) = (world.connect("alice").await, world.connect("carol").await);
    let (known, hidden) = (address_of(&alice, ORDERS).await, address_of(&carol, PAYROLL).await);
    let unused = (129..=254).map(|last| Ipv4Addr::new(198, 18, 7, last)).find(|at| *at != known && *at != hidden);
    for address in [hidden, unused.unwrap()] {
        assert!(silent(&alice, segments(alice.address(), address)).await, "{address}");
        assert_eq!(alice.tcp_within(address, 80, SILENCE).await.err(), Some(Error::Silent), "{address}");
    }
    let closed = alice.tcp_within(known, 22, PATIENCE).await.err();
    assert_eq!(closed, Some(Error::Reset), "a visible host has closed ports");
    assert_eq!(world.payroll.seen().len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn nt_47_hidden_unknown_and_foreign_hosts_are_refused_alike_on_a_visible_address() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let mut answers = Vec::new();
    for host in [PAYROLL, "nowhere.api.example.test", "www.example.com"] {
        let mut http = world.http(&alice, ORDERS).await;
        let mut response = http.send(Request::get(host, "/v1/items")).await.unwrap();
        response.headers.remove("date");
        let mut problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        problem["decision_id"] = serde_json::Value::Null;
        answers.push((response.status, format!("{:?}", response.headers), problem.to_string()));
    }
    assert_eq!(answers[0].0, 421);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    world.stop().await;
}

/// The answer to a question without its id and name: what a resolver could learn from.
async fn rest(tunnel: &Tunnel, name: &str, kind: u16) -> Vec<u8> {
    let query = dns::query(0x0101, name, kind);
    let answer = tunnel.query(&query).await.unwrap();
    let question = &query[12..];
    let records = answer[12..].strip_prefix(question).expect("the question comes back as it was");
    [&answer[2..12], records].concat()
}

#[tokio::test]
async fn nt_48_a_hidden_name_and_one_that_does_not_exist_have_the_same_answer() {
    let world = World::start().await;
    let (alice, carol) = (world.connect("alice").await, world.connect("carol").await);
    assert!(matches!(carol.resolve(PAYROLL).await, Ok(Resolved::Addresses(_))), "it is there for Carol");
    const SOA: u16 = 6;
    const ANY: u16 = 255;
    for kind in [dns::A, dns::AAAA, 5, SOA, 12, 16, 65, ANY] {
        let hidden = rest(&alice, PAYROLL, kind).await;
        for unknown in ["nowhere.api.example.test", "a.b.api.example.test", "x.payroll.api.example.test"] {
            assert_eq!(rest(&alice, unknown, kind).await, hidden, "{unknown} type {kind}");
        }
        assert_eq!(hidden[1] & 0x0F, 3, "NXDOMAIN for type {kind}");
    }
    assert_eq!(alice.resolve(PAYROLL).await, Ok(Resolved::NxDomain), "nothing of Carol's is remembered for Alice");
    assert_eq!(alice.resolve("access.api.example.test").await, Ok(Resolved::NxDomain));
    world.stop().await;
}

#[tokio::test]
async fn nt_48_foreign_names_are_left_to_the_next_resolver() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    for name in ["www.example.com", "example.test", "test", "api.example.test.evil.com", "130.7.18.198.in-addr.arpa"] {
        assert_eq!(alice.resolve(name).await, Ok(Resolved::Refused), "{name}");
    }
    world.stop().await;
}

#[tokio::test]
async fn nt_48_a_hidden_foreign_host_is_refused_like_any_foreign_name() {
    let secret = r#"
api            = "secret"
policy_version = 1
owner          = "somebody@example.test"
hosts          = ["secret.example.org"]
upstream.url   = "http://{payroll}"
[[allow]]
id      = "read"
who     = "payroll"
methods = ["GET"]
paths   = ["/v1/**"]
"#;
    let world = World::builder().policy("secret.toml", secret).start().await;
    let (alice, carol) = (world.connect("alice").await, world.connect("carol").await);
    assert!(matches!(carol.resolve("secret.example.org").await, Ok(Resolved::Addresses(_))));
    let hidden = rest(&alice, "secret.example.org", dns::A).await;
    assert_eq!(hidden, rest(&alice, "public.example.org", dns::A).await);
    assert_eq!(hidden[1] & 0x0F, 5, "REFUSED");
    world.stop().await;
}

#[tokio::test]
async fn nt_49_no_tunnel_reaches_another_or_anything_of_the_proxys_own() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let quiet_before = bob.packets().received;
    for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "198.18.7.2"] {
        let address: Ipv4Addr = address.parse().unwrap();
        for port in [80, 443, world.admin.port(), world.listen.port(), world.orders.address.port()] {
            let packet = ip::tcp((alice.address(), 40_000), (address, port), 1, Tcp::SYN, b"");
            assert!(silent_now(&alice, packet).await, "{address}:{port}");
        }
    }
    // The gateway serves 53 alone; the world beyond is refused, never reached.
    for (address, port) in
        [(alice.gateway(), world.admin.port()), (alice.gateway(), 443), (Ipv4Addr::new(10, 0, 0, 1), 80)]
    {
        assert_eq!(alice.tcp_within(address, port, PATIENCE).await.err(), Some(Error::Reset), "{address}:{port}");
    }
    for number in 0..50 {
        let to = Ipv4Addr::new(198, 18, 7, 2);
        bob.send_raw_packet(ip::icmp_echo(bob.address(), to, 1, number)).await;
        alice.send_raw_packet(ip::udp((alice.address(), 1), (to, 1), b"from alice")).await;
    }
    assert!(bob.ping(bob.gateway()).await);
    assert_eq!(bob.packets().received, quiet_before + 1, "nothing but the answer to its own echo");
    world.stop().await;
}

/// Whether a packet has no answer before a later echo has one.
async fn silent_now(tunnel: &Tunnel, packet: Vec<u8>) -> bool {
    let before = tunnel.packets().received;
    tunnel.send_raw_packet(packet).await;
    assert!(tunnel.ping(tunnel.gateway()).await);
    tunnel.packets().received == before + 1
}

#[tokio::test]
async fn nt_37_the_outer_port_forwards_nothing_whatever_token_comes() {
    let world = World::builder().issuers().start().await;
    let token = world.issuer().token("alice");
    let tunnel = world.connect("alice").await;
    let inside = world.send(&tunnel, Request::get(ORDERS, "/v1/items").bearer(&token)).await;
    assert_eq!(inside.status, 200, "the token is good: {}", inside.text());
    for (host, path) in [(ORDERS, "/v1/items"), (crate::world::SERVER_NAME, "/v1/items"), (ORDERS, "/")] {
        let stream = world.tls(&[]).await.unwrap();
        let response = wicket_client::request(stream, Request::get(host, path).bearer(&token)).await.unwrap();
        assert_eq!((response.status, response.body.len()), (404, 0), "{host}{path}");
    }
    let admin = tokio::net::TcpStream::connect(world.admin).await.unwrap();
    let response = wicket_client::request(admin, Request::get(ORDERS, "/v1/items").bearer(&token)).await.unwrap();
    assert_eq!(response.status, 404);
    assert_eq!(world.orders.seen().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_api_that_is_hidden_on_a_shared_host_is_not_found() {
    let shared = r#"
api            = "salaries"
policy_version = 1
owner          = "people-team@example.test"
hosts          = ["orders.api.example.test"]
base           = "/salaries"
upstream.url   = "http://{payroll}"
[[allow]]
id      = "read"
who     = "payroll"
methods = ["GET"]
paths   = ["/all"]
"#;
    let rest = crate::world::ORDERS_POLICY.replace("hosts ", "base = \"/v1\"\nhosts ").replace("/v1/**", "/**");
    let world = World::builder().policy("salaries.toml", shared).policy("orders.toml", &rest).start().await;
    let alice = world.connect("alice").await;
    let (hidden, unknown) = (world.get(&alice, "/salaries/all").await, world.get(&alice, "/nothing/here").await);
    assert_eq!((hidden.status, reason(&hidden)), (404, "no-such-api".to_owned()));
    assert_eq!((unknown.status, reason(&unknown)), (404, "no-such-api".to_owned()));
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    assert_eq!(world.payroll.seen().len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn more_streams_than_one_tunnel_may_have_are_not_opened_and_others_are_not_disturbed() {
    let world = World::builder().set("tunnel", "max_streams = 4").start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let address = address_of(&alice, ORDERS).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(alice.tcp(address, 80).await.unwrap());
    }
    assert!(alice.tcp_within(address, 80, SILENCE).await.is_err());
    assert_eq!(world.get(&bob, "/v1/items").await.status, 200);
    open.pop().unwrap().reset();
    let again = tokio::time::timeout(Duration::from_secs(5), async {
        while alice.tcp_within(address, 80, SILENCE).await.is_err() {}
    });
    again.await.expect("a stream that ended makes room");
    drop(open);
    world.stop().await;
}
