//! The key set of one issuer, as fresh as its issuer and its operator want.
//!
//! * [`KeyStore::run`] is the only one that fetches, so there is one fetch at a time. It fetches when the set has half
//!   of `jwks_max_age` (sooner if the issuer's `Cache-Control` says so), and when a token names a key that is not there.
//! * Whoever waits for a key asks by [`KeyStore::ask`]. However many ask, at most one fetch is made in
//!   [`FETCH_INTERVAL`] for them.
//! * A failed fetch changes nothing: the last good set counts until it is `jwks_max_age` old. Then nothing verifies,
//!   until a fetch succeeds.
//! * A key that its issuer withdrew is refused as soon as the next set is there; the epoch changes with the set.
//!
//! OpenID Connect Discovery 1.0 section 4 is followed leniently, but its `issuer` must equal the configured URL.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::fetch::{self, Client, FetchError};
use super::issuer::IssuerConfig;
use super::json;
use super::jwk::{Keyring, ParseSetError};
use crate::{clock, telemetry};

/// At most one fetch in this time because of tokens with unknown keys.
pub(super) const FETCH_INTERVAL: Duration = Duration::from_secs(10);

/// No issuer is asked more often than this by the timer, whatever its `Cache-Control` says.
const SHORTEST_REFRESH: Duration = Duration::from_secs(60);

/// After a failed fetch, the timer tries again.
const RETRY: Duration = Duration::from_secs(30);

/// How long a request waits for a key that is being fetched.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest discovery document; real ones have 2 to 10 KiB.
pub(super) const MAX_DISCOVERY: usize = 64 * 1024;

/// The longest JWKS; 64 keys with certificate chains fit.
pub(super) const MAX_JWKS: usize = 256 * 1024;

/// Why there is no new key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// A document could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The discovery document is not JSON, or lacks a member.
    #[error("the discovery document {0}")]
    Discovery(&'static str),
    /// The discovery document is of another issuer.
    #[error("the discovery document is of another issuer: {got:?}")]
    AnotherIssuer {
        /// What it says, shortened.
        got: String,
    },
    /// The JWKS is refused.
    #[error(transparent)]
    Set(#[from] ParseSetError),
}

/// A key set in use.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) ring: Keyring,
    /// Changes with the keys, not with every fetch.
    pub(super) epoch: u64,
    counts_until: Instant,
}

/// The keys of one issuer, and when to fetch them.
#[derive(Debug)]
pub struct KeyStore {
    url: String,
    max_age: Duration,
    client: Result<Client, FetchError>,
    published: ArcSwapOption<Published>,
    schedule: Mutex<Schedule>,
    wanted: Notify,
    /// Counts finished fetches.
    finished: watch::Sender<u64>,
    running: tokio::sync::Mutex<()>,
}

impl KeyStore {
    /// An empty store; nothing is fetched before [`KeyStore::run`].
    pub fn new(config: &IssuerConfig) -> Self {
        Self {
            url: config.url.clone(),
            max_age: config.jwks_max_age,
            client: Client::new(config.roots.as_deref()),
            published: ArcSwapOption::empty(),
            schedule: Mutex::default(),
            wanted: Notify::new(),
            finished: watch::Sender::new(0),
            running: tokio::sync::Mutex::new(()),
        }
    }

    /// The set, while it counts.
    pub(super) fn usable(&self, now: Instant) -> Option<Arc<Published>> {
        self.published.load_full().filter(|published| now < published.counts_until)
    }

