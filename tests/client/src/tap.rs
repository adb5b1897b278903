//! Looks at every inner packet in both directions and counts what an honest, lossless link never shows.

use std::collections::HashMap;

use crate::ip::{Ipv4, Tcp};

/// Streams looked at together; the oldest entries beyond are forgotten.
const MAX_FLOWS: usize = 4096;

/// What went over the inner link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub received: u64,
    pub received_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    /// TCP payload bytes that came again: inner retransmissions.
    pub duplicate_bytes: u64,
    /// Segments that began beyond the next expected byte.
    pub gaps: u64,
    /// Packets with a wrong length, header or checksum; they go no further.
    pub faults: u64,
    /// TCP segments with RST.
    pub resets: u64,
    /// IPv4 data before Call Connected; only a cheating client goes on counting.
    pub early_data: u64,
    /// Answers to the echo of [`crate::Cheat::DataBeforeConnected`].
    pub early_answers: u64,
}

/// One direction of one stream: from the server to a local port.
#[derive(Debug, Clone, Copy)]
struct Flow {
    next: u32,
    /// The right edge of the window that the client offered; bytes beyond it are probes and were not taken.
    edge: u32,
    shift: u8,
}

#[derive(Default)]
pub(crate) struct Tap {
    pub(crate) counters: Counters,
    flows: HashMap<u16, Flow>,
    /// Window scale of our SYN, by local port, until the answer comes.
    offered: HashMap<u16, u8>,
}

impl Tap {
    /// An incoming packet; `None` when it is faulty.
    pub(crate) fn incoming<'a>(&mut self, packet: &'a [u8]) -> Option<Ipv4<'a>> {
        self.counters.received += 1;
        self.counters.received_bytes += packet.len() as u64;
        let Ok(ip) = Ipv4::parse(packet) else {
            self.counters.faults += 1;
            return None;
        };
        if let Some(segment) = ip.tcp() {
            self.segment(&segment);
        }
        Some(ip)
    }

    fn segment(&mut self, segment: &Tcp<'_>) {
        let port = segment.destination;
        if segment.has(Tcp::RST) {
            self.counters.resets += 1;
            self.flows.remove(&port);
            return;
        }
        if segment.has(Tcp::SYN) {
            let offered = self.offered.remove(&port).unwrap_or(0);
            let shift = if segment.window_scale().is_some() { offered } else { 0 };
            let next = segment.sequence.wrapping_add(1);
            if self.flows.len() < MAX_FLOWS {
                self.flows.insert(port, Flow { next, edge: next.wrapping_add(0xFFFF), shift });
            }
            return;
        }
        let Some(flow) = self.flows.get_mut(&port) else { return };
        let length = u32::try_from(segment.data.len()).unwrap_or(0);
        let already = flow.next.wrapping_sub(segment.sequence).cast_signed();
        if length == 0 {
            return;
        }
        if already < 0 {
            self.counters.gaps += 1;
        }
        let already = u32::try_from(already).unwrap_or(0);
        self.counters.duplicate_bytes += u64::from(already.min(length));
        let end = segment.sequence.wrapping_add(length);
        let end = if end.wrapping_sub(flow.edge).cast_signed() > 0 { flow.edge } else { end };
        if end.wrapping_sub(flow.next).cast_signed() > 0 {
            flow.next = end;
        }
    }

    /// An outgoing packet, whose checksums are ours and not looked at.
    pub(crate) fn outgoing(&mut self, packet: &[u8]) {
        self.counters.sent += 1;
        self.counters.sent_bytes += packet.len() as u64;
        let [0x45, .., _, _, _, _, _, _, _, _] = *packet else { return };
        let Some(payload) = packet.get(20..) else { return };
        let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
        let protocol = packet.get(9).copied().unwrap_or(0);
        let ip = Ipv4 { source: unspecified, destination: unspecified, protocol, payload };
        let Some(segment) = ip.tcp() else { return };
        if segment.has(Tcp::SYN) {
            if self.offered.len() < MAX_FLOWS {
                self.offered.insert(segment.source, segment.window_scale().unwrap_or(0));
            }
        } else if let Some(flow) = self.flows.get_mut(&segment.source) {
            flow.edge = segment.acknowledgment.wrapping_add(u32::from(segment.window) << flow.shift.min(14));
        }
    }

    pub(crate) fn forget(&mut self, port: u16) {
        self.flows.remove(&port);
        self.offered.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip;
    use std::net::Ipv4Addr;

    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 7, 130), 443);
    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 7, 2), 50_000);

    fn received(tap: &mut Tap, sequence: u32, data: &[u8]) {
        assert!(tap.incoming(&ip::tcp(SERVER, CLIENT, sequence, Tcp::ACK, data)).is_some());
    }

    fn opened() -> Tap {
        let mut tap = Tap::default();
        tap.outgoing(&ip::tcp(CLIENT, SERVER, 0, Tcp::SYN, b""));
        tap.incoming(&ip::tcp(SERVER, CLIENT, u32::MAX, Tcp::SYN | Tcp::ACK, b""));
        tap
    }

    #[test]
    fn bytes_that_come_again_are_counted_once_each_time() {
        let mut tap = opened();
        received(&mut tap, 0, b"0123456789");
        received(&mut tap, 10, b"0123456789");
        assert_eq!(tap.counters.duplicate_bytes, 0);
        received(&mut tap, 15, b"56789abc");
        assert_eq!(tap.counters.duplicate_bytes, 5);
        received(&mut tap, 0, b"0123456789");
        assert_eq!((tap.counters.duplicate_bytes, tap.counters.gaps), (15, 0));
    }

    #[test]
    fn a_gap_is_counted() {
        let mut tap = opened();
        received(&mut tap, 4, b"4567");
        assert_eq!((tap.counters.duplicate_bytes, tap.counters.gaps), (0, 1));
    }

    #[test]
    fn a_window_probe_is_no_retransmission() {
        let mut tap = opened();
        received(&mut tap, 0, &[0; 1000]);
        // The ACK that closes the window: the acknowledgment 1000 with window 0.
        let mut ack = ip::tcp(CLIENT, SERVER, 1, Tcp::ACK, b"");
        ack[28..32].copy_from_slice(&1000u32.to_be_bytes());
        ack[34..36].copy_from_slice(&[0, 0]);
        tap.outgoing(&ack);
        received(&mut tap, 1000, b"x");
        ack[34..36].copy_from_slice(&[0xFF, 0xFF]);
        tap.outgoing(&ack);
        received(&mut tap, 1000, b"xyz");
        assert_eq!((tap.counters.duplicate_bytes, tap.counters.gaps), (0, 0));
    }

    #[test]
    fn a_wrong_checksum_stops_the_packet() {
        let mut tap = opened();
        let mut packet = ip::tcp(SERVER, CLIENT, 0, Tcp::ACK, b"data");
        packet[40] ^= 1;
        assert!(tap.incoming(&packet).is_none());
        assert_eq!(tap.counters.faults, 1);
    }
}
