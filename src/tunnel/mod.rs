//! One client's session: `sstp`, `ppp` and `netstack` composed into one pure machine.
//!
//! In go the bytes that TLS opened, time, and the answer to the login. Out come bytes for TLS to seal, and events.
//! What passes between the three machines is a standard thing (bytes, a PPP frame, an IP packet), so this is the only
//! place that knows all three; the one exception nature made is the crypto binding, whose key `ppp` derives and `sstp`
//! needs.
//!
//! One input, then drain: after any `handle_*` or `resolve_*` call [`Tunnel::poll_transmit`] and then
//! [`Tunnel::poll_event`] until it gives `None`, then sleep until [`Tunnel::poll_timeout`].

pub mod driver;
mod outgoing;
pub mod registry;
pub mod stream;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::identity::{Binding, Method};
use crate::ppp::auth::{Proof, Verdict};
use crate::{netstack, ppp, sstp};

pub use crate::netstack::{StreamError, StreamId};
pub use outgoing::Outgoing;

/// What every tunnel of a server shares.
#[derive(Debug)]
pub struct Config {
    /// Login methods, addresses, DNS.
    pub ppp: Arc<ppp::Config>,
    /// Addresses and bounds of the inner network.
    pub network: Arc<netstack::Config>,
    /// Hash protocols offered for the crypto binding.
    pub hashes: sstp::Hashes,
    /// Login methods for which an all-zero binding key is accepted.
    pub zero_binding: Vec<Method>,
}

/// The chance that one tunnel needs, drawn by its owner.
pub struct Seeds {
    /// For the nonces of the crypto binding.
    pub nonce: [u8; 32],
    /// For challenges, magic numbers and identifiers of PPP.
    pub link: ppp::Seed,
    /// For initial sequence numbers.
    pub stack: u64,
}

/// What a tunnel tells its owner.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants to log in: answer with [`Tunnel::resolve_login`].
    LoginRequested(Proof),
    /// What the client says of itself (RFC 1570 2.1): a hint for the log, never evidence.
    Identification(Box<str>),
    /// The login is bound to this TLS connection and the address is assigned: streams may come.
    Up(Binding),
    /// The client opened a stream to an address of a visible host.
    Accepted(Accepted),
    /// The client sent a connection for the internet into the tunnel, for the first time. It was refused.
    WorldRefused,
    /// Nothing more will come; flush what [`Tunnel::poll_transmit`] gave and close.
    Ended(End),
}

/// A stream that the client opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name in this tunnel.
    pub stream: StreamId,
    /// The virtual address that was dialled.
    pub address: Ipv4Addr,
    /// The port that was dialled: 80 or 443.
    pub port: u16,
}

/// Why a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The SSTP call ended.
    #[error("sstp: {0}")]
    Call(sstp::End),
    /// PPP ended, and the call after it.
    #[error("ppp: {0}")]
    Link(ppp::End),
}

/// One session's machines.
pub struct Tunnel {
    sstp: sstp::Sstp,
    link: ppp::Link,
    stack: netstack::Stack,
    /// The head of a packet whose rest has not come: less than one SSTP packet.
    partial: Vec<u8>,
    /// The login method of the proof that is being judged.
    method: Option<Method>,
    config: Arc<Config>,
    progress: Progress,
    /// PPP's reason, kept while the SSTP call is being closed because of it.
    link_end: Option<ppp::End>,
    /// The owner wants the end, and the stack has not yet said all.
    closing: bool,
    /// At most a handful: a login, its end, and what a client says of itself.
    events: VecDeque<Event>,
}

/// What is still missing before streams may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Neither the binding nor the address.
    Login,
    /// The binding is valid, the address is not assigned.
    Bound(Binding),
    /// The address is assigned, the binding is not valid.
    Addressed,
    /// Both.
    Up,
    /// [`Event::Ended`] was given.
    Ended,
}

impl Tunnel {
    /// A tunnel whose HTTP head was answered with 200.
    pub fn new(config: Arc<Config>, certificate: sstp::CertificateHashes, seeds: Seeds, now: Instant) -> Self {
        Self {
            sstp: sstp::Sstp::new(config.hashes, certificate, seeds.nonce, now),
            link: ppp::Link::new(Arc::clone(&config.ppp), seeds.link),
            stack: netstack::Stack::new(Arc::clone(&config.network), seeds.stack, now),
            partial: Vec::new(),
            method: None,
            config,
            progress: Progress::Login,
            link_end: None,
            closing: false,
            events: VecDeque::new(),
        }
    }

