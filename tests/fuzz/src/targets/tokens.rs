//! Bearer tokens and the key sets that they are verified with.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wicketgate::identity::authn::{
    Alg, ClaimType, IssuerConfig, Keyring, Person, PersonRule, TokenRefusal, Unverified, Verified, Verifier,
};
use wicketgate::identity::{IssuerName, StatedGroups};

/// The time at which all tokens are judged.
const NOW: u64 = 1_800_000_000;

/// What signs the tokens of this issuer, and nothing else in the world.
const SECRET: [u8; 32] = *b"an Ed25519 key that is no secret";

/// The longest token that is read.
const MAX_TOKEN: usize = 16 * 1024;

struct Issuer {
    pair: Ed25519KeyPair,
    keys: Keyring,
    config: IssuerConfig,
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&SECRET) else { panic!("32 bytes are a seed") };
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","x":"{x}"}}]}}"#);
        let keys = match Keyring::parse(set.as_bytes()) {
            Ok(keys) => keys,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(keys.len(), 1);
        Issuer { pair, keys, config: config() }
    })
}

fn config() -> IssuerConfig {
    let claims =
        [("dept", ClaimType::Text), ("roles", ClaimType::Texts), ("a.b", ClaimType::Number), ("ok", ClaimType::Flag)];
    IssuerConfig {
        name: IssuerName::new("corp"),
        url: "https://login.corp.example".to_owned(),
        audiences: ["wicket".to_owned()].into(),
        algs: Alg::ALL.to_vec(),
        clock_skew: Duration::from_secs(30),
        jwks_max_age: Duration::from_secs(3600),
        groups_claim: Some("groups".to_owned()),
        groups_allowed: ["orders-dev".to_owned(), "orders-admin".to_owned()].into(),
        groups_prefix: Some("team-".to_owned()),
        groups_absent_empty: false,
        person: PersonRule::Claim("preferred_username".to_owned()),
        claims: claims.map(|(path, kind)| (path.to_owned(), kind)).into_iter().collect::<BTreeMap<_, _>>(),
        roots: None,
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// The first byte says what the rest is: a token as it came, which nobody but the issuer can have signed; or header and
/// claims with a blank line between them, which the issuer signs.
pub(crate) fn token(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    if choice & 1 == 0 {
        if let Ok(verified) = judge(text) {
            check(&verified);
            check_genuine(text);
        }
    } else if let Some((header, claims)) = text.split_once("\n\n") {
        let raw = sign(header, claims);
        match judge(&raw) {
            Ok(verified) => check(&verified),
            Err(refusal) => assert_ne!(refusal, TokenRefusal::Signature, "the issuer's own signature is refused"),
        }
    }
}

fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = issuer().pair.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn judge(raw: &str) -> Result<Verified, TokenRefusal> {
    let Issuer { keys, config, .. } = issuer();
    let verdict = Unverified::parse(raw).and_then(|token| Verifier::new(config).verify(&token, keys, now()));
    if raw.len() > MAX_TOKEN {
        assert_eq!(verdict, Err(TokenRefusal::TooLong { got: raw.len(), limit: MAX_TOKEN }));
    }
    if let Err(refusal) = &verdict {
        let told = refusal.to_string();
        // A fuzzer finds our own words too, so only what may be a signature counts as one.
        let signature = raw.rsplit('.').next().unwrap_or_default();
        let is_secret = signature.len() > 40 && URL_SAFE_NO_PAD.decode(signature).is_ok();
        assert!(told.len() <= 2048 && !(is_secret && told.contains(signature)), "{told}");
    }
    verdict
}

/// What verifies is what the issuer signs, letter for letter: Ed25519 has one signature for one message.
fn check_genuine(raw: &str) {
    let decoded: Vec<String> =
        raw.split('.').filter_map(|part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()).take(2).collect();
    let [header, claims] = &decoded[..] else { panic!("a verified token without header and claims: {raw}") };
    assert_eq!(sign(header, claims), raw);
}

fn check(verified: &Verified) {
    let token = &verified.token;
    assert_eq!(token.issuer.as_str(), "corp");
    assert!((1..=255).contains(&token.sub.len()));
    assert!(token.expires + Duration::from_secs(30) > now());
    assert!(token.id_hash.len() == 16 && token.id_hash.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert!(token.scopes.iter().all(|word| !word.is_empty() && !word.contains(' ')));
    assert!(token.claims.keys().all(|path| config().claims.contains_key(path)));
    match &token.groups {
        StatedGroups::Known(groups) => {
            let admitted = |name: &str| matches!(name, "orders-dev" | "orders-admin") || name.starts_with("team-");
            assert!(groups.iter().all(|group| admitted(group.as_str()) && group.as_str().len() <= 256));
            assert!(groups.is_sorted());
        }
        StatedGroups::NotStated => panic!("the issuer states groups"),
        StatedGroups::Unknown => {}
    }
    match &verified.person {
        Person::Named(subject) => {
            let name = subject.as_str();
            assert!((1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(name, name.to_ascii_lowercase());
        }
        Person::Linked => panic!("the issuer's tokens name persons by a claim"),
        Person::Machine | Person::Nobody => {}
    }
}

/// A key set is read the same twice, is bounded, and no set but one with the issuer's key verifies its tokens.
pub(crate) fn key_set(bytes: &[u8]) {
    let keys = match Keyring::parse(bytes) {
        Ok(keys) => keys,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(Keyring::parse(bytes).as_ref(), Ok(&keys));
    assert!(keys.len() <= 64);
    for alg in Alg::ALL {
        let header = format!(r#"{{"alg":"{}","kid":"one"}}"#, alg.as_str());
        let claims = format!(r#"{{"iss":"https://login.corp.example","aud":"wicket","sub":"1","exp":{}}}"#, NOW + 60);
        let raw = sign(&header, &claims);
        let verifier = Verifier::new(&issuer().config);
        let verdict = Unverified::parse(&raw).and_then(|token| verifier.verify(&token, &keys, now()));
        let x = URL_SAFE_NO_PAD.encode(issuer().pair.public_key());
        // An escaped character may hide it.
        let has_key = bytes.contains(&b'\\') || bytes.windows(x.len()).any(|window| window == x.as_bytes());
        assert!(verdict.is_err() || (alg == Alg::EdDsa && has_key), "{alg} verifies with a key of somebody else");
    }
}