    /// Whether there are keys to verify with.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.usable(now).is_some()
    }

    /// Waits for the fetch that may bring a missing key: the one under way, or a new one. False when there was one
    /// shortly before, or when it takes too long.
    ///
    /// Can be dropped at any time; the fetch belongs to [`KeyStore::run`].
    pub(super) async fn ask(&self, now: Instant) -> bool {
        let mut finished = self.finished.subscribe();
        match self.schedule().ask(now) {
            Ask::Start => self.wanted.notify_one(),
            Ask::Join => {}
            Ask::No => return false,
        }
        matches!(tokio::time::timeout(PATIENCE, finished.changed()).await, Ok(Ok(())))
    }

    /// Keeps the set fresh until it is dropped. A second call waits for the end of the first.
    pub async fn run(&self) {
        let _alone = self.running.lock().await;
        loop {
            let wait = self.schedule().wait(clock::now());
            tokio::select! {
                () = self.wanted.notified() => if !self.schedule().under_way { continue },
                () = tokio::time::sleep(wait) => {}
            }
            self.refresh(clock::now()).await;
        }
    }

    /// One fetch, begun at `now`.
    pub(super) async fn refresh(&self, now: Instant) {
        self.schedule().begin(now);
        let half = self.max_age / 2;
        let next = match self.fetch().await {
            Ok((ring, stated)) => {
                self.publish(ring, now);
                let wanted = stated.unwrap_or(half).max(SHORTEST_REFRESH).min(half);
                wanted.max(FETCH_INTERVAL)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.url, %error, "the keys of an issuer could not be fetched");
                metrics::counter!(telemetry::JWKS_FAILURES, "issuer" => self.url.clone()).increment(1);
                RETRY
            }
        };
        self.schedule().finish(now + next);
        self.finished.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn publish(&self, ring: Keyring, fetched: Instant) {
        let before = self.published.load_full();
        let epoch = match &before {
            Some(before) if before.ring == ring => before.epoch,
            Some(before) => before.epoch.wrapping_add(1),
            None => 1,
        };
        if before.is_none_or(|before| before.epoch != epoch) {
            tracing::info!(issuer = %self.url, keys = ring.len(), epoch, "an issuer has new keys");
        }
        self.published.store(Some(Arc::new(Published { ring, epoch, counts_until: fetched + self.max_age })));
    }

    async fn fetch(&self) -> Result<(Keyring, Option<Duration>), RefreshError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let at = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        let discovery = client.get(&at, MAX_DISCOVERY).await?;
        let jwks_uri = jwks_uri(&discovery.body, &self.url)?;
        let document = client.get(&jwks_uri, MAX_JWKS).await?;
        Ok((Keyring::parse(&document.body)?, document.max_age))
    }

    #[cfg(test)]
    pub(super) fn run_is_wanted(&self) -> bool {
        self.schedule().under_way
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // No code panics while it holds the lock, and every state of the schedule is a valid one.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key set's URL in a discovery document of this issuer.
fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, RefreshError> {
    let document = json::object(document).map_err(|_| RefreshError::Discovery("is not a JSON object"))?;
    match document.get("issuer").and_then(Value::as_str) {
        Some(stated) if stated == issuer => {}
        Some(stated) => return Err(RefreshError::AnotherIssuer { got: stated.chars().take(200).collect() }),
        None => return Err(RefreshError::Discovery("has no text `issuer`")),
    }
    let uri = document.get("jwks_uri").and_then(Value::as_str).filter(|uri| fetch::is_https(uri));
    uri.map(str::to_owned).ok_or(RefreshError::Discovery("has no https URL `jwks_uri`"))
}

/// When to fetch. Pure.
#[derive(Debug, Default)]
struct Schedule {
    under_way: bool,
    begun: Option<Instant>,
    /// The timer's next fetch; at once when there was none.
    due: Option<Instant>,
}

/// What becomes of a wish for a fetch.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    /// A fetch begins.
    Start,
    /// One is under way.
    Join,
    /// There was one shortly before.
    No,
}

impl Schedule {
    fn ask(&mut self, now: Instant) -> Ask {
        if self.under_way {
            return Ask::Join;
        }
        if self.begun.is_some_and(|begun| now.saturating_duration_since(begun) < FETCH_INTERVAL) {
            return Ask::No;
        }
        self.begin(now);
        Ask::Start
    }

    fn begin(&mut self, now: Instant) {
        self.under_way = true;
        self.begun = Some(now);
    }

    fn finish(&mut self, due: Instant) {
        self.under_way = false;
        self.due = Some(due);
    }

