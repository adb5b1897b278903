//! What the claims of one token say, judged by what its issuer may say. Pure: JSON and time in, facts out.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::issuer::{ClaimType, IssuerConfig, PersonRule};
use super::jwt::Person;
use super::refusal::TokenRefusal;
use crate::identity::{Claim, Group, StatedGroups, Subject, fold, is_address};

pub(super) type Claims = Map<String, Value>;

/// A claim with more groups states none that could be trusted to be complete; a token of 16 KiB has room for fewer.
pub(super) const MAX_GROUPS: usize = 10_000;

/// The longest name of a group.
pub(super) const MAX_GROUP: usize = 256;

/// The longest `sub` (OpenID Connect Core section 2).
const MAX_SUB: usize = 255;

/// 9999-12-31T23:59:59Z. Later times are not dates but attempts at overflow.
const LAST_SECOND: u64 = 253_402_300_799;

/// The claim at a dotted path. A path with `/` or `:` is one name: claims named by a URL or URN have dots of their own.
pub(super) fn lookup<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if path.contains(['/', ':']) {
        return claims.get(path);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_object()?.get(name))
}

/// From when to when a token counts, leeway included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) expires: SystemTime,
    pub(super) counts_from: SystemTime,
    pub(super) counts_until: SystemTime,
}

/// Judges `exp` (required), `nbf`, `iat` and `auth_time` (RFC 7519 section 4.1): whoever states one states a sane one.
pub(super) fn times(claims: &Claims, skew: Duration, now: SystemTime) -> Result<Times, TokenRefusal> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let Some(expires) = numeric_date(claims, "exp")? else {
        return Err(TokenRefusal::Claim { claim: "exp", problem: "is missing" });
    };
    let mut counts_from = Duration::ZERO;
    for claim in ["nbf", "iat", "auth_time"] {
        let start = numeric_date(claims, claim)?.unwrap_or_default();
        if start > now + skew {
            return Err(TokenRefusal::NotYetValid { claim, ahead: start.saturating_sub(now) });
        }
        counts_from = counts_from.max(start.saturating_sub(skew));
    }
    let counts_until = expires + skew;
    if now >= counts_until {
        return Err(TokenRefusal::Expired { ago: now.saturating_sub(expires) });
    }
    Ok(Times {
        expires: UNIX_EPOCH + expires,
        counts_from: UNIX_EPOCH + counts_from,
        counts_until: UNIX_EPOCH + counts_until,
    })
}

/// A NumericDate (RFC 7519 section 2) between 1970 and 9999, and stricter than there: a whole number, because a fraction
/// has as many readings as there are ways to round it.
fn numeric_date(claims: &Claims, claim: &'static str) -> Result<Option<Duration>, TokenRefusal> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let refused = |problem| TokenRefusal::Claim { claim, problem };
    let Value::Number(number) = value else {
        return Err(refused("is not a number"));
    };
    match number.as_u64() {
        Some(seconds) if seconds <= LAST_SECOND => Ok(Some(Duration::from_secs(seconds))),
        Some(_) | None => Err(refused("is not a date")),
    }
}

