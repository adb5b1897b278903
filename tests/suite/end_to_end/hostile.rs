//! The client that cheats at its login: whatever it tries, there is no session, or none that it can use.

use wicket_client::{Cheat, ClientKind, Error, Method, Profile, Settings, Tunnel, ip};

use crate::world::{IDENTITY, ORDERS, PATIENCE, SILENCE, World, eventually, reason};

/// Connects, and makes sure that no session came of it.
async fn refused(world: &World, profile: Profile) -> Error {
    let what = format!("{profile:?}");
    // Some cheats only wait in vain; a server that fell for them would have let them in by now.
    let settings = Settings { connect_timeout: SILENCE, ..Settings::default() };
    let error = match world.try_connect_with(profile, settings).await {
        Err(error) => error,
        Ok(tunnel) => match tokio::time::timeout(PATIENCE, tunnel.closed()).await {
            Ok(ended) => ended.into(),
            Err(_) => panic!("let in: {what}"),
        },
    };
    assert_eq!(world.audited("tunnel-up"), Vec::<serde_json::Value>::new(), "{what}");
    assert_eq!(world.sessions().await.len(), 0, "{what}");
    assert_eq!(world.orders.seen().len(), 0);
    error
}

fn aborted(error: &Error) -> bool {
    matches!(error, Error::Aborted(_))
}

