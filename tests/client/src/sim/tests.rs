use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::mini::{CERTIFICATE, CLIENT, GATEWAY, MiniServer};
use super::*;
use crate::crypto::MsChapV2;
use crate::wire::ppp::{ControlPacket, frame};
use crate::{Method, ip};

/// Any instant; only differences matter.
#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn origin() -> Instant {
    Instant::now()
}

fn profile(method: Method, client: ClientKind) -> Profile {
    Profile::new("vpn.example.test", "CORP\\User", "clientPass", method).client(client)
}

fn client(profile: Profile, now: Instant) -> SimClient {
    SimClient::new(profile, CERTIFICATE, [7; 32], now)
}

/// Carries bytes both ways until both are silent, `piece` bytes at a time; the client's events.
fn talk(client: &mut SimClient, server: &mut MiniServer, now: Instant, piece: usize) -> Vec<Event> {
    loop {
        let mut up = Vec::new();
        client.poll_transmit(&mut up);
        server.handle_input(&up);
        let down = server.take_output();
        for bytes in down.chunks(piece) {
            client.handle_input(bytes, now);
        }
        if up.is_empty() && down.is_empty() {
            return std::iter::from_fn(|| client.poll_event()).collect();
        }
    }
}

fn run(profile: Profile, server: &mut MiniServer) -> (SimClient, Vec<Event>) {
    let now = origin();
    let mut client = client(profile, now);
    let events = talk(&mut client, server, now, usize::MAX);
    (client, events)
}

fn up(events: &[Event]) -> Option<&Up> {
    events.iter().find_map(|event| if let Event::Up(up) = event { Some(up) } else { None })
}

fn ended(events: &[Event]) -> Option<&Ended> {
    events.iter().find_map(|event| if let Event::Ended(ended) = event { Some(ended) } else { None })
}

const METHODS: [Method; 3] = [Method::Pap, Method::MsChapV2, Method::EapMsChapV2];
const CLIENTS: [ClientKind; 3] = [ClientKind::Windows, ClientKind::Pppd, ClientKind::OpenSstp];

#[test]
fn every_client_comes_up_with_every_method() {
    for (method, kind) in METHODS.into_iter().flat_map(|method| CLIENTS.map(|kind| (method, kind))) {
        // The server offers something else first, so that a Nak is needed.
        let mut server = MiniServer::new(if method == Method::Pap { Method::MsChapV2 } else { Method::Pap });
        server.expects = kind;
        let (client, events) = run(profile(method, kind), &mut server);
        let mtu = if kind == ClientKind::Windows { 1400 } else { 1500 };
        let wanted = Up { address: CLIENT, gateway: GATEWAY, dns: vec![GATEWAY], mtu };
        assert_eq!(events, [Event::HttpStatus(200), Event::CallConnected, Event::Up(wanted)], "{method:?} {kind:?}");
        assert_eq!(server.binding, Some(true), "{method:?} {kind:?}");
        let rejected: &[u16] = match (kind, method) {
            (ClientKind::OpenSstp, _) => &[],
            (ClientKind::Pppd, _) | (ClientKind::Windows, Method::Pap) => &[0x8057],
            (ClientKind::Windows, _) => &[0x8057, 0x80FD],
        };
        assert_eq!(client.rejected_protocols(), rejected);
    }
}

#[test]
fn the_binding_uses_sha_1_only_when_nothing_else_is_offered() {
    for hashes in [1, 2, 3] {
        let mut server = MiniServer::new(Method::MsChapV2);
        server.hashes = hashes;
        run(profile(Method::MsChapV2, ClientKind::Windows), &mut server);
        assert_eq!(server.binding, Some(true));
    }
}

#[test]
fn windows_10_binds_eap_with_the_zero_key() {
    let mut server = MiniServer::new(Method::EapMsChapV2);
    server.zero_hlak = true;
    let (_, events) = run(profile(Method::EapMsChapV2, ClientKind::Windows).zero_hlak(true), &mut server);
    assert!(up(&events).is_some());
}

