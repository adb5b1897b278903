//! Operations on a whole tunnel: SSTP, PPP and the inner network in one machine.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wicket_client::ip::{self, Tcp};
use wicket_client::sim::{self, SimClient};
use wicket_client::{ClientKind, Profile, dns, wire};
use wicketgate::identity::Method;
use wicketgate::netstack::Visible;
use wicketgate::ppp;
use wicketgate::ppp::auth::{Proof, Refusal, Verdict};
use wicketgate::sstp::http::{Head, accepted, read_head};
use wicketgate::tunnel::{Event, Outgoing, StreamId, Tunnel};

use super::endpoint::{CERTIFICATE, PASSWORD, USER, config, judge, tunnel};
use super::input::Input;
use super::packets::{self, CLIENT, GATEWAY, HIDDEN, ORDERS, Segment, TENANTS, WORLD, checked};

/// What one turn sends at the most: the soft limit of [`Outgoing`], answers beyond it, and control packets.
const MAX_TURN: usize = 64 * 1024 + 16 * 1024 + 8 * 4095;

/// What may wait for a client that does not read; then its owner stops reading too.
const BACKLOG: usize = 64 * 1024;

/// How many streams an owner of this target keeps.
const MAX_HELD: usize = 8;

/// The first byte says who the client is and how far it gets honestly; the rest are operations. Every input reaches two
/// tunnels, the second in pieces, and both do the same.
pub(crate) fn operations(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut session = Session::new(input.byte());
    session.turn();
    for _ in 0..(input.byte() % 16) {
        session.pilot(0, 0);
    }
    while !input.is_empty() {
        session.operate(&mut input);
        session.turn();
    }
    session.end();
}

/// A connection: the address and port that it is to, and the client's port.
type Path = (Ipv4Addr, u16, u16);

/// What the client knows of a connection.
#[derive(Clone, Copy)]
struct Peer {
    /// The next segment's sequence and acknowledgment numbers, when it is honest.
    sequence: u32,
    acknowledgment: u32,
    /// The first sequence numbers of both, after the server's SYN.
    begins: Option<(u32, u32)>,
}

impl Peer {
    const NEW: Self = Self { sequence: 1000, acknowledgment: 0, begins: None };
}

/// A stream that the owner holds.
struct Stream {
    id: StreamId,
    /// The connection, and the sequence numbers of the next byte to read and to write.
    carries: Option<(Path, u32, u32)>,
}

/// The byte that a connection has at a sequence number, different for each connection and direction.
fn content((address, port, peer_port): Path, to_client: bool, sequence: u32) -> u8 {
    let path = u32::from(address).wrapping_mul(31) ^ u32::from(port) << 16 ^ u32::from(peer_port) << 1;
    let seed = sequence ^ path.wrapping_mul(0x85EB_CA6B) ^ u32::from(to_client);
    (seed.wrapping_mul(0x9E37_79B1) >> 24) as u8
}

/// How far a number is from the truth: a little, some windows, or so far that ahead and behind cannot be told apart.
fn lie(byte: u8) -> i32 {
    match byte {
        0x80..=0x87 => i32::MIN + i32::from(byte & 7),
        0x78..=0x7F => i32::MAX - i32::from(0x7F - byte),
        _ => i32::from(byte.cast_signed()) << (byte & 0x0F),
    }
}

struct Session {
    whole: Tunnel,
    pieces: Tunnel,
    out: Outgoing,
    same: Outgoing,
    now: Instant,
    client: SimClient,
    /// Nothing that the client said was changed.
    honest: bool,
    /// What the tunnel sent since the honest client was given its turn.
    heard: Vec<u8>,
    /// Where the next input of the second tunnel is cut.
    cut: usize,
    backlog: usize,
    blocked: bool,
    proof: Option<Proof>,
    asked: bool,
    accepted: bool,
    up: bool,
    ended: bool,
    streams: Vec<Stream>,
    peers: HashMap<Path, Peer>,
    /// The path of the segment that was received last.
    latest: Option<Path>,
    /// Only whole segments were received, so that it is known what each stream carries.
    clean: bool,
    max_packet: usize,
}

