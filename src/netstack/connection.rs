//! One TCP connection: a smoltcp socket in a set of its own, and what it is for.
//!
//! A set per socket, instead of one for all, lets the stack decide which connection gets a packet and which one may send
//! next; smoltcp would always begin with the first of a set, and with little room the last would never have its turn. It
//! also gives each connection its own clock.

use std::net::Ipv4Addr;
use std::task::Waker;
use std::time::Duration;

use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

use super::StreamError;
use super::clock::{StreamClock, paced};
use super::device::{Link, PacketSink, Told};
use super::guard::{Place, Segment};

/// Bytes the client may send before the application has read them: the largest window that needs no scaling, and more
/// than an upload over a 50 ms path needs for 10 Mbit/s.
const RECEIVE_BUFFER: usize = 65_535;
/// Bytes the application may write before the client has acknowledged them; by this and the round trip a download is
/// limited: 70 Mbit/s at 30 ms.
const SEND_BUFFER: usize = 256 * 1024;
/// Room for one query of the largest size behind another, each with two bytes of length.
const RESOLVER_RECEIVE_BUFFER: usize = 2 * (2 + super::dns::LARGEST_QUERY);
/// Room for a burst of answers; further queries wait.
const RESOLVER_SEND_BUFFER: usize = 4 * 1024;

/// How long an acknowledgement may wait for data to ride on (RFC 9293, section 3.8.6.3, allows 500 ms).
const ACK_DELAY: Duration = Duration::from_millis(10);

/// How long the client may take for the last step of the handshake.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// How long a resolver connection may be idle (RFC 7766, section 6.2.3, asks for a few seconds).
const RESOLVER_IDLE: Duration = Duration::from_secs(10);
/// How long what the application left behind is kept for a client that does not take it: somebody paused a download.
const DELIVERY: Duration = Duration::from_secs(600);
/// How long a client that has got everything may take to close its half; a reset before could make it lose the answer
/// that it has not read yet.
const DRAIN: Duration = Duration::from_secs(30);

/// How far a segment may be from where the client is. No window reaches as far; and at twice the distance smoltcp, whose
/// comparisons of sequence numbers are signed, takes what is far ahead for what is behind, and panics.
const FAR: u32 = 1 << 30;

/// Whose turn it is in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is not complete; nobody has been told.
    HalfOpen { until: Duration },
    /// DNS over TCP, served by the stack itself.
    Resolver,
    /// The application has it.
    Held,
    /// The application has it, but there is nothing left to say to the client or to hear from it.
    Over,
    /// The application is gone; what it wrote and the FIN are still on their way.
    Delivering,
    /// Everything has arrived; what the client still sends is thrown away.
    Draining { until: Duration },
    /// Nobody has it; one reset still has to leave.
    Resetting,
}

/// What came of letting a connection send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Packet,
    Nothing,
    /// It has a packet, but there is no room.
    Starved,
}

/// Not `Debug`: its buffers hold what people say.
pub(super) struct Connection {
    /// Distinguishes this connection from earlier ones in its place.
    pub(super) serial: u32,
    pub(super) place: Place,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    pub(super) peer_port: u16,
    phase: Phase,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    clock: StreamClock,
    /// Something happened since it last had nothing to send.
    pending: bool,
    /// The socket's next timer, on its own clock.
    due: Option<Instant>,
    /// The client's window as of its last segment.
    window: u16,
    /// What our segments said; `None` before the first.
    told: Option<Told>,
    /// Waits for the client's window to open.
    writer: Option<Waker>,
    /// Why the application may not use it any more.
    failed: Option<StreamError>,
}

