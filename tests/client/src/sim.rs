//! The client as a value: HTTP preamble, SSTP call (MS-SSTP 3.2), LCP, authentication, IPCP.
//!
//! Bytes of the TLS stream and `now` go in; bytes for it, [`Event`]s and inner IP packets come out. No clock,
//! no socket; chance comes from a seed. One input, then drain [`SimClient::poll_event`] and
//! [`SimClient::poll_transmit`], then the next input; [`SimClient::poll_timeout`] says when to call
//! [`SimClient::handle_timeout`].
//!
//! It is strict where some real client would fail: what an honest server never sends ends the call with
//! [`Ended::Broken`].

mod auth;
mod habits;
mod negotiation;
mod ppp;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use self::auth::Authentication;
use self::negotiation::Negotiation;
use crate::crypto::{self, BindingHash, Hlak, Random};
use crate::wire::{self, Message, Packet, Status, ppp::protocol};
use crate::{Cheat, ClientKind, Profile};

/// MS-SSTP 4.1 and 3.2.2.1: the waits for the HTTP response, for Call Connect Ack and for the end of authentication.
const NEGOTIATION: Duration = Duration::from_secs(60);
/// MS-SSTP 3.1.2: the wait for Call Disconnect Ack.
const DISCONNECT: Duration = Duration::from_secs(5);
/// RFC 1661 4.6: Restart timer and Max-Terminate.
const TERMINATE_RESTART: Duration = Duration::from_secs(3);
const MAX_TERMINATE: u32 = 2;
/// Longest HTTP response head; real ones have less than 300 bytes.
const MAX_HEAD: usize = 8192;
/// sstpc stores no more headers of the response.
const MAX_HEADERS: usize = 7;
/// What may wait for [`SimClient::poll_transmit`]; a packet beyond it is refused.
const MAX_PENDING: usize = 4 << 20;
/// The identifier of the echo that [`Cheat::DataBeforeConnected`] sends.
const EARLY_PROBE: u16 = 0xEA71;

/// What happened to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The status of the HTTP response.
    HttpStatus(u16),
    /// Call Connected was sent.
    CallConnected,
    /// The server refused the credentials: MS-CHAPv2's `E=`, else 691.
    AuthRefused { code: u32 },
    /// IPCP is open.
    Up(Up),
    /// An inner IP packet.
    Packet(Vec<u8>),
    /// The server sent LCP Terminate-Request with this text.
    TerminateRequested(String),
    /// Nothing comes after this.
    Ended(Ended),
}

/// What IPCP agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub dns: Vec<Ipv4Addr>,
    /// The largest IP packet to send: the client's own habit, bounded by the server's MRU.
    pub mtu: u16,
}

/// Why the call is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// We wanted it.
    Closed,
    /// The HTTP response was not 200.
    Http(u16),
    /// The server refused the credentials.
    Refused(u32),
    /// Call Connect Nak.
    Nak(Status),
    /// Call Abort by the server.
    Aborted(Option<Status>),
    /// Call Disconnect by the server.
    Disconnected(Option<Status>),
    /// The server sent what a server must not send.
    Broken(String),
    /// What did not come in time.
    Timeout(&'static str),
    /// The connection was closed, or is dead.
    Lost,
}

enum Call {
    Http(Vec<u8>),
    AckPending,
    Connecting { nonce: [u8; 32], hashes: u8 },
    Connected,
    DisconnectPending,
    Ended,
}

/// RFC 1661 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dead,
    Establish,
    Authenticate,
    Network,
    Up,
    Terminate { tries: u32, at: Instant },
}

