//! [MS-SSTP]: TLS bytes to PPP frames and back, on the server's side.
//!
//! [`http`] reads the one request that opens a tunnel. From then on an [`Sstp`] is fed with what TLS delivers and gives
//! PPP frames; data packets to the client are a [header](Sstp::frame_header) and the frame. It knows neither TLS nor
//! PPP: the hash of the certificate and a nonce come in when it is made, the key of the login when the login is over.
//!
//! After each call of `handle_*`, `resolve_*` or `close`, drain [`Sstp::poll_transmit`], then [`Sstp::poll_event`],
//! then ask [`Sstp::poll_timeout`]. What must not pass before the crypto binding holds is dropped here, in both
//! directions, so that nobody else has to know.
//!
//! The rules are those of [MS-SSTP] v20240423. Each file names its sections.

use call::{Action, Farewell, Signal, State, Timer};
use std::collections::VecDeque;
use std::time::Instant;
use wire::{AttributeId, Control, DATA_HEADER, Message, MessageType, Packet, Status, StatusInfo};

mod binding;
mod call;
mod event;
mod frame;
pub mod http;
pub mod wire;

pub use binding::{BindingFailure, CertificateHashes, Hashes, HigherLayerKey, OtherKey, Strength};
pub use event::{End, Event, Violation};
pub use frame::FrameKind;
pub use wire::Error;

/// After this many Call Connect Naks the next bad request is answered with Call Abort. [MS-SSTP] 3.3.5.2.2.
const MAX_NAKS: u8 = 3;

/// While so many bytes wait to be sent, no echo is sent and none is answered: a client that does not read its answers
/// needs no more of them. All else that is ever sent fits into as much again.
const MAX_WAITING: usize = 512;

/// What one packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing for PPP.
    Handled,
    /// One PPP frame, as received: address and control fields may be there or not. It is of a control protocol until
    /// the crypto binding holds.
    Frame(&'a [u8]),
}

/// One call, from the HTTP response to the end of the TLS stream.
pub struct Sstp {
    state: State,
    timer: Option<(Timer, Instant)>,
    /// Control packets; see [`MAX_WAITING`].
    waiting: Vec<u8>,
    /// Each event comes at most once, so there are never more than there are variants.
    events: VecDeque<Event>,
    dropped_frames: u64,
}

impl Sstp {
    /// The HTTP response was sent at `now`. `nonce` must never have been used; `certificate` is the one of this
    /// connection, not the newest.
    pub fn new(offered: Hashes, certificate: CertificateHashes, nonce: [u8; 32], now: Instant) -> Self {
        let binding = Box::new(binding::Binding::new(offered, certificate, nonce));
        Self {
            state: State::ConnectRequestPending { binding, naks: 0 },
            timer: started(Timer::NegotiateRequest, now),
            waiting: Vec::new(),
            events: VecDeque::new(),
            dropped_frames: 0,
        }
    }

