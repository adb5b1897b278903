//! The live sessions: list, end, count per person.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::identity::{Identity, SessionId};

/// The bounds of `[tunnel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all.
    pub max_sessions: usize,
    /// Sessions of one person: the oldest ends, because sleeping laptops leave ghosts.
    pub max_sessions_per_user: usize,
}

/// How many logins a full server hears: of persons who come back and replace their session.
const RETURNING: usize = 64;

/// Why we end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `wicketgate session kill`.
    Killed,
    /// The same person logged in again, more often than one may.
    Replaced,
    /// The person is disabled or gone from the user file.
    Disabled,
    /// The session reached `max_session`.
    TooOld,
    /// The server drains.
    Drain,
}

impl Why {
    /// The stable word of audit records and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Replaced => "superseded",
            Self::Disabled => "revoked",
            Self::TooOld => "max-session",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed by the operator",
            Self::Replaced => "replaced by a newer session of the same person",
            Self::Disabled => "the person is disabled",
            Self::TooOld => "reached max_session",
            Self::Drain => "the server drains",
        })
    }
}

/// One live session.
#[derive(Debug)]
pub struct Session {
    login: Identity,
    correlation_id: Option<Box<str>>,
    device: Option<Box<str>>,
    since: Instant,
    streams: AtomicUsize,
    requests: Arc<AtomicU64>,
    end: watch::Sender<Option<Why>>,
}

impl Session {
    /// A session whose login succeeded.
    pub fn new(login: Identity, correlation_id: Option<Box<str>>, device: Option<Box<str>>, since: Instant) -> Self {
        Self {
            login,
            correlation_id,
            device,
            since,
            streams: AtomicUsize::new(0),
            requests: Arc::default(),
            end: watch::Sender::new(None),
        }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.login.tunnel().session
    }

    /// The identity that the login proved.
    pub fn login(&self) -> &Identity {
        &self.login
    }

    /// What the client calls this connection.
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// What the client says its device is: a hint, never evidence.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// When it began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// How many streams are open.
    pub fn streams(&self) -> &AtomicUsize {
        &self.streams
    }

