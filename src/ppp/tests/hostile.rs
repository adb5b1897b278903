//! Clients that break the rules, loop, flood, or send noise.

use proptest::prelude::*;

use super::*;
use crate::ppp::link::MAX_EVENTS;
use crate::ppp::outbox::MAX_FRAMES;
use crate::ppp::wire::{Frame, MAX_FRAME, Packet, Protocol};

const CONFIGURE_REQUEST: &str = "FF03 C021 01 07 0008 010405DC";

/// The identifier of the last Configure-Request in `sent`.
fn last_id(sent: &[String]) -> String {
    let request = sent.iter().rev().find(|frame| frame.starts_with("FF03C02101")).unwrap();
    request[10..12].to_owned()
}

#[test]
fn a_client_that_naks_every_method_ends_with_what_it_wants() {
    let mut bench = Bench::opened(&[Method::EapMsChapV2, Method::MsChapV2, Method::Pap]);
    bench.send(CONFIGURE_REQUEST);
    for _ in 0..2 {
        let id = last_id(&bench.sent());
        bench.send(&format!("FF03 C021 03 {id} 0009 0305C22305")); // CHAP with MD5
    }
    let id = last_id(&bench.sent());
    bench.send(&format!("FF03 C021 03 {id} 0009 0305C22305"));
    assert_eq!(terminate_requests(&bench.sent()), 1);
    let (wanted, offered) = ("chap-md5".to_owned(), "eap-mschapv2, mschapv2, pap".to_owned());
    assert_eq!(bench.end(), End::NoCommonMethod { wanted, offered });
}

#[test]
fn a_client_that_rejects_authentication_does_not_get_in() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    bench.send(CONFIGURE_REQUEST);
    bench.send("FF03 C021 04 01 0009 0305C22381");
    assert_eq!(terminate_requests(&bench.sent()), 1);
    let (wanted, offered) = ("nothing".to_owned(), "mschapv2".to_owned());
    assert_eq!(bench.end(), End::NoCommonMethod { wanted, offered });
}

#[test]
fn without_a_method_nobody_gets_in() {
    let mut bench = Bench::opened(&[]);
    bench.send(CONFIGURE_REQUEST);
    bench.send("FF03 C021 02 01 000E 010405DC 050659595959");
    let (wanted, offered) = ("nothing".to_owned(), "nothing".to_owned());
    assert_eq!(bench.end(), End::NoCommonMethod { wanted, offered });
}

#[test]
fn an_eap_nak_without_another_method_is_a_failure() {
    let mut bench = Bench::opened(&[Method::EapMsChapV2]);
    bench.send(CONFIGURE_REQUEST);
    bench.send("FF03 C021 02 01 0012 0304C227 010405DC 050659595959");
    bench.send("FF03 C227 02 10 0006 01 \"u\""); // Identity
    bench.sent();
    bench.send("FF03 C227 02 11 0006 03 00"); // Nak: no type at all
    let sent = bench.sent();
    assert_eq!(sent[0], "FF03C22704110004");
    assert_eq!((sent.len(), terminate_requests(&sent)), (2, 1));
    let (wanted, offered) = ("eap type 0".to_owned(), "eap-mschapv2".to_owned());
    assert_eq!(bench.end(), End::NoCommonMethod { wanted, offered });
}

#[test]
fn a_client_that_naks_the_magic_number_forever_is_given_up() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    bench.send(CONFIGURE_REQUEST);
    for _ in 0..20 {
        let id = last_id(&bench.sent());
        bench.send(&format!("FF03 C021 03 {id} 000A 050601020304"));
    }
    let id = last_id(&bench.sent());
    bench.send(&format!("FF03 C021 03 {id} 000A 050601020304"));
    assert_eq!(terminate_requests(&bench.sent()), 1);
    assert_eq!(bench.end(), End::NotConverging { protocol: "LCP", rounds: 20 });
}

