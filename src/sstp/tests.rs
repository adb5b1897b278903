use super::*;
use std::time::Duration;
use wire::CryptoBinding;

mod ending;
mod properties;
mod state_table;

const SSTPC: &str = include_str!("../../tests/transcripts/sstp/sstpc-mschapv2.txt");

/// Vector C: the user of RFC 2759 with SHA-256. The nonce is 40 to 5F.
const KEY: &str = "D5F0E9521E3EA9589645E86051C822268B7CDC149B993A1BA118CB153F56DCCB";
const CERTIFICATE: &str = "11B0F06405F333C768FC97B9F30753D81528DC4604F6C87E095BDAC8877AFDB7";
const MAC: &str = "C4E459E3DC958464F772F9CA6941631B060675EF04893D1D0999D7539AEBFE7C";
/// Vector D: the same with the zero key.
const ZERO_MAC: &str = "2835000E51F4EB7777CDCF315CF46199667D380C4D2D0F1D7EE59457AA31EF51";

const CALL_CONNECT_REQUEST: [u8; 14] = [0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x06, 0, 1];
const PROTOCOL_2: [u8; 14] = [0x10, 0x01, 0x00, 0x0E, 0, 1, 0, 1, 0, 1, 0x00, 0x06, 0, 2];
const CALL_ABORT: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0, 5, 0, 0];
const CALL_DISCONNECT: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0, 6, 0, 0];
const CALL_DISCONNECT_ACK: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0, 7, 0, 0];
const ECHO_REQUEST: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0, 8, 0, 0];
const ECHO_RESPONSE: [u8; 8] = [0x10, 0x01, 0x00, 0x08, 0, 9, 0, 0];
/// LCP Configure-Request without options; an IPv4 packet's first byte.
const CONTROL_FRAME: [u8; 12] = [0x10, 0x00, 0x00, 0x0C, 0xFF, 0x03, 0xC0, 0x21, 0x01, 0x01, 0x00, 0x04];
const NETWORK_FRAME: [u8; 9] = [0x10, 0x00, 0x00, 0x09, 0xFF, 0x03, 0x00, 0x21, 0x45];

const SECOND: Duration = Duration::from_secs(1);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn nonce() -> [u8; 32] {
    std::array::from_fn(|index| 0x40 + index as u8)
}

#[expect(clippy::disallowed_methods, reason = "an Instant can be made no other way; only distances to it count")]
fn start() -> Instant {
    Instant::now()
}

fn call_connected_with(nonce: [u8; 32], certificate: &str, mac: &str) -> Vec<u8> {
    let (certificate_hash, compound_mac) = (hex32(certificate), hex32(mac));
    let mut packet = Vec::new();
    Message::CallConnected(CryptoBinding { hash_protocol: 2, nonce, certificate_hash, compound_mac }).emit(&mut packet);
    packet
}

fn call_connected() -> Vec<u8> {
    call_connected_with(nonce(), CERTIFICATE, MAC)
}

fn keys() -> HigherLayerKey {
    HigherLayerKey::keys(hex32(KEY), false)
}

fn fresh(now: Instant) -> Sstp {
    let certificate = CertificateHashes { sha1: [0; 20], sha256: hex32(CERTIFICATE) };
    Sstp::new(Hashes::SHA256, certificate, nonce(), now)
}

/// After Call Connect Ack, the login still going on; nothing waits to be polled.
fn logging_in(now: Instant) -> Sstp {
    let mut sstp = fresh(now);
    feed(&mut sstp, &CALL_CONNECT_REQUEST, now);
    drain(&mut sstp);
    sstp
}

fn connected(now: Instant) -> Sstp {
    let mut sstp = logging_in(now);
    sstp.resolve_authentication(keys(), now);
    feed(&mut sstp, &call_connected(), now);
    assert!(sstp.data_open());
    drain(&mut sstp);
    sstp
}

/// What one call tells when it is drained.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    sent: Vec<u8>,
    events: Vec<Event>,
}

fn drain(sstp: &mut Sstp) -> Told {
    let mut told = Told::default();
    sstp.poll_transmit(&mut told.sent);
    told.events.extend(std::iter::from_fn(|| sstp.poll_event()));
    told
}

/// One whole packet.
fn feed<'a>(sstp: &mut Sstp, packet: &'a [u8], now: Instant) -> Input<'a> {
    let (length, input) = sstp.handle_input(packet, now).unwrap().expect("a whole packet");
    assert_eq!(length, packet.len());
    input
}

