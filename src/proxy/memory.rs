//! What a connection remembers of its last request: clients ask one host with one token again and again.
//!
//! Facts, never decisions: what a token proves, and how its person is told to upstreams. Both are of one generation, and
//! whether the token still counts is asked anew each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Token;
use crate::identity::authn;

use super::headers::Asserted;

/// The memory of one connection.
#[derive(Default)]
pub(super) struct Memory(Mutex<Last>);

#[derive(Default)]
struct Last {
    token: Option<LastToken>,
    word: Option<LastWord>,
}

struct LastToken {
    generation: u64,
    /// A copy: the HTTP library's own bytes would keep its whole buffer.
    raw: Box<[u8]>,
    verdict: authn::Verdict,
}

struct LastWord {
    generation: u64,
    token: Option<Arc<Token>>,
    host: Box<str>,
    word: Arc<Asserted>,
}

impl Memory {
    /// What was verified of this token in this generation.
    pub(super) fn verdict(&self, generation: u64, raw: &[u8]) -> Option<authn::Verdict> {
        let last = self.last();
        let token = last.token.as_ref().filter(|last| last.generation == generation && *last.raw == *raw)?;
        Some(token.verdict.clone())
    }

    pub(super) fn keep_verdict(&self, generation: u64, raw: &[u8], verdict: &authn::Verdict) {
        self.last().token = Some(LastToken { generation, raw: raw.into(), verdict: verdict.clone() });
    }

    /// The word about the login of this connection with this very token, for this host; made if it is another.
    pub(super) fn word<E>(
        &self,
        generation: u64,
        token: Option<&Arc<Token>>,
        host: &str,
        make: impl FnOnce() -> Result<Asserted, E>,
    ) -> Result<Arc<Asserted>, E> {
        let mut last = self.last();
        let same = |last: &&LastWord| {
            last.generation == generation
                && *last.host == *host
                && last.token.as_ref().map(Arc::as_ptr) == token.map(Arc::as_ptr)
        };
        if let Some(last) = last.word.as_ref().filter(same) {
            return Ok(Arc::clone(&last.word));
        }
        let word = Arc::new(make()?);
        last.word = Some(LastWord { generation, token: token.cloned(), host: host.into(), word: Arc::clone(&word) });
        Ok(word)
    }

    /// No code panics while it holds the lock.
    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