#[test]
fn after_five_naks_options_are_rejected_and_after_twenty_rounds_it_is_over() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    let mut codes = String::new();
    for _ in 0..21 {
        bench.send("FF03 C021 01 07 0008 01040010"); // MRU 16
        for frame in bench.sent() {
            codes.push_str(&frame[8..10]);
        }
    }
    // Our own request, five Naks, sixteen Rejects, Terminate-Request.
    assert_eq!(codes, format!("01{}{}05", "03".repeat(5), "04".repeat(16)));
    assert_eq!(bench.end(), End::NotConverging { protocol: "LCP", rounds: 20 });
}

#[test]
fn an_answer_with_a_stale_identifier_or_other_options_is_dropped() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    bench.send(CONFIGURE_REQUEST);
    bench.sent();
    bench.send("FF03 C021 02 02 0013 0305C22381 010405DC 050659595959"); // Ack of another request
    bench.send("FF03 C021 03 00 0008 0304C023"); // Nak of another request
    bench.send("FF03 C021 04 02 0009 0305C22381"); // Reject of another request
    bench.send("FF03 C021 02 01 000E 010405DC 050659595959"); // Ack that leaves authentication out
    assert_eq!(bench.sent(), [""; 0]);
    bench.send("FF03 C021 02 01 0013 0305C22381 010405DC 050659595959");
    assert_eq!(bench.sent().len(), 1, "LCP is open, the challenge is out");
    bench.send("FF03 C021 02 01 0013 0305C22381 010405DC 050659595959");
    assert_eq!(bench.sent(), [""; 0], "the same Ack once more changes nothing");
}

#[test]
fn nothing_but_lcp_and_the_login_is_heard_before_the_login_is_done() {
    for mut bench in [Bench::opened(&[Method::MsChapV2]), Bench::challenged(), Bench::asked()] {
        for frame in [
            "FF03 8021 01 01 000A 03060A63002A",         // IPCP
            "FF03 8057 01 01 000E 010A0102030405060708", // IPV6CP
            "FF03 80FD 01 01 0004",                      // CCP
            "FF03 0021 45000014",                        // IPv4
            "FF03 C023 01 01 0008 0161 0162",            // PAP, which was not agreed on
            "FF03 C227 02 10 0005 01",                   // EAP, likewise
        ] {
            bench.send(frame);
        }
        assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
        assert_eq!(bench.link.counters(), Counters { out_of_phase: 6, ..Counters::default() });
    }
}

#[test]
fn nt_46_an_ipv6_frame_is_rejected_as_a_protocol_and_never_handed_out() {
    // A SYN from fe80::2 to fe80::1 behind a Hop-by-Hop header.
    let packet = "60000000 001C 00 40 FE800000000000000000000000000002 FE800000000000000000000000000001 \
                  06 00 01 04 00000000 C350 0050 000003E8 00000000 50 02 FFFF 0000 0000";
    let mut bench = Bench::up();
    bench.send(&format!("FF03 0057 {packet}"));
    let packet = packet.replace(' ', "");
    assert_eq!(bench.sent(), [format!("FF03C0210802004A0057{packet}")], "Protocol-Reject");
    assert_eq!(bench.events(), []);
    // Not before the network is up either.
    let mut bench = Bench::accepted();
    bench.send(&format!("FF03 0057 {packet}"));
    assert_eq!(bench.events(), []);
}

#[test]
fn ip_packets_are_handed_out_only_while_ipcp_is_open() {
    let packet = bytes("FF03 0021 45000014");
    let mut bench = Bench::accepted();
    assert_eq!(bench.link.handle_input(&packet, bench.now), Input::Handled);
    let mut bench = Bench::up();
    assert_eq!(bench.link.handle_input(&packet, bench.now), Input::Packet(&[0x45, 0x00, 0x00, 0x14]));
    bench.link.close("bye", bench.now);
    assert_eq!(bench.link.handle_input(&packet, bench.now), Input::Handled);
}