impl Session {
    fn new(choice: u8) -> Self {
        let now = wicketgate::clock::now();
        let (method, theirs) = match choice & 3 {
            0 | 3 => (Method::EapMsChapV2, wicket_client::Method::EapMsChapV2),
            1 => (Method::MsChapV2, wicket_client::Method::MsChapV2),
            _ => (Method::Pap, wicket_client::Method::Pap),
        };
        let kind = match choice >> 2 & 3 {
            0 | 3 => ClientKind::Windows,
            1 => ClientKind::Pppd,
            _ => ClientKind::OpenSstp,
        };
        let config = Arc::new(config(method));
        let profile = Profile::new("vpn.corp.example", USER, PASSWORD, theirs).client(kind);
        let mut client = SimClient::new(profile, CERTIFICATE, [9; 32], now);
        let mut request = Vec::new();
        client.poll_transmit(&mut request);
        assert!(matches!(read_head(&request), Ok(Some((Head::Tunnel { .. }, length))) if length == request.len()));
        Self {
            whole: tunnel(&config, now),
            pieces: tunnel(&config, now),
            out: Outgoing::default(),
            same: Outgoing::default(),
            now,
            client,
            honest: true,
            heard: accepted("Mon, 23 Nov 2026 22:00:00 GMT"),
            cut: 1,
            backlog: 0,
            blocked: false,
            proof: None,
            asked: false,
            accepted: false,
            up: false,
            ended: false,
            streams: Vec::new(),
            peers: HashMap::new(),
            latest: None,
            clean: true,
            max_packet: usize::from(ppp::MTU),
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => {
                self.clean = false;
                self.receive(input.long());
            }
            1 => self.pilot(0, 0),
            2 => self.wait(input.time()),
            3 => self.wait_for_timeout(),
            4 => self.resolve(input.byte()),
            5 => {
                self.clean = false;
                self.receive_frame(&[&[0xFF, 0x03][..], input.short()].concat());
            }
            6 => {
                self.clean = false;
                self.receive_packet(input.short());
            }
            7..=9 => self.receive_segment(input),
            10 => self.receive_datagram(input),
            11 => self.use_stream(input),
            12 => self.cut = 1 + usize::from(input.byte()),
            13 => self.set_visible(input.byte()),
            14 => {
                self.blocked = input.flag();
                if !self.blocked {
                    self.backlog = 0;
                }
            }
            _ => match input.byte() {
                0 => {
                    self.client.disconnect(self.now);
                    self.pilot(0, 0);
                }
                1 => {
                    self.whole.close(self.now);
                    self.pieces.close(self.now);
                }
                2 => self.receive(&wire::ECHO_REQUEST),
                at => self.pilot(usize::from(at), input.byte()),
            },
        }
    }