    fn wait(&self, now: Instant) -> Duration {
        // Under way although its runner waits: an earlier runner was dropped in the middle of it.
        match self.due.filter(|_| !self.under_way) {
            Some(due) => due.saturating_duration_since(now),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authn::jwk::Alg;
    use crate::identity::authn::testing::{Https, Signer, config, jwks, runtime};

    fn store(server: &Https) -> KeyStore {
        KeyStore::new(&IssuerConfig { url: server.url(""), roots: Some(server.roots.clone()), ..config() })
    }

    fn has(store: &KeyStore, kid: &str, now: Instant) -> bool {
        store.usable(now).is_some_and(|set| set.ring.find(Some(kid), Alg::Es256, "corp").is_ok())
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn nt_33_a_withdrawn_key_is_refused_after_the_refresh() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let (old, new) = (Signer::new(Alg::Es256, "old"), Signer::new(Alg::Es256, "new"));
            let store = store(&server);
            assert!(!store.is_ready(now));
            server.issue(&jwks(&[&old]));
            store.refresh(now).await;
            assert!(has(&store, "old", now));
            let first = store.usable(now).unwrap().epoch;
            store.refresh(now).await;
            assert_eq!(store.usable(now).unwrap().epoch, first, "the same keys are the same epoch");
            server.issue(&jwks(&[&new]));
            store.refresh(now).await;
            assert!(has(&store, "new", now) && !has(&store, "old", now));
            assert_ne!(store.usable(now).unwrap().epoch, first);
        });
    }

    #[test]
    fn nt_33_without_its_issuer_a_set_counts_until_its_age_and_then_nothing_does() {
        runtime(async {
            let (server, start) = (Https::start().await, clock::now());
            let key = Signer::new(Alg::Es256, "key");
            let store = store(&server);
            server.issue(&jwks(&[&key]));
            store.refresh(start).await;
            for bad in [
                "HTTP/1.1 503 X\r\n\r\n",
                "HTTP/1.1 200 OK\r\n\r\n<html>",
                "HTTP/1.1 200 OK\r\n\r\n{\"keys\":1}",
                "HTTP/1.1 302 X\r\nlocation: https://169.254.169.254/\r\n\r\n",
                "",
            ] {
                server.answer("/jwks", bad);
                store.refresh(start + HOUR / 2).await;
                assert!(has(&store, "key", start + HOUR - Duration::from_millis(1)), "{bad:?}");
                assert!(!store.is_ready(start + HOUR), "closed, not open");
            }
            server.issue(&jwks(&[&key]));
            store.refresh(start + HOUR * 2).await;
            assert!(has(&store, "key", start + HOUR * 2), "and open again");
        });
    }

