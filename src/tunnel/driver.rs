//! Moves a tunnel's bytes: the one place where a tunnel meets a socket, TLS and a clock.
//!
//! Nothing here knows SSTP or PPP. [`Driver::next`] runs the tunnel until its owner has something to do; it may be
//! dropped and called again at any time, because all state is in the driver. It spawns nothing: who serves the streams
//! that it hands out is not its business.
//!
//! A turn is: due timers, then all that the socket has (at most [`READS`] reads or [`LONGEST_READ`]), then one pass over the stack, then as
//! much as the socket takes. So frames travel in bulk: one system call reads up to 64 KiB of TLS records, one writes up
//! to 64 KiB in full records.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::stream::{Shared, TunnelStream};
use super::{Accepted, End, Event, Outgoing, Tunnel};
use crate::clock;
use crate::identity::Binding;
use crate::netstack::{Counters, Visible};
use crate::ppp::auth::{Proof, Verdict};

/// Reads of one turn, before others on this thread get theirs.
const READS: usize = 4;

/// How long one turn may work on what it read, before others on this thread get theirs: a read holds hundreds of small
/// packets, each of which can ask for an answer.
const LONGEST_READ: Duration = Duration::from_millis(2);

/// Passes over the stack in one turn, each up to 64 KiB, before others on this thread get theirs.
const PASSES: usize = 4;

/// Answers that may wait in TLS for a full socket before we stop reading from the client.
const BACKLOG: usize = 256 * 1024;

/// The same before the login: one record, because a stranger needs no more and there may be thousands.
const BACKLOG_OF_STRANGERS: usize = 16 * 1024;

/// How long the last bytes of an ended tunnel may take to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// What a thread needs once for all its tunnels.
struct Scratch {
    sealed: Box<[u8]>,
    opened: Box<[u8]>,
    out: Outgoing,
}

thread_local! {
    /// A shard is a thread, and a turn does not await: so one set of buffers serves all its tunnels.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        sealed: vec![0; 64 * 1024].into_boxed_slice(),
        opened: vec![0; 16 * 1024].into_boxed_slice(),
        out: Outgoing::default(),
    });
}

/// What the driver's owner has to do.
pub enum Step {
    /// Judge this login, then [`Driver::resolve_login`].
    Login(Proof),
    /// The client says this of itself.
    Identification(Box<str>),
    /// The session may be registered: its login is bound and its address assigned.
    Up(Binding),
    /// Serve this stream.
    Stream(TunnelStream, Accepted),
    /// The client sends what is for the internet into the tunnel.
    WorldRefused,
    /// The tunnel is over.
    Ended(Ended),
}

/// Why a tunnel is over.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The machines ended it.
    #[error(transparent)]
    Machine(#[from] End),
    /// The client closed the connection without a word, as it may.
    #[error("the client closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection: {0}")]
    Socket(io::Error),
    /// TLS failed.
    #[error("tls: {0}")]
    Tls(rustls::Error),
}

impl Ended {
    /// The stable word of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Machine(End::Call(_)) => "call",
            Self::Machine(End::Link(_)) => "link",
            Self::Closed => "closed",
            Self::Socket(_) => "socket",
            Self::Tls(_) => "tls",
        }
    }
}

/// One tunnel and its connection.
pub struct Driver {
    tcp: TcpStream,
    tls: ServerConnection,
    shared: Shared,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    /// Bytes given to TLS since the socket last took all of them.
    backlog: usize,
    /// How many of them are too many.
    most: usize,
    /// The client will send no more.
    eof: bool,
    received: u64,
    sent: u64,
}

