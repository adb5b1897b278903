//! Which hosts exist for a person: computed from the evidence of the tunnel alone.
//!
//! An API is visible when the `who` of some allow rule is not certainly false. What a token could still state is
//! unknown, hence visible, where the API takes tokens as evidence:
//!
//! * groups, where the API has `login` and one of those issuers may state the group. Without `login` the user file's
//!   groups are complete: else every group of every token would show every API to everybody;
//! * addresses and declared claims, where a token may be sent at all: `login`, or `bearer = "judge"` and an issuer;
//! * nothing by an issuer that the subject's `issuers` leaves out;
//! * nothing with `bearer = "pass"`.
//!
//! A decision asks the same question first, so that network, DNS and decisions agree: whoever is let in sees the host.

use crate::identity::{Binding, Group, IssuerName, Kind, Method};

use super::api::{Api, Bearer};
use super::bundle::{Bundle, VirtualHost};
use super::issuer::Issuer;
use super::select::{Truth, View, is_from};
use super::syntax::identity::ClaimValues;

/// What is known of a person before any request: the tunnel's login.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The resolved local name.
    pub subject: Option<&'a str>,
    /// What the identity stands for.
    pub kind: Kind,
    /// The groups of the user file.
    pub local_groups: &'a [Group],
    /// How strongly the login is bound to the TLS connection.
    pub binding: Option<Binding>,
    /// How the person logged in.
    pub method: Option<Method>,
}

/// The hosts that exist for this person, in the order of their names.
pub fn visible(bundle: &Bundle, evidence: &Evidence<'_>) -> Vec<VirtualHost> {
    let exact = bundle.exact.values();
    let entries = exact.chain(bundle.wildcard.values());
    let seen = entries.filter(|entry| entry.apis.iter().any(|api| is_visible(bundle, api, evidence)));
    let mut hosts: Vec<VirtualHost> = seen.map(|entry| entry.host.clone()).collect();
    hosts.sort();
    hosts
}

/// Whether the `who` of some allow rule is not certainly false.
pub(crate) fn is_visible(bundle: &Bundle, api: &Api, evidence: &Evidence<'_>) -> bool {
    let foreseen = Foreseen { evidence, api, issuers: &bundle.issuers };
    api.allows.iter().any(|rule| rule.who.holds(&foreseen) != Truth::False)
}

/// The view of visibility: what the tunnel's evidence states, and what a token could still state.
struct Foreseen<'a> {
    evidence: &'a Evidence<'a>,
    api: &'a Api,
    issuers: &'a [Issuer],
}

impl Foreseen<'_> {
    /// The issuers whose tokens the API takes as evidence.
    fn admissible(&self) -> impl Iterator<Item = &Issuer> {
        let (login, bearer) = (&self.api.login, self.api.bearer);
        self.issuers.iter().filter(move |issuer| match bearer {
            Bearer::Judge => login.is_empty() || login.contains(&issuer.name),
            Bearer::Pass => false,
        })
    }

    fn stateable(&self, from: &[IssuerName], mut by: impl FnMut(&Issuer) -> bool) -> Truth {
        if self.admissible().any(|issuer| is_from(&issuer.name, from) && by(issuer)) {
            Truth::Unknown
        } else {
            Truth::False
        }
    }
}

impl View for Foreseen<'_> {
    fn authenticated(&self) -> bool {
        self.evidence.subject.is_some()
    }

    fn group(&self, name: &str, from: &[IssuerName]) -> Truth {
        if self.evidence.kind != Kind::Person {
            return Truth::False;
        }
        if self.evidence.local_groups.iter().any(|group| group.as_str() == name) {
            return Truth::True;
        }
        if self.api.login.is_empty() { Truth::False } else { self.stateable(from, |issuer| issuer.admits(name)) }
    }

    fn user(&self, name: &str) -> Truth {
        (self.evidence.kind == Kind::Person && self.evidence.subject == Some(name)).into()
    }

    fn email(&self, _: &str, from: &[IssuerName]) -> Truth {
        if self.evidence.kind == Kind::Person { self.stateable(from, |_| true) } else { Truth::False }
    }

    fn claim(&self, path: &str, values: &ClaimValues, from: &[IssuerName]) -> Truth {
        self.stateable(from, |issuer| issuer.claims.get(path).is_some_and(|kind| values.fits(*kind)))
    }

    fn binding(&self) -> Option<Binding> {
        self.evidence.binding
    }

    fn method(&self) -> Option<Method> {
        self.evidence.method
    }
}