    #[test]
    fn nt_33_a_huge_key_set_is_refused() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let store = store(&server);
            let padding = " ".repeat(10 * 1024 * 1024);
            server.issue(format!("{{\"keys\":[]{padding}}}").as_bytes());
            let too_long = FetchError::TooLong { host: "127.0.0.1".to_owned(), limit: MAX_JWKS };
            assert_eq!(store.fetch().await.unwrap_err(), RefreshError::Fetch(too_long));
            store.refresh(now).await;
            assert!(!store.is_ready(now));
        });
    }

    #[test]
    fn an_empty_set_means_that_all_keys_are_withdrawn() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let store = store(&server);
            server.issue(&jwks(&[&Signer::new(Alg::Es256, "key")]));
            store.refresh(now).await;
            server.issue(&jwks(&[]));
            store.refresh(now).await;
            assert!(store.is_ready(now) && !has(&store, "key", now));
        });
    }

    #[test]
    fn nt_34_a_flood_of_unknown_keys_causes_one_fetch_per_interval() {
        runtime(async {
            let (server, start) = (Https::start().await, clock::now());
            let store = store(&server);
            server.issue(&jwks(&[]));
            for round in 0..3_usize {
                let now = start + FETCH_INTERVAL * u32::try_from(round).unwrap();
                let asked = (0..50).map(|n| store.schedule().ask(now + Duration::from_millis(n * 190)));
                assert_eq!(asked.filter(|ask| *ask == Ask::Start).count(), 1);
                store.refresh(now).await;
                for n in 0..50 {
                    assert!(!store.ask(now + Duration::from_millis(n * 190)).await, "answered at once");
                }
                assert_eq!(server.count("/jwks"), round + 1);
            }
        });
    }

    #[test]
    fn all_who_ask_during_a_fetch_wait_for_it() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let store = store(&server);
            server.issue(&jwks(&[&Signer::new(Alg::Es256, "key")]));
            let ((), one, two, three) =
                tokio::join!(store.refresh(now), store.ask(now), store.ask(now), store.ask(now));
            assert!(one && two && three);
            assert_eq!(server.count("/jwks"), 1);
        });
    }

    #[test]
    fn the_runner_fetches_at_once_and_on_demand() {
        runtime(async {
            let server = Https::start().await;
            let store = store(&server);
            server.issue(&jwks(&[&Signer::new(Alg::Es256, "key")]));
            let ask = async {
                assert!(store.ask(clock::now()).await);
                assert!(has(&store, "key", clock::now()));
                // Later than the interval, as the store sees it; the runner itself sleeps for half an hour.
                assert!(store.ask(clock::now() + FETCH_INTERVAL).await);
            };
            tokio::select! {
                () = store.run() => {}
                () = ask => {}
            }
            assert_eq!(server.count("/jwks"), 2);
        });
    }

    #[test]
    fn a_wish_that_was_fulfilled_meanwhile_causes_no_second_fetch() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let store = store(&server);
            server.issue(&jwks(&[]));
            let (asked, ()) = tokio::join!(store.ask(now), store.refresh(now));
            assert!(asked);
            tokio::select! {
                biased;
                () = store.run() => {}
                () = tokio::task::yield_now() => {}
            }
            assert!(!store.run_is_wanted());
            assert_eq!(server.count("/jwks"), 1);
        });
    }

    #[test]
    fn the_timer_follows_the_issuer_within_bounds() {
        runtime(async {
            let (server, now) = (Https::start().await, clock::now());
            let store = store(&server);
            for (header, wait) in [
                ("", HOUR / 2),
                ("cache-control: max-age=600\r\n", Duration::from_secs(600)),
                ("cache-control: max-age=1\r\n", SHORTEST_REFRESH),
                ("cache-control: no-store\r\n", SHORTEST_REFRESH),
                ("cache-control: max-age=999999\r\n", HOUR / 2),
            ] {
                server.issue(b"");
                server.answer("/jwks", &format!("HTTP/1.1 200 OK\r\n{header}\r\n{{\"keys\":[]}}"));
                store.refresh(now).await;
                assert_eq!(store.schedule().wait(now), wait, "{header}");
            }
            server.answer("/jwks", "HTTP/1.1 500 X\r\n\r\n");
            store.refresh(now).await;
            assert_eq!(store.schedule().wait(now), RETRY);
            store.schedule().begin(now);
            assert_eq!(
                store.schedule().wait(now),
                Duration::ZERO,
                "what a dropped runner began, the next one finishes"
            );
        });
    }

    #[test]
    fn a_discovery_document_is_of_this_issuer_and_points_to_https() {
        let read = |issuer: &str, uri: &str| {
            let document = serde_json::json!({ "issuer": issuer, "jwks_uri": uri, "more": [1] }).to_string();
            jwks_uri(document.as_bytes(), "https://a.example")
        };
        assert_eq!(read("https://a.example", "https://b.example/k").as_deref(), Ok("https://b.example/k"));
        for issuer in ["https://a.example/", "https://A.example", "http://a.example", ""] {
            assert!(matches!(read(issuer, "https://b.example/k"), Err(RefreshError::AnotherIssuer { .. })));
        }
        for uri in ["http://a.example/k", "file:///k", "/k", ""] {
            assert!(matches!(read("https://a.example", uri), Err(RefreshError::Discovery(_))), "{uri}");
        }
        for document in [&b""[..], b"[]", b"{}", br#"{"issuer":1}"#] {
            assert!(matches!(jwks_uri(document, "https://a.example"), Err(RefreshError::Discovery(_))));
        }
    }
}