#[test]
fn a_wrong_password_is_refused_by_every_method() {
    for (method, kind) in METHODS.into_iter().flat_map(|method| CLIENTS.map(|kind| (method, kind))) {
        let mut server = MiniServer::new(method);
        server.password = "another";
        let (_, events) = run(profile(method, kind), &mut server);
        let wanted = [Event::HttpStatus(200), Event::AuthRefused { code: 691 }, Event::Ended(Ended::Refused(691))];
        assert_eq!(events, wanted, "{method:?} {kind:?}");
        assert_eq!(server.binding, None);
    }
}

#[test]
fn bytes_may_come_in_any_pieces() {
    for piece in [1, 2, 3, 5, 7, 50, 113] {
        let now = origin();
        let mut server = MiniServer::new(Method::EapMsChapV2);
        let mut client = client(profile(Method::EapMsChapV2, ClientKind::Windows), now);
        let events = talk(&mut client, &mut server, now, piece);
        assert!(up(&events).is_some(), "{piece}: {events:?}");
        server.send_packet(&ip::icmp_echo(GATEWAY, CLIENT, 1, 1));
        server.send_packet(&ip::icmp_echo(GATEWAY, CLIENT, 1, 2));
        let events = talk(&mut client, &mut server, now, piece);
        assert_eq!(events.len(), 2, "{piece}");
        assert_eq!(events[1], Event::Packet(ip::icmp_echo(GATEWAY, CLIENT, 1, 2)));
    }
}

#[test]
fn packets_go_both_ways_once_up() {
    let mut server = MiniServer::new(Method::Pap);
    let (mut client, _) = run(profile(Method::Pap, ClientKind::Windows), &mut server);
    let packet = ip::icmp_echo(CLIENT, GATEWAY, 1, 1);
    assert!(client.send_packet(&packet));
    assert!(!client.send_packet(&[0x45; 4088]));
    server.send_packet(&packet);
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    server.handle_input(&out);
    assert_eq!(server.packets, std::slice::from_ref(&packet));
    let mut taken = Vec::new();
    client.handle_input_with(&server.take_output(), origin(), |bytes| taken.push(bytes.to_vec()));
    assert_eq!(taken, [packet]);
    assert_eq!(client.poll_event(), None);
}

#[test]
fn each_wrong_binding_is_wrong_and_the_abort_is_told() {
    let cheats = [
        Cheat::WrongMac,
        Cheat::WrongNonce,
        Cheat::WrongCertHash,
        Cheat::SwappedKeys,
        Cheat::Sha1Binding,
        Cheat::ConnectedTwice,
        Cheat::IpcpBeforeAuth,
    ];
    for cheat in cheats {
        let mut server = MiniServer::new(Method::MsChapV2);
        let (_, events) = run(profile(Method::MsChapV2, ClientKind::Windows).cheat(cheat), &mut server);
        assert_eq!(server.binding, Some(false), "{cheat:?}");
        let status = Status { attribute: 3, status: 4 };
        assert_eq!(ended(&events), Some(&Ended::Aborted(Some(status))), "{cheat:?}");
    }
    let mut server = MiniServer::new(Method::MsChapV2);
    run(profile(Method::MsChapV2, ClientKind::Windows).zero_hlak(true), &mut server);
    assert_eq!(server.binding, Some(false));
}

#[test]
fn an_early_call_connected_follows_the_response_at_once() {
    let mut server = MiniServer::new(Method::MsChapV2);
    let cheat = Cheat::ConnectedEarly;
    let (_, events) = run(profile(Method::MsChapV2, ClientKind::Pppd).cheat(cheat), &mut server);
    let response = server.seen.iter().position(|packet| packet.get(6..9) == Some(&[0xC2, 0x23, 2])).unwrap();
    assert_eq!(server.seen[response + 1][..6], [0x10, 0x01, 0x00, 0x70, 0x00, 0x04]);
    assert_eq!((server.binding, up(&events).is_some()), (Some(true), true));
}