fn abort(attribute: u8, status: u8) -> Vec<u8> {
    vec![0x10, 0x01, 0x00, 0x14, 0, 5, 0, 1, 0, 2, 0x00, 0x0C, 0, 0, 0, attribute, 0, 0, 0, status]
}

/// Expects `packet` to make the call abort with this status, and the call to end for this reason.
#[track_caller]
fn aborts_with(mut sstp: Sstp, now: Instant, packet: &[u8], status: (u8, u8), end: End) {
    feed(&mut sstp, packet, now);
    let told = drain(&mut sstp);
    assert_eq!(told.sent, abort(status.0, status.1));
    assert_eq!(told.events, [Event::Disconnecting { by_peer: false }]);
    assert_eq!(sstp.poll_timeout(), Some((now + 3 * SECOND, "abort 1")));
    sstp.handle_timeout(now + 3 * SECOND);
    assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Finished(end)] });
    assert!(sstp.is_finished());
    assert_eq!(sstp.poll_timeout(), None);
}

#[test]
fn a_real_client_logs_in_as_in_its_transcript() {
    let now = start();
    let certificate = CertificateHashes {
        sha1: [0; 20],
        sha256: hex32("d5dc79d72a752807be8b15833ba3350c4f1c95d249e2c185a6cf911221443b98"),
    };
    let nonce = hex32("f72ec112b0be6b687027c80e6d99a75a9046dc50017c7ef6f3a40e1d6d5891d4");
    let key = hex32("649468d79073b72ef7d610ed0cb6f8a6c44469e4d9e0444187cb3b8eb725a634");
    let mut sstp = Sstp::new(Hashes::SHA256, certificate, nonce, now);
    let mut told = Told::default();
    let lines = SSTPC.lines().map(|line| line.split('#').next().unwrap().trim()).filter(|line| !line.is_empty());
    for line in lines {
        let (mark, text) = line.split_once(' ').unwrap();
        match mark {
            ">" => {
                assert_eq!(told, Told::default(), "before {line}");
                let packet = hex(text);
                let expected = if packet[1] == 0 { Input::Frame(packet.get(4..).unwrap()) } else { Input::Handled };
                assert_eq!(feed(&mut sstp, &packet, now), expected, "{line}");
                told = drain(&mut sstp);
            }
            "<" if hex(text)[1] == 0 => {
                let packet = hex(text);
                assert_eq!(
                    sstp.frame_header(&packet[4..]).map(|header| header.to_vec()),
                    packet.get(..4).map(Vec::from)
                );
            }
            "<" => assert_eq!(std::mem::take(&mut told.sent), hex(text)),
            "!" => assert_eq!(format!("{:?}", told.events.remove(0)), text),
            "=" => sstp.resolve_authentication(HigherLayerKey::keys(key, false), now),
            other => panic!("{other}"),
        }
    }
    assert_eq!(told, Told::default());
    assert!(sstp.data_open());
    assert_eq!(sstp.dropped_frames(), 0);
}

#[test]
fn a_wrong_nonce_aborts_the_call() {
    let now = start();
    let mut sstp = logging_in(now);
    sstp.resolve_authentication(keys(), now);
    let packet = call_connected_with([0x40; 32], CERTIFICATE, MAC);
    aborts_with(sstp, now, &packet, (3, 4), End::BindingFailed(BindingFailure::Nonce));
}

#[test]
fn a_wrong_certificate_hash_aborts_the_call() {
    let now = start();
    let mut sstp = logging_in(now);
    sstp.resolve_authentication(keys(), now);
    let packet = call_connected_with(nonce(), ZERO_MAC, MAC);
    aborts_with(sstp, now, &packet, (3, 4), End::BindingFailed(BindingFailure::CertificateHash));
}

#[test]
fn a_zero_key_under_mschapv2_aborts_the_call() {
    let now = start();
    let mut sstp = logging_in(now);
    sstp.resolve_authentication(keys(), now);
    let packet = call_connected_with(nonce(), CERTIFICATE, ZERO_MAC);
    let failure = BindingFailure::CompoundMac { would_match: Some(OtherKey::Zero) };
    aborts_with(sstp, now, &packet, (3, 4), End::BindingFailed(failure));
}

