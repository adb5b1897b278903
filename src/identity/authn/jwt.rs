//! One bearer token: text in, a [`Token`] and whom it names out, or why not.
//!
//! Pure: the issuer's configuration, its keys and the time are arguments. Structure, header and claims are judged here
//! (RFC 7515, 7519, 8725), before the library sees the token; it only does the arithmetic of the signature, with a key
//! and an algorithm that were chosen here.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::agree::{self, Conflict};
use super::claims::{self, Claims};
use super::issuer::IssuerConfig;
use super::jwk::{Alg, Key, Keyring, MAX_KID};
use super::local::Users;
use super::refusal::TokenRefusal;
use super::{hex, json};
use crate::identity::{Identity, Subject, Token};

/// The longest token that is read; what a header of an ordinary server has room for.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// How much of an untrusted `iss` a refusal repeats.
const MAX_TOLD: usize = 128;

/// A token that has the right form. Nothing in it is proven.
pub struct Unverified<'a> {
    raw: &'a str,
    signed: &'a str,
    signature: &'a str,
    alg: Alg,
    kid: Option<String>,
    typ: Option<String>,
    claims: Claims,
}

impl<'a> Unverified<'a> {
    /// Takes a compact JWS apart (RFC 7515 section 7.1).
    ///
    /// `jku`, `x5u`, `jwk` and `x5c` are never read: a token does not say where its keys are. `crit` is refused, as no
    /// extension is understood.
    pub fn parse(raw: &'a str) -> Result<Self, TokenRefusal> {
        if raw.len() > MAX_TOKEN {
            return Err(TokenRefusal::TooLong { got: raw.len(), limit: MAX_TOKEN });
        }
        let mut parts = raw.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenRefusal::Malformed { what: "it does not have three parts" });
        };
        let header = object(header)?;
        let alg = Alg::parse(text(&header, "alg", "`alg` is not a text")?.unwrap_or_default())
            .ok_or(TokenRefusal::Algorithm)?;
        if header.contains_key("crit") {
            return Err(TokenRefusal::Header { what: "`crit` names an extension that is not supported" });
        }
        let kid = text(&header, "kid", "`kid` is not a text")?;
        if kid.is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(TokenRefusal::Header { what: "`kid` is too long" });
        }
        let typ = text(&header, "typ", "`typ` is not a text")?.map(str::to_ascii_lowercase);
        let kid = kid.map(str::to_owned);
        let claims = object(payload)?;
        if signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenRefusal::Malformed { what: "its signature is not base64url" });
        }
        let signed = raw.strip_suffix(signature).and_then(|signed| signed.strip_suffix('.')).unwrap_or_default();
        Ok(Self { raw, signed, signature, alg, kid, typ, claims })
    }

    /// The claim `iss`, by which its issuer is chosen.
    pub fn issuer(&self) -> Result<&str, TokenRefusal> {
        match self.claims.get("iss") {
            Some(Value::String(iss)) => Ok(iss),
            Some(_) => Err(TokenRefusal::Claim { claim: "iss", problem: "is not a text" }),
            None => Err(TokenRefusal::Claim { claim: "iss", problem: "is missing" }),
        }
    }

    /// The refusal of an issuer that is not configured.
    pub fn untrusted(&self) -> TokenRefusal {
        match self.issuer() {
            Ok(iss) => TokenRefusal::Issuer { iss: iss.chars().take(MAX_TOLD).collect() },
            Err(refusal) => refusal,
        }
    }
}

fn object(part: &str) -> Result<Map<String, Value>, TokenRefusal> {
    let bytes =
        URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefusal::Malformed { what: "a part is not base64url" })?;
    json::object(&bytes).map_err(|what| TokenRefusal::Malformed { what })
}

fn text<'a>(header: &'a Map<String, Value>, name: &str, what: &'static str) -> Result<Option<&'a str>, TokenRefusal> {
    match header.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(TokenRefusal::Header { what }),
    }
}

/// Whom a token names, by its issuer's rule alone; whether that is the person of the tunnel, `agree` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Person {
    /// This local name.
    Named(Subject),
    /// The user whose entry links issuer and `sub`.
    Linked,
    /// A client or workload that acts for itself.
    Machine,
    /// The claim that should name a person is missing, not verified, or has more than one reading.
    Nobody,
}

