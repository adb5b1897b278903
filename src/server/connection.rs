//! The life of one connection, on one screen: listener, tunnel, login, streams, end.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::login::{self, NotLoggedIn, Over, Refused};
use super::shared::Shared;
use crate::identity::SessionId;
use crate::identity::authn;
use crate::listener::establish::{self, Established};
use crate::listener::shard::Serve;
use crate::listener::{Accepted, Admission};
use crate::proxy::{Caller, Dialled, Proxy};
use crate::tunnel::driver::{Driver, Ended, Step};
use crate::tunnel::registry::{Session, Why};
use crate::tunnel::{Seeds, Tunnel};
use crate::{clock, entropy, ppp, telemetry};

/// How long a client may take to answer Call Disconnect before the connection is closed without it.
const FAREWELL: Duration = Duration::from_secs(6);

/// How often a draining session looks whether the client has taken everything.
const LOOK: Duration = Duration::from_millis(20);

/// How often the requests that the pre-limit refused are summed into one audit record.
const SUM: Duration = Duration::from_secs(1);

/// Why a session is over.
pub(super) enum Gone {
    /// The tunnel ended.
    Tunnel(Ended),
    /// We ended the session.
    Session(Why),
}

/// One shard's way to serve a connection.
pub(super) struct Connections {
    pub(super) shared: Arc<Shared>,
    pub(super) proxy: Arc<Proxy>,
}

impl Serve for Connections {
    async fn serve(self: Arc<Self>, accepted: Accepted) {
        let Accepted { socket, peer, admission } = accepted;
        let _open = Counted::new(telemetry::CONNECTIONS);
        let certificate = Arc::clone(&self.shared.snapshots.load().certificate);
        let logging_in = self.shared.logging_in.load(Ordering::Relaxed);
        let full = self.shared.registry.is_crowded(logging_in);
        // In a box of its own, so that a tunnel of many hours does not carry the size of its handshake.
        let establishing = Box::pin(establish::establish(socket, certificate, full, clock::wall()));
        let established = tokio::select! {
            established = establishing => established,
            () = self.shared.drained() => Err(establish::Refused::Draining),
        };
        match established {
            Ok(established) => {
                let id = SessionId::from_random(entropy::number());
                let correlation = established.correlation_id.as_deref().unwrap_or_default();
                let span = tracing::info_span!("session", %id, %peer, correlation);
                self.serve_tunnel(established, id, peer, admission).instrument(span).await;
            }
            Err(refused) => self.shared.not_established(peer, &refused),
        }
    }
}

impl Connections {
    async fn serve_tunnel(&self, established: Established, id: SessionId, peer: SocketAddr, admission: Admission) {
        let Established { tcp, tls, certificate, opened, correlation_id } = established;
        let seeds = Seeds { nonce: entropy::bytes(), link: ppp::Seed(entropy::bytes()), stack: entropy::number() };
        let tunnel = Tunnel::new(Arc::clone(&self.shared.tunnel), certificate.hashes(), seeds, clock::now());
        let mut driver = Driver::new(tcp, tls, tunnel, &opened);

        let logging_in = LoggingIn::new(&self.shared.logging_in);
        let login = tokio::select! {
            login = Box::pin(login::log_in(&self.shared, &mut driver, id, peer)) => Some(login),
            () = self.shared.drained() => None,
        };
        drop(logging_in);
        match login {
            // Nobody is served here any more; the client finds another server sooner without us.
            None => {
                self.shared.not_established(peer, &establish::Refused::Draining);
                driver.close();
                self.farewell(&mut driver).await;
            }
            Some(Ok(login)) => {
                let session = Arc::new(Session::new(login.identity, correlation_id, login.device, clock::now()));
                match self.shared.registry.register(&session) {
                    Ok(registration) => {
                        drop(admission);
                        self.shared.tunnel_up(&session);
                        let live = Live { shared: &self.shared, session: &session, driver: &mut driver, gone: None };
                        self.serve_live(live).await;
                        drop(registration);
                    }
                    Err(full) => {
                        let (name, method) = (session.login().subject().as_str(), session.login().tunnel().method);
                        let refused = Refused { name: name.into(), method, reason: full.into() };
                        self.shared.login_refused(peer, session.correlation_id(), &refused);
                        driver.close();
                        self.farewell(&mut driver).await;
                    }
                }
            }
            Some(Err(NotLoggedIn { over, refused })) => {
                match &refused {
                    Some(refused) => self.shared.login_refused(peer, correlation_id.as_deref(), refused),
                    None => self.shared.not_logged_in(&over),
                }
                match over {
                    Over::Tunnel(_) => {}
                    Over::Late | Over::Revoked => {
                        driver.close();
                        self.farewell(&mut driver).await;
                    }
                }
            }
        }
        driver.finish().await;
    }

