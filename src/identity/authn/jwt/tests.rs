use std::time::Duration;

use serde_json::json;

use super::*;
use crate::identity::authn::IssuerConfig;
use crate::identity::authn::testing::{NOW, Signer, at, base64url, claims, config, jwks, with};
use crate::identity::{Group, StatedGroups};

struct Issuer {
    config: IssuerConfig,
    signer: Signer,
    ring: Keyring,
}

impl Issuer {
    fn new(alg: Alg) -> Self {
        let signer = Signer::new(alg, "key-1");
        let ring = Keyring::parse(&jwks(&[&signer])).unwrap();
        Self { config: config(), signer, ring }
    }

    fn judge(&self, raw: &str) -> Result<Verified, TokenRefusal> {
        let token = Unverified::parse(raw)?;
        Verifier::new(&self.config).verify(&token, &self.ring, at(NOW))
    }

    fn refuse(&self, raw: &str) -> TokenRefusal {
        self.judge(raw).unwrap_err()
    }

    /// Judges ordinary claims with this change, rightly signed.
    fn change(&self, change: Value) -> Result<Verified, TokenRefusal> {
        self.judge(&self.signer.token(&with(claims(), change)))
    }

    /// Judges an ordinary token whose header has this change, rightly signed.
    fn header(&self, change: Value) -> Result<Verified, TokenRefusal> {
        let header = with(self.signer.header(), change).to_string();
        self.judge(&self.signer.token_of(header, claims().to_string()))
    }
}

fn claim(claim: &'static str, problem: &'static str) -> TokenRefusal {
    TokenRefusal::Claim { claim, problem }
}

#[test]
fn a_good_token_of_every_algorithm_is_accepted() {
    for alg in Alg::ALL {
        let mut issuer = Issuer::new(alg);
        issuer.config.algs = vec![alg];
        let token = issuer.signer.token(&claims());
        let verified = issuer.judge(&token).unwrap();
        assert_eq!(verified.person, Person::Named(Subject::new("alice")), "{alg}");
        assert_eq!(verified.token.sub, "248289761001");
        assert_eq!(verified.token.expires, at(NOW + 300));
        assert_eq!(verified.counts_until, at(NOW + 330));
        assert_eq!(verified.token.groups, StatedGroups::Known(vec![Group::new("orders-dev")]));
        assert_eq!(verified.token.id_hash.len(), 16);

        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, foreign) = issuer.signer.token(&with(claims(), json!({ "sub": "1" }))).rsplit_once('.').map_or_else(
            || (String::new(), String::new()),
            |(signed, signature)| (signed.to_owned(), signature.to_owned()),
        );
        assert_eq!(issuer.refuse(&format!("{signed}.{foreign}")), TokenRefusal::Signature, "{alg}");
        issuer.config.algs = Alg::ALL.into_iter().filter(|&other| other != alg).collect();
        assert_eq!(issuer.refuse(&token), TokenRefusal::Algorithm, "{alg} is not in the configuration");
    }
}

#[test]
fn facts_of_a_token_are_read_whole() {
    let issuer = Issuer::new(Alg::Es256);
    let facts = json!({
        "client_id": "cli", "azp": "other", "email": "alice@corp.example", "email_verified": true,
        "scope": "orders:read  orders:write", "jti": null,
    });
    let token = issuer.change(facts.clone()).unwrap().token;
    assert_eq!(token.client_id.as_deref(), Some("cli"));
    assert_eq!(token.email.as_deref(), Some("alice@corp.example"));
    assert_eq!(token.scopes, ["orders:read", "orders:write"]);
    let unverified = issuer.change(with(facts, json!({ "email_verified": false }))).unwrap().token;
    assert_eq!(unverified.email, None);
    assert_ne!(token.id_hash, unverified.id_hash, "without `jti` the whole token is hashed");
}

#[test]
fn nt_27_algorithm_none_is_refused() {
    let issuer = Issuer::new(Alg::Rs256);
    let body = base64url(claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(json!({ "alg": alg, "kid": "key-1" }).to_string());
        assert_eq!(issuer.refuse(&format!("{header}.{body}.")), TokenRefusal::Algorithm, "{alg}");
        assert_eq!(issuer.refuse(&format!("{header}.{body}.AAAA")), TokenRefusal::Algorithm, "{alg}");
    }
    let header = base64url(json!({ "kid": "key-1" }).to_string());
    assert_eq!(issuer.refuse(&format!("{header}.{body}.AAAA")), TokenRefusal::Algorithm, "no `alg` at all");
    let unsigned = issuer.signer.token(&claims());
    let (signed, _) = unsigned.rsplit_once('.').unwrap();
    assert!(matches!(issuer.refuse(&format!("{signed}.")), TokenRefusal::Malformed { .. }));
}

