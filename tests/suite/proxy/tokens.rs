//! Bearer tokens at the proxy: what counts, what does not, and what is written about them.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::bench::{Bench, ORDERS, RULES, Setup, api};
use super::door::{Answer, request};
use super::issuer::{Issuer, ec_jwk, ec_key, encode, es256, now};

async fn bench(issuer: &Issuer) -> Bench {
    Setup::new(RULES).issuer(issuer.config()).start().await
}

async fn ask(bench: &Bench, token: &str) -> Answer {
    bench.door().send(request("GET", "/v1/orders", &format!("Authorization: Bearer {token}\r\n"))).await
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "ec", "typ": "at+jwt" })
}

async fn refused(bench: &Bench, what: &str, token: &str, reason: &str) {
    let answer = ask(bench, token).await;
    assert_eq!((answer.status, answer.reason().as_str()), (401, reason), "{what}: {answer:?}");
    bench.check_refused(&answer, 401, reason);
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{what}: {challenge}");
    if token.len() > 20 {
        assert!(!answer.text().contains(token) && !bench.audit_text().contains(token), "{what}");
    }
}

#[tokio::test]
async fn a_token_of_the_tunnels_person_counts_and_is_recorded_by_its_hash() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let rsa = json!({ "alg": "RS256", "kid": "rsa", "typ": "at+jwt" });
    for token in [
        issuer.token(json!({ "groups": ["admin"] })),
        issuer.rs256(&rsa, issuer.claims(json!({ "client_id": "cli" })).to_string()),
        issuer.token(json!({ "aud": ["other", "wicket"], "preferred_username": "ALICE" })),
    ] {
        let answer = ask(&bench, &token).await;
        let seen = bench.check_passed(&answer);
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {token}").as_str()), "forwarded by default");
        let record = bench.decision(seen.header("wicketgate-decision").unwrap());
        let facts = &record["token"];
        assert_eq!((&facts["issuer"], &facts["sub"]), (&"corp".into(), &"248289".into()), "{record:#}");
        let hash = facts["jti_hash"].as_str().unwrap();
        assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        let written = bench.audit_text();
        for part in token.split('.') {
            assert!(!written.contains(part), "a part of the token stands in the records");
        }
        assert!(!written.contains("the-name-of-this-token"));
    }
    let first = bench.backend.requests()[0].clone();
    assert_eq!(first.header("wicketgate-groups"), Some("admin,dev"), "the file's and the token's");
}

