//! One link: the phases, and what each input does in them.
//!
//! [RFC 1661] section 3 rules. This file joins LCP, the authentication exchange and IPCP, and keeps what outlives a
//! phase: how far the login has come, and why the link is about to end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::{Exchange, Opening, Outcome, Refusal, Verdict};
use super::automaton::State;
use super::end::{End, Farewell};
use super::ipcp::Ipcp;
use super::layer::Signal;
use super::lcp::{Lcp, Notice};
use super::outbox::{DEFAULT_MRU, Outbox};
use super::wire::{Code, Frame, Malformed, Packet, Protocol};
use super::{Config, Counters, Event, Input, MTU, Seed};

/// How long a refused client may take to end the link itself. Windows and pppd do, and then show the right error.
const REFUSED_GRACE: Duration = Duration::from_secs(1);

/// How long IPCP may take to open, at first and again after it went down: as long as ten unanswered requests. The
/// restart counter alone has no end, because a client that acknowledges ours and never asks for anything resets it.
const NETWORK_DEADLINE: Duration = Duration::from_secs(30);

/// How many events may wait. One input causes at most three; more wait only when the owner does not drain.
pub(super) const MAX_EVENTS: usize = 16;

/// How many Identifications of a client are told; Windows sends three, and nobody may fill the log before login.
const MAX_IDENTIFICATIONS: u8 = 8;

/// The longest server name that is put into a challenge.
const MAX_SERVER_NAME: usize = 64;

/// RFC 1661 section 3.2, and what each phase needs.
enum Phase {
    /// Not opened.
    Dead,
    /// LCP negotiates.
    Establish,
    /// LCP is open, the client proves who it is.
    Authenticate(Exchange),
    /// The client is accepted, IPCP negotiates, which it may `until` then, or is open.
    Network { exchange: Exchange, ipcp: Ipcp, until: Instant },
    /// LCP ends.
    Terminate,
    /// `Finished` was told.
    Finished,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Dead => "Dead",
            Self::Establish => "Establish",
            Self::Authenticate(_) => "Authenticate",
            Self::Network { .. } => "Network",
            Self::Terminate => "Terminate",
            Self::Finished => "Finished",
        }
    }
}

/// How far the one login of a link has come. It outlives the phases, because LCP may negotiate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    /// No proof has come.
    Awaited,
    /// A proof is judged. A new exchange now could receive the verdict on the old proof.
    Asked,
    /// Accepted.
    Accepted,
    /// Accepted, and bound to the TLS connection.
    Bound,
    /// Refused; the client may end the link until then.
    Refused { refusal: Refusal, until: Instant },
}

/// The server's end of one PPP link.
pub struct Link {
    config: Arc<Config>,
    seed: Seed,
    lcp: Lcp,
    phase: Phase,
    login: Login,
    /// The crypto binding is valid, perhaps before the login is accepted.
    bound: bool,
    /// Why the link is about to end.
    ending: Option<End>,
    identifications: u8,
    out: Outbox,
    events: VecDeque<Event>,
    counters: Counters,
}

