//! A tunnel over a real socket: TCP and rustls outside, [`SimClient`] and [`Stack`] inside, one task that moves bytes.
//!
//! Streams and questions share the two machines with the task behind one lock, which nobody holds across an await; so
//! a read copies straight out of the TCP receive buffer, and a full one closes the inner window.

mod driver;
mod stream;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::stream::Stream;
use crate::ip::{self, Ipv4};
use crate::sim::{Ended, Event, SimClient, Up};
use crate::stack::{Stack, TcpSettings};
use crate::tap::{Counters, Tap};
use crate::{Error, Profile, Resolved, clock, dhcp, dns};

/// Waits for inner packets; every question in flight has one.
const MAX_WAITS: usize = 1024;
/// DNS: 2 s, three times.
const DNS_WAIT: Duration = Duration::from_secs(2);
const DNS_TRIES: usize = 3;
/// The wait for an answer to a SYN; the inner link loses nothing.
const SYN_WAIT: Duration = Duration::from_secs(5);
const PING_WAIT: Duration = Duration::from_secs(2);
/// Windows repeats DHCPINFORM once after 4 s.
const INFORM_WAIT: Duration = Duration::from_secs(4);
/// The wait for an orderly end: two LCP Terminate-Requests and Call Disconnect.
const DISCONNECT_WAIT: Duration = Duration::from_secs(12);

/// How to connect, beside who.
#[derive(Debug, Clone)]
pub struct Settings {
    pub tcp: TcpSettings,
    /// From the TCP connect until IPCP is open.
    pub connect_timeout: Duration,
    /// Send the server name in the ClientHello.
    pub sni: bool,
    /// Offered protocols; real clients offer none, or `http/1.1`.
    pub alpn: Vec<Vec<u8>>,
    /// Offer TLS 1.2 only, as Windows 10 does.
    pub tls12_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tcp: TcpSettings::default(),
            connect_timeout: Duration::from_secs(30),
            sni: true,
            alpn: Vec::new(),
            tls12_only: false,
        }
    }
}

/// What the task tells the owner.
#[derive(Debug, Clone)]
enum Status {
    Connecting,
    Up(Up),
    Ended(Ended),
}

/// Whether an inner packet is the one that somebody waits for.
type Wanted = Box<dyn Fn(&[u8]) -> bool + Send>;

/// Someone who waits for one inner packet.
struct PacketWait {
    id: u64,
    wanted: Wanted,
    found: oneshot::Sender<Vec<u8>>,
}

/// The machines, under the lock.
struct Core {
    sim: SimClient,
    stack: Option<Stack>,
    tap: Tap,
    tcp: TcpSettings,
    seed: u64,
    spoof: Option<Ipv4Addr>,
    waits: Vec<PacketWait>,
    next_wait: u64,
    status: watch::Sender<Status>,
    ended: Option<Ended>,
    paused: bool,
    ignore_tcp: bool,
}

/// What the task and the streams share.
struct Shared {
    core: Mutex<Core>,
    /// Something was given to a machine that the task has to carry on.
    kick: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Plaintext from the TLS stream.
    fn handle_input(&mut self, bytes: &[u8], now: std::time::Instant) {
        let Self { sim, stack, tap, waits, ignore_tcp, .. } = self;
        sim.handle_input_with(bytes, now, |packet| {
            let Some(ip) = tap.incoming(packet) else { return };
            if let Some(at) = waits.iter().position(|wait| (wait.wanted)(packet)) {
                // Whoever waited may be gone by now.
                let _ = waits.swap_remove(at).found.send(packet.to_vec());
            }
            if ip.protocol == ip::TCP
                && !*ignore_tcp
                && let Some(stack) = stack
            {
                stack.handle_packet(packet);
            }
        });
        self.drain_events(now);
    }

    /// Everything that is due; appends plaintext to `out` and says when to come again. Without `send` the TCP sockets
    /// stay silent, because the outer socket is full.
    fn turn(&mut self, now: std::time::Instant, send: bool, out: &mut Vec<u8>) -> Option<std::time::Instant> {
        self.sim.handle_timeout(now);
        let mut deadline = None;
        if let Some(stack) = &mut self.stack {
            let (sim, tap) = (&mut self.sim, &mut self.tap);
            stack.poll(now, send);
            stack.poll_transmit(|packet| {
                tap.outgoing(packet);
                sim.send_packet(packet);
            });
            stack.reap(now, |port| tap.forget(port));
            deadline = stack.poll_timeout(now).filter(|_| send);
        }
        self.drain_events(now);
        self.sim.poll_transmit(out);
        let sim = self.sim.poll_timeout().map(|(at, _)| at);
        deadline.into_iter().chain(sim).min()
    }

