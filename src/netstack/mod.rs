//! IP packets to TCP streams: one userspace TCP/IP stack for one session, over smoltcp.
//!
//! In go the packets of the client and the time; out come packets for the client, [`Event`]s, and byte streams, one for
//! each connection to port 80 or 443 of a host that is visible to this person. The in-tunnel resolver, the answer to a
//! DHCPINFORM and the gateway's ping are served here. It opens no socket, knows no policy, and has no way to reach
//! another session: a stack belongs to one tunnel, and where a packet claims to come from is compared with the one
//! address of that tunnel.
//!
//! The order of calls: one input ([`Stack::handle_input`] for each packet at hand, then whatever the streams' owners
//! read, wrote or closed), then [`Stack::poll_event`] until `None`, [`Stack::poll_transmit`], and [`Stack::poll_timeout`]
//! last. When its time comes, or when the sink has room again after `poll_transmit` said `false`, call `poll_transmit`.
//!
//! The rules on time, and why nothing is ever sent twice, are in [`clock`]; what enters is decided in [`guard`].
//! RFC 9293 is TCP, RFC 1035 the resolver, RFC 2131 and MS-DHCPE the answers to Windows.

mod clock;
mod connection;
mod device;
mod dhcp;
mod dns;
mod guard;
mod reply;
mod resolver;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use smoltcp::iface::{Interface, SocketSet};

use self::clock::LinkClock;
use self::connection::{Connection, Phase, Sent};
use self::device::{Link, Overdraft};
use self::dns::Zone;
use self::guard::{Admitted, Dropped, Place, Segment};
use self::reply::Reply;

pub use self::device::PacketSink;

/// The ports of a visible host that APIs are served on.
const API_PORTS: [u16; 2] = [80, 443];
/// How many DNS connections one client may have; resolvers use one.
const MAX_RESOLVER_CONNECTIONS: usize = 4;
/// The smallest datagram that every host must accept (RFC 791), below which no MRU is negotiated.
const SMALLEST_MAX_PACKET: usize = 576;
/// What fits into one SSTP packet behind the headers of SSTP and PPP (MS-SSTP, section 3.1.5.2).
const LARGEST_MAX_PACKET: usize = 4087;

/// What a stack must know of the network it plays.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the gateway: DNS, DHCP and ping.
    pub gateway: Ipv4Addr,
    /// The address that IPCP gave to the client, the only source that is believed.
    pub client: Ipv4Addr,
    /// Where the virtual addresses of hosts come from.
    pub services: Ipv4Net,
    /// The domain whose names are all ours, in lower case, without a dot at the end.
    pub suffix: Box<str>,
    /// How many streams one session may have at a time. Each costs 320 KiB of buffers.
    pub max_streams: usize,
}

/// The hosts that exist for this person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    pub hosts: Vec<Host>,
}

impl Visible {
    fn contains(&self, address: Ipv4Addr) -> bool {
        self.hosts.iter().any(|host| host.address == address)
    }
}

/// A host and its virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `orders.api.corp.example`, or `*.x.example` for every name one label below `x.example`; in lower case.
    pub name: Box<str>,
    pub address: Ipv4Addr,
}

/// Names a stream of one stack. It is never used again for another stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    slot: usize,
    serial: u32,
}

/// What the owner must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection is established. It lives until the owner calls [`Stack::release`].
    Accepted { stream: StreamId, address: Ipv4Addr, port: u16 },
    /// The first TCP segment to the world was refused.
    WorldRefused,
}

/// Why a stream cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("the client reset the connection")]
    Reset,
    #[error("the connection was reset from this side")]
    Aborted,
    #[error("the stream is shut down for writing")]
    ShutDown,
    #[error("there is no such stream")]
    Unknown,
}

/// What a stack has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Not a well-formed IPv4 packet, or before IPCP was up.
    pub dropped_malformed: u64,
    /// Fragments, and packets with IP options.
    pub dropped_fragment: u64,
    /// The source was not the session's address.
    pub dropped_spoofed: u64,
    pub dropped_broadcast: u64,
    pub dropped_martian: u64,
    /// To an address in `services` that does not exist for this person.
    pub dropped_hidden: u64,
    /// To a port or protocol that is not served.
    pub dropped_unserved: u64,
    /// TCP segments to the world, answered by a reset: the client's profile sends everything into the tunnel.
    pub world_refused: u64,
    /// TCP segments to the gateway or a visible host that belong to no connection and may not open one.
    pub refused: u64,
    /// Connections refused because the session had too many.
    pub refused_full: u64,
    pub accepted: u64,
    pub dns_answered: u64,
    pub dhcp_answered: u64,
    pub echo_answered: u64,
    /// Answers that were not sent because the sink was full.
    pub answers_dropped: u64,
}