    /// Takes bytes that TLS opened. Answers of the stack go to `out` at once.
    pub fn handle_input(&mut self, mut bytes: &[u8], now: Instant, out: &mut Outgoing) {
        if !self.partial.is_empty() {
            bytes = self.complete_partial(bytes, now, out);
        }
        let rest = self.handle_packets(bytes, now, out);
        self.partial.extend_from_slice(rest);
        if self.partial.is_empty() && self.partial.capacity() > 0 {
            self.partial = Vec::new();
        }
    }

    /// Completes the packet that began in an earlier input, and gives back what stands behind it.
    fn complete_partial<'a>(&mut self, bytes: &'a [u8], now: Instant, out: &mut Outgoing) -> &'a [u8] {
        let mut packet = std::mem::take(&mut self.partial);
        let before = packet.len();
        packet.extend_from_slice(bytes.get(..sstp::wire::MAX_PACKET).unwrap_or(bytes));
        let left = self.handle_packets(&packet, now, out).len();
        let taken = packet.len() - left;
        if taken == 0 {
            // Still not one whole packet, so `bytes` was shorter than one, and all of it is here.
            self.partial = packet;
            return &[];
        }
        &bytes[taken - before..]
    }

    /// Handles every whole packet in `bytes` and gives back the rest.
    fn handle_packets<'a>(&mut self, mut bytes: &'a [u8], now: Instant, out: &mut Outgoing) -> &'a [u8] {
        loop {
            match self.sstp.handle_input(bytes, now) {
                Ok(Some((taken, input))) => {
                    self.handle_packet(input, now, out);
                    bytes = &bytes[taken..];
                }
                Ok(None) => return bytes,
                // The machine says so itself in its events, and takes nothing any more.
                Err(_) => {
                    self.relay(now);
                    return &[];
                }
            }
        }
    }

    fn handle_packet(&mut self, input: sstp::Input<'_>, now: Instant, out: &mut Outgoing) {
        if let sstp::Input::Frame(frame) = input
            && let ppp::Input::Packet(packet) = self.link.handle_input(frame, now)
        {
            if self.sstp.data_open() {
                self.stack.handle_input(packet, now, out);
            }
        } else {
            self.relay(now);
        }
    }

    /// Fires the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sstp.handle_timeout(now);
        self.link.handle_timeout(now);
        self.relay(now);
    }

    /// Answers [`Event::LoginRequested`].
    pub fn resolve_login(&mut self, verdict: Verdict, now: Instant) {
        if let Verdict::Accepted(success) = &verdict {
            let zero = self.method.is_some_and(|method| self.config.zero_binding.contains(&method));
            let key = match success {
                Some(success) => sstp::HigherLayerKey::keys(success.binding_key, zero),
                None => sstp::HigherLayerKey::none(),
            };
            self.sstp.resolve_authentication(key, now);
        }
        self.link.resolve_authentication(verdict, now);
        self.relay(now);
    }

    /// What exists for this person. Streams to what does not exist any more are reset.
    pub fn set_visible(&mut self, visible: Arc<netstack::Visible>) {
        self.stack.set_visible(visible);
    }

    /// The client will send no more.
    pub fn handle_eof(&mut self, now: Instant) {
        self.sstp.handle_eof();
        self.relay(now);
    }

    /// Ends the session: every stream is reset, then Call Disconnect, then a short wait for its answer.
    ///
    /// The resets go first: behind Call Disconnect nothing is heard, and the client's programs would wait for minutes.
    pub fn close(&mut self, now: Instant) {
        if self.carries() {
            self.stack.set_visible(Arc::default());
            self.closing = true;
        } else {
            self.hang_up(now);
        }
    }

    /// Ends the session as [`Tunnel::close`] does, but lets the streams say what they have to say.
    pub fn drain(&mut self, now: Instant) {
        if self.carries() {
            self.closing = true;
        } else {
            self.hang_up(now);
        }
    }

    /// Whether a stream has bytes that the client's window keeps back.
    pub fn has_unsent(&self) -> bool {
        self.stack.has_unsent()
    }

    fn hang_up(&mut self, now: Instant) {
        self.closing = false;
        self.sstp.close(now);
        self.stack.clear();
    }

    /// Whether packets of the inner network may pass.
    fn carries(&self) -> bool {
        self.sstp.data_open() && self.link.is_network_up()
    }

    /// Carries what one machine says to the machine that must hear it, or to our owner.
    fn relay(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.link.poll_event() {
                self.handle_link(event, now);
            } else if let Some(event) = self.sstp.poll_event() {
                self.handle_call(event, now);
            } else {
                return;
            }
        }
    }

    /// Appends what is to be sent, as far as `out` has room. True: there is nothing left to send.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Outgoing) -> bool {
        // While the socket is full PPP's answers stay in its own queue, which loses the newest when it is full.
        while !out.is_blocked()
            && let Some(frame) = self.link.poll_transmit()
        {
            if let Some(header) = self.sstp.frame_header(&frame) {
                out.frame(header, &frame);
            }
        }
        // Behind the frames: a farewell must not overtake what PPP says before it.
        out.append_with(|bytes| self.sstp.poll_transmit(bytes));
        let said = !self.carries() || self.stack.poll_transmit(now, out);
        if self.closing && said {
            self.hang_up(now);
            out.append_with(|bytes| self.sstp.poll_transmit(bytes));
        }
        said && !out.is_blocked()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        Some(match self.stack.poll_event()? {
            netstack::Event::Accepted { stream, address, port } => Event::Accepted(Accepted { stream, address, port }),
            netstack::Event::WorldRefused => Event::WorldRefused,
        })
    }

    fn handle_link(&mut self, event: ppp::Event, now: Instant) {
        match event {
            ppp::Event::AuthenticationRequested(proof) => {
                self.method = Some(proof.method());
                self.events.push_back(Event::LoginRequested(proof));
            }
            ppp::Event::Authenticated | ppp::Event::NetworkDown | ppp::Event::PasswordRefused(_) => {}
            ppp::Event::Identification(text) => self.events.push_back(Event::Identification(text)),
            ppp::Event::NetworkUp { max_packet } => {
                self.stack.open(max_packet);
                match self.progress {
                    Progress::Login => self.progress = Progress::Addressed,
                    Progress::Bound(binding) => self.up(binding),
                    Progress::Addressed | Progress::Up | Progress::Ended => {}
                }
            }
            ppp::Event::Finished(end) => {
                self.link_end = Some(end);
                self.sstp.close(now);
            }
        }
    }

    fn handle_call(&mut self, event: sstp::Event, now: Instant) {
        match event {
            sstp::Event::CallStarted => self.link.open(now),
            sstp::Event::Bound(strength) => {
                self.link.set_bound(now);
                let binding = match strength {
                    sstp::Strength::Keys => Binding::Keys,
                    sstp::Strength::Zero => Binding::Zero,
                };
                if self.progress == Progress::Addressed {
                    self.up(binding);
                } else {
                    self.progress = Progress::Bound(binding);
                }
            }
            sstp::Event::Disconnecting { .. } => self.stack.clear(),
            sstp::Event::Finished(end) => {
                self.stack.clear();
                match self.link_end.take() {
                    Some(link) => self.end(End::Link(link)),
                    None => self.end(End::Call(end)),
                }
            }
        }
    }

    fn up(&mut self, binding: Binding) {
        self.progress = Progress::Up;
        self.events.push_back(Event::Up(binding));
    }

    fn end(&mut self, end: End) {
        if self.progress != Progress::Ended {
            self.progress = Progress::Ended;
            self.events.push_back(Event::Ended(end));
        }
    }

    /// When [`Tunnel::handle_timeout`] or [`Tunnel::poll_transmit`] has something to do, and why.
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        // What the stack waits to send cannot leave now, and its timers would fire for nothing.
        let stack = self.carries().then(|| self.stack.poll_timeout(now)).flatten();
        [self.sstp.poll_timeout(), self.link.poll_timeout(), stack].into_iter().flatten().min()
    }

    /// What the inner network counted.
    pub fn counters(&self) -> netstack::Counters {
        self.stack.counters()
    }

    /// How many bytes wait to be read from a stream; 0 when a read has another answer than bytes.
    pub fn poll_readable(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Poll<usize> {
        self.stack.poll_readable(stream, cx)
    }

    /// Reads from a stream; 0 is its end.
    pub fn poll_read(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        self.stack.poll_read(stream, cx, buffer)
    }

    /// Writes to a stream as much as its buffer takes.
    pub fn poll_write(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        self.stack.poll_write(stream, cx, bytes)
    }

    /// Ends our direction of a stream.
    pub fn poll_shutdown(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.stack.poll_shutdown(stream, cx)
    }

    /// The stream's owner let go of it.
    pub fn release(&mut self, stream: StreamId, now: Instant) {
        self.stack.release(stream, now);
    }
}

#[cfg(test)]
mod tests;
