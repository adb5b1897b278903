//! What LCP and IPCP share: an automaton, an option set, identifiers, and the packets with the codes 1 to 7.
//!
//! [RFC 1661] section 5 rules. In go packets of one control protocol, out come packets into the outbox and a
//! [`Signal`] to the link. An answer that does not belong to the latest Configure-Request is dropped.

use std::time::Instant;

use super::automaton::{Action, Automaton, Event, State};
use super::end::End;
use super::outbox::Outbox;
use super::wire::{Code, ConfigureOption, Malformed, PACKET_HEADER, Packet, Protocol};

/// Max-Failure (RFC 1661 section 4.6): how many Configure-Naks are sent before the options are rejected instead.
const MAX_FAILURE: u8 = 5;

/// How many times either side may refuse the other's options until the protocol is up. A willing peer needs as many
/// as it has options, in practice three; the standard alone would let a stubborn one go on forever, because every Nak
/// resets the restart counter.
const MAX_ROUNDS: u8 = 20;

/// The answer to a Configure-Request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// All options are good.
    Ack,
    /// These values would be good.
    Nak(Vec<u8>),
    /// These options are not negotiable.
    Reject(Vec<u8>),
}

/// The options of one control protocol.
pub(super) trait OptionSet {
    /// The protocol's number.
    const PROTOCOL: Protocol;
    /// The protocol's name.
    const NAME: &'static str;

    /// The options of our Configure-Request.
    fn request(&self) -> Vec<u8>;