    fn drain_events(&mut self, now: std::time::Instant) {
        while let Some(event) = self.sim.poll_event() {
            match event {
                Event::Up(up) => {
                    let local = self.spoof.unwrap_or(up.address);
                    self.stack = Some(Stack::new(local, up.mtu, self.tcp, self.seed, now));
                    self.status.send_replace(Status::Up(up));
                }
                Event::Ended(ended) => self.end(ended),
                Event::HttpStatus(_)
                | Event::CallConnected
                | Event::AuthRefused { .. }
                | Event::TerminateRequested(_)
                | Event::Packet(_) => {}
            }
        }
    }

    /// The first reason stays.
    fn end(&mut self, reason: Ended) {
        if self.ended.is_none() {
            self.ended = Some(reason.clone());
            if let Some(stack) = &mut self.stack {
                stack.abort_all();
            }
            self.waits.clear();
            self.status.send_replace(Status::Ended(reason));
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.ended.clone().map_or(Ok(()), |ended| Err(ended.into()))
    }

    fn send_packet(&mut self, packet: &[u8]) {
        self.tap.outgoing(packet);
        self.sim.send_packet(packet);
    }

    fn counters(&self) -> Counters {
        Counters { early_data: self.sim.early_data(), early_answers: self.sim.early_answers(), ..self.tap.counters }
    }
}

/// An open tunnel. Dropping it ends its task and resets its streams, without a goodbye to the server.
pub struct Tunnel {
    shared: Arc<Shared>,
    up: Up,
    status: watch::Receiver<Status>,
    numbers: AtomicU32,
    local: Ipv4Addr,
    task: JoinSet<()>,
}

impl Tunnel {
    /// Connects with [`Settings::default`].
    pub async fn connect(server: SocketAddr, roots: rustls::RootCertStore, profile: Profile) -> Result<Self, Error> {
        Self::connect_with(server, roots, profile, Settings::default()).await
    }

    /// TCP, TLS, SSTP, authentication, IPCP.
    pub async fn connect_with(
        server: SocketAddr,
        roots: rustls::RootCertStore,
        profile: Profile,
        settings: Settings,
    ) -> Result<Self, Error> {
        let patience = settings.connect_timeout;
        let connecting = async {
            let tcp = TcpStream::connect(server).await?;
            tcp.set_nodelay(true)?;
            let (tls, certificate) = driver::handshake(&tcp, roots, &profile.server_name, &settings).await?;
            Self::start(tcp, tls, &certificate, profile, settings.tcp).await
        };
        timeout(patience, connecting).await.map_err(|_| Error::Timeout("tunnel"))?
    }

    async fn start(
        tcp: TcpStream,
        tls: rustls::ClientConnection,
        certificate: &[u8],
        profile: Profile,
        settings: TcpSettings,
    ) -> Result<Self, Error> {
        let spoof = profile.cheat.spoofed_source();
        let seed = clock::seed();
        let (sender, mut status) = watch::channel(Status::Connecting);
        let core = Core {
            sim: SimClient::new(profile, certificate, seed, clock::now()),
            stack: None,
            tap: Tap::default(),
            tcp: settings,
            seed: u64::from_be_bytes(std::array::from_fn(|index| seed[index])),
            spoof,
            waits: Vec::new(),
            next_wait: 0,
            status: sender,
            ended: None,
            paused: false,
            ignore_tcp: false,
        };
        let shared = Arc::new(Shared { core: Mutex::new(core), kick: Notify::new() });
        let mut task = JoinSet::new();
        task.spawn(driver::run(tcp, tls, shared.clone()));
        let connected = match status.wait_for(|status| !matches!(status, Status::Connecting)).await.as_deref() {
            Ok(Status::Up(up)) => Ok(up.clone()),
            Ok(Status::Ended(ended)) => Err(Error::from(ended.clone())),
            Ok(Status::Connecting) | Err(_) => Err(Error::Lost),
        };
        let up = match connected {
            Ok(up) => up,
            Err(error) => {
                // The answer to an abort, or the farewell to a refusal, still has to leave.
                let _ = timeout(driver::FAREWELL, task.join_next()).await;
                return Err(error);
            }
        };
        let local = spoof.unwrap_or(up.address);
        let numbers = AtomicU32::new(u32::from_be_bytes([seed[28], seed[29], seed[30], seed[31]]));
        Ok(Self { shared, up, status, numbers, local, task })
    }

