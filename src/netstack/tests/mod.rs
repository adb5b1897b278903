//! The stack against another stack: a client made of smoltcp too, on a wire without loss, in virtual time.

mod hostile;
mod services;
mod stall;
mod tcp_streams;

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    UdpPacket, UdpRepr,
};

use super::*;

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// A visible host.
pub(super) const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// Another one.
const OTHER_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 11);
/// A host of somebody else.
const HIDDEN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 66);
/// An address that no host has.
const UNUSED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 67);
const MAX_PACKET: usize = 1400;
const MAX_STREAMS: usize = 12;

pub(super) fn config() -> Config {
    Config {
        gateway: GATEWAY,
        client: CLIENT,
        services: "198.18.0.0/16".parse().unwrap(),
        suffix: "api.corp.example".into(),
        max_streams: MAX_STREAMS,
    }
}

fn visible() -> Arc<Visible> {
    let hosts = [("orders.api.corp.example", SERVICE), ("ledger.api.corp.example", OTHER_SERVICE)]
        .map(|(name, address)| Host { name: name.into(), address })
        .to_vec();
    Arc::new(Visible { hosts })
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary starting point; time is virtual from here on")]
fn start() -> Instant {
    Instant::now()
}

fn stack(now: Instant) -> Stack {
    let mut stack = Stack::new(Arc::new(config()), 0x5EED, now);
    stack.open(MAX_PACKET);
    stack.set_visible(visible());
    stack
}

/// An IPv4 packet with this payload.
pub(super) fn ipv4(next_header: IpProtocol, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: payload.len(), hop_limit: 128 };
    let mut bytes = vec![0; 20 + payload.len()];
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    bytes[20..].copy_from_slice(payload);
    bytes
}

pub(super) fn udp(from: Ipv4Addr, to: Ipv4Addr, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + payload.len()];
    UdpRepr { src_port, dst_port }.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &from.into(),
        &to.into(),
        payload.len(),
        |to| to.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    ipv4(IpProtocol::Udp, from, to, &bytes)
}

const SEGMENT: TcpRepr<'static> = TcpRepr {
    src_port: 50_000,
    dst_port: 443,
    control: TcpControl::Syn,
    seq_number: TcpSeqNumber(1000),
    ack_number: None,
    window_len: 64_000,
    window_scale: None,
    max_seg_size: Some(1360),
    sack_permitted: false,
    sack_ranges: [None; 3],
    timestamp: None,
    payload: &[],
};

fn segment(from: Ipv4Addr, to: Ipv4Addr, repr: &TcpRepr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    let packet = &mut TcpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(packet, &from.into(), &to.into(), &ChecksumCapabilities::default());
    ipv4(IpProtocol::Tcp, from, to, &bytes)
}

/// A SYN.
pub(super) fn tcp(from: Ipv4Addr, to: Ipv4Addr, src_port: u16, dst_port: u16) -> Vec<u8> {
    segment(from, to, &TcpRepr { src_port, dst_port, ..SEGMENT })
}