/// What a genuine token proves, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The facts.
    pub token: Arc<Token>,
    /// Whom it names.
    pub person: Person,
    /// How many groups it stated that its issuer may not state.
    pub ignored_groups: usize,
    /// What its signature was made with.
    pub(super) key: Arc<Key>,
    pub(super) counts_from: SystemTime,
    pub(super) counts_until: SystemTime,
}

impl Verified {
    /// The identity of one request in this tunnel, when the token names the tunnel's person.
    ///
    /// # Errors
    ///
    /// [`Conflict`]: the evidence does not name one person.
    pub fn agree(&self, tunnel: Identity, users: &Users) -> Result<Identity, Conflict> {
        agree::agree(tunnel, &self.token, &self.person, users)
    }
}

/// Judges the tokens of one issuer.
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    config: &'a IssuerConfig,
}

impl<'a> Verifier<'a> {
    /// A verifier with this configuration.
    pub fn new(config: &'a IssuerConfig) -> Self {
        Self { config }
    }

    /// Judges one token. The signature comes last: whatever else is wrong with a token costs no key and no arithmetic.
    pub fn verify(&self, token: &Unverified<'_>, keys: &Keyring, now: SystemTime) -> Result<Verified, TokenRefusal> {
        let config = self.config;
        if token.issuer()? != config.url {
            return Err(token.untrusted());
        }
        if !config.algs.contains(&token.alg) {
            return Err(TokenRefusal::Algorithm);
        }
        only_access_tokens(token)?;
        claims::audience(&token.claims, config)?;
        let times = claims::times(&token.claims, config.clock_skew, now)?;
        let sub = claims::subject(&token.claims)?;
        let id_hash = id_hash(token)?;

        let key = keys.find(token.kid.as_deref(), token.alg, config.name.as_str())?;
        if !key.verifies(token.alg, token.signed, token.signature) {
            return Err(TokenRefusal::Signature);
        }

        let (groups, ignored_groups) = claims::groups(&token.claims, config);
        let facts = Token {
            issuer: config.name.clone(),
            sub: sub.to_owned(),
            client_id: claims::client(&token.claims).map(str::to_owned),
            email: claims::email(&token.claims).map(str::to_owned),
            scopes: claims::scopes(&token.claims),
            groups,
            claims: claims::typed(&token.claims, &config.claims),
            expires: times.expires,
            id_hash,
        };
        Ok(Verified {
            person: claims::person(&token.claims, sub, &config.person),
            token: Arc::new(facts),
            ignored_groups,
            key: Arc::clone(key),
            counts_from: times.counts_from,
            counts_until: times.counts_until,
        })
    }
}

/// An ID token says who logged in at some client; it is no key to an API (RFC 8725 section 3.12, RFC 9068 section 5).
fn only_access_tokens(token: &Unverified<'_>) -> Result<(), TokenRefusal> {
    match token.typ.as_deref() {
        Some("at+jwt" | "application/at+jwt") => return Ok(()),
        Some("jwt" | "application/jwt") | None => {}
        Some(_) => return Err(TokenRefusal::NotAnAccessToken { what: "its `typ` is of another kind" }),
    }
    for (claim, what) in [("nonce", "it has `nonce`"), ("at_hash", "it has `at_hash`"), ("c_hash", "it has `c_hash`")] {
        if token.claims.contains_key(claim) {
            return Err(TokenRefusal::NotAnAccessToken { what });
        }
    }
    // Keycloak and Cognito say in a claim what others say in the header.
    let says = |name: &str, value: &str| token.claims.get(name).and_then(Value::as_str) == Some(value);
    if says("typ", "ID") || says("typ", "Refresh") || says("token_use", "id") {
        return Err(TokenRefusal::NotAnAccessToken { what: "its issuer says that it is of another kind" });
    }
    Ok(())
}

/// A name for the audit record, from which nobody can make the token.
fn id_hash(token: &Unverified<'_>) -> Result<String, TokenRefusal> {
    let named = match token.claims.get("jti") {
        None => token.raw,
        Some(Value::String(jti)) => jti,
        Some(_) => return Err(TokenRefusal::Claim { claim: "jti", problem: "is not a text" }),
    };
    let hash = digest::digest(&digest::SHA256, named.as_bytes());
    Ok(hex::encode(hash.as_ref().get(..8).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
