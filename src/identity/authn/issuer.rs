//! What the operator says about one issuer of tokens (`[issuers.<name>]` of `_identity.toml`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::jwk::Alg;
use crate::identity::IssuerName;

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Its name in the bundle.
    pub name: IssuerName,
    /// Its URL: the claim `iss` and the `issuer` of its discovery document must equal it, letter for letter.
    pub url: String,
    /// Names under which this proxy is an audience; a token must name one. Not empty.
    pub audiences: BTreeSet<String>,
    /// The accepted algorithms. Not empty; a symmetric one cannot be said.
    pub algs: Vec<Alg>,
    /// The leeway for `exp`, `nbf`, `iat` and `auth_time`; at most 60 s.
    pub clock_skew: Duration,
    /// No key set older than this is used. It is fetched anew after half of it at the latest.
    pub jwks_max_age: Duration,
    /// The claim that states groups; without it the issuer states none.
    pub groups_claim: Option<String>,
    /// The groups that it may state; `*` for all of them.
    pub groups_allowed: BTreeSet<String>,
    /// It may also state all groups whose names begin so.
    pub groups_prefix: Option<String>,
    /// `groups_absent = "empty"`: an absent claim means no groups, not unknown groups.
    pub groups_absent_empty: bool,
    /// How its tokens name a person.
    pub person: PersonRule,
    /// Claims that policies may look at, by dotted path, with their types.
    pub claims: BTreeMap<String, ClaimType>,
    /// Authorities for its HTTPS; without it the system's.
    pub roots: Option<Vec<CertificateDer<'static>>>,
}

/// How an issuer's tokens name a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonRule {
    /// This claim, folded, is the user's name. Only for an issuer that alone assigns it.
    Claim(String),
    /// The user file lists issuer and `sub`.
    Linked,
}

/// The declared type of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimType {
    /// A JSON string.
    Text,
    /// A JSON array of strings.
    Texts,
    /// A JSON integer.
    Number,
    /// A JSON boolean.
    Flag,
}