/// Two fragments of this packet, of which the second begins eight bytes before the first ends and says something else
/// there (RFC 791, section 3.2, counts in units of eight bytes).
pub(super) fn overlapping(packet: &[u8]) -> [Vec<u8>; 2] {
    let (header, payload) = packet.split_at(20);
    let fragment = |flags_and_offset: u16, payload: &[u8]| {
        let mut fragment = [header, payload].concat();
        let length = u16::try_from(fragment.len()).unwrap();
        let mut ip = Ipv4Packet::new_unchecked(&mut fragment[..]);
        ip.set_total_len(length);
        fragment[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        Ipv4Packet::new_unchecked(&mut fragment[..]).fill_checksum();
        fragment
    };
    let more_fragments = 0x2000;
    [fragment(more_fragments, &payload[..16]), fragment(1, &[&[0xEE; 8], &payload[16..]].concat())]
}

/// A SYN over IPv6 behind every extension header (RFC 8200, section 4): a whole packet, as a router would pass it on.
pub(super) fn ipv6_with_extensions() -> Vec<u8> {
    let extensions = [
        vec![43, 0, 1, 4, 0, 0, 0, 0], // Hop-by-Hop, padded; next is Routing
        [&[44, 2, 0, 0, 0, 0, 0, 0][..], &v6(SERVICE)].concat(), // Routing, type 0; next is Fragment
        vec![60, 0, 0, 0, 0x12, 0x34, 0x56, 0x78], // Fragment, the only one; next is Destination
        vec![6, 0, 1, 4, 0, 0, 0, 0],  // Destination, padded; next is TCP
    ]
    .concat();
    let syn = tcp(CLIENT, SERVICE, 50_000, 443);
    let payload = [&extensions, &syn[20..]].concat();
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [0x60, 0, 0, 0, high, low, 0, 64];
    [&header[..], &v6(CLIENT), &v6(SERVICE), &payload].concat()
}

/// The IPv4-mapped address.
fn v6(address: Ipv4Addr) -> [u8; 16] {
    address.to_ipv6_mapped().octets()
}

/// What a TCP packet says: addresses, and the segment with both checksums verified.
fn parsed(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr, TcpRepr<'_>) {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    assert!(ip.verify_checksum());
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let repr = TcpRepr::parse(&tcp, &from.into(), &to.into(), &ChecksumCapabilities::default()).unwrap();
    (from, to, repr)
}

/// Completes a handshake with bare segments; the serial number of the connection, and what the client acknowledged.
fn shake_hands(stack: &mut Stack, sink: &mut Sink, now: Instant, address: Ipv4Addr, port: u16) -> (u32, TcpSeqNumber) {
    let serial = stack.next_serial;
    stack.handle_input(&tcp(CLIENT, address, 50_000, port), now, sink);
    assert!(stack.poll_transmit(now, sink));
    let syn_ack = sink.pop().unwrap();
    let (_, _, repr) = parsed(&syn_ack);
    assert_eq!((repr.control, repr.ack_number), (TcpControl::Syn, Some(TcpSeqNumber(1001))));
    assert_eq!(stack.poll_event(), None, "half-open connections are nobody's business");
    let ours = repr.seq_number + 1;
    let ack = TcpRepr {
        dst_port: port,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(1001),
        ack_number: Some(ours),
        max_seg_size: None,
        ..SEGMENT
    };
    stack.handle_input(&segment(CLIENT, address, &ack), now, sink);
    (serial, ours)
}

/// The tunnel's outgoing buffer.
struct Sink {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl Sink {
    fn new(limit: usize) -> Self {
        Self { packets: VecDeque::new(), bytes: 0, limit }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }
}

impl PacketSink for Sink {
    fn has_room(&self) -> bool {
        self.bytes < self.limit
    }

    fn packet<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        // Whatever stood there before: every byte of a packet has to be written.
        let mut packet = vec![0xA5; len];
        let result = fill(&mut packet);
        self.bytes += len;
        self.packets.push_back(packet);
        result
    }
}

/// The client's end of the wire.
#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|packet| (Rx(packet), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MAX_PACKET;
        capabilities
    }
}

/// One end of a stream: what it sends and has received.
#[derive(Default)]
struct Talk {
    to_send: VecDeque<u8>,
    received: Vec<u8>,
    /// Does not read for now.
    paused: bool,
    /// Closes its half when everything is sent.
    closes: bool,
    closed: bool,
    peer_closed: bool,
    error: Option<StreamError>,
}

impl Talk {
    fn saying(bytes: &[u8]) -> Self {
        Self { to_send: bytes.iter().copied().collect(), closes: true, ..Self::default() }
    }
}