#[test]
fn an_unauthenticated_client_may_refuse_and_insist() {
    let mut server = MiniServer::new(Method::MsChapV2);
    server.offer = Method::MsChapV2;
    let now = origin();
    let mut refuser = client(profile(Method::MsChapV2, ClientKind::Pppd).cheat(Cheat::RefuseAuth), now);
    refuser.handle_input(b"HTTP/1.1 200 OK\r\n\r\n", now);
    refuser.handle_input(&[&hex("10010030000200010004002800000002")[..], &[0x40; 32]].concat(), now);
    let mut out = Vec::new();
    refuser.poll_transmit(&mut out);
    refuser.handle_input(&hex("10000011ff03c021010100090305c22381"), now);
    assert_eq!(sent(&mut refuser), [hex("10000011ff03c021040100090305c22381")]);

    let insisted = Ipv4Addr::new(10, 0, 0, 1);
    let mut insister = client(profile(Method::Pap, ClientKind::OpenSstp).cheat(Cheat::InsistAddress(insisted)), now);
    let mut server = MiniServer::new(Method::Pap);
    let events = talk(&mut insister, &mut server, now, usize::MAX);
    assert_eq!(ended(&events), Some(&Ended::Broken("the negotiation does not converge".into())));
    let last = server.seen.iter().rev().find(|packet| packet.get(6..9) == Some(&[0x80, 0x21, 1])).unwrap();
    assert_eq!(last[12..18], [3, 6, 10, 0, 0, 1]);
}

#[test]
fn data_before_connected_is_sent_before_and_the_call_goes_on() {
    let mut server = MiniServer::new(Method::MsChapV2);
    let cheat = Cheat::DataBeforeConnected;
    let (client, events) = run(profile(Method::MsChapV2, ClientKind::Windows).cheat(cheat), &mut server);
    assert!(up(&events).is_some());
    assert_eq!((server.early, server.binding, client.early_answers()), (1, Some(true), 0));
}

#[test]
fn a_client_that_never_connects_believes_to_be_up() {
    let mut server = MiniServer::new(Method::MsChapV2);
    let cheat = Cheat::NeverConnected;
    let (mut client, events) = run(profile(Method::MsChapV2, ClientKind::Windows).cheat(cheat), &mut server);
    assert!(up(&events).is_some());
    assert_eq!(server.binding, None);
    assert!(client.send_packet(&ip::icmp_echo(CLIENT, GATEWAY, 1, 1)));
    assert_eq!(client.poll_timeout(), None);
    // A server that answers all the same is found out.
    server.send_packet(&ip::icmp_echo(GATEWAY, CLIENT, 1, 1));
    talk(&mut client, &mut server, origin(), usize::MAX);
    assert_eq!((server.early, client.early_data()), (1, 1));
}

#[test]
fn windows_is_deaf_to_lcp_in_the_flight_of_the_ack() {
    let now = origin();
    let mut server = MiniServer::new(Method::MsChapV2);
    server.hasty = true;
    let mut client = client(profile(Method::MsChapV2, ClientKind::Windows), now);
    assert_eq!(up(&talk(&mut client, &mut server, now, usize::MAX)), None);
    server.lcp_request();
    assert!(up(&talk(&mut client, &mut server, now + Duration::from_secs(3), usize::MAX)).is_some());
}

#[test]
fn clients_hang_up_as_they_do() {
    // The last SSTP packets of the client: message types, or protocol and code of a PPP frame.
    let wanted = [
        (ClientKind::Windows, vec![(protocol::LCP, 5), (0, 6)], true),
        (ClientKind::Pppd, vec![(protocol::LCP, 5)], false),
        (ClientKind::OpenSstp, vec![(0, 6)], true),
    ];
    for (kind, last, disconnected) in wanted {
        let mut server = MiniServer::new(Method::MsChapV2);
        server.expects = kind;
        let (mut client, _) = run(profile(Method::MsChapV2, kind), &mut server);
        let before = server.seen.len();
        client.disconnect(origin());
        let events = talk(&mut client, &mut server, origin(), usize::MAX);
        assert_eq!(events, [Event::Ended(Ended::Closed)], "{kind:?}");
        let seen: Vec<(u16, u8)> = server.seen[before..]
            .iter()
            .map(|packet| frame(&packet[4..]).map_or((0, packet[5]), |(number, rest)| (number, rest[0])))
            .collect();
        assert_eq!(seen, last, "{kind:?}");
        assert_eq!(server.closed, disconnected, "{kind:?}");
    }
}