impl Driver {
    /// Takes over a connection whose HTTP head was answered; `opened` is what TLS opened behind that head, as far as it was
    /// taken out of TLS.
    pub fn new(tcp: TcpStream, mut tls: ServerConnection, mut tunnel: Tunnel, opened: &[u8]) -> Self {
        let now = clock::now();
        // What waits in TLS is bounded by `BACKLOG` and the size of one turn.
        tls.set_buffer_limit(None);
        SCRATCH.with_borrow_mut(|scratch| {
            tunnel.handle_input(opened, now, &mut scratch.out);
            // What came in one record with the head may still be inside TLS, and no later read would wake us for it. Its
            // end and its errors show at the next read.
            while let Ok(read @ 1..) = tls.reader().read(&mut scratch.opened) {
                tunnel.handle_input(&scratch.opened[..read], now, &mut scratch.out);
            }
            debug_assert!(scratch.out.bytes().is_empty(), "a call that has not begun answers nothing at once");
            scratch.out.clear();
        });
        Self {
            tcp,
            tls,
            shared: Shared::new(tunnel),
            sleep: Box::pin(tokio::time::sleep_until(now.into())),
            armed: None,
            backlog: 0,
            most: BACKLOG_OF_STRANGERS,
            eof: false,
            received: 0,
            sent: 0,
        }
    }