/// How the packets to the client fare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Downlink {
    Open,
    /// The outer socket is full: nothing leaves the sink.
    Blocked,
    /// They leave, but the laptop does not read them, and says nothing.
    Asleep,
    /// Only so many packets leave in each exchange.
    Narrow(usize),
}

/// A server's application, a stack, a wire and a client.
struct Net {
    now: Instant,
    start: Instant,
    stack: Stack,
    sink: Sink,
    downlink: Downlink,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    clients: Vec<(SocketHandle, Talk)>,
    /// The streams that were accepted, in order, with what to say on the next ones.
    servers: Vec<(StreamId, Talk)>,
    accepts: VecDeque<Talk>,
    next_port: u16,
    /// For each connection the end of what was sent to the client, and the bytes that were sent twice.
    sent: HashMap<(Ipv4Addr, u16, u16), TcpSeqNumber>,
    repeated: usize,
    resets: usize,
    largest: usize,
}

impl Net {
    fn new() -> Self {
        let now = start();
        let mut wire = Wire::default();
        let mut config = smoltcp::iface::Config::new(HardwareAddress::Ip);
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(IpAddress::Ipv4(CLIENT), 32)).unwrap());
        Self {
            now,
            start: now,
            stack: stack(now),
            sink: Sink::new(64 * 1024),
            downlink: Downlink::Open,
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            clients: Vec::new(),
            servers: Vec::new(),
            accepts: VecDeque::new(),
            next_port: 50_000,
            sent: HashMap::new(),
            repeated: 0,
            resets: 0,
            largest: 0,
        }
    }

    fn connect(&mut self, address: Ipv4Addr, port: u16, client: Talk, server: Talk) -> usize {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 65_535]), SocketBuffer::new(vec![0; 65_535]));
        socket.set_nagle_enabled(false);
        socket.connect(self.interface.context(), (IpAddress::Ipv4(address), port), self.next_port).unwrap();
        self.next_port += 1;
        self.clients.push((self.sockets.add(socket), client));
        self.accepts.push_back(server);
        self.clients.len() - 1
    }

    fn client_socket(&mut self, index: usize) -> &mut Socket<'static> {
        self.sockets.get_mut(self.clients[index].0)
    }

    fn client_state(&mut self, index: usize) -> State {
        self.client_socket(index).state()
    }

    fn client_time(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::ZERO + (self.now - self.start).into()
    }

    /// Moves packets and bytes at the present time until nothing moves any more.
    fn exchange(&mut self) {
        for _ in 0..1_000_000 {
            if !self.exchange_once() {
                return;
            }
        }
        panic!("the two ends never fall silent");
    }

    fn exchange_once(&mut self) -> bool {
        let mut moved = false;
        if self.downlink != Downlink::Asleep {
            moved |= self.drive_clients();
            let _ = self.interface.poll(self.client_time(), &mut self.wire, &mut self.sockets);
            moved |= self.drive_clients();
        }
        while let Some(packet) = self.wire.tx.pop_front() {
            self.stack.handle_input(&packet, self.now, &mut self.sink);
            moved = true;
        }
        moved |= self.drive_servers();
        self.stack.poll_transmit(self.now, &mut self.sink);
        moved | self.deliver()
    }

    fn deliver(&mut self) -> bool {
        let budget = match self.downlink {
            Downlink::Open | Downlink::Asleep => usize::MAX,
            Downlink::Blocked => 0,
            Downlink::Narrow(packets) => packets,
        };
        let mut moved = false;
        for _ in 0..budget {
            let Some(packet) = self.sink.pop() else { break };
            self.inspect(&packet);
            self.wire.rx.push_back(packet);
            moved = true;
        }
        moved
    }

    /// Counts what a packet repeats.
    fn inspect(&mut self, packet: &[u8]) {
        self.largest = self.largest.max(packet.len());
        if packet[9] != u8::from(IpProtocol::Tcp) {
            return;
        }
        let (from, _, repr) = parsed(packet);
        self.resets += usize::from(repr.control == TcpControl::Rst);
        if repr.segment_len() == 0 || repr.control == TcpControl::Rst {
            return;
        }
        let end = repr.seq_number + repr.segment_len();
        let sent = self.sent.entry((from, repr.src_port, repr.dst_port)).or_insert(repr.seq_number);
        if repr.seq_number < *sent {
            self.repeated += repr.segment_len().min(*sent - repr.seq_number);
        }
        *sent = (*sent).max(end);
    }

    fn drive_clients(&mut self) -> bool {
        let mut moved = false;
        for (handle, talk) in &mut self.clients {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            let mut buffer = [0; 4096];
            while !talk.paused
                && let Ok(len @ 1..) = socket.recv_slice(&mut buffer)
            {
                talk.received.extend(&buffer[..len]);
                moved = true;
            }
            talk.peer_closed |= socket.state() != State::SynSent && !socket.may_recv();
            while let (chunk @ [_, ..], _) = talk.to_send.as_slices()
                && let Ok(len @ 1..) = socket.send_slice(chunk)
            {
                talk.to_send.drain(..len);
                moved = true;
            }
            if talk.closes && !talk.closed && talk.to_send.is_empty() && socket.may_send() {
                socket.close();
                talk.closed = true;
                moved = true;
            }
        }
        moved
    }

    fn drive_servers(&mut self) -> bool {
        let mut moved = false;
        while let Some(event) = self.stack.poll_event() {
            moved = true;
            match event {
                Event::Accepted { stream, .. } => {
                    self.servers.push((stream, self.accepts.pop_front().unwrap_or_default()));
                }
                Event::WorldRefused => {}
            }
        }
        for (stream, talk) in &mut self.servers {
            moved |= drive(&mut self.stack, *stream, talk);
        }
        moved
    }

    /// Lets this much time pass, from one timer to the next. Panics if a timer fires again and again for nothing.
    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            self.exchange();
            let stack = self.stack.poll_timeout(self.now).map(|(at, _)| at);
            let asleep = self.downlink == Downlink::Asleep;
            let client = (!asleep).then(|| self.interface.poll_at(self.client_time(), &self.sockets)).flatten();
            let client = client.map(|at| {
                self.start + Duration::from((at - smoltcp::time::Instant::ZERO).max(smoltcp::time::Duration::ZERO))
            });
            let next = stack.into_iter().chain(client).min().unwrap_or(end).max(self.now);
            if next >= end {
                self.now = end;
                return self.exchange();
            }
            self.now = next;
        }
        panic!("a timer fires without end");
    }

    /// The owner lets go of all streams.
    fn release_all(&mut self) {
        for (stream, _) in self.servers.drain(..) {
            self.stack.release(stream, self.now);
        }
    }
}

/// What an application does on its stream: reads all, writes all, closes.
fn drive(stack: &mut Stack, stream: StreamId, talk: &mut Talk) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut moved = false;
    let mut buffer = [0; 4096];
    while !talk.paused && !talk.peer_closed && talk.error.is_none() {
        match stack.poll_read(stream, cx, &mut buffer) {
            Poll::Ready(Ok(0)) => talk.peer_closed = true,
            Poll::Ready(Ok(len)) => talk.received.extend(&buffer[..len]),
            Poll::Ready(Err(error)) => talk.error = Some(error),
            Poll::Pending => break,
        }
        moved = true;
    }
    while let (chunk @ [_, ..], _) = talk.to_send.as_slices()
        && let Poll::Ready(Ok(len)) = stack.poll_write(stream, cx, chunk)
    {
        talk.to_send.drain(..len);
        moved = true;
    }
    if talk.closes && !talk.closed && talk.to_send.is_empty() {
        talk.closed = stack.poll_shutdown(stream, cx).is_ready();
        moved = true;
    }
    moved
}

/// Bytes that do not repeat soon.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}