#[test]
fn the_server_may_hang_up() {
    let status = Status { attribute: 0, status: 0 };
    let mut server = MiniServer::new(Method::MsChapV2);
    let (mut client, _) = run(profile(Method::MsChapV2, ClientKind::Windows), &mut server);
    server.send(protocol::LCP, 5, 9, b"session time is over");
    let events = talk(&mut client, &mut server, origin(), usize::MAX);
    assert_eq!(events, [Event::TerminateRequested("session time is over".into())]);
    client.handle_input(&wire::ending(6, Some(status)), origin());
    assert_eq!(client.poll_event(), Some(Event::Ended(Ended::Disconnected(Some(status)))));
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    assert_eq!(out, wire::CALL_DISCONNECT_ACK);
}

#[test]
fn sstpc_needs_status_info_in_an_ending() {
    for message in [5, 6] {
        let mut server = MiniServer::new(Method::MsChapV2);
        let (mut client, _) = run(profile(Method::MsChapV2, ClientKind::Pppd), &mut server);
        client.handle_input(&wire::ending(message, None), origin());
        assert!(matches!(client.poll_event(), Some(Event::Ended(Ended::Broken(_)))));
    }
}

#[test]
fn what_breaks_real_clients_breaks_this_one() {
    let bad: [(ClientKind, Vec<u8>); 7] = [
        // The protocol without FF 03.
        (ClientKind::Windows, vec![0x10, 0x00, 0x00, 0x07, 0x00, 0x21, 0x45]),
        // A reserved bit in the length.
        (ClientKind::Windows, vec![0x10, 0x01, 0x10, 0x08, 0x00, 0x08, 0x00, 0x00]),
        (ClientKind::Windows, vec![0x10, 0x02, 0x00, 0x08, 0x00, 0x08, 0x00, 0x00]),
        // Call Connect Ack in the middle of the call.
        (ClientKind::Windows, [&[0x10, 1, 0, 0x30, 0, 2, 0, 1, 0, 4, 0, 0x28, 0, 0, 0, 2][..], &[0; 32]].concat()),
        // Call Disconnect Ack without a Call Disconnect.
        (ClientKind::Windows, wire::CALL_DISCONNECT_ACK.to_vec()),
        // LCP Identification and Protocol-Reject to Open SSTP Client.
        (ClientKind::OpenSstp, vec![0x10, 0, 0, 16, 0xFF, 3, 0xC0, 0x21, 12, 1, 0, 8, 0, 0, 0, 0]),
        (ClientKind::OpenSstp, vec![0x10, 0, 0, 14, 0xFF, 3, 0xC0, 0x21, 8, 1, 0, 6, 0x80, 0x57]),
    ];
    for (kind, bytes) in bad {
        let mut server = MiniServer::new(Method::MsChapV2);
        server.expects = kind;
        let (mut client, _) = run(profile(Method::MsChapV2, kind), &mut server);
        client.handle_input(&bytes, origin());
        let event = client.poll_event();
        assert!(matches!(event, Some(Event::Ended(Ended::Broken(_)))), "{bytes:02x?}: {event:?}");
    }
}

#[test]
fn a_server_that_cannot_prove_itself_is_left() {
    let now = origin();
    let mut client = client(profile(Method::MsChapV2, ClientKind::Pppd), now);
    let mut server = MiniServer::new(Method::MsChapV2);
    // Stop the server's bytes at its Success, and forge that.
    loop {
        let mut out = Vec::new();
        client.poll_transmit(&mut out);
        server.handle_input(&out);
        let bytes = server.take_output();
        if server.authenticated {
            break;
        }
        client.handle_input(&bytes, now);
    }
    server.send(protocol::CHAP, 3, 0x10, b"S=0000000000000000000000000000000000000000 M=ok");
    client.handle_input(&server.take_output(), now);
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    assert_eq!(ended(&events), Some(&Ended::Broken("a wrong authenticator response".into())));
}