#[tokio::test]
async fn nt_27_a_token_chooses_neither_its_algorithm_nor_its_key() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let claims = issuer.claims(json!({})).to_string();
    let unsigned =
        |alg: &str| format!("{}.{}.", encode(json!({ "alg": alg, "kid": "ec" }).to_string()), encode(&claims));
    let hs256 = |kid: &str, secret: &[u8]| {
        let header = json!({ "alg": "HS256", "kid": kid, "typ": "at+jwt" });
        let signed = format!("{}.{}", encode(header.to_string()), encode(&claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", encode(tag))
    };
    let own = rcgen::KeyPair::generate().unwrap().serialize_der();
    let own = ec_key(&own);
    let signed_by_us = |extra: Value| {
        let mut header = header();
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        es256(&own, &header, &claims)
    };
    let with_kid = |kid: Value| issuer.es256(&json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" }), &claims);
    let good = issuer.token(json!({}));
    let (signed, made) = good.rsplit_once('.').unwrap();
    let tables = [
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no alg", unsigned("")),
        ("none, signed", format!("{}{made}", unsigned("none"))),
        ("HS256 by the public RSA key", hs256("rsa", issuer.public_rsa())),
        ("HS256 by an empty key", hs256("ec", b"")),
        ("ES256 by the RSA key's id", issuer.es256(&json!({ "alg": "ES256", "kid": "rsa" }), &claims)),
        ("RS256 by the elliptic key's id", issuer.rs256(&json!({ "alg": "RS256", "kid": "ec" }), &claims)),
        ("ES384", issuer.es256(&json!({ "alg": "ES384", "kid": "ec" }), &claims)),
        ("another key", signed_by_us(json!({}))),
        ("jwk", signed_by_us(json!({ "jwk": ec_jwk(&own, "ec") }))),
        ("jku", signed_by_us(json!({ "jku": "https://evil.test/keys" }))),
        ("x5u", signed_by_us(json!({ "x5u": "https://evil.test/chain" }))),
        ("x5c", signed_by_us(json!({ "x5c": ["MIIB"] }))),
        ("crit", issuer.es256(&json!({ "alg": "ES256", "kid": "ec", "crit": ["exp"] }), &claims)),
        ("kid of a path", with_kid("../../../../dev/null".into())),
        ("kid of a URL", with_kid("https://evil.test/keys#ec".into())),
        ("kid of 10 KiB", with_kid("x".repeat(10 << 10).into())),
        ("kid of no text", with_kid(json!(["ec"]))),
        ("kid with NUL", with_kid("ec\0".into())),
        ("no signature", format!("{signed}.")),
        ("a shorter signature", format!("{signed}.{}", &made[..made.len() - 4])),
        ("another signature", format!("{signed}.{}", "A".repeat(86))),
        ("two parts", signed.to_owned()),
        ("five parts", format!("{good}.a.b")),
        ("no JWT", "x".to_owned()),
        ("padding", format!("{good}=")),
    ];
    for (what, token) in tables {
        refused(&bench, what, &token, "token-invalid").await;
    }
    assert_eq!(ask(&bench, &good).await.status, 200, "and the good one is good");
}

#[tokio::test]
async fn nt_28_times_are_dates() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    for claim in ["exp", "nbf", "iat", "auth_time"] {
        for value in
            [json!("1893456000"), json!(-1), json!(1_893_456_000.5), json!(1e300), json!([1]), json!(true), json!({})]
        {
            let what = format!("{claim} = {value}");
            let token = issuer.token(json!({ claim: value }));
            refused(&bench, &what, &token, "token-invalid").await;
        }
        let null = issuer
            .claims(json!({ claim: 0 }))
            .to_string()
            .replace(&format!("\"{claim}\":0"), &format!("\"{claim}\":null"));
        refused(&bench, &format!("{claim} = null"), &issuer.es256(&header(), null), "token-invalid").await;
    }
    refused(&bench, "expired", &issuer.token(json!({ "exp": now() - 31 })), "token-expired").await;
    for claim in ["nbf", "iat", "auth_time"] {
        refused(&bench, claim, &issuer.token(json!({ claim: now() + 120 })), "token-invalid").await;
    }
    for change in [json!({ "exp": now() - 5 }), json!({ "nbf": now() + 5 }), json!({ "iat": null })] {
        assert_eq!(ask(&bench, &issuer.token(change.clone())).await.status, 200, "{change}");
    }
}

/// RFC 7519 makes these optional, and no rule needs them unless it names them; the end alone must be there.
#[tokio::test]
async fn nt_28_of_the_times_only_the_end_is_required() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    refused(&bench, "no exp", &issuer.token(json!({ "exp": null })), "token-invalid").await;
    for missing in [vec!["nbf"], vec!["iat"], vec!["auth_time"], vec!["nbf", "iat", "auth_time"]] {
        let change: serde_json::Map<String, Value> =
            missing.iter().map(|&claim| (claim.to_owned(), Value::Null)).collect();
        assert_eq!(ask(&bench, &issuer.token(change.into())).await.status, 200, "no {missing:?}");
    }
}

#[tokio::test]
async fn nt_29_a_token_is_for_us_from_our_issuer_and_an_access_token() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    for aud in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!(null),
        json!("Wicket"),
        json!(["wicket", 1]),
        json!("wicket "),
    ] {
        refused(&bench, &format!("aud {aud}"), &issuer.token(json!({ "aud": aud })), "token-audience").await;
    }
    for iss in [
        json!(format!("{}/", issuer.url)),
        json!(issuer.url.to_uppercase()),
        json!("https://evil.test"),
        json!(null),
        json!(1),
    ] {
        refused(&bench, &format!("iss {iss}"), &issuer.token(json!({ "iss": iss })), "token-invalid").await;
    }
    for claim in ["nonce", "at_hash", "c_hash"] {
        let claims = issuer.claims(json!({ claim: "x" })).to_string();
        let token = issuer.es256(&json!({ "alg": "ES256", "kid": "ec", "typ": "JWT" }), claims);
        refused(&bench, claim, &token, "token-invalid").await;
    }
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt"] {
        let token =
            issuer.es256(&json!({ "alg": "ES256", "kid": "ec", "typ": typ }), issuer.claims(json!({})).to_string());
        refused(&bench, typ, &token, "token-invalid").await;
    }
}