#[test]
fn a_ccp_flood_costs_one_reject_per_frame_and_no_more_than_the_queue() {
    let mut bench = Bench::up();
    for _ in 0..1000 {
        bench.send("FF03 80FD 01 01 0004");
    }
    assert_eq!(bench.link.counters().overflowed, 1000 - MAX_FRAMES as u64);
    let sent = bench.sent();
    assert_eq!(sent.len(), MAX_FRAMES);
    assert_ne!(sent[0][10..12], sent[1][10..12], "each has its own identifier");
    assert!(bench.link.is_network_up());
}

#[test]
fn identifications_are_told_eight_times() {
    let mut bench = Bench::opened(&[Method::MsChapV2]);
    for _ in 0..100 {
        bench.send("FF03 C021 0C 02 000A 00000000 4141");
    }
    assert_eq!(bench.events(), vec![Event::Identification("AA".into()); 8]);
    assert_eq!(bench.sent(), [""; 0], "and never rejected");
}

#[test]
fn lcp_may_start_over_until_a_proof_has_come() {
    let mut bench = Bench::challenged();
    bench.send(CONFIGURE_REQUEST);
    assert_eq!(
        bench.sent(),
        ["FF03C021010200130305C22381010405DC050659595959", "FF03C02102070008010405DC"] // ours, and the Ack
    );
    bench.send(RESPONSE);
    assert_eq!(bench.events(), []);
    bench.send("FF03 C021 02 02 0013 0305C22381 010405DC 050659595959");
    assert!(bench.sent()[0].starts_with("FF03C2230110"), "the challenge again");
    bench.send(RESPONSE);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn lcp_that_starts_over_while_a_proof_is_judged_ends_the_link() {
    let mut bench = Bench::asked();
    bench.send(CONFIGURE_REQUEST);
    assert_eq!(terminate_requests(&bench.sent()), 1);
    bench.resolve(accepted());
    assert_eq!(bench.end(), End::Renegotiated);
}

#[test]
fn a_second_login_ends_the_link() {
    let mut bench = Bench::up();
    bench.send(CONFIGURE_REQUEST);
    assert_eq!(bench.events(), [Event::NetworkDown]);
    assert_eq!(bench.sent().len(), 2);
    bench.send("FF03 C021 02 02 0013 0305C22381 010405DC 050659595959");
    let sent = bench.sent();
    assert_eq!((sent.len(), terminate_requests(&sent)), (1, 1));
    assert_eq!(bench.end(), End::Renegotiated);
}

#[test]
fn once_bound_a_configure_request_or_a_stray_terminate_ack_ends_the_link() {
    for frame in [CONFIGURE_REQUEST, "FF03 C021 06 07 0004"] {
        let mut bench = Bench::up();
        bench.link.set_bound(bench.now);
        bench.send(frame);
        let sent = bench.sent();
        assert_eq!((sent.len(), terminate_requests(&sent)), (1, 1));
        assert_eq!(bench.events(), [Event::NetworkDown]);
        assert_eq!(bench.end(), End::Renegotiated);
    }
}

#[test]
fn binding_while_lcp_starts_over_ends_the_link() {
    let mut bench = Bench::up();
    bench.send(CONFIGURE_REQUEST);
    bench.sent();
    bench.link.set_bound(bench.now);
    assert_eq!(terminate_requests(&bench.sent()), 1);
    assert_eq!(bench.end(), End::Renegotiated);
}

#[test]
fn a_binding_before_the_confirmation_of_success_holds_from_the_acceptance_on() {
    let mut bench = Bench::opened(&[Method::EapMsChapV2]);
    bench.send(CONFIGURE_REQUEST);
    bench.send("FF03 C021 02 01 0012 0304C227 010405DC 050659595959");
    bench.send("FF03 C227 02 10 000A 01 \"alice\"");
    bench.send(
        "FF03 C227 02 11 003F 1A 02 10 003A 31 11111111111111111111111111111111 0000000000000000 \
         222222222222222222222222222222222222222222222222 00 \"User\"",
    );
    assert!(matches!(bench.events()[..], [Event::AuthenticationRequested(_)]));
    bench.resolve(accepted());
    bench.link.set_bound(bench.now);
    bench.send("FF03 C227 02 12 0006 1A 03");
    assert_eq!(bench.events(), [Event::Authenticated]);
    bench.sent();
    bench.send(CONFIGURE_REQUEST);
    assert_eq!(terminate_requests(&bench.sent()), 1);
    assert_eq!(bench.end(), End::Renegotiated);
}

#[test]
fn rejecting_what_we_cannot_do_without_ends_the_link() {
    for (frame, protocol) in [
        ("FF03 C021 08 07 0006 8021", "IPCP"),
        ("FF03 C021 08 07 0006 0021", "IPv4"),
        ("FF03 C021 08 07 0006 C223", "CHAP"),
        ("FF03 C021 07 07 0008 01 01 0004", "LCP"), // Code-Reject of Configure-Request
        ("FF03 8021 07 07 0008 01 01 0004", "IPCP"),
    ] {
        let mut bench = Bench::up();
        bench.send(frame);
        assert_eq!(terminate_requests(&bench.sent()), 1, "{frame}");
        assert_eq!(bench.end(), End::Rejected { protocol });
    }
}

#[test]
fn rejecting_what_nobody_needs_changes_nothing() {
    let mut bench = Bench::up();
    bench.send("FF03 C021 08 07 0006 8057"); // Protocol-Reject of IPV6CP
    bench.send("FF03 C021 07 07 0008 0C 01 0004"); // Code-Reject of Identification
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    assert!(bench.link.is_network_up());
}

#[test]
fn malformed_frames_are_counted_and_change_nothing() {
    let mut bench = Bench::up();
    let frames = ["", "FF03", "FF03C020", "FF03 C021", "FF03 C021 01 01 0003", "FF03 C021 01 01 0008 01050000"];
    for frame in frames {
        bench.send(frame);
    }
    assert_eq!(bench.link.counters().malformed, frames.len() as u64);
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn a_link_prints_no_secret() {
    let bench = Bench::asked();
    assert_eq!(
        format!("{:?}", bench.link),
        "Link { phase: \"Authenticate\", login: Asked, lcp: Opened, \
         counters: Counters { malformed: 0, out_of_phase: 0, overflowed: 0 }, .. }"
    );
}

/// What can happen to a link.
#[derive(Clone, Debug)]
enum Op {
    Noise(Vec<u8>),
    Frame { protocol: u16, code: u8, id: u8, data: Vec<u8> },
    Repeat,
    Wait(u16),
    Resolve(bool),
    Bound,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let protocol = prop::sample::select(vec![0x0021, 0x0057, 0x8021, 0x8057, 0x80FD, 0xC021, 0xC023, 0xC223, 0xC227]);
    let options = prop::collection::vec(
        prop::sample::select(vec![
            bytes("01040080"),
            bytes("010405DC"),
            bytes("050600000000"),
            bytes("050659595959"),
            bytes("0305C22381"),
            bytes("0304C227"),
            bytes("0304C023"),
            bytes("03060A63002A"),
            bytes("03060A630001"),
            bytes("810600000000"),
            bytes("0702"),
            bytes("03"),
        ]),
        0..6,
    )
    .prop_map(|options| options.concat());
    let response = Just(bytes(RESPONSE)[8..].to_vec());
    let data = prop_oneof![3 => options, 1 => response, 1 => prop::collection::vec(any::<u8>(), 0..40)];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Op::Noise),
        12 => (protocol, 0_u8..15, 0_u8..20, data).prop_map(|(protocol, code, id, data)| {
            Op::Frame { protocol, code, id, data }
        }),
        6 => Just(Op::Repeat),
        2 => (0_u16..5000).prop_map(Op::Wait),
        1 => any::<bool>().prop_map(Op::Resolve),
        1 => Just(Op::Bound),
        1 => Just(Op::Close),
    ]
}