#[test]
fn a_zero_key_binds_where_it_is_accepted() {
    for key in [HigherLayerKey::none(), HigherLayerKey::keys(hex32(KEY), true)] {
        let now = start();
        let mut sstp = logging_in(now);
        sstp.resolve_authentication(key, now);
        feed(&mut sstp, &call_connected_with(nonce(), CERTIFICATE, ZERO_MAC), now);
        assert_eq!(drain(&mut sstp).events, [Event::Bound(Strength::Zero)]);
        assert!(sstp.data_open());
    }
}

#[test]
fn swapped_keys_abort_the_call_and_are_named() {
    let now = start();
    let mut sstp = logging_in(now);
    let (receive, send) = KEY.split_at(32);
    sstp.resolve_authentication(HigherLayerKey::keys(hex32(&format!("{send}{receive}")), false), now);
    let failure = BindingFailure::CompoundMac { would_match: Some(OtherKey::SwappedHalves) };
    aborts_with(sstp, now, &call_connected(), (3, 4), End::BindingFailed(failure));
}

#[test]
fn a_call_connected_before_the_verdict_is_judged_after_it() {
    let now = start();
    let mut sstp = logging_in(now);
    feed(&mut sstp, &call_connected(), now + SECOND);
    assert_eq!(drain(&mut sstp), Told::default());
    assert!(!sstp.data_open());
    assert_eq!(feed(&mut sstp, &NETWORK_FRAME, now + SECOND), Input::Handled);
    assert_eq!(sstp.poll_timeout(), Some((now + 60 * SECOND, "negotiation: Call Connected")));

    sstp.resolve_authentication(keys(), now + 2 * SECOND);
    assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Bound(Strength::Keys)] });
    assert_eq!(sstp.poll_timeout(), Some((now + 62 * SECOND, "hello")));
}

#[test]
fn a_parked_call_connected_that_does_not_hold_aborts_the_call_after_the_verdict() {
    let now = start();
    let mut sstp = logging_in(now);
    feed(&mut sstp, &call_connected_with(nonce(), CERTIFICATE, ZERO_MAC), now);
    assert_eq!(drain(&mut sstp), Told::default());
    sstp.resolve_authentication(keys(), now);
    assert_eq!(drain(&mut sstp).sent, abort(3, 4));
    assert!(!sstp.data_open());
}

#[test]
fn a_second_call_connected_before_the_verdict_aborts_the_call() {
    let now = start();
    let mut sstp = logging_in(now);
    feed(&mut sstp, &call_connected(), now);
    let (message, state) = (MessageType::CallConnected, "CallConnectedPending");
    let end = End::ProtocolViolation(Violation::Unaccepted { message, state });
    aborts_with(sstp, now, &call_connected(), (2, 5), end);
}

#[test]
fn a_second_call_connected_aborts_the_call() {
    let now = start();
    let (message, state) = (MessageType::CallConnected, "CallConnected");
    let end = End::ProtocolViolation(Violation::Unaccepted { message, state });
    aborts_with(connected(now), now, &call_connected(), (2, 5), end);
}

#[test]
fn a_call_connected_that_never_comes_aborts_the_call() {
    let now = start();
    let mut sstp = logging_in(now);
    sstp.resolve_authentication(keys(), now + SECOND);
    feed(&mut sstp, &CONTROL_FRAME, now + 59 * SECOND);
    sstp.handle_timeout(now + 59 * SECOND);
    assert_eq!(drain(&mut sstp), Told::default());
    sstp.handle_timeout(now + 60 * SECOND);
    assert_eq!(drain(&mut sstp).sent, abort(2, 8));
    feed(&mut sstp, &CALL_ABORT, now + 61 * SECOND);
    assert_eq!(sstp.poll_timeout(), Some((now + 62 * SECOND, "abort 2")));
    sstp.handle_timeout(now + 62 * SECOND);
    let end = End::NegotiationTimeout { awaited: MessageType::CallConnected };
    assert_eq!(drain(&mut sstp).events, [Event::Finished(end)]);
}

#[test]
fn a_call_connect_request_that_never_comes_aborts_the_call() {
    let now = start();
    let mut sstp = fresh(now);
    feed(&mut sstp, &PROTOCOL_2, now + 59 * SECOND);
    drain(&mut sstp);
    sstp.handle_timeout(now + 60 * SECOND);
    assert_eq!(drain(&mut sstp).sent, abort(2, 8));
    sstp.handle_timeout(now + 63 * SECOND);
    let end = End::NegotiationTimeout { awaited: MessageType::CallConnectRequest };
    assert_eq!(drain(&mut sstp).events, [Event::Finished(end)]);
}

