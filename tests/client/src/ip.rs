//! IPv4, UDP, ICMP and TCP headers by hand: what a client sends beside its TCP streams, and the check of every packet
//! that the server sends. The checksums here are computed without the TCP stack, which server and client share.

use std::net::Ipv4Addr;

const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
const HEADER: usize = 20;

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the packet is cut or longer than it says")]
    Length,
    #[error("it is not IPv4 with a plain header")]
    Header,
    #[error("wrong IP header checksum")]
    HeaderChecksum,
    #[error("it is a fragment")]
    Fragment,
    #[error("wrong TCP, UDP or ICMP checksum")]
    Checksum,
}

/// A checked packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Verifies the lengths, the header checksum, and the checksum of TCP, UDP (which may not be absent) and ICMP.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Fault> {
        let (header, payload) = packet.split_at_checked(HEADER).ok_or(Fault::Length)?;
        let &[version, _, l1, l2, _, _, f1, f2, _, protocol, _, _, s1, s2, s3, s4, d1, d2, d3, d4] = header else {
            return Err(Fault::Length);
        };
        if version != 0x45 {
            return Err(Fault::Header);
        }
        if usize::from(u16::from_be_bytes([l1, l2])) != packet.len() {
            return Err(Fault::Length);
        }
        if fold(sum(0, header)) != 0xFFFF {
            return Err(Fault::HeaderChecksum);
        }
        if u16::from_be_bytes([f1 & 0x3F, f2]) != 0 {
            return Err(Fault::Fragment);
        }
        let ip = Self {
            source: Ipv4Addr::new(s1, s2, s3, s4),
            destination: Ipv4Addr::new(d1, d2, d3, d4),
            protocol,
            payload,
        };
        let covered = match protocol {
            ICMP => sum(0, payload),
            TCP | UDP => sum(pseudo(ip.source, ip.destination, protocol, payload.len()), payload),
            _ => 0xFFFF,
        };
        if protocol == UDP && payload.get(6..8) == Some(&[0, 0]) || fold(covered) != 0xFFFF {
            return Err(Fault::Checksum);
        }
        Ok(ip)
    }

    /// The datagram, when it is UDP of the right length.
    pub fn udp(&self) -> Option<Udp<'a>> {
        let &[s1, s2, d1, d2, l1, l2, _, _, ref data @ ..] = self.payload else { return None };
        let whole = usize::from(u16::from_be_bytes([l1, l2])) == self.payload.len();
        (self.protocol == UDP && whole).then(|| Udp {
            source: u16::from_be_bytes([s1, s2]),
            destination: u16::from_be_bytes([d1, d2]),
            data,
        })
    }

    /// The segment's header fields, when it is TCP.
    pub fn tcp(&self) -> Option<Tcp<'a>> {
        let &[s1, s2, d1, d2, n1, n2, n3, n4, a1, a2, a3, a4, offset, flags, w1, w2, ..] = self.payload else {
            return None;
        };
        let begin = usize::from(offset >> 4) * 4;
        (self.protocol == TCP && begin >= 20).then_some(())?;
        Some(Tcp {
            source: u16::from_be_bytes([s1, s2]),
            destination: u16::from_be_bytes([d1, d2]),
            sequence: u32::from_be_bytes([n1, n2, n3, n4]),
            acknowledgment: u32::from_be_bytes([a1, a2, a3, a4]),
            flags,
            window: u16::from_be_bytes([w1, w2]),
            options: self.payload.get(20..begin)?,
            data: self.payload.get(begin..)?,
        })
    }
}

/// A UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    pub source: u16,
    pub destination: u16,
    pub data: &'a [u8],
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub data: &'a [u8],
}

impl Tcp<'_> {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The shift count of the window scale option (RFC 7323 2.2).
    pub fn window_scale(&self) -> Option<u8> {
        let mut options = self.options;
        loop {
            options = match *options {
                [3, 3, shift, ..] => return Some(shift),
                [1, ref rest @ ..] => rest,
                [0, ..] | [] => return None,
                [_, length, ..] => options.get(usize::from(length.max(2))..)?,
                [_] => return None,
            };
        }
    }
}

/// A UDP datagram in an IP packet, TTL 128.
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 8).unwrap_or(u16::MAX);
    let mut payload = Vec::with_capacity(data.len() + 8);
    payload.extend(source.1.to_be_bytes());
    payload.extend(destination.1.to_be_bytes());
    payload.extend(length.to_be_bytes());
    payload.extend([0, 0]);
    payload.extend_from_slice(data);
    set_checksum(source.0, destination.0, UDP, &mut payload, 6);
    packet(source.0, destination.0, UDP, &payload)
}

