//! The client that cheats, against the machines of a tunnel in virtual time: also what takes a minute to be noticed.

use std::time::Duration;

use proptest::prelude::*;
use wicket_client::{Cheat, ClientKind, Ended, Method, ip, wire};
use wicketgate::sstp;
use wicketgate::tunnel::End;

use crate::tunnel::{CLIENTS, METHODS, Pair, alice};

const MINUTE: Duration = Duration::from_secs(60);

/// An abort waits this long for its answer to arrive (MS-SSTP 3.1.2).
const FAREWELL: Duration = Duration::from_secs(3);

/// Every client and every method that makes keys, with this cheat, for two minutes.
fn each(cheat: Cheat, mut judge: impl FnMut(&Pair, ClientKind, Method)) {
    for client in CLIENTS {
        for method in [Method::EapMsChapV2, Method::MsChapV2] {
            let mut pair = Pair::new(alice(client, method).cheat(cheat));
            pair.wait(2 * MINUTE);
            judge(&pair, client, method);
        }
    }
}

#[test]
fn a_binding_that_is_wrong_in_any_way_never_comes_up() {
    for cheat in [Cheat::WrongMac, Cheat::WrongNonce, Cheat::WrongCertHash, Cheat::SwappedKeys, Cheat::Sha1Binding] {
        each(cheat, |pair, client, method| {
            assert!(!pair.is_up(), "{cheat:?} {client:?} {method:?}");
            assert!(matches!(pair.end, Some(End::Call(sstp::End::BindingFailed(_)))), "{cheat:?} {:?}", pair.end);
            assert!(matches!(pair.ended(), Some(Ended::Aborted(_))), "{cheat:?} {:?}", pair.ended());
            assert!(pair.passed() <= FAREWELL, "{:?}", pair.passed());
        });
    }
}

#[test]
fn a_zero_key_is_for_eap_mschapv2_alone() {
    for client in CLIENTS {
        for method in METHODS {
            let mut pair = Pair::new(alice(client, method).zero_hlak(true));
            pair.wait(MINUTE / 2);
            // PAP has no key, so zero is what it must send.
            assert_eq!(pair.is_up(), method != Method::MsChapV2, "{client:?} {method:?}");
        }
    }
}

#[test]
fn without_call_connected_the_call_ends_within_a_minute_and_nothing_passed() {
    each(Cheat::NeverConnected, |pair, _, _| {
        assert!(!pair.is_up());
        assert!(matches!(pair.end, Some(End::Call(sstp::End::NegotiationTimeout { .. }))), "{:?}", pair.end);
        assert!(pair.passed() <= MINUTE + Duration::from_secs(5), "{:?}", pair.passed());
        assert_eq!(pair.counters().echo_answered + pair.counters().dns_answered, 0);
    });
}

#[test]
fn data_before_call_connected_reaches_nothing() {
    each(Cheat::DataBeforeConnected, |pair, _, _| {
        assert_eq!((pair.counters().echo_answered, pair.client.early_answers(), pair.client.early_data()), (0, 0, 0));
        assert!(pair.is_up(), "the login itself was right");
    });
}

#[test]
fn whoever_never_logs_in_never_comes_up_and_does_not_stay() {
    for cheat in [Cheat::RefuseAuth, Cheat::IpcpBeforeAuth] {
        each(cheat, |pair, client, method| {
            assert!(!pair.is_up(), "{cheat:?} {client:?} {method:?}");
            assert!(pair.end.is_some(), "{cheat:?} {client:?} {method:?} stays");
            assert!(pair.passed() <= MINUTE + Duration::from_secs(5), "{cheat:?} {:?}", pair.passed());
        });
    }
}

#[test]
fn a_second_call_connected_or_request_ends_the_call_at_once() {
    for cheat in [Cheat::ConnectedTwice, Cheat::ConnectTwice] {
        each(cheat, |pair, client, method| {
            assert!(!pair.is_up() || pair.end.is_some(), "{cheat:?} {client:?} {method:?}");
            assert!(matches!(pair.end, Some(End::Call(sstp::End::ProtocolViolation(_)))), "{cheat:?} {:?}", pair.end);
            assert!(pair.passed() <= FAREWELL, "{:?}", pair.passed());
        });
    }
}

