//! The inner network as a client sees it: addresses, a TCP segment with any field, and what a server may send.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use wicket_client::ip::{self, Ipv4};
use wicketgate::netstack::{Config, Host, PacketSink, Visible};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 2);
/// Where DHCPINFORM goes.
pub(crate) const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;
/// Visible.
pub(crate) const ORDERS: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 130);
/// Visible, for every name below `tenants`.
pub(crate) const TENANTS: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 131);
/// Not visible.
pub(crate) const HIDDEN: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 200);
/// Outside of the tunnel.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);

pub(crate) const SUFFIX: &str = "api.corp.example";

pub(crate) fn config() -> Arc<Config> {
    let Ok(services) = Ipv4Net::new(Ipv4Addr::new(198, 18, 7, 128), 25) else { unreachable!("25 bits are a prefix") };
    Arc::new(Config { gateway: GATEWAY, client: CLIENT, services, suffix: SUFFIX.into(), max_streams: 4 })
}

pub(crate) fn visible() -> Arc<Visible> {
    let host = |name: &str, address| Host { name: name.into(), address };
    let hosts = vec![
        host("orders.api.corp.example", ORDERS),
        host("*.tenants.api.corp.example", TENANTS),
        host("ledger.elsewhere.example", TENANTS),
    ];
    Arc::new(Visible { hosts })
}

/// A TCP segment. The checksum is left out: TLS vouches for what arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment<'a> {
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl Segment<'_> {
    /// The segment in an IP packet from the client.
    pub(crate) fn emit(&self, to: Ipv4Addr) -> Vec<u8> {
        let options = &self.options[..self.options.len().min(40) & !3];
        let mut bytes = Vec::with_capacity(20 + options.len() + self.data.len());
        bytes.extend(self.peer_port.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([((20 + options.len()) as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend_from_slice(options);
        bytes.extend_from_slice(self.data);
        ip::packet(CLIENT, to, 6, &bytes)
    }
}

/// Checks what every packet to the client has to be, by code that shares nothing with the server.
pub(crate) fn checked(packet: &[u8], max_packet: usize) -> Ipv4<'_> {
    assert!(packet.len() <= max_packet, "{} bytes are more than {max_packet}", packet.len());
    let ip = match Ipv4::parse(packet) {
        Ok(ip) => ip,
        Err(fault) => panic!("{fault}: {packet:02X?}"),
    };
    assert_eq!(ip.destination, CLIENT);
    ip
}

/// Keeps what a stack sends. Without room, the stack sends only answers.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) has_room: bool,
}

impl Sink {
    pub(crate) fn new() -> Self {
        Self { packets: Vec::new(), has_room: true }
    }
}

impl PacketSink for Sink {
    fn has_room(&self) -> bool {
        self.has_room
    }

    fn packet<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.packets.push(packet);
        result
    }
}