    /// How many requests there were.
    pub fn requests(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.requests)
    }

    /// Ends the session, streams and all. The first reason stays, but for [`Why::Drain`], which lets requests finish: who
    /// is killed or revoked meanwhile must not be served any longer.
    pub fn end(&self, why: Why) {
        self.end.send_if_modified(|end| {
            let stronger = match end {
                None => true,
                Some(Why::Drain) => why != Why::Drain,
                Some(Why::Killed | Why::Replaced | Why::Disabled | Why::TooOld) => false,
            };
            if stronger {
                *end = Some(why);
            }
            stronger
        });
    }

    /// Why it is ending, if it is.
    pub fn ending(&self) -> Option<Why> {
        *self.end.borrow()
    }

    /// Waits until somebody ends the session.
    pub async fn ended(&self) -> Why {
        self.ended_by(|_| true).await
    }

    /// Waits until somebody ends the session at once, not by draining.
    pub async fn ended_at_once(&self) -> Why {
        self.ended_by(|why| why != Why::Drain).await
    }

    async fn ended_by(&self, counts: impl Fn(Why) -> bool) -> Why {
        let mut end = self.end.subscribe();
        loop {
            if let Some(why) = *end.borrow_and_update()
                && counts(why)
            {
                return why;
            }
            if end.changed().await.is_err() {
                // The sender is ours, so it outlives this call.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// All live sessions of the process.
pub struct Registry {
    limits: Limits,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
}

/// A session's place in the registry, until it is dropped.
pub struct Registration {
    registry: Arc<Registry>,
    id: SessionId,
}

/// The server has as many sessions as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{max} sessions are open, as many as [tunnel] max_sessions allows")]
pub struct Full {
    /// The limit.
    pub max: usize,
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: Limits) -> Self {
        Self { limits, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session; the oldest sessions of the same person end if there are too many. What they hold is free only
    /// when they are gone, so until then they count for the server's limit; the newcomer has the place of those that end
    /// for it.
    ///
    /// # Errors
    ///
    /// [`Full`], and the session is not registered.
    pub fn register(self: &Arc<Self>, session: &Arc<Session>) -> Result<Registration, Full> {
        let mut sessions = self.sessions();
        let subject = session.login.subject();
        let stays = |other: &&Arc<Session>| other.login.subject() == subject && other.ending().is_none();
        let mut own: Vec<_> = sessions.values().filter(stays).cloned().collect();
        own.sort_by_key(|other| other.since);
        let surplus = (own.len() + 1).saturating_sub(self.limits.max_sessions_per_user);
        if sessions.len() - surplus.min(own.len()) >= self.limits.max_sessions {
            return Err(Full { max: self.limits.max_sessions });
        }
        for oldest in own.iter().take(surplus) {
            oldest.end(Why::Replaced);
        }
        sessions.insert(session.id(), Arc::clone(session));
        Ok(Registration { registry: Arc::clone(self), id: session.id() })
    }

    /// Whether, with so many tunnels whose login goes on, it is not worth to ask who comes. A server that is just full
    /// still asks, because whoever comes may replace a session of their own; one that is not full always asks, because
    /// strangers whose login never ends must not shut it.
    pub fn is_crowded(&self, logging_in: usize) -> bool {
        logging_in >= RETURNING && self.sessions().len() >= self.limits.max_sessions
    }

    /// The live sessions without those that were replaced, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let live = |session: &&Arc<Session>| session.ending() != Some(Why::Replaced);
        let mut sessions: Vec<_> = self.sessions().values().filter(live).cloned().collect();
        sessions.sort_by_key(|session| (session.since, session.id()));
        sessions
    }

    /// How many sessions are live or about to end.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends one session. False: there is none by this id.
    pub fn end(&self, id: SessionId, why: Why) -> bool {
        self.sessions().get(&id).is_some_and(|session| {
            session.end(why);
            true
        })
    }

    /// Ends all sessions.
    pub fn end_all(&self, why: Why) {
        for session in self.list() {
            session.end(why);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Binding, Method, Tunnel};

    fn session(name: &str, number: u64) -> Arc<Session> {
        let tunnel = Tunnel {
            session: SessionId::from_random(number),
            method: Method::MsChapV2,
            binding: Binding::Keys,
            source: "192.0.2.1:1000".parse().unwrap(),
            since: std::time::UNIX_EPOCH,
        };
        let since = crate::clock::now() + Duration::from_secs(number);
        Arc::new(Session::new(Identity::of(name, tunnel), None, None, since))
    }

    fn registry() -> Arc<Registry> {
        Arc::new(Registry::new(Limits { max_sessions: 3, max_sessions_per_user: 1 }))
    }

    #[test]
    fn a_session_that_was_replaced_counts_until_it_is_gone() {
        let registry = registry();
        let sessions: Vec<_> = (0..4).map(|number| session("alice", number)).collect();
        let mut places: Vec<_> = sessions[..3]
            .iter()
            .map(|session| registry.register(session).unwrap_or_else(|full| panic!("{full}")))
            .collect();
        assert_eq!(sessions[0].ending(), Some(Why::Replaced));
        assert_eq!(sessions[1].ending(), Some(Why::Replaced));
        assert_eq!((registry.list().len(), registry.len()), (1, 3));
        places.push(registry.register(&sessions[3]).unwrap_or_else(|full| panic!("{full}")));
        assert!(registry.register(&session("alice", 4)).is_err(), "four are not gone yet");
        assert_eq!(sessions[3].ending(), None, "who is refused replaces nobody");
        places.drain(..2);
        assert!(registry.register(&session("alice", 5)).is_ok());
    }

    #[test]
    fn a_full_server_hears_a_few_logins_more() {
        let registry = registry();
        let sessions = ["alice", "bob", "carol"].map(|name| session(name, 1 + u64::from(name.as_bytes()[0])));
        assert!(!registry.is_crowded(1000), "only a full server is");
        let _places =
            sessions.each_ref().map(|session| registry.register(session).unwrap_or_else(|full| panic!("{full}")));
        assert!(!registry.is_crowded(0) && !registry.is_crowded(63));
        assert!(registry.is_crowded(64));
    }

    #[test]
    fn who_is_killed_while_the_server_drains_is_cut_at_once() {
        let session = session("alice", 1);
        session.end(Why::Drain);
        session.end(Why::Killed);
        session.end(Why::Drain);
        session.end(Why::Disabled);
        assert_eq!(session.ending(), Some(Why::Killed));
    }

    #[tokio::test]
    async fn draining_does_not_end_a_session_at_once() {
        let session = session("alice", 1);
        session.end(Why::Drain);
        assert_eq!(session.ended().await, Why::Drain);
        assert!(tokio::time::timeout(Duration::ZERO, session.ended_at_once()).await.is_err());
        session.end(Why::TooOld);
        assert_eq!(session.ended_at_once().await, Why::TooOld);
    }
}
