//! The answer to a DHCPINFORM.

use std::net::Ipv4Addr;
use std::time::Instant;

use wicket_client::{dhcp, ip};
use wicketgate::netstack::Stack;

use super::packets::{BROADCAST, CLIENT, GATEWAY, SUFFIX, Sink, checked, config};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const MAX_PACKET: usize = 1400;
/// The fixed fields and the cookie.
const FIXED: usize = 240;

/// A message to the DHCP server, by broadcast and to the gateway: the same answer, or none.
pub(crate) fn message(bytes: &[u8]) {
    let request = &bytes[..bytes.len().min(MAX_PACKET - 28)];
    let now = wicketgate::clock::now();
    let mut stack = Stack::new(config(), 7, now);
    assert_eq!(ask(&mut stack, BROADCAST, request, now), None, "nobody is answered before IPCP is up");
    stack.open(MAX_PACKET);
    let answer = ask(&mut stack, BROADCAST, request, now);
    assert_eq!(ask(&mut stack, GATEWAY, request, now), answer);
    if let Some(answer) = answer {
        check(request, &answer);
    }
}

fn ask(stack: &mut Stack, server: Ipv4Addr, request: &[u8], now: Instant) -> Option<Vec<u8>> {
    let mut sink = Sink::new();
    stack.handle_input(&ip::udp((CLIENT, CLIENT_PORT), (server, SERVER_PORT), request), now, &mut sink);
    assert!(sink.packets.len() <= 1);
    let packet = sink.packets.pop()?;
    let ip = checked(&packet, MAX_PACKET);
    let Some(udp) = ip.udp() else { panic!("an answer is a datagram") };
    assert_eq!((ip.source, udp.source, udp.destination), (GATEWAY, SERVER_PORT, CLIENT_PORT));
    Some(udp.data.to_vec())
}

/// An acknowledgement for the session's own address, with nothing but what was asked for.
fn check(request: &[u8], answer: &[u8]) {
    assert!((300..=576).contains(&answer.len()));
    assert_eq!(request[..1], [1]);
    assert_eq!(request[12..16], CLIENT.octets(), "an answer about another address");
    assert_eq!(stated(request, 53).last(), Some(&&[8][..]), "an answer to something else than INFORM");
    let transaction = [answer[4], answer[5], answer[6], answer[7]];
    assert_eq!(request[4..8], transaction);
    assert!(dhcp::is_ack(answer, u32::from_be_bytes(transaction)));
    assert_eq!(answer[12..16], CLIENT.octets());
    assert_eq!(answer[16..28], [0; 12], "no other address is given");
    assert_eq!(answer[28..44], request[28..44]);
    for (code, value) in options(answer) {
        assert!(matches!(code, 53 | 54) || stated(request, 55).concat().contains(&code), "option {code} unasked");
        match code {
            1 => assert_eq!(value, [255; 4]),
            6 | 54 => assert_eq!(value, GATEWAY.octets()),
            15 => assert_eq!(value, SUFFIX.as_bytes()),
            53 => assert_eq!(value, [5]),
            121 | 249 => assert_eq!(value, [25, 198, 18, 7, 128, 198, 18, 7, 1]),
            other => panic!("option {other}"),
        }
    }
}

/// The values of an option that may stand more than once.
fn stated(request: &[u8], wanted: u8) -> Vec<&[u8]> {
    let (mut values, mut rest) = (Vec::new(), &request[FIXED..]);
    loop {
        rest = match rest {
            [0, tail @ ..] => tail,
            [255, ..] | [] | [_] => return values,
            [code, length, tail @ ..] => {
                let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { return values };
                if *code == wanted {
                    values.push(value);
                }
                tail
            }
        };
    }
}

/// Our options; each stands once.
fn options(answer: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut found, mut rest) = (Vec::new(), &answer[FIXED..]);
    loop {
        match rest {
            [255, padding @ ..] => {
                assert!(padding.iter().all(|byte| *byte == 0));
                return found;
            }
            [code, length, tail @ ..] => {
                let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { panic!("option {code}") };
                assert!(found.iter().all(|(other, _)| other != code), "option {code} twice");
                found.push((*code, value));
                rest = tail;
            }
            [] | [_] => panic!("the options do not end"),
        }
    }
}
