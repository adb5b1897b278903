//! The guard: what may enter the stack, decided on every packet before anything else sees it.
//!
//! In comes an IP packet as the client sent it; out comes what it is and whom it is for, or why it is dropped. Dropping
//! is silent: no ICMP error is ever sent, so that an address which is hidden from this person cannot be told from one
//! that nobody uses. The checksums of the packet are not verified, TLS vouches for every byte.

use std::net::Ipv4Addr;

use smoltcp::wire::{IPV4_HEADER_LEN, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber, UdpPacket};

use super::Config;

/// The port of DNS (RFC 1035, section 4.2).
pub(super) const DNS_PORT: u16 = 53;
/// The port of BOOTP and DHCP servers (RFC 2131, section 4.1).
pub(super) const DHCP_SERVER_PORT: u16 = 67;

/// A packet that may be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted<'a> {
    /// An ICMP message to the gateway.
    Icmp { message: &'a [u8] },
    /// A datagram to the gateway's port 53.
    Dns { peer_port: u16, query: &'a [u8] },
    /// A datagram to the DHCP server, by broadcast or to the gateway.
    Dhcp { message: &'a [u8] },
    /// A TCP segment.
    Tcp(Segment),
}

/// What the stack has to know of a TCP segment; smoltcp reads the packet itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) place: Place,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    pub(super) peer_port: u16,
    /// SYN without ACK, RST or FIN.
    pub(super) opens: bool,
    pub(super) sequence: TcpSeqNumber,
    pub(super) acknowledgment: Option<TcpSeqNumber>,
    /// The client's window, unscaled.
    pub(super) window: u16,
    /// Where the text begins in the packet.
    text_at: usize,
}

/// An IP header without options and the longest TCP header (RFC 9293, section 3.1: the data offset has four bits).
pub(super) const LARGEST_HEADERS: usize = IPV4_HEADER_LEN + 15 * 4;

impl Segment {
    /// The same segment without its text, made in `headers`.
    pub(super) fn without_text<'a>(&self, packet: &[u8], headers: &'a mut [u8; LARGEST_HEADERS]) -> &'a [u8] {
        let len = self.text_at.min(packet.len()).min(headers.len());
        let headers = &mut headers[..len];
        headers.copy_from_slice(&packet[..len]);
        // At most 80, and nobody verifies the checksums.
        Ipv4Packet::new_unchecked(&mut *headers).set_total_len(len as u16);
        headers
    }
}

/// Where a packet wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Gateway,
    /// The prefix of virtual addresses; whether the address is visible is not decided here.
    Services,
    /// Any other unicast address.
    World,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dropped {
    #[error("not a well-formed IPv4 packet")]
    Malformed,
    #[error("a fragment, or IP options")]
    Fragment,
    #[error("the source is not the session's address")]
    Spoofed,
    #[error("to a broadcast or multicast address")]
    Broadcast,
    #[error("to an address that no packet may have")]
    Martian,
    #[error("to an address in `services` that does not exist for this person")]
    Hidden,
    #[error("to a port or protocol that is not served")]
    Unserved,
}

