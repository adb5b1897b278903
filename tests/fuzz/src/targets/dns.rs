//! The resolver inside the tunnel, over UDP and over TCP.

use std::net::Ipv4Addr;
use std::time::Instant;

use wicket_client::ip::{self, Tcp};
use wicketgate::netstack::Stack;

use super::packets::{CLIENT, GATEWAY, ORDERS, Segment, Sink, TENANTS, checked, config, visible};

const PORT: u16 = 53;
const PEER: (Ipv4Addr, u16) = (CLIENT, 50_000);
const MAX_PACKET: usize = 1400;
/// The longest message that is read over TCP, and the longest answer.
const LARGEST: usize = 512;

/// The first byte says where the query is cut in two segments; the rest is the query. Both ways give the same answer,
/// it answers this question and is little larger, and who sees nothing learns nothing.
pub(crate) fn query(bytes: &[u8]) {
    let Some((cut, query)) = bytes.split_first() else { return };
    let query = &query[..query.len().min(MAX_PACKET - 28)];
    let now = wicketgate::clock::now();
    let mut stack = Stack::new(config(), 7, now);
    stack.open(MAX_PACKET);
    let blind = over_udp(&mut stack, query, now);
    stack.set_visible(visible());
    let answer = over_udp(&mut stack, query, now);
    assert_eq!(blind.is_some(), answer.is_some());
    if let Some(answer) = &answer {
        check(query, answer);
    }
    if let Some(blind) = blind {
        check(query, &blind);
        assert!(blind[3] & 0x0F != 0 || is_bad_version(&blind), "a name exists for somebody who sees nothing");
    }
    if query.len() <= LARGEST {
        assert_eq!(over_tcp(&mut stack, query, usize::from(*cut), now), answer, "TCP and UDP differ");
    }
}

fn over_udp(stack: &mut Stack, query: &[u8], now: Instant) -> Option<Vec<u8>> {
    let mut sink = Sink::new();
    stack.handle_input(&ip::udp(PEER, (GATEWAY, PORT), query), now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    assert!(sink.packets.len() <= 1);
    let packet = sink.packets.pop()?;
    let ip = checked(&packet, MAX_PACKET);
    let Some(udp) = ip.udp() else { panic!("an answer over UDP is a datagram") };
    assert_eq!((ip.source, udp.source, udp.destination), (GATEWAY, PORT, PEER.1));
    Some(udp.data.to_vec())
}

fn over_tcp(stack: &mut Stack, query: &[u8], cut: usize, now: Instant) -> Option<Vec<u8>> {
    let message = [&(query.len() as u16).to_be_bytes()[..], query].concat();
    let (first, second) = message.split_at(cut.min(message.len()));
    let mut peer = Segment { port: PORT, peer_port: PEER.1, sequence: 1000, window: 8000, ..Segment::default() };
    peer.flags = Tcp::SYN;
    let opened = exchange(stack, &peer, now);
    let [(sequence, flags, _)] = opened[..] else { panic!("SYN is answered by {opened:?}") };
    assert_eq!(flags, Tcp::SYN | Tcp::ACK);
    (peer.sequence, peer.acknowledgment, peer.flags) = (1001, sequence.wrapping_add(1), Tcp::ACK);
    let mut answer = Vec::new();
    for data in [&[], first, second] {
        for (_, flags, data) in exchange(stack, &Segment { data, ..peer }, now) {
            answer.extend(data);
            if flags & Tcp::RST != 0 {
                return None;
            }
        }
        peer.sequence = peer.sequence.wrapping_add(data.len() as u32);
    }
    let (length, message) = answer.split_first_chunk::<2>()?;
    assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len(), "the length in front of an answer");
    Some(message.to_vec())
}

/// Sequence number, flags and data of all that comes back.
fn exchange(stack: &mut Stack, segment: &Segment<'_>, now: Instant) -> Vec<(u32, u8, Vec<u8>)> {
    let mut sink = Sink::new();
    stack.handle_input(&segment.emit(GATEWAY), now, &mut sink);
    assert!(stack.poll_transmit(now, &mut sink));
    let segments = sink.packets.iter().map(|packet| {
        let ip = checked(packet, MAX_PACKET);
        let Some(tcp) = ip.tcp() else { panic!("an answer over TCP is a segment") };
        assert_eq!((ip.source, tcp.source, tcp.destination), (GATEWAY, PORT, PEER.1));
        (tcp.sequence, tcp.flags, tcp.data.to_vec())
    });
    segments.collect()
}

/// RFC 6891 6.1.3: the upper bits of the code, in the OPT record at the end.
fn is_bad_version(answer: &[u8]) -> bool {
    answer[11] == 1 && answer[answer.len() - 6] == 1
}

/// An answer has the form of RFC 1035 4.1, nothing of it is ours but at most one address and what EDNS asks for.
fn check(query: &[u8], answer: &[u8]) {
    let Some((header, body)) = answer.split_first_chunk::<12>() else { panic!("an answer without a header") };
    let &[i0, i1, flags, codes, 0, questions @ 0..=1, 0, answers @ 0..=1, 0, 0, 0, options @ 0..=1] = header else {
        panic!("header {header:02X?}")
    };
    assert!(answer.len() <= LARGEST && answer.len() <= query.len() + 16 + 11);
    assert_eq!([i0, i1], query[..2]);
    assert_eq!(query[2] & 0x80, 0, "an answer to an answer");
    // QR; opcode and RD as asked; not truncated.
    assert_eq!(flags & 0xFB, 0x80 | (query[2] & 0x79));
    assert_eq!(codes & 0x70, 0, "reserved bits");
    let records = 16 * usize::from(answers) + 11 * usize::from(options);
    let question = &body[..body.len() - records];
    assert_eq!(question.is_empty(), questions == 0);
    assert_eq!(question, &query[12..12 + question.len()], "the question as it was asked");
    if answers == 1 {
        let record = &body[question.len()..][..16];
        assert_eq!(record[..12], [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        assert!([ORDERS, TENANTS].iter().any(|known| known.octets() == record[12..]));
        assert_eq!(codes & 0x0F, 0);
    }
}