#[tokio::test]
async fn nt_30_groups_are_whole_names_in_one_array() {
    let issuer = Issuer::start().await;
    let rules = "[[allow]]\nid = \"change\"\nwho = \"admin\"\nmethods = [\"GET\"]\npaths = [\"/v1/orders\"]\n\
                 [[allow]]\nid = \"seen\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/v1/seen\"]\n";
    let bench = Setup::new(rules).issuer(issuer.config()).start().await;
    let claims = issuer.claims(json!({})).to_string();
    let twice = claims.replacen('{', "{\"groups\":[\"admin\"],", 1);
    refused(&bench, "two claims of one name", &issuer.es256(&header(), twice), "token-invalid").await;
    for groups in [
        json!("admin"),
        json!([["admin"]]),
        json!(["admin", ["x"]]),
        json!({ "admin": true }),
        json!(["admins"]),
        json!(["xadmin"]),
        json!(["admin,dev"]),
        json!(["Admin"]),
        json!(["admin "]),
        json!([]),
        json!(null),
    ] {
        let answer = ask(&bench, &issuer.token(json!({ "groups": groups }))).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "no-rule-for-subject"), "{groups}");
    }
    assert!(bench.backend.requests().is_empty());
    assert_eq!(ask(&bench, &issuer.token(json!({ "groups": ["x", "admin"] }))).await.status, 200);
}

#[tokio::test]
async fn nt_31_a_person_has_one_spelling() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    for name in [
        json!("alice@evil.test"),
        json!("evil\\bob"),
        json!("alice "),
        json!("\u{430}lice"),
        json!("alice\u{0}"),
        json!(["alice"]),
        json!(""),
        json!(null),
        json!("bob"),
        json!("root"),
    ] {
        let token = issuer.token(json!({ "preferred_username": name }));
        refused(&bench, &format!("name {name}"), &token, "identity-conflict").await;
    }
    for change in [json!({ "client_id": "248289" }), json!({ "gty": "client-credentials" }), json!({ "idtyp": "app" })]
    {
        refused(&bench, &change.to_string(), &issuer.token(change.clone()), "identity-conflict").await;
    }
}

#[tokio::test]
async fn nt_31_an_email_names_a_person_only_when_it_is_verified_and_plain() {
    let issuer = Issuer::start().await;
    let config = wicketgate::identity::authn::IssuerConfig {
        person: wicketgate::identity::authn::PersonRule::Claim("email".to_owned()),
        ..issuer.config()
    };
    let bench = Setup::new(RULES).issuer(config).start().await;
    bench.users().add("alice@corp.example", &["dev".to_owned()], "password").unwrap();
    bench.renew();
    let caller = bench.caller("alice@corp.example");
    for (email, verified, status) in [
        ("alice@corp.example", true, 200),
        ("Alice@CORP.example", true, 200),
        ("alice@corp.example", false, 401),
        ("alice@corp.example@evil", true, 401),
        ("alice@corp.example.evil", true, 401),
        ("alice@c\u{43e}rp.example", true, 401),
        ("alice@xn--crp-0ed.example", true, 401),
        ("\"alice\"@corp.example", true, 401),
    ] {
        let token = issuer.token(json!({ "email": email, "email_verified": verified }));
        let lines = format!("Authorization: Bearer {token}\r\n");
        let answer = bench.door_of(&caller, ORDERS).send(request("GET", "/v1/orders", &lines)).await;
        assert_eq!(answer.status, status, "{email} {verified}: {answer:?}");
    }
}