    /// The honest client hears what was sent since its last turn, and says what it has to say; on the way some bits of
    /// one byte are turned over.
    fn pilot(&mut self, at: usize, bits: u8) {
        let heard = std::mem::take(&mut self.heard);
        self.client.handle_timeout(self.now);
        self.client.handle_input(&heard, self.now);
        while let Some(event) = self.client.poll_event() {
            if let sim::Event::Up(up) = event
                && self.honest
            {
                assert_eq!((up.address, up.gateway), (CLIENT, GATEWAY));
            }
        }
        let mut said = Vec::new();
        self.client.poll_transmit(&mut said);
        if let Some(byte) = said.get_mut(at) {
            *byte ^= bits;
            self.honest &= bits == 0;
            self.clean &= bits == 0;
        }
        self.receive(&said);
        self.turn();
        if self.proof.is_some() {
            self.resolve(0);
            self.turn();
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        // Nobody reads from a client that does not read.
        if self.backlog > BACKLOG {
            return;
        }
        self.out.set_blocked(self.blocked);
        self.same.set_blocked(self.blocked);
        self.whole.handle_input(bytes, self.now, &mut self.out);
        for piece in bytes.chunks(self.cut) {
            self.pieces.handle_input(piece, self.now, &mut self.same);
        }
    }

    fn receive_frame(&mut self, frame: &[u8]) {
        let mut packet = Vec::new();
        if wire::push_data(&mut packet, frame) {
            self.receive(&packet);
        }
    }

    fn receive_packet(&mut self, packet: &[u8]) {
        self.receive_frame(&[&ppp::IPV4_HEADER[..], packet].concat());
    }

    /// A TCP segment that continues what was said before, up to some lies.
    fn receive_segment(&mut self, input: &mut Input<'_>) {
        let (choice, flags) = (input.byte(), input.byte());
        let to = [ORDERS, TENANTS, GATEWAY, HIDDEN, WORLD][usize::from(choice) % 5];
        let port = [443, 80, 53, 22][usize::from(choice >> 3) % 4];
        let peer_port = 50_000 + u16::from(choice >> 5);
        let path = (to, port, peer_port);
        let peer = *self.peers.get(&path).unwrap_or(&Peer::NEW);
        let sequence = peer.sequence.wrapping_add_signed(lie(input.byte()));
        let acknowledgment = peer.acknowledgment.wrapping_add_signed(lie(input.byte()));
        let window = input.number();
        let syn = flags & Tcp::SYN != 0;
        let options = if syn { input.short() } else { &[] };
        let begin = sequence.wrapping_add(u32::from(syn));
        let data: Vec<u8> = match to {
            GATEWAY => input.short().to_vec(),
            _ => (0..u32::from(input.byte())).map(|at| content(path, false, begin.wrapping_add(at))).collect(),
        };
        let next = begin.wrapping_add(data.len() as u32).wrapping_add(u32::from(flags & Tcp::FIN != 0));
        self.peers.insert(path, Peer { sequence: next, ..peer });
        self.latest = Some(path);
        let segment = Segment { port, peer_port, sequence, acknowledgment, flags, window, options, data: &data };
        self.receive_packet(&segment.emit(to));
    }

    fn receive_datagram(&mut self, input: &mut Input<'_>) {
        let packet = match input.byte() % 4 {
            0 => ip::udp((CLIENT, 5353), (GATEWAY, 53), input.short()),
            1 => ip::udp((CLIENT, 5353), (GATEWAY, 53), &dns::query(7, "orders.api.corp.example", dns::A)),
            2 => ip::udp((CLIENT, 68), (Ipv4Addr::BROADCAST, 67), &wicket_client::dhcp::inform(CLIENT, 7)),
            _ => ip::icmp_echo(CLIENT, GATEWAY, input.number(), 1),
        };
        self.receive_packet(&packet);
    }

    fn set_visible(&mut self, choice: u8) {
        let visible = if choice & 1 == 0 { Arc::new(Visible::default()) } else { packets::visible() };
        let hides = visible.hosts.is_empty();
        self.whole.set_visible(Arc::clone(&visible));
        self.pieces.set_visible(visible);
        for at in 0..self.streams.len() {
            assert!(!hides || self.is_dead(self.streams[at].id), "a stream to a hidden host lives");
        }
    }

    fn resolve(&mut self, choice: u8) {
        let Some(proof) = self.proof.take() else {
            // An answer to a question that nobody asked.
            let verdict = || Verdict::Refused(Refusal::Credentials);
            self.whole.resolve_login(verdict(), self.now);
            self.pieces.resolve_login(verdict(), self.now);
            return;
        };
        let verdict = if choice & 1 == 0 { judge(&proof) } else { Verdict::Refused(Refusal::NotAllowed) };
        self.accepted |= matches!(verdict, Verdict::Accepted(_));
        self.whole.resolve_login(verdict.clone(), self.now);
        self.pieces.resolve_login(verdict, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.whole.handle_timeout(self.now);
        self.pieces.handle_timeout(self.now);
        self.turn();
        let next = self.whole.poll_timeout(self.now);
        assert!(self.blocked || next.is_none_or(|(at, _)| at > self.now), "{next:?} is due again at once");
    }

    fn wait_for_timeout(&mut self) {
        if let Some((at, _)) = self.whole.poll_timeout(self.now) {
            self.wait(at.saturating_duration_since(self.now));
        }
    }

    fn use_stream(&mut self, input: &mut Input<'_>) {
        let (choice, length) = (input.byte(), 16 * usize::from(input.byte()));
        let at = usize::from(choice >> 3);
        if at >= self.streams.len() {
            return;
        }
        match choice & 7 {
            0..=2 => self.read(at, length),
            3..=5 => self.write(at, length),
            6 => {
                let cx = &mut Context::from_waker(Waker::noop());
                let shut = self.whole.poll_shutdown(self.streams[at].id, cx);
                assert_eq!(self.pieces.poll_shutdown(self.streams[at].id, cx), shut);
            }
            _ => {
                let stream = self.streams.remove(at);
                self.release(stream.id);
            }
        }
    }

    /// What is read is what the client sent, in order, on this connection and on no other.
    fn read(&mut self, at: usize, length: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        let stream = &mut self.streams[at];
        let (mut one, mut two) = (vec![0; length], vec![0; length]);
        let read = self.whole.poll_read(stream.id, cx, &mut one);
        assert_eq!(self.pieces.poll_read(stream.id, cx, &mut two), read);
        assert!(one == two);
        let Poll::Ready(Ok(read)) = read else { return };
        if let Some((path, next, _)) = stream.carries.as_mut().filter(|_| self.clean) {
            for byte in &one[..read] {
                assert_eq!(*byte, content(*path, false, *next), "a byte that the client did not send there");
                *next = next.wrapping_add(1);
            }
        }
    }

    fn write(&mut self, at: usize, length: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        let stream = &mut self.streams[at];
        let bytes: Vec<u8> = match stream.carries {
            Some((path, _, next)) => (0..length as u32).map(|at| content(path, true, next.wrapping_add(at))).collect(),
            None => vec![0; length],
        };
        let written = self.whole.poll_write(stream.id, cx, &bytes);
        assert_eq!(self.pieces.poll_write(stream.id, cx, &bytes), written);
        if let Poll::Ready(Ok(written)) = written {
            assert!(written <= length);
            if let Some((_, _, next)) = &mut stream.carries {
                *next = next.wrapping_add(written as u32);
            }
        }
    }

    fn release(&mut self, stream: StreamId) {
        self.whole.release(stream, self.now);
        self.pieces.release(stream, self.now);
        assert!(self.is_dead(stream), "a released stream lives");
    }

    fn is_dead(&mut self, stream: StreamId) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        matches!(self.whole.poll_read(stream, cx, &mut [0]), Poll::Ready(Err(_)))
    }

    /// What an owner does after each input: takes the events, and what is to be sent.
    fn turn(&mut self) {
        self.out.set_blocked(self.blocked);
        self.same.set_blocked(self.blocked);
        loop {
            let done = self.whole.poll_transmit(self.now, &mut self.out);
            assert_eq!(self.pieces.poll_transmit(self.now, &mut self.same), done);
            self.learn();
            assert!(self.out.bytes() == self.same.bytes(), "pieces of the same input have another answer");
            self.hear();
            if done || self.blocked {
                break;
            }
        }
        assert_eq!(self.whole.poll_timeout(self.now), self.pieces.poll_timeout(self.now));
        assert_eq!(self.whole.counters(), self.pieces.counters());
    }

    fn learn(&mut self) {
        while let Some(event) = self.whole.poll_event() {
            let Some(same) = self.pieces.poll_event() else { panic!("{event:?} only at once") };
            assert_eq!(format!("{event:?}"), format!("{same:?}"));
            assert!(
                !self.ended || matches!(event, Event::Accepted(_) | Event::WorldRefused),
                "{event:?} after the end"
            );
            match event {
                Event::LoginRequested(proof) => {
                    assert!(!self.asked, "a second login");
                    self.asked = true;
                    self.proof = Some(proof);
                }
                Event::Identification(text) => assert!(text.len() <= 128),
                Event::Up(_) => {
                    assert!(self.accepted && !self.up, "up without a login");
                    self.up = true;
                    self.set_visible(1);
                }
                Event::Accepted(accepted) => {
                    assert!(self.up, "a stream before the tunnel is up");
                    assert!([ORDERS, TENANTS].contains(&accepted.address) && [80, 443].contains(&accepted.port));
                    let id = accepted.stream;
                    if self.streams.len() < MAX_HELD {
                        let path = self.latest.filter(|path| self.clean && path.0 == accepted.address);
                        let begins = path.and_then(|path| Some((path, self.peers.get(&path)?.begins?)));
                        let carries = begins.map(|(path, (theirs, ours))| (path, theirs, ours));
                        self.streams.push(Stream { id, carries });
                    } else {
                        self.release(id);
                    }
                }
                Event::WorldRefused => assert!(self.up, "a packet was heard before the tunnel was up"),
                Event::Ended(_) => self.ended = true,
            }
        }
        assert!(self.pieces.poll_event().is_none());
    }

    /// Looks at what is sent, as a strict client.
    fn hear(&mut self) {
        let bytes = self.out.bytes().to_vec();
        self.out.clear();
        self.same.clear();
        assert!(bytes.len() <= MAX_TURN, "{} bytes in one turn", bytes.len());
        self.backlog = if self.blocked { self.backlog + bytes.len() } else { 0 };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(Some((packet, after))) = wire::split(rest) else { panic!("{rest:02X?}") };
            match packet {
                wire::Packet::Control(message) => assert!(wire::Message::parse(message).is_ok(), "{message:02X?}"),
                wire::Packet::Data(frame) => match wire::ppp::frame(frame) {
                    Some((wire::ppp::protocol::IPV4, packet)) => self.hear_packet(packet),
                    Some(_) => self.hear_frame(frame),
                    None => panic!("{frame:02X?}"),
                },
            }
            rest = after;
        }
        if self.heard.len() + bytes.len() <= BACKLOG {
            self.heard.extend(bytes);
        }
    }

