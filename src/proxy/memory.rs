//! What a connection remembers of its last request: clients ask one host with one token again and again.
//!
//! Facts of one generation, never decisions: which API the login sees, what a token proves, how its person is told to
//! upstreams and in records, and which buckets a request is charged to. Whether the token still counts, and whether
//! there is room, is asked anew each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::audit::CallerText;
use crate::identity::Token;
use crate::identity::authn;
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
    word: Option<LastWord>,
    caller: Option<LastCaller>,
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

struct LastWord {
    token: Option<Arc<Token>>,
    host: Box<str>,
    word: Arc<Asserted>,
}

struct LastCaller {
    token: Option<Arc<Token>>,
    text: Arc<CallerText>,
}

struct LastBuckets {
    charges: Vec<Charge>,
    buckets: Arc<[Bucket]>,
}

impl Memory {
    /// Whether the login of this connection sees an API of this generation.
    pub(super) fn sees(&self, generation: u64, api: &Arc<Api>, see: impl FnOnce() -> bool) -> bool {
        let mut last = self.last(generation);
        match &last.api {
            Some(last) if Arc::ptr_eq(&last.api, api) => last.sees,
            Some(_) | None => {
                let sees = see();
                last.api = Some(LastApi { api: Arc::clone(api), sees });
                sees
            }
        }
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

    /// The word about the login of this connection with this very token, for this host; made if it is another.
    pub(super) fn word<E>(
        &self,
        generation: u64,
        token: Option<&Arc<Token>>,
        host: &str,
        make: impl FnOnce() -> Result<Asserted, E>,
    ) -> Result<Arc<Asserted>, E> {
        let mut last = self.last(generation);
        let same = |last: &&LastWord| *last.host == *host && is_same(last.token.as_ref(), token);
        if let Some(last) = last.word.as_ref().filter(same) {
            return Ok(Arc::clone(&last.word));
        }
        let word = Arc::new(make()?);
        last.word = Some(LastWord { token: token.cloned(), host: host.into(), word: Arc::clone(&word) });
        Ok(word)
    }

    /// What records say of the login of this connection with this very token; written if it is another.
    pub(super) fn caller(
        &self,
        generation: u64,
        token: Option<&Arc<Token>>,
        write: impl FnOnce() -> CallerText,
    ) -> Arc<CallerText> {
        let mut last = self.last(generation);
        let same = |last: &&LastCaller| is_same(last.token.as_ref(), token);
        if let Some(last) = last.caller.as_ref().filter(same) {
            return Arc::clone(&last.text);
        }
        let text = Arc::new(write());
        last.caller = Some(LastCaller { token: token.cloned(), text: Arc::clone(&text) });
        text
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
