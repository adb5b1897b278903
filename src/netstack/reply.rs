//! Answers without a connection: UDP datagrams and ICMP echo replies, written straight into the sink.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, UDP_HEADER_LEN, UdpPacket, UdpRepr,
};

use super::device::{Overdraft, PacketSink};

/// The hop limit of every answer (RFC 1122, section 3.2.1.7), the same as that of the TCP segments.
const HOP_LIMIT: u8 = 64;

/// The way back to the client.
pub(super) struct Reply<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) overdraft: &'a mut Overdraft,
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
}

impl<S: PacketSink> Reply<'_, S> {
    /// Sends one datagram. False if there was no room: the client asks again.
    pub(super) fn datagram(self, src_port: u16, dst_port: u16, payload: &[u8]) -> bool {
        let (from, to) = (self.from.into(), self.to.into());
        let repr = UdpRepr { src_port, dst_port };
        self.packet(IpProtocol::Udp, UDP_HEADER_LEN + payload.len(), |body| {
            let mut datagram = UdpPacket::new_unchecked(body);
            let fill = |to: &mut [u8]| to.copy_from_slice(payload);
            repr.emit(&mut datagram, &from, &to, payload.len(), fill, &ChecksumCapabilities::default());
        })
    }

    /// Answers an echo request (RFC 792); any other message is ignored. False if nothing was sent.
    pub(super) fn echo(self, request: &[u8], max_packet: usize) -> bool {
        let Ok(packet) = Icmpv4Packet::new_checked(request) else { return false };
        let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) =
            Icmpv4Repr::parse(&packet, &ChecksumCapabilities::ignored())
        else {
            return false;
        };
        let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
        // What we may receive can be larger than what we may send.
        if IPV4_HEADER_LEN + reply.buffer_len() > max_packet {
            return false;
        }
        self.packet(IpProtocol::Icmp, reply.buffer_len(), |body| {
            reply.emit(&mut Icmpv4Packet::new_unchecked(body), &ChecksumCapabilities::default());
        })
    }

    fn packet(self, next_header: IpProtocol, payload_len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let len = IPV4_HEADER_LEN + payload_len;
        if !self.overdraft.admits(len, self.sink) {
            return false;
        }
        let repr = Ipv4Repr { src_addr: self.from, dst_addr: self.to, next_header, payload_len, hop_limit: HOP_LIMIT };
        self.sink.packet(len, |bytes| {
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            repr.emit(&mut packet, &ChecksumCapabilities::default());
            fill(packet.payload_mut());
        });
        true
    }
}
