//! The client's TCP: one smoltcp interface over inner IP packets.
//!
//! Packets and `now` go in; packets come out; sockets are used by handle. Pure: no clock, no runtime.

mod device;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use self::device::PacketDevice;

/// The first ephemeral port (RFC 6335 6).
const FIRST_PORT: u16 = 49_152;
/// Streams of one tunnel; more only by mistake.
const MAX_STREAMS: usize = 1024;
/// How long a dropped stream may take to say goodbye.
const ORPHAN: Duration = Duration::from_secs(5);

/// Sizes and habits of the TCP sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSettings {
    pub receive_buffer: usize,
    pub send_buffer: usize,
    /// `None` acknowledges every batch at once.
    pub ack_delay: Option<Duration>,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self { receive_buffer: 1 << 20, send_buffer: 256 << 10, ack_delay: Some(Duration::from_millis(10)) }
    }
}

/// A socket whose stream is gone.
struct Orphan {
    handle: SocketHandle,
    port: Option<u16>,
    until: Instant,
}

/// The stack of one tunnel.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    device: PacketDevice,
    settings: TcpSettings,
    local: Ipv4Addr,
    epoch: Instant,
    next_port: u16,
    orphans: Vec<Orphan>,
    count: usize,
}

impl Stack {
    pub fn new(local: Ipv4Addr, mtu: u16, settings: TcpSettings, seed: u64, now: Instant) -> Self {
        let mut device = PacketDevice::new(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and holds at least one.
            let _ = addresses.push(IpCidr::new(local.into(), 0));
        });
        let [_, _, _, _, _, _, high, low] = seed.to_be_bytes();
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            device,
            settings,
            local,
            epoch: now,
            next_port: FIRST_PORT + u16::from_be_bytes([high, low]) % (u16::MAX - FIRST_PORT),
            orphans: Vec::new(),
            count: 0,
        }
    }

    /// Starts a connection; the socket tells how it goes. `None` when there are too many, or the address is no
    /// destination.
    pub fn connect(&mut self, address: Ipv4Addr, port: u16) -> Option<SocketHandle> {
        if self.count >= MAX_STREAMS {
            return None;
        }
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; self.settings.receive_buffer]),
            SocketBuffer::new(vec![0; self.settings.send_buffer]),
        );
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(self.settings.ack_delay.map(Into::into));
        socket.set_congestion_control(CongestionControl::None);
        let local_port = self.next_port;
        self.next_port = local_port.checked_add(1).unwrap_or(FIRST_PORT);
        socket.connect(self.interface.context(), (address, port), (self.local, local_port)).ok()?;
        self.count += 1;
        Some(self.sockets.add(socket))
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The owner of this socket is gone: FIN, or RST when something unread is left.
    pub fn release(&mut self, handle: SocketHandle, now: Instant) {
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let port = socket.local_endpoint().map(|endpoint| endpoint.port);
        if socket.recv_queue() > 0 {
            socket.abort();
        } else {
            socket.close();
        }
        self.orphans.push(Orphan { handle, port, until: now + ORPHAN });
    }

    /// Resets every connection and wakes who waits for it.
    pub fn abort_all(&mut self) {
        for (_, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket.abort();
        }
    }

    /// Takes a packet; it is looked at in the next poll.
    pub fn handle_packet(&mut self, packet: &[u8]) {
        self.device.received.push(packet);
    }

    /// Handles all packets; with `send`, also lets the sockets send.
    pub fn poll(&mut self, now: Instant, send: bool) {
        let at = self.time(now);
        self.interface.poll_maintenance(at);
        while self.interface.poll_ingress_single(at, &mut self.device, &mut self.sockets)
            != PollIngressSingleResult::None
        {}
        if send {
            while self.interface.poll_egress(at, &mut self.device, &mut self.sockets) != PollResult::None {}
        }
    }

    /// Hands out what is to be sent, in order.
    pub fn poll_transmit(&mut self, mut packet: impl FnMut(&[u8])) {
        while let Some(bytes) = self.device.sent.pop() {
            packet(bytes);
        }
    }

    /// When to poll next.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.time(now);
        let delay = self.interface.poll_delay(at, &self.sockets).map(|delay| now + Duration::from(delay));
        delay.into_iter().chain(self.orphans.iter().map(|orphan| orphan.until)).min()
    }

    /// Removes the sockets of streams that are gone and said goodbye; `forget` hears their ports.
    pub fn reap(&mut self, now: Instant, mut forget: impl FnMut(u16)) {
        let (sockets, count) = (&mut self.sockets, &mut self.count);
        self.orphans.retain_mut(|orphan| {
            let socket = sockets.get_mut::<Socket<'_>>(orphan.handle);
            // After an abort the reset leaves with the next poll, and with it the endpoint.
            let aborted = socket.state() == State::Closed && socket.remote_endpoint().is_some();
            // As a kernel does: what comes after a close is answered by a reset, also when a FIN comes with it.
            let unread = socket.recv_queue() > 0 && socket.state() != State::Closed;
            let done = matches!(socket.state(), State::Closed | State::TimeWait) && !aborted && !unread;
            if !done {
                if !aborted && (now >= orphan.until || unread) {
                    socket.abort();
                    orphan.until = now;
                }
                return true;
            }
            if let Some(port) = orphan.port {
                forget(port);
            }
            sockets.remove(orphan.handle);
            *count -= 1;
            false
        });
    }

    /// smoltcp's clock starts one second after zero, because it takes zero for "at once".
    fn time(&self, now: Instant) -> smoltcp::time::Instant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX - 1_000_000) + 1_000_000)
    }
}

#[cfg(test)]
pub(crate) mod peer;
#[cfg(test)]
mod tests;