impl Counters {
    /// What was dropped, by reason.
    pub fn dropped(&self) -> [(&'static str, u64); 7] {
        [
            ("malformed", self.dropped_malformed),
            ("fragment", self.dropped_fragment),
            ("spoofed", self.dropped_spoofed),
            ("broadcast", self.dropped_broadcast),
            ("martian", self.dropped_martian),
            ("hidden", self.dropped_hidden),
            ("unserved", self.dropped_unserved),
        ]
    }

    fn count(&mut self, dropped: Dropped) {
        let counter = match dropped {
            Dropped::Malformed => &mut self.dropped_malformed,
            Dropped::Fragment => &mut self.dropped_fragment,
            Dropped::Spoofed => &mut self.dropped_spoofed,
            Dropped::Broadcast => &mut self.dropped_broadcast,
            Dropped::Martian => &mut self.dropped_martian,
            Dropped::Hidden => &mut self.dropped_hidden,
            Dropped::Unserved => &mut self.dropped_unserved,
        };
        *counter += 1;
    }
}

/// The stack of one session.
pub struct Stack {
    config: Arc<Config>,
    visible: Arc<Visible>,
    /// `None` until IPCP is up; every packet is dropped until then.
    link: Option<Layer3>,
    seed: u64,
    clock: LinkClock,
    overdraft: Overdraft,
    /// At most `max_streams` and [`MAX_RESOLVER_CONNECTIONS`]; no memory when there is none.
    connections: Vec<Option<Connection>>,
    /// The connection that may send next.
    turn: usize,
    next_serial: u32,
    /// Streams opened since the last [`poll_transmit`](Stack::poll_transmit), also those that are over.
    opened: usize,
    /// At most one for each connection, and one more.
    events: VecDeque<Event>,
    /// [`Stack::clear`] was called.
    over: bool,
    counters: Counters,
}

/// smoltcp's IP layer, and the largest packet it sends.
struct Layer3 {
    interface: Interface,
    max_packet: usize,
}

impl Stack {
    /// A stack to which nothing is visible. `seed` must be unpredictable: sequence numbers come from it.
    pub fn new(config: Arc<Config>, seed: u64, now: Instant) -> Self {
        Self {
            config,
            visible: Arc::default(),
            link: None,
            seed,
            clock: LinkClock::new(now),
            overdraft: Overdraft::default(),
            connections: Vec::new(),
            turn: 0,
            next_serial: 0,
            opened: 0,
            events: VecDeque::new(),
            over: false,
            counters: Counters::default(),
        }
    }

    /// IPCP is up, and the client takes IP packets of at most `max_packet` bytes.
    pub fn open(&mut self, max_packet: usize) {
        if self.over {
            return;
        }
        let max_packet = max_packet.clamp(SMALLEST_MAX_PACKET, LARGEST_MAX_PACKET);
        self.link = Some(Layer3 { interface: device::interface(max_packet, self.seed), max_packet });
        // Should IPCP come up a second time, the sequence numbers must not be the same again.
        self.seed = self.seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
    }

    /// Sets what exists for this person from now on. Connections to a host that does not are reset before this returns,
    /// and every call on their streams fails.
    pub fn set_visible(&mut self, visible: Arc<Visible>) {
        self.visible = visible;
        for connection in self.connections.iter_mut().flatten() {
            let stays = connection.place == Place::Gateway || self.visible.contains(connection.address);
            if stays || connection.failed().is_some() {
                continue;
            }
            match connection.phase() {
                Phase::Held | Phase::Over => connection.fail(StreamError::Aborted),
                Phase::HalfOpen { .. } | Phase::Resolver | Phase::Delivering | Phase::Draining { .. } => {
                    connection.reset();
                }
                Phase::Resetting => {}
            }
        }
    }

    /// The session is over: nothing can be sent or heard any more. All connections and their buffers are dropped; their
    /// owners are woken, and every call on a stream fails from now on.
    pub fn clear(&mut self) {
        for connection in self.connections.iter_mut().flatten() {
            connection.fail(StreamError::Aborted);
        }
        self.connections = Vec::new();
        self.turn = 0;
        self.events = VecDeque::new();
        self.link = None;
        self.over = true;
        self.clock.set_stalled(false);
    }

    /// Whether a stream has bytes that the client's window keeps back.
    pub fn has_unsent(&self) -> bool {
        self.connections.iter().flatten().any(|connection| connection.socket().send_queue() > 0)
    }