    /// The address that the server assigned.
    pub fn address(&self) -> Ipv4Addr {
        self.up.address
    }

    /// The server's end of the link, which is also its DNS server.
    pub fn gateway(&self) -> Ipv4Addr {
        self.up.gateway
    }

    /// What IPCP agreed on.
    pub fn up(&self) -> &Up {
        &self.up
    }

    /// Asks the gateway for the IPv4 addresses of a name.
    pub async fn resolve(&self, name: &str) -> Result<Resolved, Error> {
        self.resolve_type(name, dns::A).await
    }

    /// Asks the gateway for records of this type; only addresses are read.
    pub async fn resolve_type(&self, name: &str, kind: u16) -> Result<Resolved, Error> {
        let query = dns::query(self.number() as u16, name, kind);
        let answer = self.query(&query).await?;
        dns::parse(&query, &answer).ok_or(Error::Dns)
    }

    /// Sends bytes to UDP port 53 of the gateway, three times 2 s apart, and returns the first answer with the same id.
    pub async fn query(&self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        let port = self.port();
        let gateway = self.up.gateway;
        let id = raw.get(..2).map(<[u8]>::to_vec).unwrap_or_default();
        for _ in 0..DNS_TRIES {
            let id = id.clone();
            let packet = ip::udp((self.local, port), (gateway, 53), raw);
            let answer = self.ask(packet, DNS_WAIT, move |packet| {
                datagram(packet, gateway, 53, port).is_some_and(|data| data.starts_with(&id))
            });
            if let Some(packet) = answer.await? {
                return datagram(&packet, gateway, 53, port).map(<[u8]>::to_vec).ok_or(Error::Dns);
            }
        }
        Err(Error::Timeout("DNS answer"))
    }

    /// Opens a TCP stream; [`Error::Silent`] after 5 s without answer, [`Error::Reset`] after RST.
    pub async fn tcp(&self, address: Ipv4Addr, port: u16) -> Result<Stream, Error> {
        self.tcp_within(address, port, SYN_WAIT).await
    }

    /// The same with another patience.
    pub async fn tcp_within(&self, address: Ipv4Addr, port: u16, wait: Duration) -> Result<Stream, Error> {
        let stream = {
            let mut core = self.shared.lock();
            core.check()?;
            let stack = core.stack.as_mut().ok_or(Error::Lost)?;
            Stream::new(self.shared.clone(), stack.connect(address, port).ok_or(Error::NoStream)?)
        };
        self.shared.kick.notify_one();
        match timeout(wait, stream.opened()).await {
            Ok(true) => Ok(stream),
            Ok(false) => {
                self.shared.lock().check()?;
                Err(Error::Reset)
            }
            Err(_) => Err(Error::Silent),
        }
    }

    /// Whether an ICMP echo is answered within 2 s.
    pub async fn ping(&self, address: Ipv4Addr) -> bool {
        let identifier = self.number() as u16;
        let packet = ip::icmp_echo(self.local, address, identifier, 1);
        let answer = self.ask(packet, PING_WAIT, move |packet| {
            ip::is_echo_reply(packet, identifier) && Ipv4::parse(packet).is_ok_and(|ip| ip.source == address)
        });
        matches!(answer.await, Ok(Some(_)))
    }

    /// Broadcasts DHCPINFORM like Windows, twice; the DHCPACK, see [`dhcp::option`].
    pub async fn inform(&self) -> Option<Vec<u8>> {
        let xid = self.number();
        let gateway = self.up.gateway;
        for _ in 0..2 {
            let message = dhcp::inform(self.local, xid);
            let packet = ip::udp((self.local, 68), (Ipv4Addr::BROADCAST, 67), &message);
            let answer = self.ask(packet, INFORM_WAIT, move |packet| {
                datagram(packet, gateway, 67, 68).is_some_and(|data| dhcp::is_ack(data, xid))
            });
            if let Some(packet) = answer.await.ok()? {
                return datagram(&packet, gateway, 67, 68).map(<[u8]>::to_vec);
            }
        }
        None
    }