/// `aud` must name one of ours (RFC 7519 section 4.1.3).
pub(super) fn audience(claims: &Claims, config: &IssuerConfig) -> Result<(), TokenRefusal> {
    let named = match claims.get("aud") {
        Some(Value::String(one)) => config.audiences.contains(one),
        Some(Value::Array(several)) => {
            several.iter().all(Value::is_string)
                && several.iter().filter_map(Value::as_str).any(|one| config.audiences.contains(one))
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    };
    if named { Ok(()) } else { Err(TokenRefusal::Audience) }
}

/// `sub`, required here as in RFC 9068 section 2.2.
pub(super) fn subject(claims: &Claims) -> Result<&str, TokenRefusal> {
    let refused = |problem| TokenRefusal::Claim { claim: "sub", problem };
    match claims.get("sub") {
        None => Err(refused("is missing")),
        Some(Value::String(sub)) if (1..=MAX_SUB).contains(&sub.len()) => Ok(sub),
        Some(_) => Err(refused("is not a text of 1 to 255 bytes")),
    }
}

/// `client_id` (RFC 8693 section 4.3), else `azp` (OpenID Connect Core section 2).
pub(super) fn client(claims: &Claims) -> Option<&str> {
    ["client_id", "azp"].into_iter().find_map(|name| claims.get(name)?.as_str())
}

/// `email`, when its issuer vouches for it and it has one reading.
pub(super) fn email(claims: &Claims) -> Option<&str> {
    let email = claims.get("email")?.as_str()?;
    let vouched = claims.get("email_verified") == Some(&Value::Bool(true));
    (vouched && is_address(email)).then_some(email)
}

/// The words of `scope` (RFC 8693 section 4.2).
pub(super) fn scopes(claims: &Claims) -> Vec<String> {
    let scope = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
    scope.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The groups that this issuer states and may state, and how many it stated without being allowed to.
pub(super) fn groups(claims: &Claims, config: &IssuerConfig) -> (StatedGroups, usize) {
    let Some(path) = &config.groups_claim else {
        return (StatedGroups::NotStated, 0);
    };
    let Some(value) = lookup(claims, path) else {
        let absent = if config.groups_absent_empty { StatedGroups::Known(Vec::new()) } else { StatedGroups::Unknown };
        return (absent, 0);
    };
    let Some(stated) = texts(value).filter(|stated| stated.len() <= MAX_GROUPS) else {
        return (StatedGroups::Unknown, 0);
    };
    if stated.iter().any(|name| name.len() > MAX_GROUP) {
        return (StatedGroups::Unknown, 0);
    }
    let (known, ignored): (Vec<_>, Vec<_>) = stated.into_iter().partition(|name| may_state(config, name));
    let mut known: Vec<Group> = known.into_iter().map(Group::new).collect();
    known.sort_unstable();
    known.dedup();
    (StatedGroups::Known(known), ignored.len())
}

fn may_state(config: &IssuerConfig, name: &str) -> bool {
    config.groups_allowed.contains(name)
        || config.groups_allowed.contains("*")
        || config.groups_prefix.as_deref().is_some_and(|prefix| !prefix.is_empty() && name.starts_with(prefix))
}

/// An array of strings and of nothing else.
fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// The claims with a declared type that have this type.
pub(super) fn typed(claims: &Claims, declared: &BTreeMap<String, ClaimType>) -> BTreeMap<String, Claim> {
    let read = |(path, kind): (&String, &ClaimType)| {
        let value = lookup(claims, path)?;
        let claim = match kind {
            ClaimType::Text => Claim::Text(value.as_str()?.to_owned()),
            ClaimType::Texts => Claim::Texts(texts(value)?.into_iter().map(str::to_owned).collect()),
            ClaimType::Number => Claim::Number(value.as_i64()?),
            ClaimType::Flag => Claim::Flag(value.as_bool()?),
        };
        Some((path.clone(), claim))
    };
    declared.iter().filter_map(read).collect()
}

/// Whom the token names, by the issuer's own rule.
pub(super) fn person(claims: &Claims, sub: &str, rule: &PersonRule) -> Person {
    if is_machine(claims, sub) {
        return Person::Machine;
    }
    match rule {
        PersonRule::Linked => Person::Linked,
        PersonRule::Claim(path) => {
            let value = if path == "email" { email(claims) } else { lookup(claims, path).and_then(Value::as_str) };
            value
                .and_then(|name| fold(name.as_bytes()))
                .map_or(Person::Nobody, |name| Person::Named(Subject::new(name)))
        }
    }
}

/// A token of a client or workload that acts for itself: RFC 9068 section 2.2 makes `sub` the client then; Entra says
/// `idtyp`, Auth0 `gty`; SPIFFE and Kubernetes have names of their own.
fn is_machine(claims: &Claims, sub: &str) -> bool {
    let says = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    ["client_id", "azp"].iter().any(|name| says(name, sub))
        || says("idtyp", "app")
        || says("gty", "client-credentials")
        || sub.starts_with("spiffe://")
        || sub.starts_with("system:serviceaccount:")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::authn::testing::config;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn known(names: &[&str]) -> StatedGroups {
        StatedGroups::Known(names.iter().map(|&name| Group::new(name)).collect())
    }

    #[test]
    fn nt_30_groups_are_whole_names_in_one_flat_array_or_unknown() {
        let config = IssuerConfig { groups_allowed: ["*".to_owned()].into(), ..config() };
        let stated = |value: Value| groups(&claims(json!({ "groups": value })), &config);
        assert_eq!(stated(json!(["b", "a", "b"])), (known(&["a", "b"]), 0));
        assert_eq!(stated(json!([])), (known(&[]), 0));
        for odd in [
            json!("orders-admin"),
            json!(["a", ["orders-admin"]]),
            json!([["orders-admin"]]),
            json!(["orders-admin", 1]),
            json!(["orders-admin", null]),
            json!({ "orders-admin": true }),
            json!(null),
            json!(vec!["orders-admin"; 100_000]),
            json!(["orders-admin", "g".repeat(257)]),
        ] {
            assert_eq!(stated(odd), (StatedGroups::Unknown, 0));
        }
    }

    #[test]
    fn an_absent_groups_claim_is_unknown_unless_the_issuer_says_empty() {
        let nothing = claims(json!({}));
        assert_eq!(groups(&nothing, &config()).0, StatedGroups::Unknown);
        assert_eq!(groups(&nothing, &IssuerConfig { groups_absent_empty: true, ..config() }).0, known(&[]));
        assert_eq!(groups(&nothing, &IssuerConfig { groups_claim: None, ..config() }).0, StatedGroups::NotStated);
        let null = claims(json!({ "groups": null }));
        let lenient = IssuerConfig { groups_absent_empty: true, ..config() };
        assert_eq!(groups(&null, &lenient).0, StatedGroups::Unknown, "present and badly typed");
    }

    #[test]
    fn nt_62_groups_that_an_issuer_may_not_state_are_ignored_and_counted() {
        let token = claims(json!({ "groups": ["orders-dev", "orders-dev-2", "admin", "partner/x", "*"] }));
        let listed = IssuerConfig { groups_allowed: ["orders-dev".to_owned()].into(), ..config() };
        assert_eq!(groups(&token, &listed), (known(&["orders-dev"]), 4));
        let prefixed =
            IssuerConfig { groups_allowed: Default::default(), groups_prefix: Some("partner/".to_owned()), ..config() };
        assert_eq!(groups(&token, &prefixed), (known(&["partner/x"]), 4));
        for prefix in [None, Some(String::new())] {
            let nothing = IssuerConfig { groups_allowed: Default::default(), groups_prefix: prefix, ..config() };
            assert_eq!(groups(&token, &nothing), (known(&[]), 5));
        }
    }

    #[test]
    fn groups_may_lie_deeper_or_have_a_url_for_a_name() {
        let token = claims(json!({ "realm": { "roles": ["a"] }, "https://corp.example/g": ["b"] }));
        let at = |path: &str| {
            let config = IssuerConfig {
                groups_claim: Some(path.to_owned()),
                groups_allowed: ["*".to_owned()].into(),
                ..config()
            };
            groups(&token, &config).0
        };
        assert_eq!(at("realm.roles"), known(&["a"]));
        assert_eq!(at("https://corp.example/g"), known(&["b"]));
        assert_eq!(at("realm.roles.a"), StatedGroups::Unknown);
        assert_eq!(at(""), StatedGroups::Unknown);
    }

    #[test]
    fn nt_31_an_email_counts_only_verified_and_with_one_reading() {
        let of = |email: &str, verified: Value| {
            let claims = claims(json!({ "email": email, "email_verified": verified }));
            person(&claims, "248", &PersonRule::Claim("email".to_owned()))
        };
        let alice = || Person::Named(Subject::new("a@corp.example"));
        assert_eq!(of("a@corp.example", true.into()), alice());
        assert_eq!(of("A@CORP.example", true.into()), alice(), "compared after folding");
        for unverified in [json!(false), json!("true"), json!(1), json!(null)] {
            assert_eq!(of("a@corp.example", unverified), Person::Nobody);
        }
        for odd in [
            "a@corp.example@evil",
            "a@corp.example\u{0}",
            "a@c\u{43e}rp.example",
            "\u{430}@corp.example",
            "a@xn--crp-emd.example",
            "a@XN--crp-emd.example",
            "a@corp..example",
            "a@corp.example.",
            "a @corp.example",
            "@corp.example",
            "a@",
            "a",
            "",
            "evil\\b@corp.example, a@corp.example",
            "a@[127.0.0.1]",
            "a@corp.example(x)",
            "evil\\a@corp.example",
            "\"a\"@corp.example",
        ] {
            assert_eq!(of(odd, true.into()), Person::Nobody, "{odd:?}");
        }
        let silent = claims(json!({ "email": "a@corp.example" }));
        assert_eq!(email(&silent), None, "email_verified is missing");
    }

    #[test]
    fn a_claim_names_a_person_after_folding() {
        let of = |value: Value| {
            let claims = claims(json!({ "preferred_username": value }));
            person(&claims, "248", &PersonRule::Claim("preferred_username".to_owned()))
        };
        assert_eq!(of(json!("Alice")), Person::Named(Subject::new("alice")));
        assert_eq!(of(json!("CORP\\alice")), Person::Named(Subject::new("alice")));
        for odd in [json!("al\u{131}ce"), json!(""), json!(["alice"]), json!(null), json!("alice "), json!(7)] {
            assert_eq!(of(odd), Person::Nobody);
        }
    }

    #[test]
    fn a_machine_is_not_a_person() {
        let rule = PersonRule::Claim("preferred_username".to_owned());
        for (sub, more) in [
            ("batch", json!({ "client_id": "batch" })),
            ("batch", json!({ "azp": "batch" })),
            ("batch", json!({ "client_id": "other", "azp": "batch" })),
            ("248", json!({ "idtyp": "app" })),
            ("x@clients", json!({ "gty": "client-credentials" })),
            ("spiffe://corp.example/x", json!({})),
            ("system:serviceaccount:ns:x", json!({})),
        ] {
            let mut claims = claims(more);
            claims.insert("preferred_username".to_owned(), "alice".into());
            assert_eq!(person(&claims, sub, &rule), Person::Machine, "{sub}");
            assert_eq!(person(&claims, sub, &PersonRule::Linked), Person::Machine, "{sub}");
        }
        let person_of = claims(json!({ "azp": "cli", "preferred_username": "alice" }));
        assert_eq!(person(&person_of, "248", &rule), Person::Named(Subject::new("alice")));
    }

    #[test]
    fn declared_claims_are_read_with_their_type_only() {
        let declared = [
            ("dept", ClaimType::Text),
            ("a.b", ClaimType::Number),
            ("roles", ClaimType::Texts),
            ("ok", ClaimType::Flag),
        ];
        let declared = declared.into_iter().map(|(path, kind)| (path.to_owned(), kind)).collect();
        let good = claims(json!({ "dept": "x", "a": { "b": -7 }, "roles": ["r"], "ok": false, "more": 1 }));
        let read = typed(&good, &declared);
        assert_eq!(read.len(), 4);
        assert_eq!(read["dept"], Claim::Text("x".to_owned()));
        assert_eq!(read["a.b"], Claim::Number(-7));
        assert_eq!(read["roles"], Claim::Texts(vec!["r".to_owned()]));
        assert_eq!(read["ok"], Claim::Flag(false));
        let bad = claims(json!({ "dept": ["x"], "a": { "b": 7.5 }, "roles": ["r", 1], "ok": "true" }));
        assert!(typed(&bad, &declared).is_empty());
    }
}