#[test]
fn a_call_connected_before_the_verdict_is_parked_and_judged_then() {
    each(Cheat::ConnectedEarly, |pair, _, _| assert!(pair.is_up() && pair.client_is_up()));
    let mut profile = alice(ClientKind::Windows, Method::MsChapV2).cheat(Cheat::ConnectedEarly);
    profile.password = "a guess".to_owned();
    let mut pair = Pair::new(profile);
    pair.wait(MINUTE);
    assert!(!pair.is_up() && pair.end.is_some());
}

#[test]
fn other_protocols_are_refused_until_the_server_has_enough() {
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2).cheat(Cheat::EncapsulatedProtocol(7)));
    pair.talk();
    assert!(matches!(pair.ended(), Some(Ended::Nak(_))), "{:?}", pair.ended());
    // The client gave up; whoever does not is given up.
    let mut out = wicketgate::tunnel::Outgoing::default();
    for _ in 0..100 {
        pair.tunnel.handle_input(&wire::call_connect_request(7), pair.now, &mut out);
    }
    pair.wait(FAREWELL);
    assert!(matches!(pair.end, Some(End::Call(sstp::End::TooManyNaks { .. }))), "{:?}", pair.end);
}

#[test]
fn another_address_than_the_assigned_one_is_never_used() {
    let wanted = "198.18.7.77".parse().unwrap();
    for client in CLIENTS {
        let mut pair = Pair::new(alice(client, Method::MsChapV2).cheat(Cheat::InsistAddress(wanted)));
        pair.wait(2 * MINUTE);
        assert!(!pair.client_is_up(), "{client:?} {:?}", pair.client_events);
    }
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2));
    pair.talk();
    for source in [wanted, "198.18.7.1".parse().unwrap(), "127.0.0.1".parse().unwrap()] {
        pair.client.send_packet(&ip::icmp_echo(source, "198.18.7.1".parse().unwrap(), 7, 1));
    }
    pair.talk();
    assert_eq!((pair.counters().dropped_spoofed, pair.counters().echo_answered), (3, 0));
}

#[test]
fn a_flood_of_echoes_is_answered_one_by_one_and_nothing_grows() {
    let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2));
    pair.talk();
    let mut out = wicketgate::tunnel::Outgoing::default();
    for _ in 0..10_000 {
        pair.tunnel.handle_input(&wire::ECHO_REQUEST, pair.now, &mut out);
        while !pair.tunnel.poll_transmit(pair.now, &mut out) {}
        assert!(out.bytes().len() <= wire::ECHO_RESPONSE.len(), "{}", out.bytes().len());
        out.clear();
    }
    assert!(pair.end.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a stranger sends, there is no session, no panic, and an end.
    #[test]
    fn no_bytes_make_a_session(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2));
        let mut out = wicketgate::tunnel::Outgoing::default();
        for piece in &pieces {
            pair.tunnel.handle_input(piece, pair.now, &mut out);
            while !pair.tunnel.poll_transmit(pair.now, &mut out) {}
            out.clear();
            while let Some(event) = pair.tunnel.poll_event() {
                let text = format!("{event:?}");
                prop_assert!(!text.starts_with("Up") && !text.starts_with("Accepted"), "{}", text);
            }
        }
    }

    /// In the middle of a login, any frame of PPP may come; it never brings the network up before its time.
    #[test]
    fn no_ppp_frame_skips_the_login(
        protocol in prop::sample::select(vec![0xC021_u16, 0xC023, 0xC223, 0xC227, 0x8021, 0x8057, 0x80FD, 0x0021]),
        frames in prop::collection::vec((1_u8..16, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..20),
    ) {
        let mut pair = Pair::new(alice(ClientKind::Windows, Method::MsChapV2));
        pair.judge = false;
        pair.talk();
        for (code, id, data) in frames {
            let mut frame = vec![0xFF, 0x03];
            frame.extend(protocol.to_be_bytes());
            frame.extend([code, id]);
            frame.extend(u16::try_from(data.len() + 4).unwrap().to_be_bytes());
            frame.extend(data);
            pair.client.send_frame(&frame);
            pair.talk();
        }
        pair.wait(2 * MINUTE);
        prop_assert!(!pair.is_up() && pair.end.is_some(), "{:?}", pair.server_events);
        prop_assert_eq!(pair.counters().echo_answered, 0);
    }
}