#[tokio::test]
async fn nt_36_a_token_of_another_person_is_refused_with_an_alarm() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let answer = ask(&bench, &issuer.token(json!({ "preferred_username": "bob" }))).await;
    bench.check_refused(&answer, 401, "identity-conflict");
    assert!(!answer.text().contains("bob"), "whose it is, its carrier does not learn: {}", answer.text());
    let records = bench.audit();
    let alarm = records.iter().find(|record| record["event"] == "alarm").unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!((&alarm["alarm"], &alarm["user"]), (&"identity-conflict".into(), &"alice".into()), "{alarm}");
    assert_eq!(alarm["decision_id"], answer.decision());
}

#[tokio::test]
async fn nt_36_whoever_is_refused_often_silences_no_alarm() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let mut door = bench.door();
    for _ in 0..300 {
        assert_eq!(door.get("/v2").await.status, 403);
    }
    let token = issuer.token(json!({ "preferred_username": "bob" }));
    for _ in 0..300 {
        let lines = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(door.send(request("GET", "/v1/orders", &lines)).await.status, 401);
    }
    let alarms = bench.audit().into_iter().filter(|record| record["event"] == "alarm").count() as u64;
    assert!((200..300).contains(&alarms), "{alarms}");
    let summed = bench.alice().take_pre_limited();
    let sums: Vec<_> = summed.by_limit().filter(|(limit, _)| *limit == "alarms").collect();
    assert_eq!(sums, [("alarms", 300 - alarms)]);
}

#[tokio::test]
async fn nt_53_a_claim_that_is_not_there_allows_nothing_and_denies() {
    let issuer = Issuer::start().await;
    let deny = "[[deny]]\nid = \"admins\"\nwho = \"admin\"\nmethods = [\"POST\"]\npaths = [\"/v1/orders\"]\n";
    let allow = "[[allow]]\nid = \"change\"\nwho = \"admin\"\nmethods = [\"GET\"]\npaths = [\"/v1/admin\"]\n";
    let bench = Setup::new(&format!("{RULES}{deny}{allow}")).issuer(issuer.config()).start().await;
    for (groups, get, post) in [
        (json!(null), (403, "no-rule-for-subject"), (403, "deny-undetermined")),
        (json!("admin"), (403, "no-rule-for-subject"), (403, "deny-undetermined")),
        (json!(["dev"]), (403, "no-rule-for-subject"), (200, "")),
        (json!(["admin"]), (200, ""), (403, "denied-by")),
    ] {
        let lines =
            format!("Authorization: Bearer {}\r\nContent-Length: 0\r\n", issuer.token(json!({ "groups": groups })));
        for (bytes, (status, reason)) in
            [(request("GET", "/v1/admin", &lines), get), (request("POST", "/v1/orders", &lines), post)]
        {
            let answer = bench.door().send(bytes).await;
            assert_eq!(answer.status, status, "{groups}: {answer:?}");
            if status != 200 {
                assert_eq!(answer.reason(), reason, "{groups}");
            }
        }
    }
}

