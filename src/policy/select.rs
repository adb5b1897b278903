//! Who a rule is for: selectors over an identity, in three-valued logic.
//!
//! A leaf is [`Truth::Unknown`] when no evidence says either way. Inside a list values are joined with OR, across the
//! lists of a subject with AND, across subjects with OR; there is no NOT, so more knowledge never makes `False` out of
//! `True`. Unknown never helps the caller: an allow rule needs `True`, a deny rule needs `False` to be passed.

use std::sync::Arc;

use crate::identity::{Binding, Claim, Group, IssuerName, Kind, Method, StatedGroups, Token};

use super::Facts;
use super::syntax::identity::ClaimValues;

/// Kleene's three values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Certainly not.
    False,
    /// No evidence says either way.
    Unknown,
    /// Certainly.
    True,
}

impl From<bool> for Truth {
    fn from(certain: bool) -> Self {
        if certain { Self::True } else { Self::False }
    }
}

/// What can be asked about an identity. A decision and visibility answer differently. Where `from` names issuers, what
/// the tokens of others state is not looked at.
pub(crate) trait View {
    /// Whether there is an identity at all.
    fn authenticated(&self) -> bool;
    fn group(&self, name: &str, from: &[IssuerName]) -> Truth;
    fn user(&self, name: &str) -> Truth;
    fn email(&self, address: &str, from: &[IssuerName]) -> Truth;
    fn claim(&self, path: &str, values: &ClaimValues, from: &[IssuerName]) -> Truth;
    fn binding(&self) -> Option<Binding>;
    fn method(&self) -> Option<Method>;
}

/// A named identity requirement.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    /// Its name in `_identity.toml`; `(inline)` in `_org.toml`.
    pub(crate) name: Box<str>,
    /// Whose tokens count; empty: those of every issuer that the API takes.
    pub(crate) issuers: Box<[IssuerName]>,
    pub(crate) groups: Box<[Box<str>]>,
    pub(crate) users: Box<[Box<str>]>,
    pub(crate) emails: Box<[Box<str>]>,
    pub(crate) claims: Box<[(Box<str>, ClaimValues)]>,
    pub(crate) bindings: Box<[Binding]>,
    pub(crate) methods: Box<[Method]>,
}

fn any<T>(list: &[T], leaf: impl FnMut(&T) -> Truth) -> Truth {
    if list.is_empty() {
        return Truth::True;
    }
    list.iter().map(leaf).max().unwrap_or(Truth::False)
}

impl Selector {
    /// Whether something that only tokens state is taken from every issuer. Groups are not: an issuer lists its own.
    pub(crate) fn believes_all(&self) -> bool {
        self.issuers.is_empty() && !(self.emails.is_empty() && self.claims.is_empty())
    }

    /// Whether the identity is this subject. Nobody is none.
    pub(crate) fn holds(&self, view: &impl View) -> Truth {
        if !view.authenticated() {
            return Truth::False;
        }
        let mut truth = any(&self.users, |name| view.user(name));
        truth = truth.min(any(&self.groups, |name| view.group(name, &self.issuers)));
        truth = truth.min(any(&self.emails, |address| view.email(address, &self.issuers)));
        truth = truth.min(any(&self.bindings, |wanted| leaf(view.binding(), *wanted)));
        truth = truth.min(any(&self.methods, |wanted| leaf(view.method(), *wanted)));
        self.claims.iter().fold(truth, |truth, (path, values)| truth.min(view.claim(path, values, &self.issuers)))
    }
}

fn leaf<T: PartialEq>(stated: Option<T>, wanted: T) -> Truth {
    stated.map_or(Truth::Unknown, |stated| (stated == wanted).into())
}

/// The `who` of a rule.
#[derive(Debug, Default)]
pub(crate) struct Who {
    /// Everybody, with and without an identity.
    pub(crate) anonymous: bool,
    /// Everybody with an identity.
    pub(crate) authenticated: bool,
    pub(crate) subjects: Vec<Arc<Selector>>,
}