#[test]
fn nt_27_the_public_key_is_not_a_secret_of_hs256() {
    use aws_lc_rs::hmac;
    let issuer = Issuer::new(Alg::Rs256);
    let jwk = issuer.signer.jwk();
    let secrets = [
        URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap(),
        jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        jwks(&[&issuer.signer]),
    ];
    for secret in secrets {
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let header = base64url(json!({ "alg": name, "kid": "key-1", "typ": "at+jwt" }).to_string());
            let signed = format!("{header}.{}", base64url(claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), signed.as_bytes());
            assert_eq!(issuer.refuse(&format!("{signed}.{}", base64url(tag))), TokenRefusal::Algorithm, "{name}");
        }
    }
}

#[test]
fn nt_27_the_algorithm_belongs_to_the_key() {
    let mut issuer = Issuer::new(Alg::Rs256);
    issuer.config.algs = Alg::ALL.to_vec();
    for alg in ["RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] {
        assert_eq!(issuer.header(json!({ "alg": alg })), Err(TokenRefusal::AlgorithmOfAnotherKey), "{alg}");
    }
    let pss = Signer { alg: Alg::Ps256, ..issuer.signer };
    let token = pss.token(&claims());
    let refused = Verifier::new(&issuer.config).verify(&Unverified::parse(&token).unwrap(), &issuer.ring, at(NOW));
    assert_eq!(refused, Err(TokenRefusal::AlgorithmOfAnotherKey), "a right PS256 signature by an RS256 key");
}

#[test]
fn nt_27_a_key_id_is_an_opaque_text_and_short() {
    let issuer = Issuer::new(Alg::Es256);
    let unknown = || Err(TokenRefusal::UnknownKey { issuer: "corp".to_owned() });
    for kid in ["../../../../dev/null", "https://evil.example/jwks", "key-1\0", "KEY-1", "' OR 1=1 --", ""] {
        assert_eq!(issuer.header(json!({ "kid": kid })), unknown(), "{kid:?}");
    }
    let long = |length| issuer.header(json!({ "kid": "k".repeat(length) }));
    assert_eq!(long(128), unknown());
    assert_eq!(long(129), Err(TokenRefusal::Header { what: "`kid` is too long" }));
    assert_eq!(long(10 * 1024), Err(TokenRefusal::Header { what: "`kid` is too long" }));
    assert_eq!(issuer.header(json!({ "kid": 1 })), Err(TokenRefusal::Header { what: "`kid` is not a text" }));
    assert!(issuer.header(json!({ "kid": null })).is_ok(), "no kid, and one key fits");
}

#[test]
fn nt_27_keys_inside_the_token_are_not_looked_at() {
    let issuer = Issuer::new(Alg::Es256);
    let evil = Signer::new(Alg::Es256, "key-1");
    let header = json!({
        "jwk": evil.jwk(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x", "x5c": ["AAAA"],
    });
    let forged = evil.token_of(with(evil.header(), header.clone()).to_string(), claims().to_string());
    assert_eq!(issuer.refuse(&forged), TokenRefusal::Signature);
    assert!(issuer.header(header).is_ok(), "they do not harm a good token either");
}

#[test]
fn critical_extensions_are_refused() {
    let issuer = Issuer::new(Alg::Es256);
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("x")] {
        let header = json!({ "crit": crit, "b64": false });
        assert!(matches!(issuer.header(header), Err(TokenRefusal::Header { .. })));
    }
}

