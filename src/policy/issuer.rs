//! Issuers of tokens: what `_identity.toml` says about them. Checking a token is not done here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::IssuerName;

/// A signature algorithm of JSON Web Tokens (RFC 7518, section 3.1; RFC 8037). Only asymmetric ones exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA on Curve25519.
    EdDsa,
}

impl Alg {
    pub(crate) const NAMES: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Which groups an issuer may state; others are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// None: the issuer has no `groups_claim`.
    Nothing,
    /// These.
    Listed(BTreeSet<String>),
    /// Those that begin with this text, which is not empty.
    Prefixed(String),
    /// All: `groups = ["*"]`, for one issuer in a bundle.
    All,
}

/// What the lack of the groups claim means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsAbsent {
    /// The groups are unknown (default).
    Unknown,
    /// The person has none.
    Empty,
}

/// How a token names a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonClaim {
    /// This claim is the local name, after folding.
    Claim(String),
    /// The user file lists issuer and `sub`.
    Linked,
}

/// The declared JSON type of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimType {
    /// `"string"`.
    Text,
    /// `"strings"`: an array of strings.
    Texts,
    /// `"integer"`.
    Number,
    /// `"boolean"`.
    Flag,
}

impl ClaimType {
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("string", Self::Text), ("strings", Self::Texts), ("integer", Self::Number), ("boolean", Self::Flag)];

    /// The word in `claims`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Texts => "strings",
            Self::Number => "integer",
            Self::Flag => "boolean",
        }
    }
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in `_identity.toml`.
    pub name: IssuerName,
    /// The claim `iss`, byte for byte; `https` without query and fragment.
    pub url: String,
    /// A token must be for one of these; never empty.
    pub audiences: Vec<String>,
    /// A token must be signed with one of these; never empty.
    pub algs: Vec<Alg>,
    /// How far its clock may differ from ours, at most 60 s.
    pub clock_skew: Duration,
    /// How long fetched keys stay good without a new fetch.
    pub jwks_max_age: Duration,
    /// The dotted path of the claim that states groups.
    pub groups_claim: Option<String>,
    /// The groups that it may state.
    pub groups: Allowed,
    /// What the lack of `groups_claim` in a token means.
    pub groups_absent: GroupsAbsent,
    /// How its tokens name a person.
    pub person: PersonClaim,
    /// The claims that policies may look at, by dotted path.
    pub claims: BTreeMap<String, ClaimType>,
    /// The name of the authority that its TLS certificate must come from; `None`: the system's roots.
    pub ca: Option<String>,
}

impl Issuer {
    /// Whether the issuer may state this group. What it may not state must be ignored and counted.
    pub fn admits(&self, group: &str) -> bool {
        match &self.groups {
            Allowed::Nothing => false,
            Allowed::Listed(names) => names.contains(group),
            Allowed::Prefixed(prefix) => group.starts_with(prefix.as_str()),
            Allowed::All => true,
        }
    }
}