fn after_head(kind: ClientKind, head: &str) -> Option<Ended> {
    let now = origin();
    let mut client = client(profile(Method::Pap, kind), now);
    client.handle_input(head.as_bytes(), now);
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    ended(&events).cloned()
}

#[test]
fn the_http_response_must_be_one_that_real_clients_read() {
    let broken = |head| matches!(after_head(ClientKind::Pppd, head), Some(Ended::Broken(_)));
    assert_eq!(after_head(ClientKind::Pppd, "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"), None);
    assert_eq!(
        after_head(ClientKind::Windows, "HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"),
        Some(Ended::Http(503))
    );
    assert!(broken("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(broken("HTTP/1.0 200 OK\r\n\r\n"));
    assert!(broken("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert!(broken("HTTP/1.1 200 OK\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\nf: 1\r\ng: 1\r\nh: 1\r\n\r\n"));
    // Split at a line end, where sstpc stops reading.
    assert!(broken("HTTP/1.1 200 OK\r\n"));
    assert_eq!(after_head(ClientKind::Windows, "HTTP/1.1 200 OK\r\n"), None);
}

#[test]
fn data_before_call_connected_is_the_servers_fault() {
    let now = origin();
    let mut client = client(profile(Method::MsChapV2, ClientKind::Pppd), now);
    let mut server = MiniServer::new(Method::MsChapV2);
    while !server.authenticated {
        let mut out = Vec::new();
        client.poll_transmit(&mut out);
        server.handle_input(&out);
        if !server.authenticated {
            client.handle_input(&server.take_output(), now);
        }
    }
    server.take_output();
    server.send_packet(&ip::icmp_echo(GATEWAY, CLIENT, 1, 1));
    client.handle_input(&server.take_output(), now);
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    assert_eq!(ended(&events), Some(&Ended::Broken("IP data before Call Connected".into())));
}

#[test]
fn silence_ends_each_phase() {
    let now = origin();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut client = client(profile(Method::MsChapV2, ClientKind::Pppd), now);
    assert_eq!(client.poll_timeout(), Some((at(60), "the HTTP response")));
    client.handle_input(b"HTTP/1.1 200 OK\r\n\r\n", at(1));
    assert_eq!(client.poll_timeout(), Some((at(61), "Call Connect Ack")));
    let ack = [&[0x10, 1, 0, 0x30, 0, 2, 0, 1, 0, 4, 0, 0x28, 0, 0, 0, 2][..], &[0; 32]].concat();
    client.handle_input(&ack, at(2));
    let mut requests = 0;
    let reason = loop {
        let mut out = Vec::new();
        client.poll_transmit(&mut out);
        requests += out.windows(5).filter(|bytes| *bytes == [0xFF, 0x03, 0xC0, 0x21, 0x01]).count();
        let Some((due, _)) = client.poll_timeout() else { break std::iter::from_fn(|| client.poll_event()).last() };
        client.handle_timeout(due);
    };
    assert_eq!(requests, 10);
    assert_eq!(reason, Some(Event::Ended(Ended::Timeout("LCP"))));
}

#[test]
fn a_silent_line_is_probed_and_then_given_up() {
    for (kind, interval, echo) in [(ClientKind::Windows, 60, 8), (ClientKind::OpenSstp, 20, 0xFF)] {
        let mut server = MiniServer::new(Method::MsChapV2);
        server.expects = kind;
        let now = origin();
        let mut client = client(profile(Method::MsChapV2, kind), now);
        talk(&mut client, &mut server, now, usize::MAX);
        let at = |times: u64| now + Duration::from_secs(interval * times);
        assert_eq!(client.poll_timeout(), Some((at(1), "hello")));
        client.handle_timeout(at(1));
        let mut out = Vec::new();
        client.poll_transmit(&mut out);
        assert!(out.get(5) == Some(&echo) || out.get(4) == Some(&echo), "{out:02x?}");
        assert_eq!(client.poll_timeout(), Some((at(2), "hello")));
        client.handle_timeout(at(2));
        assert_eq!(client.poll_event(), Some(Event::Ended(Ended::Lost)));
        assert_eq!(client.poll_timeout(), None);
    }
}

#[test]
fn pap_asks_again_after_three_seconds() {
    let now = origin();
    let mut server = MiniServer::new(Method::Pap);
    let mut client = client(profile(Method::Pap, ClientKind::OpenSstp), now);
    // Every answer to PAP is lost.
    while !server.authenticated {
        let mut out = Vec::new();
        client.poll_transmit(&mut out);
        server.handle_input(&out);
        if !server.authenticated {
            client.handle_input(&server.take_output(), now);
        }
    }
    server.take_output();
    let asked = server.seen.last().cloned();
    assert_eq!(client.poll_timeout(), Some((now + Duration::from_secs(3), "PAP restart")));
    client.handle_timeout(now + Duration::from_secs(3));
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    assert_eq!(Some(out), asked);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// The packets that the client has to send, one by one.
fn sent(client: &mut SimClient) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    let mut rest = out.as_slice();
    let mut packets = Vec::new();
    while let Some((_, after)) = wire::split(rest).unwrap() {
        packets.push(rest[..rest.len() - after.len()].to_vec());
        rest = after;
    }
    packets
}

#[test]
fn the_transcript_of_a_real_pppd_is_followed() {
    let now = origin();
    let profile = Profile::new("vpn.example.test", "vpnuser", "vpnpass", Method::MsChapV2).client(ClientKind::Pppd);
    let mut client = client(profile, now);
    let mut head = Vec::new();
    client.poll_transmit(&mut head);
    client.handle_input(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", now);
    assert_eq!(sent(&mut client), [hex("1001000e00010001000100060001")]);

    client.handle_input(
        &hex("10010030000200010004002800000002f72ec112b0be6b687027c80e6d99a75a9046dc50017c7ef6f3a40e1d6d5891d4"),
        now,
    );
    let requests = sent(&mut client);
    let [request] = requests.as_slice() else { panic!("{requests:02x?}") };
    assert_eq!(request[..20], hex("1000001cff03c0210101001402060000 00000506")[..]);
    assert_eq!(request[24..], hex("07020802")[..]);
    let magic = &request[20..24];

    // EAP is offered first; an LCP echo comes before LCP is open.
    client.handle_input(&hex("10000010ff03c021010000080304c227"), now);
    client.handle_input(&hex("10000020ff03c021090000180000000041686f2042616b61204d616e756b6500"), now);
    let reject = [&hex("1000001cff03c0210401001402060000 00000506")[..], magic, &hex("07020802")].concat();
    client.handle_input(&reject, now);
    assert_eq!(sent(&mut client), [hex("10000011ff03c021030000090305c22381"), hex("1000000cff03c02101020004")]);

    client.handle_input(&hex("10000011ff03c021010100090305c22381"), now);
    client.handle_input(&hex("1000000cff03c02102020004"), now);
    let answers = sent(&mut client);
    let [ack, echo] = answers.as_slice() else { panic!("{answers:02x?}") };
    assert_eq!(*ack, hex("10000011ff03c021020100090305c22381"));
    // LCP echo with a zero magic number; the identifier is free.
    assert_eq!((&echo[..9], &echo[10..]), (&hex("10000010ff03c02109")[..], &hex("000800000000")[..]));

    client.handle_input(&hex("1000001fff03c2230102001710ad690e2042c7a584daafe2ff92716ddb766d"), now);
    let answers = sent(&mut client);
    let [response] = answers.as_slice() else { panic!("{answers:02x?}") };
    assert_eq!(response[..13], hex("10000045ff03c2230202003d31")[..]);
    assert_eq!(response[29..37], [0; 8]);
    assert_eq!(response[61..], *b"\0vpnuser");
    let peer = response[13..29].try_into().unwrap();
    let authenticator = hex("ad690e2042c7a584daafe2ff92716ddb").try_into().unwrap();
    let exchange = MsChapV2::respond(b"vpnuser", "vpnpass", &authenticator, &peer);
    assert_eq!(response[37..61], exchange.nt_response);

    let success = ControlPacket { code: 3, id: 2, data: exchange.authenticator_response.as_bytes() }.emit();
    let mut bytes = Vec::new();
    wire::push_frame(&mut bytes, protocol::CHAP, &success);
    client.handle_input(&bytes, now);
    let answers = sent(&mut client);
    let [connected, ipcp, ipv6cp] = answers.as_slice() else { panic!("{answers:02x?}") };
    assert_eq!(
        connected[..48],
        hex("10010070000400010003006800000002f72ec112b0be6b687027c80e6d99a75a9046dc50017c7ef6f3a40e1d6d5891d4")[..]
    );
    assert_eq!(*ipcp, hex("10000024ff0380210101001c0206002d0f01030600000000810600000000830600000000"));
    assert_eq!(ipv6cp[..8], hex("10000016ff038057")[..]);

    client.handle_input(&hex("1001000800080000"), now);
    assert_eq!(sent(&mut client), [hex("1001000800090000")]);
    client.handle_input(&hex("10000018ff038021040100100206002d0f01830600000000"), now);
    assert_eq!(sent(&mut client), [hex("10000018ff03802101020010030600000000810600000000")]);
    client.handle_input(&hex("10000012ff0380210103000a0306cb007101"), now);
    assert_eq!(sent(&mut client), [hex("10000012ff0380210203000a0306cb007101")]);
    client.handle_input(&hex("10000018ff038021030200100306cb00710a8106c6336401"), now);
    assert_eq!(sent(&mut client), [hex("10000018ff038021010300100306cb00710a8106c6336401")]);
    client.handle_input(&hex("10000018ff038021020300100306cb00710a8106c6336401"), now);
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    let wanted = Up {
        address: Ipv4Addr::new(203, 0, 113, 10),
        gateway: Ipv4Addr::new(203, 0, 113, 1),
        dns: vec![Ipv4Addr::new(198, 51, 100, 1)],
        mtu: 1500,
    };
    assert_eq!(up(&events), Some(&wanted));
}

#[test]
fn the_first_requests_of_windows_are_those_of_the_logs() {
    let now = origin();
    let mut client = client(profile(Method::EapMsChapV2, ClientKind::Windows), now);
    client.handle_input(b"HTTP/1.1 200 OK\r\n\r\n", now);
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    let ack = [&hex("10010030000200010004002800000002")[..], &[0x40; 32]].concat();
    client.handle_input(&ack, now);
    let requests = sent(&mut client);
    let [request] = requests.as_slice() else { panic!("{requests:02x?}") };
    assert_eq!(request.len(), 4 + 4 + 0x15);
    assert_eq!(request[..18], hex("1000001d ff03c021 0100 0015 01040ffb 0506")[..]);
    assert_eq!(request[22..], hex("0702 0802 0d0306")[..]);
}

proptest! {
    #[test]
    fn no_bytes_panic(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        kind in prop::sample::select(CLIENTS.to_vec()),
        method in prop::sample::select(METHODS.to_vec()),
        number in prop::sample::select(vec![0x21, 0x8021, 0x8057, 0xC021, 0xC023, 0xC223, 0xC227u16]),
        started in any::<bool>(),
    ) {
        let now = origin();
        let mut client = client(profile(method, kind), now);
        if started {
            client.handle_input(b"HTTP/1.1 200 OK\r\n\r\n", now);
            client.handle_input(&[&hex("10010030000200010004002800000002")[..], &[0x40; 32]].concat(), now);
            client.poll_transmit(&mut Vec::new());
        }
        for chunk in chunks {
            let mut bytes = Vec::new();
            wire::push_frame(&mut bytes, number, &chunk);
            client.handle_input(&bytes, now);
            client.handle_input(&chunk, now);
            if let Some((at, _)) = client.poll_timeout() {
                client.handle_timeout(at);
            }
        }
    }
}