    /// Takes one packet off the front of `input`: its length, and what it was. `Ok(None)`: it is not complete yet; the
    /// longest is [`wire::MAX_PACKET`]. After the end everything is swallowed.
    ///
    /// An error ends the call: the stream cannot be read any more and has to be closed, without a Call Abort.
    pub fn handle_input<'a>(&mut self, input: &'a [u8], now: Instant) -> Result<Option<(usize, Input<'a>)>, Error> {
        if self.is_finished() {
            return Ok((!input.is_empty()).then_some((input.len(), Input::Handled)));
        }
        let split = Packet::split(input).inspect_err(|error| self.finish(End::StreamLost(*error)))?;
        let Some((length, packet)) = split else { return Ok(None) };
        if self.data_open() {
            self.timer = started(Timer::Hello, now);
        }
        let input = match packet {
            Packet::Data(frame) => self.handle_frame(frame),
            Packet::Control(control) => {
                self.handle_control(control, now);
                Input::Handled
            }
        };
        Ok(Some((length, input)))
    }

    /// The TLS stream ended; nothing can be sent any more.
    pub fn handle_eof(&mut self) {
        self.finish(match self.state {
            State::ConnectRequestPending { .. } => End::ClosedBeforeCall,
            State::CallConnectedPending(_) | State::CallConnected | State::Ending(..) | State::Finished => {
                End::ConnectionClosed
            }
        });
    }

    /// Call it when the instant of [`Self::poll_timeout`] has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((timer, _)) = self.timer.filter(|(_, at)| *at <= now) else { return };
        match timer {
            Timer::NegotiateRequest => self.negotiation_timeout(MessageType::CallConnectRequest, now),
            Timer::NegotiateConnected => self.negotiation_timeout(MessageType::CallConnected, now),
            Timer::Hello => {
                self.echo(Message::EchoRequest);
                self.timer = started(Timer::Echo, now);
            }
            Timer::Echo => self.finish(End::HelloTimeout),
            // Whoever waits for the end of a farewell has its reason already.
            Timer::Abort1 | Timer::Abort2 | Timer::Disconnect1 | Timer::Disconnect2 => self.finish(End::Closed),
        }
    }

    /// The login succeeded, and this is its key. A Call Connected that came before is judged now. The first answer
    /// stands. A login that failed is not told here: PPP says so to the client, then the call is closed.
    pub fn resolve_authentication(&mut self, key: HigherLayerKey, now: Instant) {
        if let State::CallConnectedPending(binding) = &mut self.state {
            let verdict = binding.resolve_authentication(key);
            self.follow(verdict, now);
        }
    }

    /// Says Call Disconnect, unless a farewell was said already.
    pub fn close(&mut self, now: Instant) {
        if self.state.is_live() {
            self.send(Message::CallDisconnect(Some(StatusInfo::NO_ERROR)));
            self.leave(Farewell::DisconnectAckPending, End::Closed, now);
        }
    }

    /// Appends all control packets that wait to be sent. They may be mixed with data packets in any order.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.waiting);
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and what runs out then.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timer.map(|(timer, at)| (at, timer.reason()))
    }

    /// The header to send in front of this PPP frame. `None`: the frame must not be sent, because it is network traffic
    /// before the crypto binding holds, because there is no call, or because it is not a frame that fits.
    pub fn frame_header(&self, frame: &[u8]) -> Option<[u8; DATA_HEADER]> {
        FrameKind::of(frame).filter(|kind| self.state.passes(*kind))?;
        wire::data_header(frame.len())
    }

    /// Whether the crypto binding holds and no farewell was said: network traffic may pass.
    pub fn data_open(&self) -> bool {
        matches!(self.state, State::CallConnected)
    }

    /// Whether the TLS stream can be closed, as soon as what was polled is flushed.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// How many frames were received and dropped, because they came too early, too late, or had no protocol.
    pub fn dropped_frames(&self) -> u64 {
        self.dropped_frames
    }

    fn handle_frame<'a>(&mut self, frame: &'a [u8]) -> Input<'a> {
        match FrameKind::of(frame) {
            Some(kind) if self.state.passes(kind) => Input::Frame(frame),
            // A data packet without a frame is allowed and means nothing.
            None if frame.is_empty() => Input::Handled,
            Some(FrameKind::Control | FrameKind::Network) | None => {
                self.dropped_frames = self.dropped_frames.saturating_add(1);
                Input::Handled
            }
        }
    }

    fn handle_control(&mut self, control: Control<'_>, now: Instant) {
        match self.state.action(Signal::of(control)) {
            Action::Ignore => {}
            Action::Acknowledge => self.acknowledge(now),
            Action::Refuse(complaint) => self.refuse(complaint, now),
            Action::Judge(control) => self.judge(control, now),
            Action::AnswerEcho => self.echo(Message::EchoResponse),
            Action::Abort(violation) => self.violation(violation, now),
            Action::ReturnAbort(status) => {
                self.send(Message::CallAbort(Some(StatusInfo::NO_ERROR)));
                self.leave(Farewell::AbortTimeoutPending, End::PeerAborted { status }, now);
            }
            Action::AbortReturned => self.leave(Farewell::AbortTimeoutPending, End::Closed, now),
            Action::AcknowledgeDisconnect(status) => {
                self.send(Message::CallDisconnectAck);
                self.leave(Farewell::DisconnectTimeoutPending, End::PeerDisconnected { status }, now);
            }
            Action::Finish => self.finish(End::Closed),
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::ConnectRequestPending { binding, .. } => {
                self.send(Message::CallConnectAck(binding.request()));
                self.timer = started(Timer::NegotiateConnected, now);
                self.events.push_back(Event::CallStarted);
                State::CallConnectedPending(binding)
            }
            other @ (State::CallConnectedPending(_) | State::CallConnected | State::Ending(..) | State::Finished) => {
                other
            }
        };
    }

    fn refuse(&mut self, complaint: StatusInfo<'_>, now: Instant) {
        let State::ConnectRequestPending { naks, .. } = &mut self.state else { return };
        if *naks < MAX_NAKS {
            *naks += 1;
            self.send(Message::CallConnectNak(complaint));
        } else {
            let complaint = StatusInfo::new(AttributeId::STATUS_INFO, Status::RETRY_COUNT_EXCEEDED);
            self.abort(complaint, End::TooManyNaks { limit: MAX_NAKS }, now);
        }
    }

    fn judge(&mut self, control: Control<'_>, now: Instant) {
        if let State::CallConnectedPending(binding) = &mut self.state {
            let verdict = binding.handle_call_connected(control);
            self.follow(verdict, now);
        }
    }

    fn follow(&mut self, verdict: binding::Verdict, now: Instant) {
        match verdict {
            binding::Verdict::Waiting => {}
            binding::Verdict::Holds(strength) => {
                self.state = State::CallConnected;
                self.timer = started(Timer::Hello, now);
                self.events.push_back(Event::Bound(strength));
            }
            binding::Verdict::Fails(failure) => self.abort(failure.complaint(), End::BindingFailed(failure), now),
            binding::Verdict::Twice => {
                let (message, state) = (MessageType::CallConnected, self.state.name());
                self.violation(Violation::Unaccepted { message, state }, now);
            }
        }
    }

    fn echo(&mut self, message: Message<'_>) {
        if self.waiting.len() < MAX_WAITING {
            self.send(message);
        }
    }

    fn negotiation_timeout(&mut self, awaited: MessageType, now: Instant) {
        let complaint = StatusInfo::new(AttributeId::STATUS_INFO, Status::NEGOTIATION_TIMEOUT);
        self.abort(complaint, End::NegotiationTimeout { awaited }, now);
    }

    fn violation(&mut self, violation: Violation, now: Instant) {
        let complaint = StatusInfo::new(AttributeId::STATUS_INFO, violation.status());
        self.abort(complaint, End::ProtocolViolation(violation), now);
    }

    fn abort(&mut self, complaint: StatusInfo<'_>, end: End, now: Instant) {
        self.send(Message::CallAbort(Some(complaint)));
        self.leave(Farewell::AbortPending, end, now);
    }

    fn send(&mut self, message: Message<'_>) {
        message.emit(&mut self.waiting);
    }

    /// Enters a farewell. When one was said before, its reason stays.
    fn leave(&mut self, farewell: Farewell, end: End, now: Instant) {
        let end = match std::mem::replace(&mut self.state, State::Finished) {
            State::ConnectRequestPending { .. } | State::CallConnectedPending(_) | State::CallConnected => {
                self.events.push_back(Event::Disconnecting { by_peer: end.is_by_peer() });
                end
            }
            State::Ending(_, first) => first,
            State::Finished => return,
        };
        self.state = State::Ending(farewell, end);
        self.timer = started(farewell.timer(), now);
    }

    /// The end, with the reason of the farewell when one was said.
    fn finish(&mut self, end: End) {
        let end = match std::mem::replace(&mut self.state, State::Finished) {
            State::ConnectRequestPending { .. } | State::CallConnectedPending(_) | State::CallConnected => end,
            State::Ending(_, first) => first,
            State::Finished => return,
        };
        self.timer = None;
        self.events.push_back(Event::Finished(end));
    }
}

fn started(timer: Timer, now: Instant) -> Option<(Timer, Instant)> {
    Some((timer, now + timer.duration()))
}

#[cfg(test)]
mod tests;
