//! The tests inside policy files: each is a persona, a request, and what must come of it.
//!
//! A bundle whose tests fail does not load. For limits time stands still: at one instant a bucket gives exactly its
//! burst, so counting needs no clock, and a request that is repeated needs no second judgement.

use std::fmt;
use std::sync::Arc;

use super::bundle::Bundle;
use super::decision::{Charge, Judgement, Reason, RuleId};
use super::judge::judge;
use super::limit::Limit;
use super::persona::Persona;
use super::{ReadRequest, RequestText};

/// What a test expects of its request; with `repeat`, of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Forwarded.
    Allow,
    /// Refused: 403, or 404 where it is hidden.
    Deny,
    /// Refused with 401: a login or a token is needed.
    Login,
    /// Refused because a bucket is empty.
    Limited,
    /// Refused before any policy: the request has no single reading.
    BadRequest,
}

impl Expectation {
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("allow", Self::Allow),
        ("deny", Self::Deny),
        ("login", Self::Login),
        ("limited", Self::Limited),
        ("bad-request", Self::BadRequest),
    ];
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Login => "login",
            Self::Limited => "limited",
            Self::BadRequest => "bad-request",
        })
    }
}

/// A test inside a policy file.
#[derive(Clone, Debug)]
pub struct Test {
    /// The file.
    pub file: Arc<str>,
    /// Its name.
    pub name: String,
    /// Who asks.
    pub persona: Persona,
    /// What is asked.
    pub request: RequestText,
    /// How often the request is made, at one instant.
    pub repeat: u64,
    /// What must come of the last request, and of each before it unless that is `limited`.
    pub expect: Expectation,
    /// The rule or limit that must have decided.
    pub rule: Option<RuleId>,
    /// The reason that must have been given.
    pub reason: Option<Reason>,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer; `None` when the test itself makes no sense.
    pub got: Option<Expectation>,
    /// The rule or limit that decided.
    pub rule: Option<RuleId>,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// Why the test failed; `None`: it passed.
    pub failure: Option<String>,
}

/// Runs one test.
pub fn run(bundle: &Bundle, test: &Test, read: ReadRequest) -> Outcome {
    match attempt(bundle, test, read) {
        Ok((got, rule, reason)) => {
            let failure = compare(test, got, rule.as_ref(), reason);
            Outcome { got: Some(got), rule, reason, failure }
        }
        Err(failure) => Outcome { got: None, rule: None, reason: None, failure: Some(failure) },
    }
}

type Answer = (Expectation, Option<RuleId>, Option<Reason>);

fn attempt(bundle: &Bundle, test: &Test, read: ReadRequest) -> Result<Answer, String> {
    let played = test.persona.play(bundle)?;
    let Ok(request) = played.ask(bundle, &test.request, read) else { return Ok((Expectation::BadRequest, None, None)) };
    let facts = played.facts(&request);
    Ok(match judge(bundle, &facts) {
        Judgement::Deny(denial) => {
            let expectation = match denial.status() {
                401 => Expectation::Login,
                _ => Expectation::Deny,
            };
            (expectation, denial.rule().cloned(), Some(denial.reason()))
        }
        Judgement::Allow(allowance) => match limited(allowance.charges(), test.repeat) {
            None => (Expectation::Allow, Some(allowance.rule().clone()), None),
            Some(limit) => (Expectation::Limited, Some(limit.id.clone()), Some(Reason::Limited)),
        },
    })
}

/// The limit that refuses the last of so many equal requests at one instant. All their buckets were full, and a
/// refused request takes from none, so the smallest bursts run out together; as in traffic the longest wait is named.
fn limited(charges: &[Charge], requests: u64) -> Option<&Limit> {
    let limits = || charges.iter().map(|charge| &*charge.limit);
    let least = limits().map(|limit| limit.burst).min().filter(|burst| *burst < requests)?;
    let empty = limits().filter(|limit| limit.burst == least);
    empty.reduce(|longest, next| if longest.rate.interval() < next.rate.interval() { next } else { longest })
}

fn compare(test: &Test, got: Expectation, rule: Option<&RuleId>, reason: Option<Reason>) -> Option<String> {
    let because = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let by = rule.map_or_else(String::new, |rule| format!(" by `{rule}`"));
    if got != test.expect {
        return Some(format!("expected {}, got {got}{because}{by}", test.expect));
    }
    if let Some(wanted) = test.rule.as_ref().filter(|wanted| Some(*wanted) != rule) {
        return Some(format!("expected a decision by `{wanted}`, got {got}{because}{by}"));
    }
    let wanted = test.reason.filter(|wanted| Some(*wanted) != reason)?;
    Some(format!("expected the reason {wanted}, got {got}{because}{by}"))
}