    /// A packet arrived from the client. Answers that need no connection go into `out` at once.
    pub fn handle_input(&mut self, packet: &[u8], now: Instant, out: &mut impl PacketSink) {
        let at = self.clock.advance(now);
        let Some(max_packet) = self.link.as_ref().map(|link| link.max_packet) else {
            self.counters.count(Dropped::Malformed);
            return;
        };
        match guard::admit(packet, &self.config) {
            Ok(Admitted::Tcp(segment)) => self.handle_segment(packet, &segment, at, out),
            Ok(Admitted::Dns { peer_port, query }) => self.handle_query(peer_port, query, out),
            Ok(Admitted::Dhcp { message }) => self.handle_dhcp(message, out),
            Ok(Admitted::Icmp { message }) => {
                if self.reply(out).echo(message, max_packet) {
                    self.counters.echo_answered += 1;
                }
            }
            Err(dropped) => self.counters.count(dropped),
        }
    }

    /// Puts what is to be sent into `out`, in turns. True if everything was sent; false if `out` had no room for more,
    /// in which case time stands still for the connections until this is called again.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut impl PacketSink) -> bool {
        let at = self.clock.advance(now);
        self.opened = 0;
        for connection in self.connections.iter_mut().flatten() {
            if connection.deadline().is_some_and(|(deadline, _)| deadline <= at) {
                connection.reset();
            }
        }
        let complete = self.transmit(at, out);
        self.clock.set_stalled(!complete);
        for slot in 0..self.connections.len() {
            self.settle(slot, at);
        }
        complete
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.connections.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`poll_transmit`](Self::poll_transmit) must be called even if nothing else happens, and why. `None` while
    /// packets wait for room, and when only timers are set that a silent client will never see fire.
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        if self.clock.is_stalled() {
            return None;
        }
        let at = self.clock.peek(now);
        let timeouts = self.connections.iter().flatten().filter_map(|connection| connection.poll_timeout(at));
        let (when, why) = timeouts.min_by_key(|&(when, _)| when)?;
        Some((now + when.saturating_sub(at), why))
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Lets every connection send one packet after the other until none has any.
    fn transmit(&mut self, at: Duration, out: &mut impl PacketSink) -> bool {
        let Some(Layer3 { interface, max_packet }) = &mut self.link else { return true };
        let mut link = Link::new(None, out, &mut self.overdraft, *max_packet);
        let mut silent = 0;
        while silent < self.connections.len() {
            self.turn %= self.connections.len();
            let sent = match self.connections.get_mut(self.turn) {
                Some(Some(connection)) => connection.poll_transmit(interface, &mut link, at),
                Some(None) | None => Sent::Nothing,
            };
            match sent {
                Sent::Packet => silent = 0,
                Sent::Nothing => silent += 1,
                // Its turn is kept, so that with little room everybody has one.
                Sent::Starved => return false,
            }
            self.turn += 1;
        }
        true
    }

    fn handle_segment(&mut self, packet: &[u8], segment: &Segment, at: Duration, out: &mut impl PacketSink) {
        let owner = self.connections.iter().position(|slot| slot.as_ref().is_some_and(|it| it.owns(segment)));
        let slot = match owner {
            Some(slot) => slot,
            None => match self.open_connection(segment, at) {
                Ok(slot) => slot,
                Err(Refusal::Silence) => return self.counters.count(Dropped::Hidden),
                Err(Refusal::Reset) => return self.refuse(packet, out),
            },
        };
        let Some(Layer3 { interface, max_packet }) = &mut self.link else { return };
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        let mut headers = [0; guard::LARGEST_HEADERS];
        let packet = match connection.hears_text() {
            true => packet,
            false => segment.without_text(packet, &mut headers),
        };
        let mut link = Link::new(Some(packet), out, &mut self.overdraft, *max_packet);
        let established = connection.handle_segment(segment, interface, &mut link, at, self.clock.is_stalled());
        match connection.phase() {
            Phase::Held if established => {
                self.counters.accepted += 1;
                self.events.push_back(Event::Accepted {
                    stream: StreamId { slot, serial: connection.serial },
                    address: connection.address,
                    port: connection.port,
                });
            }
            Phase::Resolver => {
                let zone = Zone { suffix: &self.config.suffix, hosts: &self.visible.hosts };
                self.counters.dns_answered += resolver::serve(connection, zone);
            }
            Phase::Held
            | Phase::HalfOpen { .. }
            | Phase::Over
            | Phase::Delivering
            | Phase::Draining { .. }
            | Phase::Resetting => {}
        }
        self.settle(slot, at);
    }