#[tokio::test]
async fn an_api_may_ask_for_a_token_of_its_issuers() {
    let issuer = Issuer::start().await;
    let login = api("orders", "login = [\"corp\"]", "", RULES);
    let bench = Setup::of(&login).issuer(issuer.config()).start().await;
    for lines in ["", "Authorization: Basic YTpi\r\n"] {
        let answer = bench.door().send(request("GET", "/v1/orders", lines)).await;
        bench.check_refused(&answer, 401, "login-required");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{answer:?}");
    }
    let answer = bench.door().send(request("GET", "/v1/nothing", "")).await;
    bench.check_refused(&answer, 401, "login-required");
    assert_eq!(ask(&bench, &issuer.token(json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_token_counts_for_its_own_request_alone() {
    let issuer = Issuer::start().await;
    let login = api("orders", "login = [\"corp\"]", "", RULES);
    let bench = Setup::of(&login).issuer(issuer.config()).start().await;
    let mut door = bench.door();
    let lines = format!("Authorization: Bearer {}\r\n", issuer.token(json!({})));
    assert_eq!(door.send(request("GET", "/v1/orders", &lines)).await.status, 200);
    assert_eq!(door.get("/v1/orders").await.status, 401);
}

#[tokio::test]
async fn authorization_reaches_the_api_by_the_apis_choice() {
    let issuer = Issuer::start().await;
    let token = format!("Bearer {}", issuer.token(json!({})));
    for (upstream, seen) in [("", true), ("authorization = \"forward\"", true), ("authorization = \"strip\"", false)] {
        let bench = Setup::of(&api("orders", "", upstream, RULES)).issuer(issuer.config()).start().await;
        for value in [token.as_str(), "Basic YTpi", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=y"] {
            let answer = bench.door().send(request("GET", "/v1/orders", &format!("Authorization: {value}\r\n"))).await;
            let got = bench.check_passed(&answer);
            assert_eq!(got.header("authorization"), seen.then_some(value), "{upstream}");
        }
    }
}

#[tokio::test]
async fn a_passed_bearer_token_is_untouched_and_no_evidence() {
    let issuer = Issuer::start().await;
    let rules =
        format!("{RULES}[[allow]]\nid = \"change\"\nwho = \"admin\"\nmethods = [\"GET\"]\npaths = [\"/v1/admin\"]\n");
    let bench = Setup::of(&api("orders", "bearer = \"pass\"", "", &rules)).issuer(issuer.config()).start().await;
    let bobs = issuer.token(json!({ "preferred_username": "bob" }));
    let admins = issuer.token(json!({ "groups": ["admin"] }));
    for value in ["Bearer opaque-token", "bearer x", &format!("Bearer {bobs}")] {
        let answer = bench.door().send(request("GET", "/v1/orders", &format!("Authorization: {value}\r\n"))).await;
        let seen = bench.check_passed(&answer);
        assert_eq!(seen.header("authorization"), Some(value));
        let record = bench.decision(seen.header("wicketgate-decision").unwrap());
        assert!(record["token"].is_null(), "{record}");
    }
    let lines = format!("Authorization: Bearer {admins}\r\n");
    let answer = bench.door().send(request("GET", "/v1/admin", &lines)).await;
    assert_eq!((answer.status, answer.reason().as_str()), (403, "no-rule-for-subject"));
    assert_eq!(bench.backend.last().header("wicketgate-groups"), Some("dev"));
}

#[tokio::test]
async fn the_schemes_name_has_no_case() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    for scheme in ["bearer", "BEARER", "BeArEr"] {
        let lines = format!("Authorization: {scheme} x\r\n");
        let answer = bench.door().send(request("GET", "/v1/orders", &lines)).await;
        bench.check_refused(&answer, 401, "token-invalid");
    }
    for value in ["Bearer", "Bearer ", "Bearer  x"] {
        let answer = bench.door().send(request("GET", "/v1/orders", &format!("Authorization: {value}\r\n"))).await;
        bench.check_refused(&answer, 401, "token-invalid");
    }
}

#[tokio::test]
async fn nt_36_no_white_space_hides_a_token_of_another_person() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let bobs = issuer.token(json!({ "preferred_username": "bob" }));
    for (space, status, reason) in
        [("  ", 401, "identity-conflict"), ("\t", 400, "malformed-header"), (" \t", 400, "malformed-header")]
    {
        let lines = format!("Authorization: Bearer{space}{bobs}\r\n");
        let answer = bench.door().send(request("GET", "/v1/orders", &lines)).await;
        bench.check_refused(&answer, status, reason);
    }
}

#[tokio::test]
async fn a_download_ends_when_its_token_no_longer_counts() {
    let issuer = Issuer::start().await;
    let bench = bench(&issuer).await;
    let (pipe, reply) = super::backend::Reply::pipe();
    bench.backend.answer(reply);
    let mut door = bench.door();
    let lines = format!("Authorization: Bearer {}\r\n", issuer.token(json!({})));
    door.write(request("GET", "/v1/orders", &lines)).await;
    pipe.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()).await.unwrap();
    door.read_through("hello").await;
    bench.store("_identity.toml", "[subjects.dev]\ngroups = [\"dev\"]\n[subjects.admin]\ngroups = [\"admin\"]\n");
    door.check_closed().await;
}