/// A frame that agrees with `frame`: a Configure-Ack for a Configure-Request, the frame itself otherwise.
fn agree(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    if let Some(code) = answer.get_mut(4).filter(|code| **code == 1) {
        *code = 2;
    }
    answer
}

fn apply(bench: &mut Bench, op: &Op, last: &[u8]) {
    let input = match op {
        Op::Noise(frame) => frame.clone(),
        Op::Frame { protocol, code, id, data } => {
            Packet { code: *code, id: *id, data }.emit_frame(Protocol::from(*protocol))
        }
        Op::Repeat => agree(last),
        Op::Wait(milliseconds) => {
            bench.now += Duration::from_millis(u64::from(*milliseconds));
            return bench.link.handle_timeout(bench.now);
        }
        Op::Resolve(true) => return bench.resolve(accepted()),
        Op::Resolve(false) => return bench.resolve(Verdict::Refused(Refusal::Credentials)),
        Op::Bound => return bench.link.set_bound(bench.now),
        Op::Close => return bench.link.close("close", bench.now),
    };
    let up = bench.link.is_network_up();
    if let Input::Packet(_) = bench.link.handle_input(&input, bench.now) {
        assert!(up, "a packet while the network is down");
    }
}

fn start(at: u8) -> Bench {
    match at {
        0 => Bench::opened(&[Method::EapMsChapV2, Method::MsChapV2, Method::Pap]),
        1 => Bench::opened(&[Method::Pap]),
        2 => Bench::challenged(),
        3 => Bench::asked(),
        4 => Bench::accepted(),
        _ => Bench::up(),
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_order_of_events_holds(at in 0_u8..6, ops in prop::collection::vec(op(), 0..60)) {
        let mut bench = start(at);
        let (mut asked, mut authenticated, mut finished, mut allowed) = (at >= 3, at >= 4, false, at >= 4);
        let mut last = Vec::new();
        for op in &ops {
            if let Op::Resolve(true) = op {
                allowed |= asked;
            }
            apply(&mut bench, op, &last);
            while let Some(frame) = bench.link.poll_transmit() {
                prop_assert!(frame.starts_with(&[0xFF, 0x03]) && frame.len() <= MAX_FRAME);
                let frame_view = Frame::parse(&frame).unwrap();
                prop_assert!(Packet::parse(frame_view.information).is_ok());
                last = frame;
            }
            while let Some(event) = bench.link.poll_event() {
                prop_assert!(!finished, "{event:?} after the end");
                match event {
                    Event::AuthenticationRequested(_) => {
                        prop_assert!(!asked);
                        asked = true;
                    }
                    Event::Authenticated => {
                        prop_assert!(allowed && !authenticated);
                        authenticated = true;
                    }
                    Event::NetworkUp { max_packet } => prop_assert!(authenticated && max_packet <= 1400),
                    Event::Finished(_) => finished = true,
                    Event::Identification(_) | Event::PasswordRefused(_) | Event::NetworkDown => {}
                }
            }
            prop_assert_eq!(bench.link.poll_timeout().is_some() && finished, false);
        }
        if at < 5 {
            // Whoever stops short of a network is given up in bounded time: no state waits without a timer.
            bench.run_out();
            prop_assert!(finished || bench.link.is_network_up() || bench.events().iter().any(is_finished));
        }
    }

    #[test]
    fn queues_stay_bounded_when_nobody_drains(at in 0_u8..6, ops in prop::collection::vec(op(), 0..200)) {
        let mut bench = start(at);
        for op in &ops {
            apply(&mut bench, op, &[]);
        }
        prop_assert!(bench.sent().len() <= MAX_FRAMES);
        prop_assert!(bench.events().len() <= MAX_EVENTS + 4);
    }
}

fn is_finished(event: &Event) -> bool {
    matches!(event, Event::Finished(_))
}