/// Looks at one packet.
pub(super) fn admit<'a>(packet: &'a [u8], config: &Config) -> Result<Admitted<'a>, Dropped> {
    let ip = Ipv4Packet::new_checked(packet).map_err(|_| Dropped::Malformed)?;
    if ip.version() != 4 || usize::from(ip.header_len()) < IPV4_HEADER_LEN {
        return Err(Dropped::Malformed);
    }
    // Path MTU is fixed and known on this link, and no client puts options on unicast packets.
    if ip.more_frags() || ip.frag_offset() != 0 || usize::from(ip.header_len()) > IPV4_HEADER_LEN {
        return Err(Dropped::Fragment);
    }
    if ip.src_addr() != config.client {
        return Err(Dropped::Spoofed);
    }
    match ip.next_header() {
        IpProtocol::Udp => admit_datagram(ip.payload(), ip.dst_addr(), config),
        IpProtocol::Tcp => admit_segment(ip.payload(), ip.dst_addr(), config),
        IpProtocol::Icmp => match place(ip.dst_addr(), config)? {
            Place::Gateway => Ok(Admitted::Icmp { message: ip.payload() }),
            Place::Services => Err(Dropped::Hidden),
            Place::World => Err(Dropped::Unserved),
        },
        IpProtocol::HopByHop
        | IpProtocol::Igmp
        | IpProtocol::Ipv6Route
        | IpProtocol::Ipv6Frag
        | IpProtocol::IpSecEsp
        | IpProtocol::IpSecAh
        | IpProtocol::Icmpv6
        | IpProtocol::Ipv6NoNxt
        | IpProtocol::Ipv6Opts
        | IpProtocol::Unknown(_) => Err(match place(ip.dst_addr(), config)? {
            Place::Gateway | Place::World => Dropped::Unserved,
            Place::Services => Dropped::Hidden,
        }),
    }
}

fn admit_datagram<'a>(payload: &'a [u8], destination: Ipv4Addr, config: &Config) -> Result<Admitted<'a>, Dropped> {
    let udp = UdpPacket::new_checked(payload).map_err(|_| Dropped::Malformed)?;
    if udp.dst_port() == DHCP_SERVER_PORT && destination == Ipv4Addr::BROADCAST {
        return Ok(Admitted::Dhcp { message: udp.payload() });
    }
    match (place(destination, config)?, udp.dst_port()) {
        (Place::Gateway, DHCP_SERVER_PORT) => Ok(Admitted::Dhcp { message: udp.payload() }),
        (Place::Gateway, DNS_PORT) if udp.src_port() != 0 => {
            Ok(Admitted::Dns { peer_port: udp.src_port(), query: udp.payload() })
        }
        (Place::Gateway | Place::World, _) => Err(Dropped::Unserved),
        (Place::Services, _) => Err(Dropped::Hidden),
    }
}

fn admit_segment<'a>(payload: &'a [u8], destination: Ipv4Addr, config: &Config) -> Result<Admitted<'a>, Dropped> {
    let place = place(destination, config)?;
    let tcp = TcpPacket::new_checked(payload).map_err(|_| Dropped::Malformed)?;
    Ok(Admitted::Tcp(Segment {
        place,
        address: destination,
        port: tcp.dst_port(),
        peer_port: tcp.src_port(),
        opens: tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin(),
        sequence: tcp.seq_number(),
        acknowledgment: tcp.ack().then(|| tcp.ack_number()),
        window: tcp.window_len(),
        text_at: IPV4_HEADER_LEN + usize::from(tcp.header_len()),
    }))
}

