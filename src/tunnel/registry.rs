//! The live sessions: list, end, count per person.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::identity::{Identity, SessionId, Subject};

/// The bounds of `[tunnel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all.
    pub max_sessions: usize,
    /// Sessions of one person: the oldest ends, because sleeping laptops leave ghosts.
    pub max_sessions_per_user: usize,
}

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

    /// Ends the session, streams and all. The first reason stays.
    pub fn end(&self, why: Why) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(why);
            first
        });
    }

    /// Waits until somebody ends the session.
    pub async fn ended(&self) -> Why {
        let mut end = self.end.subscribe();
        loop {
            if let Some(why) = *end.borrow_and_update() {
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

    /// Registers a session; the oldest sessions of the same person end if there are too many.
    ///
    /// # Errors
    ///
    /// [`Full`], and the session is not registered.
    pub fn register(self: &Arc<Self>, session: &Arc<Session>) -> Result<Registration, Full> {
        let mut sessions = self.sessions();
        let subject = session.login.subject();
        let mut own: Vec<_> = sessions.values().filter(|other| other.login.subject() == subject).cloned().collect();
        own.sort_by_key(|other| other.since);
        let surplus = (own.len() + 1).saturating_sub(self.limits.max_sessions_per_user);
        if sessions.len() - surplus.min(own.len()) >= self.limits.max_sessions {
            return Err(Full { max: self.limits.max_sessions });
        }
        for oldest in own.iter().take(surplus) {
            sessions.remove(&oldest.id());
            oldest.end(Why::Replaced);
        }
        sessions.insert(session.id(), Arc::clone(session));
        Ok(Registration { registry: Arc::clone(self), id: session.id() })
    }

    /// Whether another session would find no room.
    pub fn is_full(&self) -> bool {
        self.sessions().len() >= self.limits.max_sessions
    }

    /// The live sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.sessions().values().cloned().collect();
        sessions.sort_by_key(|session| (session.since, session.id()));
        sessions
    }

    /// How many sessions are live.
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

    /// Ends all sessions for which `which` holds.
    pub fn end_all(&self, why: Why, which: impl Fn(&Subject) -> bool) {
        for session in self.list() {
            if which(session.login.subject()) {
                session.end(why);
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions().remove(&self.id);
    }
}