async fn is_aborted(cheat: Cheat) {
    let world = World::start().await;
    for method in [Method::MsChapV2, Method::EapMsChapV2] {
        for client in [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp] {
            let mut profile = world.profile("alice").cheat(cheat).client(client);
            profile.method = method;
            let error = refused(&world, profile).await;
            assert!(aborted(&error), "{cheat:?} {method:?} {client:?}: {error}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_compound_mac_is_refused() {
    is_aborted(Cheat::WrongMac).await;
}

#[tokio::test]
async fn a_wrong_nonce_is_refused() {
    is_aborted(Cheat::WrongNonce).await;
}

#[tokio::test]
async fn a_wrong_certificate_hash_is_refused() {
    is_aborted(Cheat::WrongCertHash).await;
}

#[tokio::test]
async fn swapped_keys_are_refused() {
    is_aborted(Cheat::SwappedKeys).await;
}

#[tokio::test]
async fn a_second_call_connected_is_refused() {
    is_aborted(Cheat::ConnectedTwice).await;
}

#[tokio::test]
async fn a_second_call_connect_request_is_refused() {
    is_aborted(Cheat::ConnectTwice).await;
}

#[tokio::test]
async fn a_hash_that_was_not_offered_is_refused_and_an_offered_one_is_not() {
    is_aborted(Cheat::Sha1Binding).await;
    let world = World::builder().set("tunnel", r#"binding_hash = ["sha256", "sha1"]"#).start().await;
    let tunnel = world.try_connect(world.profile("alice").cheat(Cheat::Sha1Binding)).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn another_protocol_than_ppp_is_refused_with_a_nak() {
    let world = World::start().await;
    let error = refused(&world, world.profile("alice").cheat(Cheat::EncapsulatedProtocol(2))).await;
    assert!(matches!(error, Error::Nak(_)), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_will_not_log_in_is_refused() {
    let world = World::start().await;
    for client in [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp] {
        let profile = |cheat| world.profile("alice").cheat(cheat).client(client);
        tokio::join!(refused(&world, profile(Cheat::RefuseAuth)), refused(&world, profile(Cheat::IpcpBeforeAuth)));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_call_connected_that_comes_before_the_verdict_waits_for_it() {
    let world = World::start().await;
    for method in [Method::MsChapV2, Method::EapMsChapV2] {
        let mut profile = world.profile("alice").cheat(Cheat::ConnectedEarly);
        profile.method = method;
        let tunnel = world.try_connect(profile.clone()).await.unwrap();
        assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
        assert_eq!(world.sessions().await[0]["binding"], "keys");
        tunnel.disconnect().await;
        profile.password = "a guess".to_owned();
        assert_eq!(world.try_connect(profile).await.err(), Some(Error::Refused(691)));
    }
    world.stop().await;
}

#[tokio::test]
async fn data_before_call_connected_is_not_answered() {
    let world = World::start().await;
    for client in [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp] {
        let tunnel =
            world.try_connect(world.profile("alice").cheat(Cheat::DataBeforeConnected).client(client)).await.unwrap();
        // The echo that came after Call Connected is answered, so the early one would have been by now.
        assert!(tunnel.ping(tunnel.gateway()).await);
        assert_eq!((tunnel.packets().early_answers, tunnel.packets().early_data), (0, 0));
        tunnel.disconnect().await;
    }
    world.stop().await;
}

#[tokio::test]
async fn without_call_connected_nothing_passes_and_there_is_no_session() {
    let world = World::start().await;
    let tunnel = world.try_connect(world.profile("alice").cheat(Cheat::NeverConnected)).await.unwrap();
    for packet in probes(&tunnel) {
        assert_eq!(tunnel.ask(packet, SILENCE / 3, |_| true).await, Ok(None));
    }
    assert_eq!(world.audited("tunnel-up").len(), 0);
    assert_eq!(world.sessions().await.len(), 0);
    drop(tunnel);
    world.stop().await;
}

/// An echo, a query, and a SYN to each service that might be there.
fn probes(tunnel: &Tunnel) -> Vec<Vec<u8>> {
    let (from, gateway) = (tunnel.address(), tunnel.gateway());
    let query = wicket_client::dns::query(1, ORDERS, wicket_client::dns::A);
    vec![
        ip::icmp_echo(from, gateway, 1, 1),
        ip::udp((from, 20_000), (gateway, 53), &query),
        ip::tcp((from, 20_000), (gateway, 53), 1, ip::Tcp::SYN, b""),
    ]
}

#[tokio::test]
async fn another_inner_address_than_the_assigned_one_is_never_granted() {
    let world = World::start().await;
    for wanted in ["198.18.7.1", "198.18.7.130", "10.0.0.1", "127.0.0.1"] {
        let wanted: std::net::Ipv4Addr = wanted.parse().unwrap();
        for client in [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp] {
            let profile = world.profile("alice").cheat(Cheat::InsistAddress(wanted)).client(client);
            assert!(world.try_connect(profile).await.is_err(), "{client:?} got {wanted}");
        }
    }
    assert_eq!(world.connect("alice").await.address().to_string(), "198.18.7.2");
    world.stop().await;
}

#[tokio::test]
async fn a_tunnel_whose_every_packet_has_another_source_gets_nothing() {
    let world = World::start().await;
    let spoofed = "198.18.7.3".parse().unwrap();
    let tunnel = world.try_connect(world.profile("alice").cheat(Cheat::SpoofSource(spoofed))).await.unwrap();
    let gateway = tunnel.gateway();
    let spoof = ip::udp((spoofed, 20_000), (gateway, 53), &wicket_client::dns::query(1, ORDERS, wicket_client::dns::A));
    assert_eq!(tunnel.ask(spoof, SILENCE, |_| true).await, Ok(None));
    let honest = ip::icmp_echo(tunnel.address(), gateway, 7, 1);
    let answer = tunnel.ask(honest, PATIENCE, |packet| ip::is_echo_reply(packet, 7)).await;
    assert!(answer.unwrap().is_some(), "the session lives, for packets with its own address");
    world.stop().await;
}

/// How many logins with a zero key were counted for this method, by all worlds of this process.
async fn zero_bindings(world: &World, method: &str) -> u64 {
    let metrics = world.admin("/metrics").await.text();
    let name = format!("wicketgate_binding_zero_total{{method=\"{method}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_zero_key_is_accepted_with_eap_mschapv2_recorded_and_counted() {
    let world = World::start().await;
    let counted = zero_bindings(&world, "eap-mschapv2").await;
    let tunnel = world.try_connect(world.profile("alice").zero_hlak(true)).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    assert_eq!(world.audited("tunnel-up")[0]["binding"], "zero");
    assert_eq!(world.sessions().await[0]["binding"], "zero");
    assert!(zero_bindings(&world, "eap-mschapv2").await > counted);
    let honest = world.connect("bob").await;
    assert_eq!(world.get(&honest, "/v1/items").await.status, 200);
    assert_eq!(world.audited("tunnel-up")[1]["binding"], "keys");
    world.stop().await;
}

#[tokio::test]
async fn a_zero_key_is_refused_with_mschapv2_and_by_configuration() {
    let world = World::start().await;
    let mut profile = world.profile("alice").zero_hlak(true);
    profile.method = Method::MsChapV2;
    let error = refused(&world, profile).await;
    assert!(aborted(&error), "{error}");
    world.stop().await;
    let world = World::builder().set("tunnel", "zero_binding = []").start().await;
    let error = refused(&world, world.profile("alice").zero_hlak(true)).await;
    assert!(aborted(&error), "{error}");
    world.connect("alice").await;
    world.stop().await;
}

#[tokio::test]
async fn a_rule_may_demand_a_binding_by_keys() {
    let world = World::builder()
        .policy("_identity.toml", &IDENTITY.replace("[\"admins\"]", "[\"admins\"]\ntunnel.binding = [\"keys\"]"))
        .start()
        .await;
    let delete = || wicket_client::Request::new(http::Method::DELETE, ORDERS, "/v1/items/1");
    let weak = world.try_connect(world.profile("bob").zero_hlak(true)).await.unwrap();
    let response = world.send(&weak, delete()).await;
    assert_eq!((response.status, &*reason(&response)), (403, "no-rule-for-subject"));
    assert_eq!(world.get(&weak, "/v1/items").await.status, 200);
    let strong = world.connect("bob").await;
    assert_eq!(world.send(&strong, delete()).await.status, 200);
    assert_eq!(world.orders.seen().iter().filter(|seen| seen.method == "DELETE").count(), 1);
    world.stop().await;
}

#[tokio::test]
async fn garbage_between_sstp_packets_ends_that_tunnel_alone() {
    let world = World::start().await;
    let bystander = world.connect("bob").await;
    for garbage in
        [&b"\xFF\xFF\xFF\xFF"[..], b"\x10\x00\x00\x00", b"\x10\x01\x00\x06\x00\xFF", b"GET / HTTP/1.1\r\n\r\n"]
    {
        let tunnel = world.connect("alice").await;
        tunnel.send_raw_bytes(garbage.to_vec()).await;
        tokio::time::timeout(PATIENCE, tunnel.closed()).await.unwrap_or_else(|_| panic!("lives on: {garbage:?}"));
    }
    assert_eq!(world.get(&bystander, "/v1/items").await.status, 200);
    eventually("the end of the other sessions", async || world.sessions().await.len() == 1).await;
    world.stop().await;
}

#[tokio::test]
async fn lcp_that_begins_again_after_the_login_does_not_reach_the_network() {
    let world = World::start().await;
    let tunnel = world.connect("alice").await;
    // LCP Configure-Request without options, then Configure-Request of IPCP for another address.
    tunnel.send_raw_frame(b"\xFF\x03\xC0\x21\x01\x63\x00\x04".to_vec()).await;
    tunnel.send_raw_frame(b"\xFF\x03\x80\x21\x01\x63\x00\x0A\x03\x06\x0A\x00\x00\x01".to_vec()).await;
    let spoof = ip::icmp_echo("10.0.0.1".parse().unwrap(), tunnel.gateway(), 9, 1);
    assert!(!matches!(tunnel.ask(spoof, SILENCE, |packet| ip::is_echo_reply(packet, 9)).await, Ok(Some(_))));
    world.stop().await;
}
