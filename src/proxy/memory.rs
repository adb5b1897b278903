//! What a connection remembers of its last request: clients ask one host with one token again and again.
//!
//! Facts of one generation, never decisions: which API the login sees, what a token proves, who asks and how they are
//! told to upstreams and in records, and which buckets a request is charged to. Whether the token still counts, and
//! whether there is room, is asked anew each time.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::audit::CallerText;
use crate::identity::authn;
use crate::identity::{Identity, Token};
use crate::limits::Bucket;
use crate::policy::{Api, Charge};

use super::headers::Asserted;

/// The longest header whose token is remembered, in bytes: more than that is the client's own white space, and its
/// connection may stay open for long.
const MAX_AUTHORIZATION: usize = 16 * 1024 + 64;

/// The memory of one connection.
#[derive(Default)]
pub(super) struct Memory(Mutex<Last>);

#[derive(Default)]
struct Last {
    generation: u64,
    api: Option<LastApi>,
    token: Option<LastToken>,
    who: Option<LastWho>,
    buckets: Option<LastBuckets>,
}

struct LastApi {
    api: Arc<Api>,
    sees: bool,
}

struct LastToken {
    /// The header that carried it.
    authorization: Box<[u8]>,
    verdict: authn::Verdict,
}

struct LastWho {
    token: Option<Arc<Token>>,
    host: Box<str>,
    who: Arc<Who>,
}

/// Who asks for something of one host.
pub(super) struct Who {
    pub(super) identity: Identity,
    /// What records say of them.
    pub(super) text: CallerText,
    asserted: OnceLock<Asserted>,
}

impl Who {
    pub(super) fn new(identity: Identity, text: CallerText) -> Self {
        Self { identity, text, asserted: OnceLock::new() }
    }

    /// What the host's upstream is told of them; made for the first request that goes there.
    pub(super) fn asserted<E>(&self, make: impl FnOnce() -> Result<Asserted, E>) -> Result<&Asserted, E> {
        if let Some(asserted) = self.asserted.get() {
            return Ok(asserted);
        }
        let made = make()?;
        Ok(self.asserted.get_or_init(|| made))
    }
}

struct LastBuckets {
    charges: Vec<Charge>,
    buckets: Arc<[Bucket]>,
}

impl Memory {
    /// Whether the login of this connection sees an API of this generation.
    pub(super) fn sees<E>(
        &self,
        generation: u64,
        api: &Arc<Api>,
        see: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut last = self.last(generation);
        if let Some(last) = last.api.as_ref().filter(|last| Arc::ptr_eq(&last.api, api)) {
            return Ok(last.sees);
        }
        let sees = see()?;
        last.api = Some(LastApi { api: Arc::clone(api), sees });
        Ok(sees)
    }

    /// What was verified in this generation of the token in this header.
    pub(super) fn verdict(&self, generation: u64, authorization: &[u8]) -> Option<authn::Verdict> {
        let last = self.last(generation);
        let same = |last: &&LastToken| *last.authorization == *authorization;
        last.token.as_ref().filter(same).map(|last| last.verdict.clone())
    }

    pub(super) fn keep_verdict(&self, generation: u64, authorization: &[u8], verdict: &authn::Verdict) {
        if authorization.len() > MAX_AUTHORIZATION {
            return;
        }
        let verdict = verdict.clone();
        self.last(generation).token = Some(LastToken { authorization: authorization.into(), verdict });
    }

    /// Who the login of this connection is with this very token, for this host; found out if it is another.
    pub(super) fn who<E>(
        &self,
        generation: u64,
        token: Option<&Arc<Token>>,
        host: &str,
        find_out: impl FnOnce() -> Result<Who, E>,
    ) -> Result<Arc<Who>, E> {
        let mut last = self.last(generation);
        let same = |last: &&LastWho| *last.host == *host && is_same(last.token.as_ref(), token);
        if let Some(last) = last.who.as_ref().filter(same) {
            return Ok(Arc::clone(&last.who));
        }
        let who = Arc::new(find_out()?);
        last.who = Some(LastWho { token: token.cloned(), host: host.into(), who: Arc::clone(&who) });
        Ok(who)
    }

    /// The buckets of these charges; named if they are others.
    pub(super) fn buckets<E>(
        &self,
        generation: u64,
        charges: &[Charge],
        name: impl FnMut(&Charge) -> Result<Bucket, E>,
    ) -> Result<Arc<[Bucket]>, E> {
        let mut last = self.last(generation);
        let same = |(a, b): (&Charge, &Charge)| Arc::ptr_eq(&a.limit, &b.limit) && a.key == b.key;
        let all_same =
            |last: &&LastBuckets| last.charges.len() == charges.len() && last.charges.iter().zip(charges).all(same);
        if let Some(last) = last.buckets.as_ref().filter(all_same) {
            return Ok(Arc::clone(&last.buckets));
        }
        let buckets: Arc<[Bucket]> = charges.iter().map(name).collect::<Result<Vec<_>, E>>()?.into();
        last.buckets = Some(LastBuckets { charges: charges.to_vec(), buckets: Arc::clone(&buckets) });
        Ok(buckets)
    }

    /// What is known of this generation: nothing of another. No code panics while it holds the lock.
    fn last(&self, generation: u64) -> MutexGuard<'_, Last> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.generation != generation {
            *last = Last { generation, ..Last::default() };
        }
        last
    }
}

fn is_same(a: Option<&Arc<Token>>, b: Option<&Arc<Token>>) -> bool {
    a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
}