    /// Makes a connection for a SYN, or says how to refuse a segment that belongs to none.
    fn open_connection(&mut self, segment: &Segment, at: Duration) -> Result<usize, Refusal> {
        let served = match segment.place {
            Place::Gateway => segment.port == guard::DNS_PORT,
            Place::Services | Place::World if self.visible.contains(segment.address) => {
                API_PORTS.contains(&segment.port)
            }
            // The same for SYN, ACK and RST, for hidden and for unused addresses: nothing.
            Place::Services => return Err(Refusal::Silence),
            Place::World => {
                if self.counters.world_refused == 0 {
                    self.events.push_back(Event::WorldRefused);
                }
                self.counters.world_refused += 1;
                return Err(Refusal::Reset);
            }
        };
        if !(served && segment.opens) {
            self.counters.refused += 1;
            return Err(Refusal::Reset);
        }
        let (mut streams, mut resolvers) = (0, 0);
        for connection in self.connections.iter().flatten() {
            match connection.place {
                Place::Gateway => resolvers += 1,
                Place::Services | Place::World => streams += 1,
            }
        }
        let full = match segment.place {
            Place::Gateway => resolvers >= MAX_RESOLVER_CONNECTIONS,
            Place::Services | Place::World => streams.max(self.opened) >= self.config.max_streams,
        };
        if full {
            self.counters.refused_full += 1;
            return Err(Refusal::Reset);
        }
        let connection = Connection::listen(segment, self.next_serial, at);
        self.next_serial = self.next_serial.wrapping_add(1);
        // Its buffers are cleared even if its SYN turns out to be malformed or a reset follows, and a single read can hold
        // thousands of such pairs.
        self.opened += usize::from(segment.place != Place::Gateway);
        match self.connections.iter_mut().enumerate().find(|(_, slot)| slot.is_none()) {
            Some((slot, place)) => {
                *place = Some(connection);
                Ok(slot)
            }
            None => {
                self.connections.push(Some(connection));
                Ok(self.connections.len() - 1)
            }
        }
    }

    /// Has smoltcp answer a segment that belongs to no connection: a reset, unless it is one itself.
    fn refuse(&mut self, packet: &[u8], out: &mut impl PacketSink) {
        let Some(Layer3 { interface, max_packet }) = &mut self.link else { return };
        let mut link = Link::new(Some(packet), out, &mut self.overdraft, *max_packet);
        let mut nobody = SocketSet::new(Vec::new());
        let _ = interface.poll_ingress_single(smoltcp::time::Instant::ZERO, &mut link, &mut nobody);
    }

    fn handle_query(&mut self, peer_port: u16, query: &[u8], out: &mut impl PacketSink) {
        if !self.overdraft.would_admit(dns::LARGEST_ANSWER, out) {
            self.counters.answers_dropped += 1;
            return;
        }
        let zone = Zone { suffix: &self.config.suffix, hosts: &self.visible.hosts };
        let mut answer = [0; dns::LARGEST_ANSWER];
        let Some(len) = dns::answer(query, zone, &mut answer) else {
            return self.counters.count(Dropped::Malformed);
        };
        let Some(answer) = answer.get(..len) else { return };
        match self.reply(out).datagram(guard::DNS_PORT, peer_port, answer) {
            true => self.counters.dns_answered += 1,
            false => self.counters.answers_dropped += 1,
        }
    }

    fn handle_dhcp(&mut self, message: &[u8], out: &mut impl PacketSink) {
        if !self.overdraft.would_admit(dhcp::LARGEST_ANSWER, out) {
            self.counters.answers_dropped += 1;
            return;
        }
        let mut answer = [0; dhcp::LARGEST_ANSWER];
        let Some(len) = dhcp::answer(message, &self.config, &mut answer) else {
            return self.counters.count(Dropped::Unserved);
        };
        let Some(answer) = answer.get(..len) else { return };
        match self.reply(out).datagram(guard::DHCP_SERVER_PORT, dhcp::CLIENT_PORT, answer) {
            true => self.counters.dhcp_answered += 1,
            false => self.counters.answers_dropped += 1,
        }
    }

    fn reply<'a, S: PacketSink>(&'a mut self, sink: &'a mut S) -> Reply<'a, S> {
        let (from, to) = (self.config.gateway, self.config.client);
        Reply { sink, overdraft: &mut self.overdraft, from, to }
    }

    /// Forgets a connection that is over and has no owner, and all memory with the last one.
    fn settle(&mut self, slot: usize, at: Duration) {
        let Some(place) = self.connections.get_mut(slot) else { return };
        if place.as_mut().is_some_and(|connection| !connection.settle(at)) {
            *place = None;
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.connections.iter().all(Option::is_none) {
            self.connections = Vec::new();
            self.turn = 0;
            if self.events.is_empty() {
                self.events = VecDeque::new();
            }
        }
    }
}

/// How to refuse a segment that belongs to no connection.
enum Refusal {
    /// As if the address did not exist.
    Silence,
    Reset,
}
