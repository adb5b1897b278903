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

/// The name by which a person is known here: `DOMAIN\` removed, ASCII letters in lower case.
///
/// `None` for what cannot be a user's name: empty, longer than [`MAX_NAME`], or with anything but graphic ASCII. As no
/// user has such a name, no folding of other scripts (where two letters may fold to one) can make two people equal.
pub fn fold(name: &[u8]) -> Option<String> {
    let bare = name.rsplit(|&byte| byte == b'\\').next()?;
    let fits = (1..=MAX_NAME).contains(&bare.len()) && bare.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(bare).ok().filter(|_| fits)?;
    Some(text.to_ascii_lowercase())
}

/// The longest name of a user: PAP and EAP can carry 255 bytes, Windows' UPNs stay far below this.
pub const MAX_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn names_lose_their_domain_and_their_case() {
        for (written, folded) in [
            (&b"alice"[..], Some("alice")),
            (b"Alice", Some("alice")),
            (b"CORP\\Alice", Some("alice")),
            (b"A\\B\\Alice", Some("alice")),
            (b"Alice@Corp.Example", Some("alice@corp.example")),
            (b"", None),
            (b"CORP\\", None),
            (b"al ice", None),
            (b"alice\0", None),
            ("al\u{131}ce".as_bytes(), None),
            ("\u{212a}elvin".as_bytes(), None),
            (b"\xff\xfe", None),
            (&[b'a'; 129], None),
        ] {
            assert_eq!(fold(written).as_deref(), folded, "{}", written.escape_ascii());
        }
    }
}
