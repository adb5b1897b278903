//! What holds for every stream of bytes.

use super::*;
use proptest::prelude::*;

/// All that can be seen of a call, in order.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Frame(Vec<u8>),
    Sent(Vec<u8>),
    Event(Event),
    Lost(Error),
}

/// Feeds `stream` in pieces of these lengths, again and again, and lets the login be over after `login` packets.
fn replay(stream: &[u8], pieces: &[usize], login: usize) -> Vec<Seen> {
    let now = start();
    let mut sstp = fresh(now);
    let mut seen = Vec::new();
    let (mut received, mut consumed, mut packets) = (0, 0, 0);
    for piece in pieces.iter().cycle() {
        received = stream.len().min(received + piece);
        loop {
            match sstp.handle_input(&stream[consumed..received], now) {
                Ok(None) => break,
                Ok(Some((length, input))) => {
                    assert!(length > 0);
                    consumed += length;
                    packets += 1;
                    if let Input::Frame(frame) = input {
                        seen.push(Seen::Frame(frame.to_vec()));
                    }
                    if packets == login {
                        sstp.resolve_authentication(keys(), now);
                    }
                }
                Err(error) => seen.push(Seen::Lost(error)),
            }
            let told = drain(&mut sstp);
            if !told.sent.is_empty() {
                seen.push(Seen::Sent(told.sent));
            }
            seen.extend(told.events.into_iter().map(Seen::Event));
            assert!(sstp.waiting.is_empty());
        }
        if received == stream.len() {
            return seen;
        }
    }
    seen
}

/// Packets of every kind, and now and then what is none. The beginning is often that of a good call.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let packet = prop_oneof![
        1 => Just(CALL_CONNECT_REQUEST.to_vec()),
        1 => Just(PROTOCOL_2.to_vec()),
        1 => Just(call_connected()),
        1 => Just(ECHO_RESPONSE.to_vec()),
        1 => Just(CALL_ABORT.to_vec()),
        1 => Just(CALL_DISCONNECT.to_vec()),
        1 => Just(CALL_DISCONNECT_ACK.to_vec()),
        4 => Just(ECHO_REQUEST.to_vec()),
        4 => Just(CONTROL_FRAME.to_vec()),
        4 => Just(NETWORK_FRAME.to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => proptest::collection::vec(any::<u8>(), 0..80)
            .prop_map(|frame| [&wire::data_header(frame.len()).unwrap()[..], &frame].concat()),
    ];
    let begin = prop_oneof![
        Just(vec![]),
        Just(CALL_CONNECT_REQUEST.to_vec()),
        Just([&CALL_CONNECT_REQUEST[..], &call_connected()].concat()),
    ];
    (begin, proptest::collection::vec(packet, 0..12)).prop_map(|(begin, packets)| [begin, packets.concat()].concat())
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_events(
        stream in stream(), pieces in proptest::collection::vec(1..40_usize, 1..8), login in 1..6_usize
    ) {
        let whole = replay(&stream, &[stream.len().max(1)], login);
        prop_assert_eq!(&replay(&stream, &pieces, login), &whole);
        prop_assert_eq!(&replay(&stream, &[1], login), &whole);
    }

    #[test]
    fn no_bytes_panic_in_any_state(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), ahead in 0..3_usize, close in any::<bool>()
    ) {
        let now = start();
        let mut sstp = [fresh, logging_in, connected][ahead](now);
        if close {
            sstp.close(now);
        }
        let mut rest = &bytes[..];
        while let Ok(Some((length, _))) = sstp.handle_input(rest, now) {
            prop_assert!(length > 0 && length <= rest.len());
            rest = &rest[length..];
        }
    }

    #[test]
    fn random_control_packets_never_open_the_call(
        kind in 0..12_u8, count in 0..3_u8, list in proptest::collection::vec(any::<u8>(), 0..110)
    ) {
        let now = start();
        let mut sstp = logging_in(now);
        sstp.resolve_authentication(HigherLayerKey::keys(hex32(KEY), true), now);
        let mut packet = vec![0x10, 0x01, 0x00, 8 + list.len() as u8, 0, kind, 0, count];
        packet.extend(&list);
        prop_assert_eq!(feed(&mut sstp, &packet, now), Input::Handled);
        prop_assert!(!sstp.data_open());
    }
}