#[test]
fn nt_28_times_are_sane_numbers_or_the_token_is_refused() {
    let issuer = Issuer::new(Alg::Es256);
    let raw = |member: &str| {
        let text = with(claims(), json!({ "exp": null, "iat": null })).to_string();
        let text = format!("{},{member}}}", text.strip_suffix('}').unwrap());
        issuer.judge(&issuer.signer.token_of(issuer.signer.header().to_string(), text))
    };
    let exp = NOW + 300;
    assert!(raw(&format!("\"exp\":{exp}")).is_ok(), "the frame of this table is good");
    assert_eq!(raw("\"x\":1"), Err(claim("exp", "is missing")));
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for (value, problem) in [
            (format!("\"{exp}\""), "is not a number"),
            ("\"\"".to_owned(), "is not a number"),
            ("null".to_owned(), "is not a number"),
            ("true".to_owned(), "is not a number"),
            (format!("[{exp}]"), "is not a number"),
            ("{}".to_owned(), "is not a number"),
            ("-1".to_owned(), "is not a date"),
            ("-0.5".to_owned(), "is not a date"),
            (format!("{exp}.5"), "is not a date"),
            (format!("{exp}.0"), "is not a date"),
            ("1e300".to_owned(), "is not a date"),
            ("1e19".to_owned(), "is not a date"),
            ("-1e300".to_owned(), "is not a date"),
            ("18446744073709551615".to_owned(), "is not a date"),
            ("253402300800".to_owned(), "is not a date"),
        ] {
            let other = if name == "exp" { String::new() } else { format!("\"exp\":{exp},") };
            assert_eq!(raw(&format!("{other}\"{name}\":{value}")), Err(claim(name, problem)), "{name}: {value}");
        }
    }
    for value in ["1e400", "NaN", "Infinity", "0x10", "01"] {
        assert_eq!(raw(&format!("\"exp\":{value}")), Err(TokenRefusal::Malformed { what: "not valid JSON" }));
    }
}

#[test]
fn time_counts_with_the_configured_leeway_and_no_more() {
    let issuer = Issuer::new(Alg::Es256);
    let expired = |seconds| TokenRefusal::Expired { ago: Duration::from_secs(seconds) };
    assert!(issuer.change(json!({ "exp": NOW - 29 })).is_ok());
    assert_eq!(issuer.change(json!({ "exp": NOW - 30 })), Err(expired(30)));
    assert_eq!(issuer.change(json!({ "exp": NOW - 32 })).unwrap_err().to_string(), "the token expired 32 s ago");
    for claim in ["nbf", "iat", "auth_time"] {
        assert!(issuer.change(json!({ claim: NOW + 30 })).is_ok(), "{claim}");
        let ahead = Duration::from_secs(31);
        assert_eq!(issuer.change(json!({ claim: NOW + 31 })), Err(TokenRefusal::NotYetValid { claim, ahead }));
    }
}

#[test]
fn nt_29_the_audience_must_be_ours() {
    let issuer = Issuer::new(Alg::Es256);
    for aud in [
        json!("other"),
        json!("wicket "),
        json!("Wicket"),
        json!(["other"]),
        json!([]),
        json!(["other", ["wicket"]]),
        json!(["wicket", 1]),
        json!({ "wicket": true }),
        json!(1),
        json!(null),
    ] {
        assert_eq!(issuer.change(json!({ "aud": aud.clone() })), Err(TokenRefusal::Audience), "{aud}");
    }
    assert!(issuer.change(json!({ "aud": ["other", "wicket"] })).is_ok());
}

#[test]
fn nt_29_the_issuer_is_compared_letter_for_letter() {
    let issuer = Issuer::new(Alg::Es256);
    for iss in [
        "https://login.corp.example/",
        "https://LOGIN.corp.example",
        "http://login.corp.example",
        "https://login.corp.example/other-tenant",
        " https://login.corp.example",
        "",
    ] {
        assert_eq!(issuer.change(json!({ "iss": iss })), Err(TokenRefusal::Issuer { iss: iss.to_owned() }));
    }
    assert_eq!(issuer.change(json!({ "iss": ["https://login.corp.example"] })), Err(claim("iss", "is not a text")));
    assert_eq!(issuer.change(json!({ "iss": null })), Err(claim("iss", "is missing")));
    let long = issuer.change(json!({ "iss": "\u{e9}".repeat(3_000) })).unwrap_err();
    assert!(long.to_string().len() < 400, "a refusal repeats little");
}

#[test]
fn nt_29_an_id_token_is_not_an_access_token() {
    let issuer = Issuer::new(Alg::Es256);
    let judge = |typ: Value, change: Value| {
        let header = with(issuer.signer.header(), json!({ "typ": typ })).to_string();
        issuer.judge(&issuer.signer.token_of(header, with(claims(), change).to_string()))
    };
    for typ in [json!(null), json!("JWT"), json!("jwt")] {
        assert!(judge(typ.clone(), json!({})).is_ok());
        for member in ["nonce", "at_hash", "c_hash"] {
            let refused = judge(typ.clone(), json!({ member: "n-0S6" })).unwrap_err();
            assert!(matches!(refused, TokenRefusal::NotAnAccessToken { .. }), "{typ} {member}");
            assert_eq!(refused.reason(), "token-invalid");
        }
        for said in [json!({ "typ": "ID" }), json!({ "typ": "Refresh" }), json!({ "token_use": "id" })] {
            assert!(matches!(judge(typ.clone(), said), Err(TokenRefusal::NotAnAccessToken { .. })));
        }
    }
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(judge(json!(typ), json!({ "nonce": "n-0S6" })).is_ok(), "{typ}");
    }
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "id_token", ""] {
        assert!(matches!(judge(json!(typ), json!({})), Err(TokenRefusal::NotAnAccessToken { .. })), "{typ}");
    }
}