    /// Remembers how large a packet the client wants to receive.
    fn hear_frame(&mut self, frame: &[u8]) {
        if let [0xFF, 0x03, 0xC0, 0x21, 2, _, _, _, options @ ..] = frame {
            let options = wire::ppp::ConfigOption::parse_all(options).unwrap_or_default();
            let mru = options.iter().find(|option| option.kind == 1).and_then(|option| option.value.first_chunk());
            let mru = mru.map_or(ppp::MTU, |mru| u16::from_be_bytes(*mru));
            self.max_packet = usize::from(mru.min(ppp::MTU));
        }
    }

    fn hear_packet(&mut self, packet: &[u8]) {
        assert!(self.up, "a packet before the tunnel is up");
        let ip = checked(packet, self.max_packet);
        assert_ne!(ip.source, HIDDEN, "an answer from a hidden address");
        if let Some(tcp) = ip.tcp() {
            let path = (ip.source, tcp.source, tcp.destination);
            let peer = self.peers.entry(path).or_insert(Peer::NEW);
            let (syn, fin) = (tcp.has(Tcp::SYN), tcp.has(Tcp::FIN));
            let begin = tcp.sequence.wrapping_add(u32::from(syn));
            if syn {
                peer.begins = Some((tcp.acknowledgment, begin));
            }
            peer.acknowledgment = begin.wrapping_add(tcp.data.len() as u32).wrapping_add(u32::from(fin));
            if self.clean && ip.source != GATEWAY {
                for (at, byte) in (0..).zip(tcp.data) {
                    let sent = content(path, true, begin.wrapping_add(at));
                    assert_eq!(*byte, sent, "a byte that the application did not write there");
                }
            }
        }
    }

    /// A tunnel that is closed ends, even when its client says nothing any more.
    fn end(mut self) {
        self.blocked = false;
        self.backlog = 0;
        self.turn();
        self.whole.close(self.now);
        self.pieces.close(self.now);
        self.turn();
        for _ in 0..64 {
            if self.ended {
                break;
            }
            self.wait_for_timeout();
        }
        assert!(self.ended, "a closed tunnel does not end");
    }
}