    /// Judges the peer's options; without `may_nak` what would be a Nak becomes a Reject.
    fn judge(&mut self, options: &[ConfigureOption<'_>], may_nak: bool) -> Judgement;

    /// The judged options are acknowledged and hold.
    fn adopt(&mut self);

    /// The peer wants other values in our request.
    fn take_nak(&mut self, options: &[ConfigureOption<'_>]) -> Result<(), End>;

    /// The peer wants options left out of our request.
    fn take_reject(&mut self, options: &[ConfigureOption<'_>]) -> Result<(), End>;
}

/// What a layer tells the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// This-Layer-Up.
    Up,
    /// This-Layer-Down.
    Down,
    /// This-Layer-Finished.
    Finished,
    /// There is no agreement; the link must end.
    Failed(End),
}

/// What the automaton may have to answer.
struct Answer<'a> {
    /// The identifier of what arrived.
    id: u8,
    /// The answer that fits what arrived, unless the state wants a Terminate-Ack.
    packet: Option<Packet<'a>>,
}

/// One control protocol.
#[derive(Debug)]
pub(super) struct Layer<O> {
    automaton: Automaton,
    pub(super) options: O,
    next_id: u8,
    /// The Configure-Request that waits for an answer: identifier and options.
    outstanding: Option<(u8, Vec<u8>)>,
    /// Configure-Naks sent since the layer was last up.
    naks: u8,
    /// Configure-Naks and Configure-Rejects sent or received since the layer was last up.
    rounds: u8,
    /// The text of a Terminate-Request.
    reason: &'static str,
}

impl<O: OptionSet> Layer<O> {
    pub(super) fn new(state: State, options: O, first_id: u8) -> Self {
        Self {
            automaton: Automaton::new(state),
            options,
            next_id: first_id,
            outstanding: None,
            naks: 0,
            rounds: 0,
            reason: "",
        }
    }

    pub(super) fn state(&self) -> State {
        self.automaton.state()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.automaton.deadline()
    }

    pub(super) fn is_opened(&self) -> bool {
        self.state() == State::Opened
    }

    /// A fresh identifier.
    pub(super) fn take_id(&mut self) -> u8 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    /// Up, Down, Open or a fatal reject: an event without a packet to answer.
    pub(super) fn step(&mut self, event: Event, now: Instant, out: &mut Outbox) -> Option<Signal> {
        self.run(event, &Answer { id: 0, packet: None }, now, out)
    }

    /// Close, with a text for the peer.
    pub(super) fn close(&mut self, reason: &'static str, now: Instant, out: &mut Outbox) -> Option<Signal> {
        self.reason = reason;
        self.step(Event::Close, now, out)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Signal> {
        let event = self.automaton.expired(now)?;
        self.step(event, now, out)
    }

    /// Takes a packet with one of the codes 1 to 7; every other code is unknown here.
    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Signal>, Malformed> {
        let plain = Answer { id: packet.id, packet: None };
        Ok(match Code::from(packet.code) {
            Code::ConfigureRequest => self.handle_request(packet, now, out)?,
            Code::ConfigureAck => self.handle_ack(packet, now, out),
            Code::ConfigureNak => self.handle_refusal(packet, O::take_nak, now, out)?,
            Code::ConfigureReject => self.handle_refusal(packet, O::take_reject, now, out)?,
            Code::TerminateRequest => self.run(Event::Rtr, &plain, now, out),
            Code::TerminateAck => self.run(Event::Rta, &plain, now, out),
            Code::CodeReject => self.handle_code_reject(packet.data, now, out)?,
            Code::ProtocolReject
            | Code::EchoRequest
            | Code::EchoReply
            | Code::DiscardRequest
            | Code::Identification
            | Code::TimeRemaining
            | Code::Other(_) => self.reject_code(packet, now, out),
        })
    }

    fn handle_request(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Signal>, Malformed> {
        let options = ConfigureOption::parse_all(packet.data)?;
        let judgement = self.options.judge(&options, self.naks < MAX_FAILURE);
        let (event, code, data) = match &judgement {
            Judgement::Ack => (Event::RcrPlus, Code::ConfigureAck, packet.data),
            Judgement::Nak(data) => (Event::RcrMinus, Code::ConfigureNak, &data[..]),
            Judgement::Reject(data) => (Event::RcrMinus, Code::ConfigureReject, &data[..]),
        };
        let packet = Packet { code: code.number(), id: packet.id, data };
        Ok(self.run(event, &Answer { id: packet.id, packet: Some(packet) }, now, out))
    }

    fn handle_ack(&mut self, packet: Packet<'_>, now: Instant, out: &mut Outbox) -> Option<Signal> {
        self.outstanding.take_if(|(id, options)| *id == packet.id && options == packet.data)?;
        self.run(Event::Rca, &Answer { id: packet.id, packet: None }, now, out)
    }

    fn handle_refusal(
        &mut self,
        packet: Packet<'_>,
        take: fn(&mut O, &[ConfigureOption<'_>]) -> Result<(), End>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Signal>, Malformed> {
        let options = ConfigureOption::parse_all(packet.data)?;
        if self.outstanding.take_if(|(id, _)| *id == packet.id).is_none() {
            return Ok(None);
        }
        if let Err(end) = take(&mut self.options, &options).and_then(|()| self.count_round()) {
            return Ok(Some(Signal::Failed(end)));
        }
        Ok(self.run(Event::Rcn, &Answer { id: packet.id, packet: None }, now, out))
    }

    fn handle_code_reject(&mut self, data: &[u8], now: Instant, out: &mut Outbox) -> Result<Option<Signal>, Malformed> {
        let code = *data.first().ok_or(Malformed::TooShort { expected: 1, got: 0 })?;
        Ok(match Code::from(code) {
            Code::ConfigureRequest
            | Code::ConfigureAck
            | Code::ConfigureNak
            | Code::ConfigureReject
            | Code::TerminateRequest
            | Code::TerminateAck
            | Code::CodeReject => Some(Signal::Failed(End::Rejected { protocol: O::NAME })),
            Code::ProtocolReject
            | Code::EchoRequest
            | Code::EchoReply
            | Code::DiscardRequest
            | Code::Identification
            | Code::TimeRemaining
            | Code::Other(_) => self.step(Event::RxjPlus, now, out),
        })
    }

    fn reject_code(&mut self, packet: Packet<'_>, now: Instant, out: &mut Outbox) -> Option<Signal> {
        let rejected = packet.emit();
        let reject = Packet { code: Code::CodeReject.number(), id: self.take_id(), data: &rejected };
        self.run(Event::Ruc, &Answer { id: packet.id, packet: Some(reject) }, now, out)
    }

    fn count_round(&mut self) -> Result<(), End> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > MAX_ROUNDS {
            return Err(End::NotConverging { protocol: O::NAME, rounds: MAX_ROUNDS });
        }
        Ok(())
    }

    /// Lets the automaton take `event` and carries out what it says. The table has at most one of tlu, tld and tlf in
    /// a cell, so one signal is enough.
    fn run(&mut self, event: Event, answer: &Answer<'_>, now: Instant, out: &mut Outbox) -> Option<Signal> {
        let mut signal = None;
        for action in self.automaton.step(event, now) {
            match action {
                Action::Tlu => {
                    self.naks = 0;
                    self.rounds = 0;
                    signal = Some(Signal::Up);
                }
                Action::Tld => signal = Some(Signal::Down),
                Action::Tlf => signal = Some(Signal::Finished),
                // The link started this layer itself, and the automaton serves counter and timer.
                Action::Tls | Action::Irc | Action::Zrc => {}
                Action::Scr => self.send_request(event, out),
                Action::Sca => {
                    self.options.adopt();
                    self.send_answer(answer, out);
                }
                Action::Scn => {
                    if answer.packet.is_some_and(|packet| packet.code == Code::ConfigureNak.number()) {
                        self.naks = self.naks.saturating_add(1);
                    }
                    self.send_answer(answer, out);
                    if let Err(end) = self.count_round() {
                        signal = Some(Signal::Failed(end));
                    }
                }
                Action::Scj | Action::Ser => {
                    if let Some(packet) = answer.packet {
                        out.send_cut(O::PROTOCOL, packet);
                    }
                }
                Action::Str => {
                    let id = self.take_id();
                    let data = self.reason.as_bytes();
                    out.send(O::PROTOCOL, Packet { code: Code::TerminateRequest.number(), id, data });
                }
                Action::Sta => {
                    let code = Code::TerminateAck.number();
                    out.send(O::PROTOCOL, Packet { code, id: answer.id, data: &[] });
                }
            }
        }
        signal
    }

    fn send_answer(&self, answer: &Answer<'_>, out: &mut Outbox) {
        if let Some(packet) = answer.packet {
            out.send(O::PROTOCOL, packet);
        }
    }

    /// A repetition after a timeout keeps its identifier; everything else is a new request.
    fn send_request(&mut self, event: Event, out: &mut Outbox) {
        let repeated = self.outstanding.take().filter(|_| event == Event::ToPlus);
        let (id, options) = repeated.unwrap_or_else(|| (self.take_id(), self.options.request()));
        out.send(O::PROTOCOL, Packet { code: Code::ConfigureRequest.number(), id, data: &options });
        self.outstanding = Some((id, options));
    }

    /// Echo-Request: answers with `data` when the layer is up.
    pub(super) fn echo(&mut self, id: u8, data: &[u8], now: Instant, out: &mut Outbox) -> Option<Signal> {
        let reply = Packet { code: Code::EchoReply.number(), id, data };
        self.run(Event::Rxr, &Answer { id, packet: Some(reply) }, now, out)
    }

    /// Protocol-Reject (RFC 1661 section 5.7), only when the layer is up.
    pub(super) fn reject_protocol(&mut self, protocol: Protocol, information: &[u8], out: &mut Outbox) {
        let mut data = protocol.number().to_be_bytes().to_vec();
        let most = usize::from(out.peer_mru()).saturating_sub(PACKET_HEADER + data.len());
        data.extend_from_slice(information.get(..most).unwrap_or(information));
        let packet = Packet { code: Code::ProtocolReject.number(), id: self.take_id(), data: &data };
        out.send_cut(O::PROTOCOL, packet);
    }
}
