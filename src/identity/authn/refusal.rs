//! Why a bearer token does not count.

use std::time::Duration;

use super::agree::Conflict;

/// Why a token was refused. The text tells the developer what to mend; it never holds the token or its signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Longer than anything that is parsed here.
    #[error("the token has {got} bytes; at most {limit} are read")]
    TooLong {
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a JWS in compact form (RFC 7515 section 3.1).
    #[error("the token is not a signed JWT in compact form: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A header parameter that is refused.
    #[error("the token's header is refused: {what}")]
    Header {
        /// What is wrong.
        what: &'static str,
    },
    /// The algorithm is not asymmetric, not known, or not among the issuer's `algs`.
    #[error("the token's algorithm is not accepted from this issuer")]
    Algorithm,
    /// The named key is of another algorithm (RFC 8725 section 3.1).
    #[error("the token's key is not for the token's algorithm")]
    AlgorithmOfAnotherKey,
    /// No key of the issuer has this id.
    #[error("the issuer `{issuer}` has no key with the id that the token names")]
    UnknownKey {
        /// The issuer's name.
        issuer: String,
    },
    /// The token names no key, or a key id that occurs twice.
    #[error("it is not clear which key of the issuer `{issuer}` signed the token")]
    AmbiguousKey {
        /// The issuer's name.
        issuer: String,
    },
    /// No usable key set.
    #[error("the keys of the issuer `{issuer}` are not available")]
    KeysUnavailable {
        /// The issuer's name.
        issuer: String,
    },
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// No configured issuer has this URL, letter for letter.
    #[error("the token's issuer is not trusted: {iss:?}")]
    Issuer {
        /// The claim `iss`, shortened.
        iss: String,
    },
    /// A registered claim that is missing or cannot be what the standard says.
    #[error("the token's claim `{claim}` {problem}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// `is missing`, `is not a number`, …
        problem: &'static str,
    },
    /// An OpenID Connect ID token, or another token that is no access token.
    #[error("this is not an access token: {what}; send the access token instead")]
    NotAnAccessToken {
        /// What gives it away.
        what: &'static str,
    },
    /// Valid only later.
    #[error("the token is not valid yet: `{claim}` lies {} s ahead", ahead.as_secs())]
    NotYetValid {
        /// The claim that says so.
        claim: &'static str,
        /// How far, before the leeway.
        ahead: Duration,
    },
    /// Was valid once.
    #[error("the token expired {} s ago", ago.as_secs())]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// Meant for somebody else.
    #[error("the token is not meant for this proxy: `aud` does not name it")]
    Audience,
    /// Genuine, and of somebody else.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl TokenRefusal {
    /// The stable reason code for the answer, the audit record and the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "token-expired",
            Self::Audience => "token-audience",
            Self::Conflict(_) => "identity-conflict",
            Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::Header { .. }
            | Self::Algorithm
            | Self::AlgorithmOfAnotherKey
            | Self::UnknownKey { .. }
            | Self::AmbiguousKey { .. }
            | Self::KeysUnavailable { .. }
            | Self::Signature
            | Self::Issuer { .. }
            | Self::Claim { .. }
            | Self::NotAnAccessToken { .. }
            | Self::NotYetValid { .. } => "token-invalid",
        }
    }
}