    /// Runs the tunnel until there is something to do. After [`Step::Ended`] call it no more.
    pub async fn next(&mut self) -> Step {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Answers [`Step::Login`].
    pub fn resolve_login(&mut self, verdict: Verdict) {
        self.shared.lock().tunnel.resolve_login(verdict, clock::now());
    }

    /// What exists for this person.
    pub fn set_visible(&mut self, visible: std::sync::Arc<Visible>) {
        self.shared.lock().tunnel.set_visible(visible);
    }

    /// Begins the end: Call Disconnect; [`Driver::next`] brings [`Step::Ended`].
    pub fn close(&mut self) {
        self.shared.lock().tunnel.close(clock::now());
    }

    /// Begins the end like [`Driver::close`], behind all that the streams have written.
    pub fn drain(&mut self) {
        self.shared.lock().tunnel.drain(clock::now());
    }

    /// Whether a stream has bytes that the client's window keeps back.
    pub fn has_unsent(&self) -> bool {
        self.shared.lock().tunnel.has_unsent()
    }

    /// Bytes of SSTP that came and went.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// What the inner network counted.
    pub fn counters(&self) -> Counters {
        self.shared.lock().tunnel.counters()
    }

    /// Sends what is left and closes TLS and TCP in order, within a short time.
    pub async fn finish(mut self) {
        self.tls.send_close_notify();
        let flushed = poll_fn(|cx| match self.poll_flush(cx) {
            Ok(true) => Pin::new(&mut self.tcp).poll_shutdown(cx),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        });
        // The session is over either way; the peer learns it from TCP if not from us.
        drop(tokio::time::timeout(FLUSH, flushed).await);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        SCRATCH.with_borrow_mut(|scratch| match self.turn(scratch, cx) {
            Ok(Some(step)) => Poll::Ready(step),
            Ok(None) => Poll::Pending,
            Err(ended) => Poll::Ready(Step::Ended(ended)),
        })
    }

    fn turn(&mut self, scratch: &mut Scratch, cx: &mut Context<'_>) -> Result<Option<Step>, Ended> {
        let now = clock::now();
        scratch.out.clear();
        scratch.out.set_blocked(self.backlog > 0);
        if self.armed.is_some_and(|deadline| deadline <= now) {
            self.armed = None;
            self.shared.lock().tunnel.handle_timeout(now);
        }
        let held_back = self.backlog > self.most;
        let read = if held_back { Progress::Done } else { self.read(scratch, now, cx)? };
        let sent = self.send(scratch, now, cx)?;
        if let Some(step) = self.take_step() {
            return Ok(Some(step));
        }
        let may_read_again = held_back && self.backlog <= self.most;
        if read == Progress::More || sent == Progress::More || may_read_again {
            // The budget is used up, not the work: come back after the others.
            cx.waker().wake_by_ref();
            return Ok(None);
        }
        if self.eof {
            // The machine has had its say in `take_step`; if it had none, there is none to come.
            return Err(Ended::Closed);
        }
        self.sleep(now, cx);
        Ok(None)
    }

    fn take_step(&mut self) -> Option<Step> {
        let event = self.shared.lock().tunnel.poll_event()?;
        Some(match event {
            Event::LoginRequested(proof) => Step::Login(proof),
            Event::Identification(text) => Step::Identification(text),
            Event::Up(binding) => {
                self.most = BACKLOG;
                Step::Up(binding)
            }
            Event::Accepted(accepted) => {
                Step::Stream(TunnelStream::new(self.shared.clone(), accepted.stream), accepted)
            }
            Event::WorldRefused => Step::WorldRefused,
            Event::Ended(end) => Step::Ended(Ended::Machine(end)),
        })
    }

    /// Reads all that the socket has, opens it, and gives it to the tunnel.
    fn read(&mut self, scratch: &mut Scratch, now: Instant, cx: &mut Context<'_>) -> Result<Progress, Ended> {
        for _ in 0..READS {
            if self.eof {
                return Ok(Progress::Done);
            }
            let mut buffer = ReadBuf::new(&mut scratch.sealed);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Progress::Done),
                Poll::Ready(Err(error)) => return Err(Ended::Socket(error)),
                Poll::Ready(Ok(())) => {}
            }
            let read = buffer.filled().len();
            if read == 0 {
                self.eof = true;
                self.shared.lock().tunnel.handle_eof(now);
            }
            self.open(read, scratch, now)?;
            if clock::now().saturating_duration_since(now) > LONGEST_READ {
                break;
            }
        }
        Ok(Progress::More)
    }

    /// Opens the first `sealed` bytes of the scratch and gives them to the tunnel.
    fn open(&mut self, sealed: usize, scratch: &mut Scratch, now: Instant) -> Result<(), Ended> {
        let Scratch { sealed: buffer, opened, out } = scratch;
        let mut sealed = &buffer[..sealed];
        let mut inner = self.shared.lock();
        while !sealed.is_empty() {
            self.tls.read_tls(&mut sealed).map_err(Ended::Socket)?;
            if let Err(error) = self.tls.process_new_packets() {
                return Err(Ended::Tls(error));
            }
            loop {
                match self.tls.reader().read(opened) {
                    Ok(0) => {
                        self.eof = true;
                        inner.tunnel.handle_eof(now);
                        return Ok(());
                    }
                    Ok(read) => {
                        self.received += read as u64;
                        inner.tunnel.handle_input(&opened[..read], now, out);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Ended::Socket(error)),
                }
            }
        }
        Ok(())
    }

    /// Takes what the tunnel has to send, seals it, and writes as much as the socket takes.
    fn send(&mut self, scratch: &mut Scratch, now: Instant, cx: &mut Context<'_>) -> Result<Progress, Ended> {
        for _ in 0..PASSES {
            scratch.out.set_blocked(self.backlog > 0);
            let done = {
                let mut inner = self.shared.lock();
                inner.driver = Some(cx.waker().clone());
                inner.tunnel.poll_transmit(now, &mut scratch.out)
            };
            let bytes = scratch.out.bytes();
            self.tls.writer().write_all(bytes).map_err(Ended::Socket)?;
            self.backlog += bytes.len();
            self.sent += bytes.len() as u64;
            scratch.out.clear();
            let flushed = self.poll_flush(cx).map_err(Ended::Socket)?;
            if flushed {
                self.backlog = 0;
            }
            if done || !flushed {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::More)
    }

    /// Writes what TLS has sealed. False: the socket is full, and wakes us when it is not.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Writer { tcp: &mut self.tcp, cx }) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Arms the timer with the tunnel's next deadline.
    fn sleep(&mut self, now: Instant, cx: &mut Context<'_>) {
        let deadline = self.shared.lock().tunnel.poll_timeout(now);
        let Some((deadline, reason)) = deadline else { return };
        // Most deadlines move on with every packet: a timer that rings too early, now and then, costs less.
        if self.armed.is_none_or(|armed| deadline < armed) {
            tracing::trace!(reason, "sleeping");
            self.armed = Some(deadline);
            self.sleep.as_mut().reset(deadline.into());
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    More,
}

/// A socket as rustls wants to write to it: all records in one call.
struct Writer<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl io::Write for Writer<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