impl Connection {
    /// Waits for exactly the SYN described by `segment`, which is to be given to [`handle_segment`](Self::handle_segment)
    /// next.
    pub(super) fn listen(segment: &Segment, serial: u32, at: Duration) -> Self {
        let (receive, send) = match segment.place {
            Place::Gateway => (RESOLVER_RECEIVE_BUFFER, RESOLVER_SEND_BUFFER),
            Place::Services | Place::World => (RECEIVE_BUFFER, SEND_BUFFER),
        };
        let mut socket = Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; send]));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::None);
        socket.listen((IpAddress::Ipv4(segment.address), segment.port)).expect("new, and the port is a served one");
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            serial,
            place: segment.place,
            address: segment.address,
            port: segment.port,
            peer_port: segment.peer_port,
            phase: Phase::HalfOpen { until: at + HALF_OPEN },
            sockets,
            handle,
            clock: StreamClock::new(at),
            pending: false,
            due: None,
            window: segment.window,
            told: None,
            writer: None,
            failed: None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn failed(&self) -> Option<StreamError> {
        self.failed
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    /// The socket, which will be asked for packets at the next opportunity.
    pub(super) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.pending = true;
        self.sockets.get_mut(self.handle)
    }

    /// Whether a segment belongs to this connection.
    pub(super) fn owns(&self, segment: &Segment) -> bool {
        self.phase != Phase::Over
            && self.peer_port == segment.peer_port
            && self.port == segment.port
            && self.address == segment.address
    }

    /// Whether the client may still say something. What follows its FIN is no part of the stream (RFC 9293, section
    /// 3.10.7.4, seventh step), but smoltcp would read it. What came before the FIN, though it belongs behind it, is read:
    /// smoltcp has it already.
    pub(super) fn hears_text(&self) -> bool {
        !matches!(self.socket().state(), State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
    }

    /// Whether an honest client could have sent this segment now.
    ///
    /// smoltcp believes an acknowledgment of bytes that are written but not yet sent, and would never send them. In the
    /// handshake it asks for the exact number, and answers any other with a reset.
    fn may_mean(&self, segment: &Segment) -> bool {
        let Some(told) = self.told else { return true };
        let near = segment.sequence.0.wrapping_sub(told.acknowledgment.0).unsigned_abs() < FAR;
        let sent = segment.acknowledgment.is_none_or(|acknowledgment| acknowledgment <= told.end);
        near && (sent || matches!(self.phase, Phase::HalfOpen { .. }))
    }

    fn remember<S: PacketSink>(&mut self, link: &mut Link<'_, S>) {
        if let Some(told) = link.take_told() {
            self.told = Some(told.after(self.told));
        }
    }

    /// Gives the packet in `link` to the socket. True if this completed the handshake.
    ///
    /// While time stands still, because the link is `stalled`, an acknowledgement that is to wait would wait for the whole
    /// of another stream's download.
    pub(super) fn handle_segment<S: PacketSink>(
        &mut self,
        segment: &Segment,
        interface: &mut Interface,
        link: &mut Link<'_, S>,
        at: Duration,
        stalled: bool,
    ) -> bool {
        // The reset that waits for room answers a segment to a closed socket too.
        if self.socket().state() == State::Closed || !self.may_mean(segment) {
            return false;
        }
        self.clock.hear(at, self.is_idle());
        self.window = segment.window;
        let delay = if stalled { Duration::ZERO } else { ACK_DELAY };
        self.socket_mut().set_ack_delay(Some(paced(delay)));
        let _ = interface.poll_ingress_single(self.clock.advance(at), link, &mut self.sockets);
        self.remember(link);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        if matches!(self.phase, Phase::Delivering | Phase::Draining { .. }) {
            self.discard();
        }
        let established = matches!(self.phase, Phase::HalfOpen { .. })
            && !matches!(self.socket().state(), State::Listen | State::SynReceived | State::Closed);
        if established {
            self.phase = match self.place {
                Place::Gateway => Phase::Resolver,
                Place::Services | Place::World => Phase::Held,
            };
        }
        established
    }

    /// Sends one packet if there is one to send.
    pub(super) fn poll_transmit<S: PacketSink>(
        &mut self,
        interface: &mut Interface,
        link: &mut Link<'_, S>,
        at: Duration,
    ) -> Sent {
        // Most connections are idle, and each is asked after every packet of the one that is not.
        let Some(due) = self.pending.then_some(Instant::ZERO).or(self.due) else { return Sent::Nothing };
        let time = self.clock.advance(at);
        if self.phase == Phase::Over || due > time {
            return Sent::Nothing;
        }
        self.pending = true;
        let result = interface.poll_egress(time, link, &mut self.sockets);
        self.remember(link);
        match result {
            PollResult::SocketStateChanged => Sent::Packet,
            PollResult::None if link.is_starved() => Sent::Starved,
            PollResult::None => {
                self.pending = false;
                // A timer that is due and did nothing will do nothing again, until something else happens.
                self.due = interface.poll_at(time, &self.sockets).filter(|&due| due > time);
                Sent::Nothing
            }
        }
    }

    /// Moves on when the socket has. False if the connection is to be forgotten.
    pub(super) fn settle(&mut self, at: Duration) -> bool {
        if self.phase == Phase::Delivering && self.socket().state() == State::FinWait2 {
            self.phase = Phase::Draining { until: at + DRAIN };
        }
        if !self.is_over() {
            return true;
        }
        match self.phase {
            Phase::Held | Phase::Over => {
                self.phase = Phase::Over;
                true
            }
            Phase::HalfOpen { .. }
            | Phase::Resolver
            | Phase::Delivering
            | Phase::Draining { .. }
            | Phase::Resetting => false,
        }
    }

    /// Whether the socket has nothing more to send and nothing to hear.
    ///
    /// TIME-WAIT (RFC 9293, section 3.6.1) exists so that a lost last acknowledgement can be sent again and stray
    /// segments die out. Here nothing is lost and nothing strays, so it ends as soon as that acknowledgement has left:
    /// when no timer is set but its own of 10 s, which is longer than the delay of an acknowledgement. smoltcp's timer
    /// must not fire, because it empties the receive buffer, which the application may not have read yet.
    fn is_over(&self) -> bool {
        let socket = self.socket();
        match socket.state() {
            // A reset sends the socket back to LISTEN if it arrives before the handshake is complete.
            State::Listen => true,
            State::Closed => socket.remote_endpoint().is_none(),
            State::TimeWait => {
                let acknowledged = |due| due > self.clock.shown() + paced(ACK_DELAY);
                !self.pending && self.due.is_none_or(acknowledged)
            }
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => false,
        }
    }

    /// Whether everything that was written, and a FIN, is acknowledged. smoltcp has no timer then that sends something.
    fn is_idle(&self) -> bool {
        let settled = matches!(self.socket().state(), State::Established | State::CloseWait | State::FinWait2);
        settled && self.socket().send_queue() == 0
    }

    /// When the stack loses patience, and with what.
    pub(super) fn deadline(&self) -> Option<(Duration, &'static str)> {
        match self.phase {
            Phase::HalfOpen { until } => Some((until, "a handshake is not completed")),
            Phase::Resolver => Some((self.clock.heard() + RESOLVER_IDLE, "a resolver connection is idle")),
            Phase::Delivering => Some((self.clock.heard() + DELIVERY, "a client does not take what is left")),
            Phase::Draining { until } => Some((until, "a client does not close its half")),
            Phase::Held | Phase::Over | Phase::Resetting => None,
        }
    }

    /// The next time, on the link's clock, at which this connection wants to be polled.
    pub(super) fn poll_timeout(&self, at: Duration) -> Option<(Duration, &'static str)> {
        if self.phase == Phase::Over {
            return None;
        }
        if self.pending {
            return Some((at, "a segment is to be sent"));
        }
        let timer = self.due.and_then(|due| self.clock.reaches(due)).map(|when| (when, "a timer of TCP"));
        timer.into_iter().chain(self.deadline()).min_by_key(|&(when, _)| when)
    }

    /// Takes the connection away from the application, which will read `error`; the client gets a reset.
    pub(super) fn fail(&mut self, error: StreamError) {
        self.failed = Some(error);
        self.abort();
    }

    /// Ends it with a reset. Nobody has it any more.
    pub(super) fn reset(&mut self) {
        self.phase = Phase::Resetting;
        self.abort();
    }

    fn abort(&mut self) {
        // A socket that is over has nobody to reset.
        if self.phase != Phase::Over {
            self.socket_mut().abort();
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// The application has let go of it. False if the connection is to be forgotten.
    pub(super) fn release(&mut self, at: Duration) -> bool {
        if self.phase == Phase::Over {
            return false;
        }
        match self.socket().state() {
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait => {
                self.phase = Phase::Delivering;
                self.discard();
            }
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::CloseWait => self.reset(),
        }
        self.settle(at)
    }

    /// Bytes for the application cannot be taken: the client's window is closed and nothing is queued. smoltcp would
    /// probe the window at once, for which there is no need where a window update cannot get lost.
    pub(super) fn waits_for_window(&self) -> bool {
        self.window == 0 && self.socket().send_queue() == 0 && self.socket().may_send()
    }

    pub(super) fn set_writer(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    fn discard(&mut self) {
        while self.socket_mut().recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|len| len > 0) {}
    }
}