/// What waits to be sent or judged is left out: it holds challenges and responses.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("phase", &self.phase.name())
            .field("login", &self.login)
            .field("lcp", &self.lcp.state())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link that is not opened yet. `seed` must not be used for another.
    pub fn new(config: Arc<Config>, seed: Seed) -> Self {
        Self {
            lcp: Lcp::new(config.methods.clone(), seed.clone()),
            config,
            seed,
            phase: Phase::Dead,
            login: Login::Awaited,
            bound: false,
            ending: None,
            identifications: 0,
            out: Outbox::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The lower layer is up. The client is to begin; if it does not, we do, a second later.
    pub fn open(&mut self, now: Instant) {
        if let Phase::Dead = self.phase {
            self.phase = Phase::Establish;
            self.lcp.await_client(now);
        }
    }

    /// Takes one frame. Whatever is wrong with it, it is dropped and counted.
    pub fn handle_input<'a>(&mut self, frame: &'a [u8], now: Instant) -> Input<'a> {
        match self.take_frame(frame, now) {
            Ok(input) => input,
            Err(_) => {
                self.counters.malformed = self.counters.malformed.saturating_add(1);
                Input::Handled
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_down() {
            return;
        }
        if let Some(signal) = self.lcp.handle_timeout(now, &mut self.out) {
            self.handle_lcp_signal(signal, now);
        }
        if let Phase::Authenticate(exchange) = &mut self.phase {
            if let Login::Refused { refusal, until } = self.login
                && until <= now
            {
                exchange.give_up(&mut self.out);
                self.terminate(End::Refused(refusal), now);
            } else if let Some(outcome) = exchange.handle_timeout(now, &mut self.out) {
                self.handle_outcome(outcome, now);
            }
        }
        if let Phase::Network { ipcp, .. } = &mut self.phase {
            let ended = ipcp.is_stopping();
            if let Some(signal) = ipcp.handle_timeout(now, &mut self.out) {
                self.handle_ipcp_signal(signal, ended, now);
            }
        }
        if let Phase::Network { ipcp, until, .. } = &self.phase
            && !ipcp.is_opened()
            && *until <= now
        {
            self.terminate(End::NetworkLate, now);
        }
    }

    /// Answers [`Event::AuthenticationRequested`]. An answer that nobody waits for any more is ignored.
    pub fn resolve_authentication(&mut self, verdict: Verdict, now: Instant) {
        if let (Login::Asked, Phase::Authenticate(exchange)) = (self.login, &mut self.phase)
            && let Some(outcome) = exchange.resolve(&verdict, now, &mut self.out)
        {
            self.handle_outcome(outcome, now);
        }
    }

    /// The crypto binding is valid (MS-SSTP 3.3.5.2.3). From here on the client must not negotiate LCP again: an SSTP
    /// session has one Call Connected, so a second login could not be bound.
    ///
    /// An EAP client may say Call Connected before it confirms our Success; the binding then holds from its acceptance.
    pub fn set_bound(&mut self, now: Instant) {
        self.bound = true;
        if self.login != Login::Accepted {
            return;
        }
        self.login = Login::Bound;
        if let Phase::Establish = self.phase {
            self.terminate(End::Renegotiated, now);
        }
    }

    /// Ends the link; the client is told `reason`, a short ASCII text.
    pub fn close(&mut self, reason: &'static str, now: Instant) {
        match self.phase {
            Phase::Dead => self.finish(End::Closed { reason }),
            Phase::Establish | Phase::Authenticate(_) | Phase::Network { .. } => {
                self.terminate(End::Closed { reason }, now);
            }
            Phase::Terminate | Phase::Finished => {}
        }
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and what it is for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_down() {
            return None;
        }
        let phase = match (&self.phase, self.login) {
            (Phase::Authenticate(_), Login::Refused { until, .. }) => Some((until, "a refused client ends the link")),
            (Phase::Authenticate(exchange), Login::Awaited | Login::Asked | Login::Accepted | Login::Bound) => {
                exchange.poll_timeout()
            }
            (Phase::Network { ipcp, until, .. }, _) => {
                let opening = (!ipcp.is_opened()).then_some((*until, "IPCP: the client's address"));
                ipcp.poll_timeout().into_iter().chain(opening).min_by_key(|(deadline, _)| *deadline)
            }
            (Phase::Dead | Phase::Establish | Phase::Terminate | Phase::Finished, _) => None,
        };
        self.lcp.poll_timeout().into_iter().chain(phase).min_by_key(|(deadline, _)| *deadline)
    }

    /// The largest IP packet that may be sent to the client.
    pub fn max_packet(&self) -> usize {
        usize::from(MTU.min(self.lcp.peer_mru()))
    }

    /// Whether IPv4 packets may flow.
    pub fn is_network_up(&self) -> bool {
        match &self.phase {
            Phase::Network { ipcp, .. } => ipcp.is_opened(),
            Phase::Dead | Phase::Establish | Phase::Authenticate(_) | Phase::Terminate | Phase::Finished => false,
        }
    }

    /// What was dropped so far.
    pub fn counters(&self) -> Counters {
        let overflowed = self.counters.overflowed.saturating_add(self.out.overflowed());
        Counters { overflowed, ..self.counters }
    }

    fn is_down(&self) -> bool {
        match self.phase {
            Phase::Dead | Phase::Finished => true,
            Phase::Establish | Phase::Authenticate(_) | Phase::Network { .. } | Phase::Terminate => false,
        }
    }

    fn take_frame<'a>(&mut self, bytes: &'a [u8], now: Instant) -> Result<Input<'a>, Malformed> {
        if self.is_down() {
            self.count_out_of_phase();
            return Ok(Input::Handled);
        }
        let Frame { protocol, information } = Frame::parse(bytes)?;
        match protocol {
            Protocol::Ipv4 if self.is_network_up() => return Ok(Input::Packet(information)),
            Protocol::Ipv4 => self.count_out_of_phase(),
            Protocol::Lcp => self.handle_lcp(information, now)?,
            Protocol::Pap | Protocol::Chap | Protocol::Eap => self.handle_authentication(protocol, information, now)?,
            Protocol::Ipcp => self.handle_ipcp(information, now)?,
            Protocol::Other(_) => self.reject_protocol(protocol, information),
        }
        Ok(Input::Handled)
    }

    fn count_out_of_phase(&mut self) {
        self.counters.out_of_phase = self.counters.out_of_phase.saturating_add(1);
    }

    fn handle_lcp(&mut self, information: &[u8], now: Instant) -> Result<(), Malformed> {
        let packet = Packet::parse(information)?;
        let code = Code::from(packet.code);
        if matches!(code, Code::ConfigureRequest | Code::TerminateAck) && self.lcp.is_opened() {
            match self.login {
                Login::Awaited | Login::Accepted => {}
                Login::Asked | Login::Bound | Login::Refused { .. } => {
                    self.terminate(End::Renegotiated, now);
                    return Ok(());
                }
            }
        }
        if code == Code::TerminateRequest && self.ending.is_none() {
            self.ending = Some(match self.login {
                Login::Refused { refusal, .. } => End::Refused(refusal),
                Login::Awaited | Login::Asked | Login::Accepted | Login::Bound => {
                    End::PeerTerminated { farewell: Farewell::parse(packet.data) }
                }
            });
        }
        match self.lcp.handle_packet(packet, now, &mut self.out)? {
            Some(Notice::Signal(signal)) => self.handle_lcp_signal(signal, now),
            Some(Notice::Identification(text)) => self.handle_identification(text),
            Some(Notice::Rejected(protocol)) => self.handle_protocol_reject(protocol, now),
            None => {}
        }
        Ok(())
    }

    fn handle_identification(&mut self, text: Box<str>) {
        if self.identifications < MAX_IDENTIFICATIONS {
            self.identifications = self.identifications.saturating_add(1);
            self.tell(Event::Identification(text));
        }
    }

    /// The client lives without what it rejects; we do not live without these.
    fn handle_protocol_reject(&mut self, protocol: Protocol, now: Instant) {
        let protocol = match protocol {
            Protocol::Ipv4 => "IPv4",
            Protocol::Ipcp => "IPCP",
            Protocol::Lcp => "LCP",
            Protocol::Pap => "PAP",
            Protocol::Chap => "CHAP",
            Protocol::Eap => "EAP",
            Protocol::Other(_) => return,
        };
        self.terminate(End::Rejected { protocol }, now);
    }

    fn handle_lcp_signal(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::Up => self.lcp_up(now),
            Signal::Down => self.lcp_down(now),
            Signal::Finished => {
                let end = self.ending.take().unwrap_or(End::NoAnswer { during: "LCP" });
                self.finish(end);
            }
            Signal::Failed(end) => self.terminate(end, now),
        }
    }

    fn lcp_up(&mut self, now: Instant) {
        self.ending = None;
        self.out.set_peer_mru(self.lcp.peer_mru());
        match (self.login, self.lcp.method()) {
            (Login::Awaited, Some(method)) => {
                let opening = Opening {
                    id: self.seed.authentication_id(),
                    challenge: self.seed.challenge(),
                    server_name: self.config.server_name.chars().take(MAX_SERVER_NAME).collect(),
                };
                self.phase = Phase::Authenticate(Exchange::start(method, opening, now, &mut self.out));
            }
            (Login::Awaited, None) => self.terminate(self.lcp.no_common_method(), now),
            (Login::Asked | Login::Accepted | Login::Bound | Login::Refused { .. }, _) => {
                self.terminate(End::Renegotiated, now);
            }
        }
    }

    fn lcp_down(&mut self, now: Instant) {
        self.out.set_peer_mru(DEFAULT_MRU);
        self.leave(Phase::Establish);
        match (self.lcp.state(), self.login) {
            (State::Closing | State::Stopping, _) => self.phase = Phase::Terminate,
            (
                State::Initial
                | State::Starting
                | State::Closed
                | State::Stopped
                | State::ReqSent
                | State::AckRcvd
                | State::AckSent
                | State::Opened,
                Login::Awaited | Login::Accepted,
            ) => {}
            (
                State::Initial
                | State::Starting
                | State::Closed
                | State::Stopped
                | State::ReqSent
                | State::AckRcvd
                | State::AckSent
                | State::Opened,
                Login::Asked | Login::Bound | Login::Refused { .. },
            ) => self.terminate(End::Renegotiated, now),
        }
    }

    fn handle_authentication(&mut self, protocol: Protocol, information: &[u8], now: Instant) -> Result<(), Malformed> {
        match &mut self.phase {
            Phase::Authenticate(exchange) | Phase::Network { exchange, .. } if exchange.protocol() == protocol => {
                let packet = Packet::parse(information)?;
                if let Some(outcome) = exchange.handle_packet(packet, now, &mut self.out)? {
                    self.handle_outcome(outcome, now);
                }
            }
            Phase::Dead
            | Phase::Establish
            | Phase::Authenticate(_)
            | Phase::Network { .. }
            | Phase::Terminate
            | Phase::Finished => self.count_out_of_phase(),
        }
        Ok(())
    }

    fn handle_outcome(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Ask(proof) => {
                self.login = Login::Asked;
                self.tell(Event::AuthenticationRequested(proof));
            }
            Outcome::Accepted => self.enter_network(now),
            Outcome::Refused(refusal) => {
                self.login = Login::Refused { refusal, until: now + REFUSED_GRACE };
                self.tell(Event::PasswordRefused(refusal));
            }
            Outcome::Concluded => {
                if let Login::Refused { until, .. } = &mut self.login {
                    *until = now + REFUSED_GRACE;
                }
            }
            Outcome::Unwanted(types) => self.offer_next_method(&types, now),
            Outcome::NoAnswer => self.terminate(End::NoAnswer { during: "authentication" }, now),
            Outcome::VerdictLate => self.terminate(End::VerdictLate, now),
        }
    }

    fn enter_network(&mut self, now: Instant) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Establish) {
            Phase::Authenticate(exchange) => {
                self.login = if self.bound { Login::Bound } else { Login::Accepted };
                let ipcp = Ipcp::open(&self.config, self.seed.ipcp_id(), now, &mut self.out);
                self.tell(Event::Authenticated);
                Phase::Network { exchange, ipcp, until: now + NETWORK_DEADLINE }
            }
            other @ (Phase::Dead | Phase::Establish | Phase::Network { .. } | Phase::Terminate | Phase::Finished) => {
                other
            }
        };
    }

    /// An EAP Nak: the client takes EAP, but none of our types. Another method of LCP may suit it.
    fn offer_next_method(&mut self, types: &[u8], now: Instant) {
        let wanted: Vec<_> = types.iter().map(|kind| format!("eap type {kind}")).collect();
        let wanted = if wanted.is_empty() { "another method".to_owned() } else { wanted.join(", ") };
        match self.lcp.offer_next(wanted, now, &mut self.out) {
            Ok(()) => self.lcp_down(now),
            Err(end) => {
                if let Phase::Authenticate(exchange) = &mut self.phase {
                    exchange.give_up(&mut self.out);
                }
                self.terminate(end, now);
            }
        }
    }

    fn handle_ipcp(&mut self, information: &[u8], now: Instant) -> Result<(), Malformed> {
        match &mut self.phase {
            Phase::Network { ipcp, .. } => {
                let packet = Packet::parse(information)?;
                let ended = ipcp.is_stopping();
                if let Some(signal) = ipcp.handle_packet(packet, now, &mut self.out)? {
                    self.handle_ipcp_signal(signal, ended, now);
                }
            }
            Phase::Dead | Phase::Establish | Phase::Authenticate(_) | Phase::Terminate | Phase::Finished => {
                self.count_out_of_phase();
            }
        }
        Ok(())
    }

    fn handle_ipcp_signal(&mut self, signal: Signal, ended: bool, now: Instant) {
        match signal {
            Signal::Up => self.tell(Event::NetworkUp { max_packet: self.max_packet() }),
            Signal::Down => {
                if let Phase::Network { until, .. } = &mut self.phase {
                    *until = now + NETWORK_DEADLINE;
                }
                self.tell(Event::NetworkDown);
            }
            Signal::Finished if ended => self.terminate(End::NetworkEnded, now),
            Signal::Finished => self.terminate(End::NoAnswer { during: "IPCP" }, now),
            Signal::Failed(end) => self.terminate(end, now),
        }
    }

    /// RFC 1661 section 3.5: before the login is done, other protocols are discarded in silence.
    fn reject_protocol(&mut self, protocol: Protocol, information: &[u8]) {
        match self.phase {
            Phase::Network { .. } => self.lcp.reject_protocol(protocol, information, &mut self.out),
            Phase::Dead | Phase::Establish | Phase::Authenticate(_) | Phase::Terminate | Phase::Finished => {
                self.count_out_of_phase();
            }
        }
    }

    /// Leaves the present phase; if IPCP was open, the owner is told that it is not.
    fn leave(&mut self, next: Phase) {
        if self.is_network_up() {
            self.tell(Event::NetworkDown);
        }
        self.phase = next;
    }

    /// Sends a Terminate-Request if there is anybody to send it to. The first reason counts.
    fn terminate(&mut self, end: End, now: Instant) {
        if let Phase::Terminate | Phase::Finished = self.phase {
            return;
        }
        self.leave(Phase::Terminate);
        let end = self.ending.get_or_insert(end);
        let signal = self.lcp.close(end.reason(), now, &mut self.out);
        let over = match self.lcp.state() {
            State::Initial | State::Starting | State::Closed | State::Stopped => true,
            State::Closing | State::Stopping | State::ReqSent | State::AckRcvd | State::AckSent | State::Opened => {
                signal == Some(Signal::Finished)
            }
        };
        if over && let Some(end) = self.ending.take() {
            self.finish(end);
        }
    }

    fn finish(&mut self, end: End) {
        self.leave(Phase::Finished);
        self.tell(Event::Finished(end));
    }

    /// Queues an event. Those that come at most once always find room.
    fn tell(&mut self, event: Event) {
        let once = match event {
            Event::AuthenticationRequested(_)
            | Event::Authenticated
            | Event::PasswordRefused(_)
            | Event::Finished(_) => true,
            Event::Identification(_) | Event::NetworkUp { .. } | Event::NetworkDown => false,
        };
        if once || self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.counters.overflowed = self.counters.overflowed.saturating_add(1);
        }
    }
}
