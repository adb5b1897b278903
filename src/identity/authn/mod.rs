//! Proof in, [`Identity`] out: the only place that makes one.
//!
//! Goes in: the answer of a tunnel's login ([`login()`]), and the bearer token of one request ([`Tokens`]). Comes out: an
//! [`Identity`] for the tunnel, or one for the request whose token names the same person ([`agree`]).
//!
//! Two local files say who exists ([`UserFile`], [`Users`]); an issuer's key set says which tokens are genuine
//! ([`KeyStore`]). What judges a proof is pure: it is told the time, and reads neither clock nor network. Only
//! [`fetch`] and the task of a [`KeyStore`] touch the network.
//!
//! Two things do not exist here: a symmetric algorithm, and a way from a token to an identity without a tunnel.
//!
//! Documents: RFC 7515, 7517, 7519, 8725, 9068, OpenID Connect Core and Discovery 1.0, RFC 2759 section 6 (codes).

mod agree;
pub mod backoff;
mod claims;
pub mod fetch;
mod issuer;
mod hex;
mod json;
mod jwk;
mod jwks;
mod jwt;
pub mod local;
mod login;
mod refusal;
mod tokens;
mod verdicts;

#[cfg(test)]
mod testing;

pub use agree::{Conflict, renew, tunnel_identity};
pub use backoff::{Backoff, RetryIn};
pub use issuer::{ClaimType, IssuerConfig, PersonRule};
pub use jwk::{Alg, Keyring, ParseSetError};
pub use jwks::{KeyStore, RefreshError};
pub use jwt::{Person, Unverified, Verified, Verifier};
pub use local::{Account, EditError, Link, UserFile, Users};
pub use login::{Proven, Refusal, login};
pub use refusal::TokenRefusal;
pub use tokens::Tokens;
pub use verdicts::Verdict;

#[cfg(doc)]
use super::Identity;
