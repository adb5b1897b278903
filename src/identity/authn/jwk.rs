//! The public keys of one issuer (RFC 7517), and which of them fits a token.
//!
//! The JWT library ignores a JWK's `alg`, `use` and `key_ops`; all three bind here, before it sees a token.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::json;
use super::refusal::TokenRefusal;

/// A JWKS with more keys is refused: real ones have 2 to 10.
pub(super) const MAX_KEYS: usize = 64;

/// The longest key id: a SHA-512 in hexadecimal.
pub(super) const MAX_KID: usize = 128;

/// An asymmetric signature algorithm (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Reads the registered name, letter for letter. There is none for `none` and `HS256`.
    pub fn parse(name: &str) -> Option<Self> {
        // RFC 9864 gives Ed25519 a name of its own.
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|alg| alg.as_str() == name)
    }

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

    fn kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
        }
    }

    fn library(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// One public key for signatures.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    /// The only algorithm it may be used with, when its issuer says one.
    alg: Option<Alg>,
    kind: KeyKind,
    /// What was made into `decoding`, for comparing two sets.
    material: [String; 2],
    decoding: DecodingKey,
}

impl Key {
    fn fits(&self, alg: Alg) -> bool {
        self.kind == alg.kind() && self.alg.is_none_or(|own| own == alg)
    }

    /// Whether this key made `signature` (base64url) over `message`.
    pub(super) fn verifies(&self, alg: Alg, message: &str, signature: &str) -> bool {
        let judge = || jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, alg.library());
        self.fits(alg) && judge().is_ok_and(|right| right)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.alg, self.kind, &self.material) == (&other.id, other.alg, other.kind, &other.material)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("alg", &self.alg).field("kind", &self.kind).finish()
    }
}

/// Why a JWKS was refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSetError {
    /// Not JSON, or with a repeated member.
    #[error("the key set is {0}")]
    Json(&'static str),
    /// No array `keys`.
    #[error("the key set has no array `keys`")]
    NoKeys,
    /// Too many.
    #[error("the key set has {got} keys; at most {limit} are read")]
    TooManyKeys {
        /// How many.
        got: usize,
        /// The limit.
        limit: usize,
    },
}

/// The keys that an issuer published at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyring {
    keys: Vec<Arc<Key>>,
}

impl Keyring {
    /// Reads a JWKS. Keys that are not for verifying signatures, or of a kind or curve that is not supported, are left
    /// out (RFC 7517 section 5); an empty set is a set: its issuer withdrew all keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseSetError> {
        install_crypto();
        let set = json::object(bytes).map_err(ParseSetError::Json)?;
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err(ParseSetError::NoKeys);
        };
        if keys.len() > MAX_KEYS {
            return Err(ParseSetError::TooManyKeys { got: keys.len(), limit: MAX_KEYS });
        }
        Ok(Self { keys: keys.iter().filter_map(Value::as_object).filter_map(key).map(Arc::new).collect() })
    }

    /// How many usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether this key is among them.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.iter().any(|own| **own == *key)
    }

    /// The one key for this header.
    pub(super) fn find(&self, kid: Option<&str>, alg: Alg, issuer: &str) -> Result<&Arc<Key>, TokenRefusal> {
        let named = |key: &&Arc<Key>| kid.is_none_or(|kid| key.id.as_deref() == Some(kid));
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.fits(alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(TokenRefusal::AmbiguousKey { issuer: issuer.to_owned() }),
            (None, _) if self.keys.iter().any(|key| named(&key)) => Err(TokenRefusal::AlgorithmOfAnotherKey),
            (None, _) => Err(TokenRefusal::UnknownKey { issuer: issuer.to_owned() }),
        }
    }
}