    /// Sends an IP packet as it is.
    pub async fn send_raw_packet(&self, ip: Vec<u8>) {
        self.shared.lock().send_packet(&ip);
        self.shared.kick.notify_one();
    }

    /// Sends a PPP frame as it is, from `FF 03` on.
    pub async fn send_raw_frame(&self, frame: Vec<u8>) {
        self.shared.lock().sim.send_frame(&frame);
        self.shared.kick.notify_one();
    }

    /// Sends bytes between SSTP packets, as they are.
    pub async fn send_raw_bytes(&self, bytes: Vec<u8>) {
        self.shared.lock().sim.send_bytes(&bytes);
        self.shared.kick.notify_one();
    }

    /// Sends an IP packet and waits for the first incoming one that is wanted; `None` when it does not come. Faulty
    /// packets are never offered.
    pub async fn ask(
        &self,
        packet: Vec<u8>,
        wait: Duration,
        wanted: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (guard, found) = self.register(Box::new(wanted))?;
        self.send_raw_packet(packet).await;
        let answer = timeout(wait, found).await;
        drop(guard);
        match answer {
            Ok(Ok(packet)) => Ok(Some(packet)),
            Ok(Err(_)) => self.shared.lock().check().map(|()| None),
            Err(_) => Ok(None),
        }
    }

    fn register(&self, wanted: Wanted) -> Result<(WaitGuard<'_>, oneshot::Receiver<Vec<u8>>), Error> {
        let (found, receiver) = oneshot::channel();
        let mut core = self.shared.lock();
        core.check()?;
        if core.waits.len() >= MAX_WAITS {
            return Err(Error::NoStream);
        }
        let id = core.next_wait;
        core.next_wait += 1;
        core.waits.push(PacketWait { id, wanted, found });
        Ok((WaitGuard { shared: &self.shared, id }, receiver))
    }

    /// What went over the inner link so far.
    pub fn packets(&self) -> Counters {
        self.shared.lock().counters()
    }

    /// Protocols that the server refused by LCP Protocol-Reject.
    pub fn rejected_protocols(&self) -> Vec<u16> {
        self.shared.lock().sim.rejected_protocols().to_vec()
    }

    /// Stops or goes on reading the outer socket.
    pub fn pause_reading(&self, pause: bool) {
        self.shared.lock().paused = pause;
        self.shared.kick.notify_one();
    }

    /// From now on TCP segments are counted and go no further, so that what nobody here asked for has no reset either.
    pub fn ignore_tcp(&self) {
        self.shared.lock().ignore_tcp = true;
    }

    /// Waits for the end.
    pub async fn closed(&self) -> Ended {
        let mut status = self.status.clone();
        match status.wait_for(|status| matches!(status, Status::Ended(_))).await.as_deref() {
            Ok(Status::Ended(ended)) => ended.clone(),
            Ok(Status::Connecting | Status::Up(_)) | Err(_) => Ended::Lost,
        }
    }

    /// Hangs up as this kind of client does, and waits for the end; [`Ended::Closed`] when all went well.
    pub async fn disconnect(self) -> Ended {
        self.shared.lock().sim.disconnect(clock::now());
        self.shared.kick.notify_one();
        let ended = timeout(DISCONNECT_WAIT, self.closed()).await.unwrap_or(Ended::Timeout("the end of the call"));
        // The task still has to write what the machine left, and to close TLS.
        let mut this = self;
        let _ = timeout(driver::FAREWELL, this.task.join_next()).await;
        ended
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A UDP source port below the ephemeral TCP ports.
    fn port(&self) -> u16 {
        20_000 + (self.number() % 20_000) as u16
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.lock().end(Ended::Closed);
    }
}

/// Takes the wait back when nobody waits any more.
struct WaitGuard<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.shared.lock().waits.retain(|wait| wait.id != self.id);
    }
}

/// The data of a datagram with these ends.
fn datagram(packet: &[u8], source: Ipv4Addr, source_port: u16, port: u16) -> Option<&[u8]> {
    let ip = Ipv4::parse(packet).ok().filter(|ip| ip.source == source)?;
    let udp = ip.udp().filter(|udp| udp.source == source_port && udp.destination == port)?;
    Some(udp.data)
}

#[cfg(test)]
mod tests;