impl Who {
    pub(crate) fn holds(&self, view: &impl View) -> Truth {
        if self.anonymous || (self.authenticated && view.authenticated()) {
            return Truth::True;
        }
        self.subjects.iter().map(|subject| subject.holds(view)).max().unwrap_or(Truth::False)
    }

    /// Whether everybody in `other` is certainly in this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self.anonymous {
            return true;
        }
        if other.anonymous {
            return false;
        }
        let has = |wanted: &Arc<Selector>| self.subjects.iter().any(|subject| Arc::ptr_eq(subject, wanted));
        self.authenticated || (!other.authenticated && other.subjects.iter().all(has))
    }
}

/// Whether the list names the issuer; an empty one stands for all.
pub(crate) fn is_from(issuer: &IssuerName, from: &[IssuerName]) -> bool {
    from.is_empty() || from.contains(issuer)
}

/// The view of a decision: what the evidence of this one request states.
pub(crate) struct Seen<'a> {
    pub(crate) facts: &'a Facts<'a>,
    /// The token, where the API takes tokens as evidence.
    pub(crate) token: Option<&'a Token>,
}

impl Seen<'_> {
    fn is_person(&self) -> bool {
        self.facts.kind == Kind::Person
    }

    fn token(&self, from: &[IssuerName]) -> Option<&Token> {
        self.token.filter(|token| is_from(&token.issuer, from))
    }
}

impl View for Seen<'_> {
    fn authenticated(&self) -> bool {
        self.facts.subject.is_some()
    }

    fn group(&self, name: &str, from: &[IssuerName]) -> Truth {
        if !self.is_person() {
            return Truth::False;
        }
        let held = |groups: &[Group]| groups.iter().any(|group| group.as_str() == name);
        if held(self.facts.local_groups) {
            return Truth::True;
        }
        match self.token(from).map(|token| &token.groups) {
            None | Some(StatedGroups::NotStated) => Truth::False,
            Some(StatedGroups::Unknown) => Truth::Unknown,
            Some(StatedGroups::Known(groups)) => held(groups).into(),
        }
    }

    fn user(&self, name: &str) -> Truth {
        (self.is_person() && self.facts.subject == Some(name)).into()
    }

    fn email(&self, address: &str, from: &[IssuerName]) -> Truth {
        if !self.is_person() {
            return Truth::False;
        }
        let stated = self.token(from).and_then(|token| token.email.as_deref());
        stated.map_or(Truth::Unknown, |stated| stated.eq_ignore_ascii_case(address).into())
    }

    fn claim(&self, path: &str, values: &ClaimValues, from: &[IssuerName]) -> Truth {
        let Some(claim) = self.token(from).and_then(|token| token.claims.get(path)) else { return Truth::Unknown };
        match (claim, values) {
            (Claim::Text(text), ClaimValues::Texts(wanted)) => wanted.contains(text).into(),
            (Claim::Texts(texts), ClaimValues::Texts(wanted)) => texts.iter().any(|text| wanted.contains(text)).into(),
            (Claim::Number(number), ClaimValues::Numbers(wanted)) => wanted.contains(number).into(),
            (Claim::Flag(flag), ClaimValues::Flags(wanted)) => wanted.contains(flag).into(),
            (Claim::Text(_) | Claim::Texts(_), ClaimValues::Numbers(_) | ClaimValues::Flags(_))
            | (Claim::Number(_), ClaimValues::Texts(_) | ClaimValues::Flags(_))
            | (Claim::Flag(_), ClaimValues::Texts(_) | ClaimValues::Numbers(_)) => Truth::Unknown,
        }
    }

    fn binding(&self) -> Option<Binding> {
        self.facts.binding
    }

    fn method(&self) -> Option<Method> {
        self.facts.method
    }
}
