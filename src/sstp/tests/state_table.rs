//! Walks the table of the transcript, cell by cell, with real packets.

use super::*;
use std::collections::BTreeSet;
use wire::CryptoBindingRequest;

const CALL_STATES: &str = include_str!("../../../tests/transcripts/sstp/call-states.txt");

const STATES: [(&str, &str); 8] = [
    ("CRP", "ConnectRequestPending"),
    ("CCP", "CallConnectedPending"),
    ("CC", "CallConnected"),
    ("AP", "AbortPending"),
    ("ATP", "AbortTimeoutPending"),
    ("DAP", "DisconnectAckPending"),
    ("DTP", "DisconnectTimeoutPending"),
    ("FIN", "Finished"),
];

fn signals() -> Vec<(&'static str, Vec<u8>)> {
    let head = |kind, count, length| vec![0x10, 0x01, 0x00, length, 0, kind, 0, count];
    let status = [0, 2, 0x00, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0];
    let broken = [0, 1, 0x00, 0x03];
    let mut ack = Vec::new();
    Message::CallConnectAck(CryptoBindingRequest { hash_bitmask: 2, nonce: nonce() }).emit(&mut ack);
    vec![
        ("Call Connect Request", CALL_CONNECT_REQUEST.to_vec()),
        ("Call Connect Request, protocol 2", PROTOCOL_2.to_vec()),
        ("Call Connect Request, broken list", [head(1, 1, 12), broken.to_vec()].concat()),
        ("Call Connect Request, no protocol", head(1, 0, 8)),
        ("Call Connect Ack", ack),
        ("Call Connect Nak", [head(3, 1, 20), status.to_vec()].concat()),
        ("Call Connected", call_connected()),
        ("Call Connected, wrong nonce", call_connected_with([0; 32], CERTIFICATE, MAC)),
        ("Call Connected, no binding", head(4, 0, 8)),
        ("Call Abort", [head(5, 1, 20), status.to_vec()].concat()),
        ("Call Abort, no status", CALL_ABORT.to_vec()),
        ("Call Disconnect", [head(6, 1, 20), status.to_vec()].concat()),
        ("Call Disconnect, no status", CALL_DISCONNECT.to_vec()),
        ("Call Disconnect Ack", CALL_DISCONNECT_ACK.to_vec()),
        ("Echo Request", ECHO_REQUEST.to_vec()),
        ("Echo Response", ECHO_RESPONSE.to_vec()),
        ("message type 10", head(10, 0, 8)),
        ("Echo Request, broken list", [head(8, 1, 12), broken.to_vec()].concat()),
        ("Call Abort, broken list", [head(5, 1, 12), broken.to_vec()].concat()),
        ("PPP control frame", CONTROL_FRAME.to_vec()),
        ("PPP network frame", NETWORK_FRAME.to_vec()),
        ("PPP frame, no protocol", vec![0x10, 0x00, 0x00, 0x07, 0xFF, 0x03, 0xC0]),
        ("no frame", vec![0x10, 0x00, 0x00, 0x04]),
        ("version 0x11", vec![0x11, 0x01, 0x00, 0x08, 0, 8, 0, 0]),
        ("length 3", vec![0x10, 0x00, 0x00, 0x03]),
        ("control length 7", vec![0x10, 0x01, 0x00, 0x07, 0, 8, 0, 0]),
    ]
}

const VERBS: [&str; 3] = ["close", "end of stream", "timeout"];

fn in_state(state: &str, now: Instant) -> Sstp {
    let mut sstp = connected(now);
    match state {
        "CRP" => sstp = fresh(now),
        "CCP" => {
            sstp = logging_in(now);
            sstp.resolve_authentication(keys(), now);
        }
        "CC" => {}
        "AP" => _ = feed(&mut sstp, &call_connected(), now),
        "ATP" => _ = feed(&mut sstp, &CALL_ABORT, now),
        "DAP" => sstp.close(now),
        "DTP" => _ = feed(&mut sstp, &CALL_DISCONNECT, now),
        "FIN" => sstp.handle_eof(),
        other => panic!("{other}"),
    }
    drain(&mut sstp);
    assert_eq!(short(&sstp), state);
    sstp
}

fn short(sstp: &Sstp) -> &'static str {
    STATES.iter().find(|(_, name)| *name == sstp.state.name()).unwrap().0
}