/// Chooses the crypto of the JWT library for this process, so that no feature of a dependency can.
pub(super) fn install_crypto() {
    // Fails when somebody was earlier, and there is only one to choose.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// A key that may verify signatures; `None` for any other.
fn key(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let operations = jwk.get("key_ops").map(|operations| operations.as_array().map_or(&[][..], Vec::as_slice));
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return None;
    }
    let alg = match jwk.get("alg") {
        None => None,
        Some(alg) => Some(Alg::parse(alg.as_str()?)?),
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= MAX_KID)?.to_owned()),
    };
    let (kind, material, decoding) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            (KeyKind::Rsa, [text("n")?, text("e")?], DecodingKey::from_rsa_components(text("n")?, text("e")?))
        }
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let kind = if curve == "P-256" { KeyKind::P256 } else { KeyKind::P384 };
            (kind, [text("x")?, text("y")?], DecodingKey::from_ec_components(text("x")?, text("y")?))
        }
        ("OKP", Some("Ed25519")) => (KeyKind::Ed25519, [text("x")?, ""], DecodingKey::from_ed_components(text("x")?)),
        _ => return None,
    };
    let key = Key { id, alg, kind, material: material.map(str::to_owned), decoding: decoding.ok()? };
    alg.is_none_or(|alg| key.fits(alg)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authn::testing::{Signer, jwks};

    fn refusal(ring: &Keyring, kid: Option<&str>, alg: Alg) -> TokenRefusal {
        ring.find(kid, alg, "corp").unwrap_err()
    }

    #[test]
    fn a_key_is_found_by_id_and_algorithm_together() {
        let (one, two) = (Signer::new(Alg::Es256, "one"), Signer::new(Alg::Rs256, "two"));
        let ring = Keyring::parse(&jwks(&[&one, &two])).unwrap();
        assert_eq!(ring.len(), 2);
        assert!(ring.find(Some("one"), Alg::Es256, "corp").is_ok());
        assert!(ring.find(Some("two"), Alg::Rs256, "corp").is_ok());
        assert!(ring.find(None, Alg::Rs256, "corp").is_ok(), "one key only fits");
        assert_eq!(refusal(&ring, Some("one"), Alg::Rs256), TokenRefusal::AlgorithmOfAnotherKey);
        assert_eq!(refusal(&ring, Some("two"), Alg::Rs384), TokenRefusal::AlgorithmOfAnotherKey, "its JWK says RS256");
        assert_eq!(refusal(&ring, Some("two"), Alg::Ps256), TokenRefusal::AlgorithmOfAnotherKey);
        assert_eq!(refusal(&ring, Some("three"), Alg::Rs256), TokenRefusal::UnknownKey { issuer: "corp".to_owned() });
    }

    #[test]
    fn a_key_id_that_occurs_twice_proves_nothing() {
        let ring = Keyring::parse(&jwks(&[&Signer::new(Alg::Es256, "k"), &Signer::new(Alg::Es256, "k")])).unwrap();
        let ambiguous = TokenRefusal::AmbiguousKey { issuer: "corp".to_owned() };
        assert_eq!(refusal(&ring, Some("k"), Alg::Es256), ambiguous);
        assert_eq!(refusal(&ring, None, Alg::Es256), ambiguous);
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let base = Signer::new(Alg::Es256, "k").jwk();
        let usable = |change: &[(&str, Value)]| {
            let mut jwk = base.clone();
            for (name, value) in change {
                jwk.insert((*name).to_owned(), value.clone());
            }
            let set = serde_json::json!({ "keys": [jwk] });
            Keyring::parse(set.to_string().as_bytes()).unwrap().len() == 1
        };
        assert!(usable(&[]));
        assert!(usable(&[("use", "sig".into()), ("key_ops", serde_json::json!(["sign", "verify"]))]));
        assert!(usable(&[("x5u", "https://evil.example/".into()), ("unknown", 1.into())]));
        for change in [
            ("use", "enc".into()),
            ("use", Value::Null),
            ("key_ops", serde_json::json!(["sign"])),
            ("key_ops", "verify".into()),
            ("alg", "ES384".into()),
            ("alg", "RS256".into()),
            ("alg", "none".into()),
            ("alg", "HS256".into()),
            ("alg", Value::Null),
            ("kty", "oct".into()),
            ("crv", "P-521".into()),
            ("kid", "k".repeat(129).into()),
            ("x", "not base64!".into()),
        ] {
            assert!(!usable(std::slice::from_ref(&change)), "{change:?}");
        }
    }

    #[test]
    fn a_set_is_bounded_and_has_one_reading() {
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 65].join(","));
        assert_eq!(Keyring::parse(many.as_bytes()), Err(ParseSetError::TooManyKeys { got: 65, limit: 64 }));
        assert_eq!(Keyring::parse(b"{}"), Err(ParseSetError::NoKeys));
        assert_eq!(Keyring::parse(br#"{"keys":{}}"#), Err(ParseSetError::NoKeys));
        assert_eq!(Keyring::parse(b"<html>"), Err(ParseSetError::Json("not valid JSON")));
        assert_eq!(Keyring::parse(br#"{"keys":[],"keys":[]}"#), Err(ParseSetError::Json("a JSON member occurs twice")));
        assert!(Keyring::parse(br#"{"keys":[]}"#).unwrap().is_empty());
    }
}
