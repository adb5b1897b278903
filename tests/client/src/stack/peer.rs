//! The other end for tests: a smoltcp interface that accepts any address and echoes on port 443.

use std::net::Ipv4Addr;
use std::time::Instant;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::device::PacketDevice;
use crate::ip::{self, Ipv4};
use crate::{dns, sim::mini::GATEWAY};

pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 130);
/// Nothing answers here.
pub(crate) const SILENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 131);
const LISTENERS: usize = 4;

pub(crate) struct PeerStack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    device: PacketDevice,
    epoch: Instant,
    answers: Vec<Vec<u8>>,
}

impl PeerStack {
    pub(crate) fn new(now: Instant) -> Self {
        let mut device = PacketDevice::new(1400);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 77;
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(GATEWAY.into(), 24)).unwrap());
        interface.set_any_ip(true);
        let mut sockets = SocketSet::new(Vec::new());
        let handles = (0..LISTENERS)
            .map(|_| {
                let buffer = || SocketBuffer::new(vec![0; 256 << 10]);
                let mut socket = Socket::new(buffer(), buffer());
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                socket.set_congestion_control(CongestionControl::None);
                sockets.add(socket)
            })
            .collect();
        Self { interface, sockets, handles, device, epoch: now, answers: Vec::new() }
    }

    pub(crate) fn handle_packet(&mut self, packet: &[u8]) {
        let ip = Ipv4::parse(packet).unwrap();
        if ip.destination == SILENT {
            return;
        }
        if let Some(udp) = ip.udp().filter(|udp| udp.destination == 53) {
            let mut answer = udp.data.to_vec();
            answer[2..4].copy_from_slice(&[0x85, 0x80]);
            match udp.data.get(13..19) {
                Some(b"orders") => {
                    answer[7] = 1;
                    answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
                    answer.extend(SERVICE.octets());
                }
                _ => answer[3] = 0x83,
            }
            assert!(dns::parse(udp.data, &answer).is_some());
            self.answers.push(ip::udp((ip.destination, 53), (ip.source, udp.source), &answer));
        } else if let Some(udp) = ip.udp().filter(|udp| (udp.source, udp.destination) == (68, 67)) {
            // BOOTREPLY, DHCPACK.
            let mut answer = udp.data.to_vec();
            answer[0] = 2;
            answer[242] = 5;
            self.answers.push(ip::udp((GATEWAY, 67), (ip.source, 68), &answer));
        } else if ip.protocol == ip::TCP {
            self.device.received.push(packet);
        } else if ip.payload.first() == Some(&8) && ip.destination == GATEWAY {
            let mut reply = ip::packet(ip.destination, ip.source, 1, ip.payload);
            // Echo reply: type 0 instead of 8, and the checksum that much larger.
            reply[20] = 0;
            let checksum = u32::from(u16::from_be_bytes([reply[22], reply[23]])) + 0x0800;
            let checksum = (checksum & 0xFFFF) + (checksum >> 16);
            reply[22..24].copy_from_slice(&(checksum as u16).to_be_bytes());
            self.answers.push(reply);
        }
    }

    /// Works on everything at once; hands out packets.
    pub(crate) fn poll(&mut self, now: Instant, mut packet: impl FnMut(&[u8])) {
        let micros = now.duration_since(self.epoch).as_micros() as i64 + 1_000_000;
        let at = smoltcp::time::Instant::from_micros(micros);
        for handle in &self.handles {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            if socket.state() == State::Closed {
                socket.listen(443).unwrap();
            }
        }
        self.interface.poll(at, &mut self.device, &mut self.sockets);
        for handle in &self.handles {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            while socket.can_recv() && socket.can_send() {
                let data = socket.recv(|bytes| (0, bytes.to_vec())).unwrap();
                let count = socket.send_slice(&data).unwrap();
                socket.recv(|_| (count, ())).unwrap();
            }
            if socket.state() == State::CloseWait && !socket.can_recv() {
                socket.close();
            }
            if socket.state() == State::TimeWait {
                socket.abort();
            }
        }
        self.interface.poll(at, &mut self.device, &mut self.sockets);
        while let Some(bytes) = self.device.sent.pop() {
            packet(bytes);
        }
        for answer in self.answers.drain(..) {
            packet(&answer);
        }
    }

    pub(crate) fn open(&mut self) -> usize {
        let sockets = &mut self.sockets;
        let open = |handle: &&SocketHandle| sockets.get_mut::<Socket<'_>>(**handle).is_active();
        self.handles.iter().filter(open).count()
    }
}