/// The gateway comes first, because it and the client may lie inside `services`.
fn place(destination: Ipv4Addr, config: &Config) -> Result<Place, Dropped> {
    if destination == config.gateway {
        return Ok(Place::Gateway);
    }
    if destination == config.client {
        return Err(Dropped::Martian);
    }
    if config.services.contains(&destination) {
        return Ok(Place::Services);
    }
    if destination.is_broadcast() || destination.is_multicast() {
        return Err(Dropped::Broadcast);
    }
    match destination.octets() {
        // "This network", loopback, link-local, reserved (RFC 6890).
        [0 | 127 | 240..=255, ..] | [169, 254, ..] => Err(Dropped::Martian),
        _ => Ok(Place::World),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netstack::tests::{CLIENT, GATEWAY, SERVICE, config, ipv4, tcp, udp};

    fn admitted(packet: &[u8]) -> Result<Admitted<'_>, Dropped> {
        admit(packet, &config())
    }

    fn syn_to(address: Ipv4Addr) -> Vec<u8> {
        tcp(CLIENT, address, 50_000, 443)
    }

    #[test]
    fn nt_46_a_source_that_is_not_the_tunnels_is_dropped() {
        for source in ["0.0.0.0", "198.18.0.3", "127.0.0.1", "255.255.255.255", "198.18.0.1"] {
            let packet = tcp(source.parse().unwrap(), SERVICE, 50_000, 443);
            assert_eq!(admitted(&packet), Err(Dropped::Spoofed), "{source}");
        }
    }

    #[test]
    fn nt_46_broadcast_and_multicast_are_dropped_except_dhcp() {
        for (to, port, expected) in [
            ("255.255.255.255", 137, Err(Dropped::Broadcast)),
            ("255.255.255.255", 53, Err(Dropped::Broadcast)),
            ("224.0.0.252", 5355, Err(Dropped::Broadcast)),
            ("239.255.255.250", 67, Err(Dropped::Broadcast)),
            ("198.18.255.255", 67, Err(Dropped::Hidden)),
            ("255.255.255.255", 67, Ok(Admitted::Dhcp { message: b"x" })),
            ("198.18.0.1", 67, Ok(Admitted::Dhcp { message: b"x" })),
            ("198.18.0.1", 53, Ok(Admitted::Dns { peer_port: 68, query: b"x" })),
            ("198.18.0.1", 161, Err(Dropped::Unserved)),
            ("8.8.8.8", 53, Err(Dropped::Unserved)),
            ("198.18.0.20", 443, Err(Dropped::Hidden)),
        ] {
            let packet = udp(CLIENT, to.parse().unwrap(), 68, port, b"x");
            assert_eq!(admitted(&packet), expected, "{to}:{port}");
        }
        assert_eq!(admitted(&syn_to(Ipv4Addr::BROADCAST)), Err(Dropped::Broadcast));
        assert_eq!(admitted(&syn_to(Ipv4Addr::new(224, 0, 0, 1))), Err(Dropped::Broadcast));
    }

    #[test]
    fn nt_46_nt_49_martians_and_the_client_itself_are_dropped() {
        for to in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.169.254", "240.0.0.1", "255.255.255.254", "198.18.0.2"] {
            assert_eq!(admitted(&syn_to(to.parse().unwrap())), Err(Dropped::Martian), "{to}");
        }
    }

    #[test]
    fn nt_46_fragments_and_options_are_dropped() {
        let whole = syn_to(SERVICE);
        let mut more_fragments = whole.clone();
        more_fragments[6] |= 0x20;
        let mut offset = whole;
        offset[7] = 1;
        let mut options = ipv4(IpProtocol::Tcp, CLIENT, SERVICE, &[0; 40]);
        options[0] = 0x46;
        for packet in [more_fragments, offset, options] {
            assert_eq!(admitted(&packet), Err(Dropped::Fragment));
        }
    }

    #[test]
    fn nt_46_ipv6_and_other_protocols_are_dropped() {
        let mut v6 = syn_to(SERVICE);
        v6[0] = 0x65;
        assert_eq!(admitted(&v6), Err(Dropped::Malformed));
        let gre = IpProtocol::Unknown(47);
        assert_eq!(admitted(&ipv4(gre, CLIENT, GATEWAY, b"x")), Err(Dropped::Unserved));
        assert_eq!(admitted(&ipv4(gre, CLIENT, SERVICE, b"x")), Err(Dropped::Hidden));
    }

    #[test]
    fn every_shorter_piece_of_a_packet_is_malformed() {
        for whole in [syn_to(SERVICE), udp(CLIENT, GATEWAY, 1, 53, b"query")] {
            for end in 0..whole.len() {
                assert_eq!(admitted(&whole[..end]), Err(Dropped::Malformed), "{end} bytes");
            }
        }
    }

    #[test]
    fn bytes_behind_the_packet_are_not_part_of_it() {
        let mut packet = udp(CLIENT, GATEWAY, 1, 53, b"query");
        packet.extend_from_slice(b"trailer");
        assert_eq!(admitted(&packet), Ok(Admitted::Dns { peer_port: 1, query: b"query" }));
    }
}