/// The pure client machine.
pub struct SimClient {
    profile: Profile,
    certificate: Vec<u8>,
    random: Random,
    call: Call,
    phase: Phase,
    lcp: Negotiation,
    ipcp: Negotiation,
    auth: Authentication,
    /// The server's LCP request that we acknowledged had Authentication-Protocol.
    asked_to_authenticate: bool,
    peer_mru: u16,
    gateway: Option<Ipv4Addr>,
    /// Call Connect Ack came in this flight; Windows hears no PPP until it has had its turn to send.
    deaf: bool,
    refused: Option<u32>,
    deadline: Option<(Instant, &'static str)>,
    heard_at: Instant,
    probes: u32,
    early_data: u64,
    early_answers: u64,
    rejected_protocols: Vec<u16>,
    partial: Vec<u8>,
    out: Vec<u8>,
    events: VecDeque<Event>,
}

/// Where IP packets go: to the caller, or among the events.
type Sink<'a> = Option<&'a mut dyn FnMut(&[u8])>;

impl SimClient {
    /// `certificate` is the DER of the leaf that this TLS connection showed. The HTTP request is ready at once.
    pub fn new(profile: Profile, certificate: &[u8], seed: [u8; 32], now: Instant) -> Self {
        let mut random = Random::new(seed);
        let magic = random.bytes();
        let client = profile.client;
        let mut out = wire::http_request(client, &profile.server_name, &random.bytes()).into_bytes();
        if profile.cheat == Cheat::EagerConnect {
            out.extend(wire::call_connect_request(1));
        }
        let address = profile.cheat.requested_address();
        let mut ipcp = Negotiation::new(protocol::IPCP, habits::ipcp_request(client, address), 1);
        ipcp.fixed = (!address.is_unspecified()).then_some(habits::ipcp::ADDRESS);
        Self {
            lcp: Negotiation::new(protocol::LCP, habits::lcp_request(client, magic), habits::first_id(client)),
            ipcp,
            auth: Authentication::new(profile.method),
            profile,
            certificate: certificate.to_vec(),
            random,
            call: Call::Http(Vec::new()),
            phase: Phase::Dead,
            asked_to_authenticate: false,
            peer_mru: 1500,
            gateway: None,
            deaf: false,
            refused: None,
            deadline: Some((now + NEGOTIATION, "the HTTP response")),
            heard_at: now,
            probes: 0,
            early_data: 0,
            early_answers: 0,
            rejected_protocols: Vec::new(),
            partial: Vec::new(),
            out,
            events: VecDeque::new(),
        }
    }

    /// Bytes from the TLS stream; inner packets come as [`Event::Packet`].
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        self.take(bytes, now, None);
    }

    /// The same, but inner packets go to `packet`, without an allocation each.
    pub fn handle_input_with(&mut self, bytes: &[u8], now: Instant, mut packet: impl FnMut(&[u8])) {
        self.take(bytes, now, Some(&mut packet));
    }

    /// The TLS stream ended.
    pub fn handle_closed(&mut self) {
        let ours = matches!(self.call, Call::DisconnectPending) || matches!(self.phase, Phase::Terminate { .. });
        self.end(if ours { Ended::Closed } else { Ended::Lost });
    }

    /// Sends an inner IP packet; `false` when the link is not up or the packet does not fit.
    pub fn send_packet(&mut self, ip: &[u8]) -> bool {
        self.phase == Phase::Up && self.out.len() < MAX_PENDING && wire::push_frame(&mut self.out, protocol::IPV4, ip)
    }

    /// Sends a PPP frame as it is, from its address field on, in whatever state.
    pub fn send_frame(&mut self, frame: &[u8]) -> bool {
        !self.ended() && self.out.len() < MAX_PENDING && wire::push_data(&mut self.out, frame)
    }