#[test]
fn the_fourth_bad_call_connect_request_aborts_the_call() {
    let now = start();
    let mut sstp = fresh(now);
    for _ in 0..3 {
        feed(&mut sstp, &PROTOCOL_2, now);
        // Nak with Status Info: attribute 1, status 4, and the value that was refused.
        let nak = [0x10, 0x01, 0x00, 0x16, 0, 3, 0, 1, 0, 2, 0x00, 0x0E, 0, 0, 0, 1, 0, 0, 0, 4, 0, 2];
        assert_eq!(drain(&mut sstp), Told { sent: nak.to_vec(), events: vec![] });
    }
    aborts_with(sstp, now, &PROTOCOL_2, (2, 6), End::TooManyNaks { limit: 3 });
}

#[test]
fn a_good_call_connect_request_after_three_bad_ones_starts_the_call() {
    let now = start();
    let mut sstp = fresh(now);
    for _ in 0..3 {
        feed(&mut sstp, &PROTOCOL_2, now);
    }
    drain(&mut sstp);
    feed(&mut sstp, &CALL_CONNECT_REQUEST, now);
    assert_eq!(drain(&mut sstp).events, [Event::CallStarted]);
}

#[test]
fn network_traffic_passes_neither_way_before_the_binding_holds() {
    let now = start();
    let (ip, lcp) = (&NETWORK_FRAME[4..], &CONTROL_FRAME[4..]);
    let mut sstp = fresh(now);
    assert_eq!((sstp.frame_header(ip), sstp.frame_header(lcp)), (None, None));

    feed(&mut sstp, &CALL_CONNECT_REQUEST, now);
    assert_eq!((sstp.frame_header(ip), sstp.frame_header(lcp)), (None, Some([0x10, 0x00, 0x00, 0x0C])));
    assert_eq!(feed(&mut sstp, &NETWORK_FRAME, now), Input::Handled);
    assert_eq!(feed(&mut sstp, &CONTROL_FRAME, now), Input::Frame(lcp));
    // The same without address and control fields, and with a protocol of one byte.
    for hidden in [&[0x10, 0x00, 0x00, 0x07, 0x00, 0x21, 0x45][..], &[0x10, 0x00, 0x00, 0x06, 0x21, 0x45]] {
        assert_eq!(feed(&mut sstp, hidden, now), Input::Handled);
    }
    assert_eq!(sstp.dropped_frames(), 3);

    sstp.resolve_authentication(keys(), now);
    assert_eq!(feed(&mut sstp, &NETWORK_FRAME, now), Input::Handled);
    assert_eq!(sstp.frame_header(ip), None);

    feed(&mut sstp, &call_connected(), now);
    assert_eq!(feed(&mut sstp, &NETWORK_FRAME, now), Input::Frame(ip));
    assert_eq!(sstp.frame_header(ip), Some([0x10, 0x00, 0x00, 0x09]));

    sstp.close(now);
    assert_eq!(feed(&mut sstp, &NETWORK_FRAME, now), Input::Handled);
    assert_eq!((sstp.frame_header(ip), sstp.frame_header(lcp)), (None, None));
}

#[test]
fn a_frame_that_no_packet_can_carry_gets_no_header() {
    let sstp = connected(start());
    let mut frame = vec![0xFF, 0x03, 0x00, 0x21];
    frame.resize(wire::MAX_FRAME, 0);
    assert_eq!(sstp.frame_header(&frame), Some([0x10, 0x00, 0x0F, 0xFF]));
    frame.push(0);
    assert_eq!(sstp.frame_header(&frame), None);
    assert_eq!(sstp.frame_header(&[]), None);
}

#[test]
fn the_longest_packet_is_delivered_whole() {
    let now = start();
    let mut packet = vec![0x10, 0x00, 0x0F, 0xFF, 0xFF, 0x03, 0x00, 0x21];
    packet.resize(wire::MAX_PACKET, 0x45);
    assert_eq!(feed(&mut connected(now), &packet, now), Input::Frame(&packet[4..]));
}