/// An ICMP echo request in an IP packet.
pub fn icmp_echo(source: Ipv4Addr, destination: Ipv4Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend(identifier.to_be_bytes());
    payload.extend(sequence.to_be_bytes());
    payload.extend(b"wicket-client echo");
    let checksum = !fold(sum(0, &payload));
    payload.splice(2..4, checksum.to_be_bytes());
    packet(source, destination, ICMP, &payload)
}

/// A TCP segment without options, for packets that no TCP stack would send.
pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(data.len() + 20);
    payload.extend(source.1.to_be_bytes());
    payload.extend(destination.1.to_be_bytes());
    payload.extend(sequence.to_be_bytes());
    payload.extend([0, 0, 0, 0, 0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    payload.extend_from_slice(data);
    set_checksum(source.0, destination.0, TCP, &mut payload, 16);
    packet(source.0, destination.0, TCP, &payload)
}

/// An IPv4 header without options in front of the payload, TTL 128, do not fragment.
pub fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + HEADER).unwrap_or(u16::MAX);
    let [l1, l2] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, l1, l2, 0, 0, 0x40, 0, 128, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend_from_slice(payload);
    set_header_checksum(&mut packet);
    packet
}

/// Makes the header of a packet without options right again, after a test changed it.
pub fn set_header_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = !fold(sum(0, &packet[..HEADER]));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether this is an answer to [`icmp_echo`] with that identifier.
pub fn is_echo_reply(packet: &[u8], identifier: u16) -> bool {
    let Ok(ip) = Ipv4::parse(packet) else { return false };
    let [0, 0, _, _, high, low, ..] = *ip.payload else { return false };
    ip.protocol == ICMP && u16::from_be_bytes([high, low]) == identifier
}

fn set_checksum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &mut Vec<u8>, at: usize) {
    let checksum = !fold(sum(pseudo(source, destination, protocol, payload.len()), payload));
    // RFC 768: a computed zero is sent as ones.
    let checksum = if checksum == 0 && protocol == UDP { 0xFFFF } else { checksum };
    payload.splice(at..at + 2, checksum.to_be_bytes());
}

fn pseudo(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> u64 {
    let half = |octets: [u8; 4]| u64::from(u32::from_be_bytes(octets));
    half(source.octets()) + half(destination.octets()) + u64::from(protocol) + length as u64
}

/// RFC 1071, 32 bits at a time; 64 bits hold the sum of any packet.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().fold(start, |sum, word| sum + u64::from(u32::from_be_bytes(*word)))
        + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 2);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);

    #[test]
    fn a_known_header_checksum_is_right() {
        // The header of RFC 1071's usual example: 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xB8, 0x61, 0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8,
            0x00, 0xC7,
        ];
        assert_eq!(fold(sum(0, &header)), 0xFFFF);
    }

    #[test]
    fn built_packets_are_read_back() {
        let packet = udp((CLIENT, 1000), (GATEWAY, 53), b"question");
        let ip = Ipv4::parse(&packet).unwrap();
        assert_eq!(ip.udp(), Some(Udp { source: 1000, destination: 53, data: b"question" }));
        let packet = tcp((CLIENT, 1000), (GATEWAY, 443), 7, Tcp::SYN, b"odd");
        let segment = Ipv4::parse(&packet).unwrap().tcp().unwrap();
        assert_eq!((segment.sequence, segment.flags, segment.data), (7, Tcp::SYN, &b"odd"[..]));
        assert!(Ipv4::parse(&icmp_echo(CLIENT, GATEWAY, 1, 1)).is_ok());
    }

    proptest! {
        #[test]
        fn every_changed_bit_is_found(data in prop::collection::vec(any::<u8>(), 0..64), bit in 0usize..224) {
            let mut packet = tcp((CLIENT, 1000), (GATEWAY, 443), 7, Tcp::ACK, &data);
            packet[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Ipv4::parse(&packet).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let ip = Ipv4 { source: CLIENT, destination: GATEWAY, protocol: TCP, payload: &bytes };
            let _ = (Ipv4::parse(&bytes), ip.tcp().and_then(|segment| segment.window_scale()));
            let _ = Ipv4 { protocol: UDP, ..ip }.udp();
        }
    }
}