    /// Sends bytes into the TLS stream as they are, in whatever state.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let room = !self.ended() && self.out.len() < MAX_PENDING;
        if room {
            self.out.extend_from_slice(bytes);
        }
        room
    }

    /// Hangs up as this kind of client does.
    pub fn disconnect(&mut self, now: Instant) {
        match (&self.call, self.phase) {
            (Call::Ended | Call::DisconnectPending, _) | (_, Phase::Terminate { .. }) => {}
            (Call::Http(_) | Call::AckPending, _) => self.end(Ended::Closed),
            (Call::Connecting { .. } | Call::Connected, _) => self.hang_up(now),
        }
    }

    /// Appends what is to be written; `false` when there was nothing.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.deaf) {
            self.start_ppp(self.heard_at);
        }
        if self.out.is_empty() {
            return false;
        }
        if out.is_empty() {
            std::mem::swap(out, &mut self.out);
        } else {
            out.append(&mut self.out);
        }
        true
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let terminate = match self.phase {
            Phase::Terminate { at, .. } => Some((at, "LCP Terminate-Ack")),
            Phase::Dead | Phase::Establish | Phase::Authenticate | Phase::Network | Phase::Up => None,
        };
        let named = |at: Option<Instant>, what| at.map(|at| (at, what));
        [
            self.deadline,
            terminate,
            named(self.lcp.timeout_at(), "LCP restart"),
            named(self.ipcp.timeout_at(), "IPCP restart"),
            named(self.auth.timeout_at().filter(|_| self.phase == Phase::Authenticate), "PAP restart"),
            named(self.hello_at(), "hello"),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
        .filter(|_| !self.ended())
    }

    /// IPv4 frames that came before Call Connected was sent. An honest server has none.
    pub fn early_data(&self) -> u64 {
        self.early_data
    }

    /// Answers to the echo of [`Cheat::DataBeforeConnected`]. An honest server has none.
    pub fn early_answers(&self) -> u64 {
        self.early_answers
    }

    /// What the server refused by Protocol-Reject, in order; the first sixteen.
    pub fn rejected_protocols(&self) -> &[u16] {
        &self.rejected_protocols
    }

    pub fn ended(&self) -> bool {
        matches!(self.call, Call::Ended)
    }

    fn take(&mut self, bytes: &[u8], now: Instant, sink: Sink<'_>) {
        if self.ended() {
            return;
        }
        self.heard_at = now;
        self.probes = 0;
        if let Call::Http(head) = &mut self.call {
            let mut head = std::mem::take(head);
            head.extend_from_slice(bytes);
            self.handle_head(head, bytes.ends_with(b"\n"), now, sink);
        } else {
            self.take_packets(bytes, now, sink);
        }
    }

    fn handle_head(&mut self, head: Vec<u8>, at_line_end: bool, now: Instant, sink: Sink<'_>) {
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
            if head.len() > MAX_HEAD {
                return self.broken("the HTTP response head does not end", now);
            }
            if at_line_end && self.profile.client == ClientKind::Pppd {
                return self.broken("the HTTP response pauses at a line end, where sstpc stops reading", now);
            }
            self.call = Call::Http(head);
            return;
        };
        let (text, rest) = head.split_at(end);
        match read_head(text) {
            Err(what) => self.broken(what, now),
            Ok(200) => {
                self.events.push_back(Event::HttpStatus(200));
                self.call = Call::AckPending;
                self.deadline = Some((now + NEGOTIATION, "Call Connect Ack"));
                if self.profile.cheat != Cheat::EagerConnect {
                    self.out.extend(wire::call_connect_request(self.profile.cheat.encapsulated_protocol()));
                }
                self.take_packets(rest.get(4..).unwrap_or_default(), now, sink);
            }
            Ok(status) => {
                self.events.push_back(Event::HttpStatus(status));
                self.end(Ended::Http(status));
            }
        }
    }

    fn take_packets(&mut self, mut bytes: &[u8], now: Instant, mut sink: Sink<'_>) {
        while !self.partial.is_empty() && !bytes.is_empty() && !self.ended() {
            let mut packet = std::mem::take(&mut self.partial);
            let wanted = match wire::packet_length(&packet) {
                Ok(length) => length.unwrap_or(4),
                Err(fault) => return self.broken(fault, now),
            };
            let (head, rest) = bytes.split_at(bytes.len().min(wanted.saturating_sub(packet.len())));
            packet.extend_from_slice(head);
            bytes = rest;
            match wire::split(&packet) {
                Ok(Some((whole, _))) => self.handle_packet(whole, now, &mut sink),
                Ok(None) => self.partial = packet,
                Err(fault) => return self.broken(fault, now),
            }
        }
        while !self.ended() {
            match wire::split(bytes) {
                Ok(Some((packet, rest))) => {
                    bytes = rest;
                    self.handle_packet(packet, now, &mut sink);
                }
                Ok(None) => return self.partial.extend_from_slice(bytes),
                Err(fault) => return self.broken(fault, now),
            }
        }
    }

    fn handle_packet(&mut self, packet: Packet<'_>, now: Instant, sink: &mut Sink<'_>) {
        match packet {
            Packet::Data(frame) => self.handle_frame(frame, now, sink),
            Packet::Control(message) => match Message::parse(message) {
                Ok(message) => self.handle_message(message, now),
                Err(fault) => self.broken(fault, now),
            },
        }
    }

    fn handle_message(&mut self, message: Message, now: Instant) {
        match (message, &self.call) {
            (Message::CallConnectAck { hashes, nonce }, Call::AckPending) => self.handle_ack(hashes, nonce, now),
            (Message::CallConnectNak(statuses), Call::AckPending) => {
                let status = statuses.first().copied().unwrap_or(Status { attribute: 0, status: 0 });
                self.end(Ended::Nak(status));
            }
            (Message::CallAbort(None) | Message::CallDisconnect(None), _)
                if self.profile.client == ClientKind::Pppd =>
            {
                self.broken("an ending without Status Info, which sstpc ignores", now);
            }
            (Message::CallAbort(status), _) => {
                self.out.extend(wire::ending(5, self.status_of_ours(0)));
                self.end(Ended::Aborted(status));
            }
            (Message::CallDisconnect(status), call) => {
                let ours = matches!(call, Call::DisconnectPending);
                self.out.extend(wire::CALL_DISCONNECT_ACK);
                self.end(if ours { Ended::Closed } else { Ended::Disconnected(status) });
            }
            (Message::CallDisconnectAck, Call::DisconnectPending) => self.end(Ended::Closed),
            (Message::EchoRequest, Call::Connecting { .. } | Call::Connected) => self.out.extend(wire::ECHO_RESPONSE),
            (Message::EchoResponse, Call::Connecting { .. } | Call::Connected) => {}
            (Message::EchoRequest | Message::EchoResponse, Call::DisconnectPending) => {}
            // A cheat may earn a second Ack or a Nak; what then comes decides.
            (Message::CallConnectAck { .. } | Message::CallConnectNak(_), _) if self.profile.cheat != Cheat::None => {}
            (message, _) => self.broken(format!("{message:?} out of turn"), now),
        }
    }

    fn handle_ack(&mut self, hashes: u8, nonce: [u8; 32], now: Instant) {
        if hashes & 3 == 0 || hashes > 3 {
            return self.broken("the hash bitmask of Call Connect Ack", now);
        }
        self.call = Call::Connecting { nonce, hashes };
        self.deadline = Some((now + NEGOTIATION, "authentication"));
        if self.profile.cheat == Cheat::ConnectTwice {
            self.out.extend(wire::call_connect_request(1));
        }
        match self.profile.client {
            ClientKind::Windows => self.deaf = true,
            ClientKind::Pppd | ClientKind::OpenSstp => self.start_ppp(now),
        }
    }

    fn start_ppp(&mut self, now: Instant) {
        if matches!(self.call, Call::Connecting { .. }) && self.phase == Phase::Dead {
            self.phase = Phase::Establish;
            self.lcp.open(now, &mut self.out);
        }
    }

    /// Sends Call Connected (MS-SSTP 3.2.5.2) once; whoever has sent it is connected as far as he knows.
    fn send_call_connected(&mut self, hlak: &Hlak) {
        let Call::Connecting { mut nonce, hashes } = self.call else { return };
        let cheat = self.profile.cheat;
        let strong = hashes & 2 != 0 && cheat != Cheat::Sha1Binding;
        let hash = if strong { BindingHash::Sha256 } else { BindingHash::Sha1 };
        let mut certificate = crypto::certificate_hash(hash, &self.certificate);
        nonce[0] ^= u8::from(cheat == Cheat::WrongNonce);
        certificate[0] ^= u8::from(cheat == Cheat::WrongCertHash);
        let mut message = wire::call_connected(hash as u8, &nonce, &certificate);
        let mut mac = crypto::compound_mac(hash, &self.binding_key(hlak), &message);
        mac[0] ^= u8::from(cheat == Cheat::WrongMac);
        message[wire::COMPOUND_MAC..].copy_from_slice(&mac);
        self.out.extend(message);
        if cheat == Cheat::ConnectedTwice {
            self.out.extend(message);
        }
        self.call = Call::Connected;
        self.events.push_back(Event::CallConnected);
    }

    fn binding_key(&self, hlak: &Hlak) -> Hlak {
        if self.profile.zero_hlak {
            return Hlak::ZERO;
        }
        let mut key = hlak.clone();
        if self.profile.cheat == Cheat::SwappedKeys {
            key.0.rotate_left(16);
        }
        key
    }

    /// How long to wait in silence, and how many echoes may stay unanswered.
    fn hello(&self) -> (Duration, u32) {
        match self.profile.client {
            ClientKind::Windows => (Duration::from_secs(60), 1),
            ClientKind::Pppd => (Duration::from_secs(60), 5),
            ClientKind::OpenSstp => (Duration::from_secs(20), 1),
        }
    }

    fn hello_at(&self) -> Option<Instant> {
        let (interval, _) = self.hello();
        matches!(self.call, Call::Connected).then(|| self.heard_at + interval * (self.probes + 1))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended() {
            return;
        }
        if let Some((_, what)) = self.deadline.filter(|(at, _)| *at <= now) {
            let ours = matches!(self.call, Call::DisconnectPending);
            return self.end(if ours { Ended::Closed } else { Ended::Timeout(what) });
        }
        if self.hello_at().is_some_and(|at| at <= now) {
            let (_, limit) = self.hello();
            if self.probes >= limit {
                return self.end(Ended::Lost);
            }
            self.probes += 1;
            match self.profile.client {
                ClientKind::Windows | ClientKind::Pppd => self.out.extend(wire::ECHO_REQUEST),
                ClientKind::OpenSstp => self.send_lcp_echo(b"Abura Mashi Mashi"),
            }
        }
        self.handle_ppp_timeout(now);
    }

    /// Status Info as this kind of client attaches it.
    fn status_of_ours(&self, status: u32) -> Option<Status> {
        match self.profile.client {
            ClientKind::Windows => Some(Status { attribute: 0, status }),
            ClientKind::Pppd | ClientKind::OpenSstp => None,
        }
    }

    fn send_call_disconnect(&mut self, now: Instant) {
        self.out.extend(wire::ending(6, self.status_of_ours(0)));
        self.call = Call::DisconnectPending;
        self.phase = Phase::Dead;
        self.deadline = Some((now + DISCONNECT, "Call Disconnect Ack"));
    }

    fn broken(&mut self, what: impl ToString, _now: Instant) {
        if !self.ended() {
            self.out.extend(wire::ending(5, self.status_of_ours(7)));
            self.end(Ended::Broken(what.to_string()));
        }
    }

    fn end(&mut self, reason: Ended) {
        if self.ended() {
            return;
        }
        let reason = match (reason, self.refused) {
            (Ended::Broken(what), _) => Ended::Broken(what),
            (_, Some(code)) => Ended::Refused(code),
            (reason, None) => reason,
        };
        self.call = Call::Ended;
        self.phase = Phase::Dead;
        self.deadline = None;
        self.lcp.stop();
        self.ipcp.stop();
        self.events.push_back(Event::Ended(reason));
    }
}

/// The status of an HTTP response head that sstpc, osc and Windows can all read.
fn read_head(head: &[u8]) -> Result<u16, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "the HTTP response head is not ASCII")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no HTTP/1.1 status line")?;
    let status = status.get(..3).and_then(|digits| digits.parse().ok()).ok_or("no HTTP status code")?;
    if status != 200 {
        return Ok(status);
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    if headers.len() > MAX_HEADERS {
        return Err("more headers than sstpc stores");
    }
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-length") && value.trim() != wire::CONTENT_LENGTH {
            return Err("a Content-Length other than 2^64-1");
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a transfer coding in the HTTP response");
        }
    }
    Ok(status)
}

#[cfg(test)]
pub(crate) mod mini;
#[cfg(test)]
mod tests;