    async fn serve_live(&self, mut live: Live<'_>) {
        let caller = Caller::new(live.session.login().clone(), self.shared.prelimit(), live.session.requests());
        let caller = Arc::new(caller);
        live.gone = Some(self.serve_streams(live.driver, live.session, &caller).await);
        // What its last moments were refused has no later sum.
        self.shared.pre_limited(live.session, caller.take_pre_limited());
    }

    /// Serves the streams of a session until the tunnel, its person or its time ends.
    async fn serve_streams(&self, driver: &mut Driver, session: &Arc<Session>, caller: &Arc<Caller>) -> Gone {
        let mut streams = JoinSet::new();
        let oldest = Instant::from_std(clock::now()) + self.shared.max_session;
        // Polled when it was woken itself, and not with every packet.
        let mut rare = FuturesUnordered::<Pin<Box<dyn Future<Output = Rare> + Send + '_>>>::new();
        rare.push(Box::pin(next_generation(self.shared.snapshots.generations())));
        rare.push(Box::pin(async move { Rare::Ended(session.ended().await) }));
        rare.push(Box::pin(async move {
            tokio::time::sleep_until(oldest).await;
            Rare::TooOld
        }));
        rare.push(Box::pin(pre_limited(caller)));
        self.look_again(driver, session);
        loop {
            let next = tokio::select! {
                step = driver.next() => match step {
                    Step::Stream(stream, accepted) => {
                        let dialled = Dialled { address: accepted.address, port: accepted.port };
                        let serving = Arc::clone(&self.proxy).serve(stream, Arc::clone(caller), dialled);
                        let session = Arc::clone(session);
                        streams.spawn(async move {
                            let _open = (OpenStream::new(session), Counted::new(telemetry::STREAMS));
                            serving.await
                        });
                        continue;
                    }
                    Step::WorldRefused => {
                        tracing::info!(
                            "this client sends connections for the internet into the tunnel: its profile is \
                             force-tunnel; switch on split tunnelling"
                        );
                        continue;
                    }
                    Step::Ended(ended) => return Gone::Tunnel(ended),
                    Step::Login(_) | Step::Identification(_) | Step::Up(_) => continue,
                },
                Some(served) = streams.join_next() => {
                    report(served);
                    continue;
                }
                Some(next) = rare.next() => next,
            };
            match next {
                Rare::Generation(generations) => {
                    self.look_again(driver, session);
                    rare.push(Box::pin(next_generation(generations)));
                }
                Rare::PreLimited => {
                    self.shared.pre_limited(session, caller.take_pre_limited());
                    rare.push(Box::pin(pre_limited(caller)));
                }
                Rare::TooOld => session.end(Why::TooOld),
                Rare::Ended(why) => {
                    let gone = match why {
                        Why::Drain => self.let_finish(driver, session, &mut streams, oldest).await,
                        Why::Killed | Why::Replaced | Why::Disabled | Why::TooOld => Gone::Session(why),
                    };
                    // Streams first: what they carry must not outlive the decision to end the session.
                    drop(streams);
                    if let Gone::Session(why) = gone {
                        if why != Why::Drain {
                            driver.close();
                        }
                        self.farewell(driver).await;
                    }
                    return gone;
                }
            }
        }
    }