#[test]
fn nt_30_a_repeated_member_in_header_or_claims_is_refused() {
    let issuer = Issuer::new(Alg::Es256);
    let repeated = TokenRefusal::Malformed { what: "a JSON member occurs twice" };
    let body = claims().to_string();
    let twice = format!("{},\"sub\":\"1\"}}", body.strip_suffix('}').unwrap());
    assert_eq!(issuer.refuse(&issuer.signer.token_of(issuer.signer.header().to_string(), twice)), repeated);
    let header = r#"{"alg":"ES256","kid":"key-1","alg":"ES256"}"#;
    assert_eq!(issuer.refuse(&issuer.signer.token_of(header, body)), repeated);
}

#[test]
fn a_token_has_three_parts_of_base64url_and_an_end() {
    let issuer = Issuer::new(Alg::Es256);
    let good = issuer.signer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for odd in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{good}."),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}="),
        format!("{good}\n"),
        format!("{signed}.{}", signature.replace(['-', '_'], "+").replacen(|_| true, "/", 1)),
        format!("{}.\u{e9}.{signature}", signed.split_once('.').unwrap().0),
        format!("{}.{}.{signature}", base64url("[]"), base64url("{}")),
        format!("{}.{}.{signature}", base64url(issuer.signer.header().to_string()), base64url("\"x\"")),
    ] {
        assert!(matches!(issuer.refuse(&odd), TokenRefusal::Malformed { .. }), "{odd:?}");
    }
    let long = "a".repeat(MAX_TOKEN + 1);
    assert_eq!(issuer.refuse(&long), TokenRefusal::TooLong { got: MAX_TOKEN + 1, limit: MAX_TOKEN });
}

#[test]
fn sub_and_jti_are_texts() {
    let issuer = Issuer::new(Alg::Es256);
    assert_eq!(issuer.change(json!({ "sub": null })), Err(claim("sub", "is missing")));
    for sub in [json!(""), json!(1), json!(["x"]), json!("s".repeat(256))] {
        assert_eq!(issuer.change(json!({ "sub": sub })), Err(claim("sub", "is not a text of 1 to 255 bytes")));
    }
    assert_eq!(issuer.change(json!({ "jti": 7 })), Err(claim("jti", "is not a text")));
}

#[test]
fn a_refusal_has_a_reason_and_never_shows_the_token() {
    let issuer = Issuer::new(Alg::Es256);
    let body = with(claims(), json!({ "exp": NOW - 100 }));
    let token = issuer.signer.token(&body);
    for (refusal, reason) in [
        (issuer.refuse(&token), "token-expired"),
        (issuer.change(json!({ "aud": "x" })).unwrap_err(), "token-audience"),
        (issuer.refuse(&format!("{token}A")), "token-expired"),
        (issuer.refuse("x"), "token-invalid"),
    ] {
        assert_eq!(refusal.reason(), reason);
        for part in token.split('.') {
            assert!(!format!("{refusal} {refusal:?}").contains(part));
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(raw in "[\\PC.]{0,200}") {
        let _ = Unverified::parse(&raw);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(at_byte in 0_usize..10_000, bit in 0_u8..7) {
        static ISSUER: std::sync::LazyLock<(Issuer, String)> = std::sync::LazyLock::new(|| {
            let issuer = Issuer::new(Alg::EdDsa);
            let issuer = Issuer { config: IssuerConfig { algs: vec![Alg::EdDsa], ..config() }, ..issuer };
            let token = issuer.signer.token(&claims());
            (issuer, token)
        });
        let (issuer, token) = &*ISSUER;
        let mut bytes = token.clone().into_bytes();
        let at_byte = at_byte % bytes.len();
        bytes[at_byte] ^= 1 << bit;
        let flipped = String::from_utf8(bytes).unwrap();
        proptest::prop_assert!(issuer.judge(&flipped).is_err());
    }
}