/// The word of the file for what was sent.
fn word(sent: &[u8]) -> String {
    let info = |status: StatusInfo<'_>| format!("{:x}:{:x}", status.attribute.0, status.status.0);
    let control = match Packet::split(sent) {
        Ok(None) => return "-".into(),
        Ok(Some((length, Packet::Control(control)))) if length == sent.len() => control,
        other => panic!("{other:?}"),
    };
    match Message::parse(control).unwrap() {
        Message::CallConnectAck(request) => {
            assert_eq!(request, CryptoBindingRequest { hash_bitmask: 2, nonce: nonce() });
            "ack".into()
        }
        Message::CallConnectNak(status) => format!("nak {}", info(status)),
        Message::CallAbort(Some(status)) => format!("abort {}", info(status)),
        Message::CallDisconnect(Some(status)) => format!("disconnect {}", info(status)),
        Message::CallDisconnectAck => "disconnect-ack".into(),
        Message::EchoRequest => "echo-request".into(),
        Message::EchoResponse => "echo-response".into(),
        other @ (Message::CallConnectRequest
        | Message::CallConnected(_)
        | Message::CallAbort(None)
        | Message::CallDisconnect(None)) => panic!("a server does not send {other:?}"),
    }
}

/// The cell as it is: what happens to `signal` in `state`. `timers` says how long each state may last.
fn cell(state: &str, signal: &str, timers: &[(&str, Option<Duration>)]) -> String {
    let entered = start();
    let mut sstp = in_state(state, entered);
    let before = sstp.poll_timeout();
    let mut now = entered + SECOND / 2;
    let mut did = None;
    match signal {
        "close" => sstp.close(now),
        "end of stream" => sstp.handle_eof(),
        "timeout" => {
            now = before.map_or(now, |(at, _)| at);
            sstp.handle_timeout(now);
        }
        _ => {
            let packet = signals().into_iter().find(|(name, _)| *name == signal).unwrap().1;
            did = match sstp.handle_input(&packet, now) {
                Ok(Some((length, input))) => {
                    assert_eq!(length, packet.len());
                    (input == Input::Frame(packet.get(4..).unwrap())).then_some("frame")
                }
                Ok(None) => panic!("{signal} is not whole"),
                Err(_) => Some("lost"),
            };
        }
    }
    let told = drain(&mut sstp);
    let sent = word(&told.sent);
    let did = match did {
        Some(did) => {
            assert_eq!(sent, "-", "{state}, {signal}");
            did.into()
        }
        None => sent,
    };
    let after = short(&sstp);
    let expected = timers.iter().find(|(name, _)| *name == after).unwrap().1;
    let restarted = after != state || after == "CC" && signal != "close";
    let since = if restarted { now } else { entered };
    assert_eq!(sstp.poll_timeout().map(|(at, _)| at), expected.map(|after| since + after), "{state}, {signal}");
    check_events(state, after, &told.events);
    if after == state { did } else { format!("{did} > {after}") }
}

fn check_events(before: &str, after: &str, events: &[Event]) {
    let live = |state| ["CRP", "CCP", "CC"].contains(&state);
    match (before, after) {
        (same, still) if same == still => assert_eq!(events, []),
        (_, "CCP") => assert_eq!(events, [Event::CallStarted]),
        (_, "CC") => assert_eq!(events, [Event::Bound(Strength::Keys)]),
        (_, "FIN") => assert!(matches!(events, [Event::Finished(_)]), "{events:?}"),
        (before, "AP" | "DAP") if live(before) => assert_eq!(events, [Event::Disconnecting { by_peer: false }]),
        (before, "ATP" | "DTP") if live(before) => assert_eq!(events, [Event::Disconnecting { by_peer: true }]),
        _ => assert_eq!(events, [], "{before} > {after}"),
    }
}

#[test]
fn every_cell_is_as_the_table_says() {
    let mut rows = CALL_STATES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let states: Vec<&str> = STATES.iter().map(|(short, _)| *short).collect();
    assert_eq!(rows.next().unwrap()[1..], states);
    let seconds = |cell: &&str| (*cell != "none").then(|| SECOND * cell.parse::<u32>().unwrap());
    let durations = rows.next().unwrap();
    assert_eq!(durations[0], "timer");
    let timers: Vec<_> = states.iter().copied().zip(durations[1..].iter().map(seconds)).collect();

    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in rows {
        let (signal, cells) = row.split_first().unwrap();
        assert_eq!(cells.len(), states.len(), "{signal}");
        assert!(seen.insert(*signal), "{signal} twice");
        for (state, expected) in states.iter().zip(cells) {
            let got = cell(state, signal, &timers);
            if got != *expected {
                wrong.push(format!("{signal} in {state}: expected {expected:?}, got {got:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    let signals = signals();
    assert_eq!(seen, signals.iter().map(|(name, _)| *name).chain(VERBS).collect());
}