    /// What the current generation means for a session: its person may be gone, its hosts may be others.
    fn look_again(&self, driver: &mut Driver, session: &Session) {
        if self.shared.is_draining() {
            session.end(Why::Drain);
        }
        match authn::renew(session.login(), &self.shared.snapshots.load().users) {
            Some(login) => driver.set_visible(self.shared.visible(&login)),
            None => session.end(Why::Disabled),
        }
    }

    /// Drain: open requests may finish, new streams are refused by dropping them. Whoever is killed or loses access
    /// meanwhile is cut at once, as at any other time; what outlasts the grace is reset.
    async fn let_finish(
        &self,
        driver: &mut Driver,
        session: &Session,
        streams: &mut JoinSet<Result<(), crate::proxy::Error>>,
        oldest: Instant,
    ) -> Gone {
        let mut too_old = pin!(tokio::time::sleep_until(oldest));
        let mut generations = self.shared.snapshots.generations();
        let mut grace = pin!(tokio::time::sleep(self.shared.grace));
        let mut cut = pin!(session.ended_at_once());
        self.look_again(driver, session);
        while !streams.is_empty() || driver.has_unsent() {
            tokio::select! {
                why = &mut cut => return Gone::Session(why),
                () = &mut too_old => return Gone::Session(Why::TooOld),
                () = &mut grace => {
                    driver.close();
                    return Gone::Session(Why::Drain);
                }
                Ok(()) = generations.changed() => self.look_again(driver, session),
                step = driver.next() => if let Step::Ended(ended) = step { return Gone::Tunnel(ended) },
                Some(served) = streams.join_next() => report(served),
                // Nothing tells when the client has taken the last bytes of a stream that is over.
                () = tokio::time::sleep(LOOK), if streams.is_empty() => {}
            }
        }
        driver.drain();
        Gone::Session(Why::Drain)
    }

    /// Waits a little for the client's answer to the goodbye that was begun.
    async fn farewell(&self, driver: &mut Driver) {
        let answered = async { while !matches!(driver.next().await, Step::Ended(_)) {} };
        drop(tokio::time::timeout(FAREWELL, answered).await);
    }
}

/// What seldom happens to a session.
enum Rare {
    /// There is a new snapshot; the receiver waits for the next one.
    Generation(watch::Receiver<u64>),
    /// There is something to sum.
    PreLimited,
    /// It has lasted as long as a session may.
    TooOld,
    /// It was ended.
    Ended(Why),
}

async fn next_generation(mut generations: watch::Receiver<u64>) -> Rare {
    match generations.changed().await {
        Ok(()) => Rare::Generation(generations),
        // The server is gone, and there are no more of them.
        Err(_) => std::future::pending().await,
    }
}

/// Waits until there is something to sum, and for more of it.
async fn pre_limited(caller: &Caller) -> Rare {
    caller.pre_limited().await;
    tokio::time::sleep(SUM).await;
    Rare::PreLimited
}

/// A session from its first record to its last, which is written whatever becomes of the task.
struct Live<'a> {
    shared: &'a Shared,
    session: &'a Arc<Session>,
    driver: &'a mut Driver,
    /// How it ended, once it did.
    gone: Option<Gone>,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.shared.tunnel_down(self.session, self.gone.as_ref(), self.driver);
    }
}

/// One of the tunnels whose login goes on, until it is dropped.
struct LoggingIn<'a>(&'a AtomicUsize);

impl<'a> LoggingIn<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for LoggingIn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more of a gauge, until it is dropped.
struct Counted(metrics::Gauge);

impl Counted {
    fn new(name: &'static str) -> Self {
        let gauge = metrics::gauge!(name);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// One of a session's streams, until it is dropped.
struct OpenStream(Arc<Session>);

impl OpenStream {
    fn new(session: Arc<Session>) -> Self {
        session.streams().fetch_add(1, Ordering::Relaxed);
        Self(session)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams().fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream's panic ends that stream alone; its errors are for the log.
fn report(served: Result<Result<(), crate::proxy::Error>, tokio::task::JoinError>) {
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "stream"),
        Err(error) if error.is_panic() => tracing::error!(%error, "a stream ended by a bug of ours"),
        Err(_) => {}
    }
}