#[test]
fn any_packet_restarts_the_hello_timer() {
    let now = start();
    for packet in [&NETWORK_FRAME[..], &CONTROL_FRAME, &ECHO_REQUEST, &ECHO_RESPONSE, &[0x10, 0x00, 0x00, 0x04]] {
        let mut sstp = connected(now);
        feed(&mut sstp, packet, now + 59 * SECOND);
        assert_eq!(sstp.poll_timeout(), Some((now + 119 * SECOND, "hello")), "{packet:02x?}");
        // Half a packet is none.
        assert_eq!(sstp.handle_input(&[0x10, 0x00, 0x00], now + 100 * SECOND), Ok(None));
        assert_eq!(sstp.poll_timeout(), Some((now + 119 * SECOND, "hello")), "{packet:02x?}");
    }
}

#[test]
fn a_silent_client_is_asked_once_and_then_left_without_an_abort() {
    let now = start();
    let mut sstp = connected(now);
    sstp.handle_timeout(now + 60 * SECOND);
    assert_eq!(drain(&mut sstp), Told { sent: ECHO_REQUEST.to_vec(), events: vec![] });
    assert_eq!(sstp.poll_timeout(), Some((now + 120 * SECOND, "hello: Echo Response")));
    sstp.handle_timeout(now + 120 * SECOND);
    assert_eq!(drain(&mut sstp), Told { sent: vec![], events: vec![Event::Finished(End::HelloTimeout)] });
    assert!(sstp.is_finished());
}

#[test]
fn a_client_that_answers_the_echo_stays() {
    let now = start();
    let mut sstp = connected(now);
    for round in 1..5 {
        let then = now + 60 * round * SECOND;
        sstp.handle_timeout(then);
        assert_eq!(drain(&mut sstp).sent, ECHO_REQUEST);
        feed(&mut sstp, &ECHO_RESPONSE, then);
    }
    assert!(sstp.data_open());
}

#[test]
fn an_echo_request_during_the_login_is_answered() {
    let now = start();
    let mut sstp = logging_in(now);
    feed(&mut sstp, &ECHO_REQUEST, now);
    assert_eq!(drain(&mut sstp), Told { sent: ECHO_RESPONSE.to_vec(), events: vec![] });
}

#[test]
fn a_flood_of_echo_requests_does_not_fill_the_memory() {
    let now = start();
    let mut sstp = connected(now);
    for _ in 0..10_000 {
        feed(&mut sstp, &ECHO_REQUEST, now);
    }
    assert_eq!(drain(&mut sstp).sent, ECHO_RESPONSE.repeat(MAX_WAITING / ECHO_RESPONSE.len()));
    feed(&mut sstp, &ECHO_REQUEST, now);
    assert_eq!(drain(&mut sstp).sent, ECHO_RESPONSE);
}

#[test]
fn reserved_bits_change_nothing() {
    let now = start();
    let mut sstp = connected(now);
    let echo = [0x10, 0xFF, 0xF0, 0x08, 0, 8, 0, 0];
    feed(&mut sstp, &echo, now);
    assert_eq!(drain(&mut sstp).sent, ECHO_RESPONSE);
    let frame = [0x10, 0xFE, 0xF0, 0x09, 0xFF, 0x03, 0x00, 0x21, 0x45];
    assert_eq!(feed(&mut sstp, &frame, now), Input::Frame(&frame[4..]));
}

#[test]
fn a_timeout_that_comes_early_does_nothing() {
    let now = start();
    let mut sstp = connected(now);
    sstp.handle_timeout(now + 59 * SECOND);
    assert_eq!(drain(&mut sstp), Told::default());
    assert_eq!(sstp.poll_timeout(), Some((now + 60 * SECOND, "hello")));
}

#[test]
fn a_login_that_is_over_before_or_after_its_time_changes_nothing() {
    let now = start();
    let mut sstp = fresh(now);
    sstp.resolve_authentication(HigherLayerKey::none(), now);
    feed(&mut sstp, &CALL_CONNECT_REQUEST, now);
    feed(&mut sstp, &call_connected_with(nonce(), CERTIFICATE, ZERO_MAC), now);
    assert!(!sstp.data_open());
    let mut sstp = connected(now);
    sstp.resolve_authentication(HigherLayerKey::none(), now);
    assert!(sstp.data_open());
    assert_eq!(drain(&mut sstp), Told::default());
}
