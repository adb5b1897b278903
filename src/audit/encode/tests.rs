use super::*;
use crate::audit::{DecisionId, Limit, Outcome, Token};
use crate::identity::{Binding, SessionId};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 50_123);

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_471_560_123)
}

fn session() -> SessionId {
    SessionId::from_random(0x118)
}

fn id() -> DecisionId {
    DecisionId::parse("d-01JDA0000000000000000000ZZ").unwrap()
}

fn caller<'a>() -> Caller<'a> {
    Caller {
        user: "alice",
        kind: Kind::Person,
        token: Some(Token { issuer: "corp", subject: "u-1", client: Some("cli"), id_hash: "0011223344556677" }),
        certificate: None,
        session: session(),
        source: SOURCE,
        method: Method::EapMsChapV2,
    }
}

static ALICE: LazyLock<CallerText> = LazyLock::new(|| CallerText::of(&caller()));

fn decision<'a>() -> Decision<'a> {
    Decision {
        id: id(),
        bundle: "7f3a",
        api: Some("orders"),
        rule: Some("orders/change"),
        outcome: Outcome::Deny,
        reason: "step-up-required",
        near_miss: &["orders/change"],
        caller: &ALICE,
        age: Duration::from_secs(3660),
        request: Some(Request {
            method: "DELETE",
            host: "orders.api.corp.example",
            path: "/v1/orders/42",
            path_hash: None,
            query_names: &["force"],
            bytes: Some(0),
        }),
        limits: &[Limit { id: "per-user", remaining: 9 }],
    }
}

fn line(event: &Event<'_>) -> String {
    let mut buffer = Vec::new();
    encode(at(), event, &mut buffer);
    String::from_utf8(buffer).unwrap()
}

#[test]
fn a_decision_reads_as_documented() {
    let expected = concat!(
        r#"{"time":"2026-11-23T22:06:00.123Z","event":"decision","decision_id":"d-01JDA0000000000000000000ZZ","#,
        r#""bundle":"7f3a","api":"orders","rule":"orders/change","outcome":"deny","reason":"step-up-required","#,
        r#""near_miss":["orders/change"],"user":{"id":"alice","kind":"person"},"#,
        r#""token":{"issuer":"corp","sub":"u-1","client":"cli","jti_hash":"0011223344556677"},"#,
        r#""tunnel":{"id":"s-0000000000000118","source":"192.0.2.7:50123","method":"eap-mschapv2","age":3660},"#,
        r#""req":{"method":"DELETE","host":"orders.api.corp.example","path":"/v1/orders/42","query_names":["force"],"#,
        r#""bytes":0},"limits":[{"id":"per-user","remaining":9}]}"#,
        "\n"
    );
    assert_eq!(line(&Event::Decision(decision())), expected);
}

#[test]
fn every_event_is_one_line_with_time_and_name() {
    let events = [
        (
            "tunnel-up",
            Event::TunnelUp(TunnelUp {
                session: session(),
                user: "alice",
                source: SOURCE,
                method: Method::MsChapV2,
                binding: Binding::Keys,
                correlation: Some("{0B1C}"),
            }),
        ),
        (
            "tunnel-down",
            Event::TunnelDown(TunnelDown {
                session: session(),
                user: "alice",
                source: SOURCE,
                reason: "client",
                lasted: Duration::from_secs(9),
                received: 1,
                sent: 2,
                requests: 3,
            }),
        ),
        (
            "login-refused",
            Event::LoginRefused(LoginRefused {
                source: SOURCE,
                user: b"al\xFFice\n",
                method: Some(Method::Pap),
                reason: "credentials",
                correlation: None,
            }),
        ),
        ("logins-refused", Event::LoginsRefused(LoginsRefused { reason: "locked", count: 7 })),
        ("decision", Event::Decision(Decision { request: None, api: None, rule: None, ..decision() })),
        (
            "end",
            Event::End(End {
                id: id(),
                session: session(),
                status: Some(200),
                result: "complete",
                bytes: 5,
                request_bytes: 6,
                took: Duration::from_millis(7),
                upstream: Some(Duration::from_millis(4)),
            }),
        ),
        (
            "pre-limited",
            Event::PreLimited(PreLimited { session: session(), user: "alice", limit: "max_requests", count: 9 }),
        ),
        (
            "alarm",
            Event::Alarm(Alarm {
                alarm: "identity-conflict",
                id: Some(id()),
                session: Some(session()),
                user: "alice",
                other: "bob",
            }),
        ),
        ("policy-loaded", Event::PolicyLoaded(PolicyLoaded { bundle: "b", apis: 1, tests: 3 })),
        (
            "policy-load-failed",
            Event::PolicyLoadFailed(PolicyLoadFailed {
                kept: None,
                complaints: 2,
                code: "unknown-key",
                file: "orders.toml",
                line: 3,
                column: 1,
                message: "unknown key",
                hint: Some("did you mean `id`?"),
            }),
        ),
        ("users-reloaded", Event::UsersReloaded(UsersReloaded { enabled: 3, disabled: 1 })),
        ("reloaded", Event::Reloaded(Reloaded { what: "certificate", result: "ok" })),
        ("audit-lost", Event::AuditLost(AuditLost { count: 12 })),
    ];
    for (name, event) in events {
        let line = line(&event);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2026-11-23T22:06:00.123Z");
        assert_eq!(value["event"], name);
        assert!(value.get("cut").is_none(), "{line}");
    }
}

#[test]
fn the_end_of_a_request_has_the_id_of_its_decision() {
    let end = End {
        id: id(),
        session: session(),
        status: None,
        result: "client-gone",
        bytes: 5,
        request_bytes: 6,
        took: Duration::from_millis(7),
        upstream: None,
    };
    let expected = concat!(
        r#"{"time":"2026-11-23T22:06:00.123Z","event":"end","decision_id":"d-01JDA0000000000000000000ZZ","#,
        r#""session":"s-0000000000000118","result":"client-gone","resp":{"bytes":5,"ms":7},"req":{"bytes":6}}"#,
        "\n"
    );
    assert_eq!(line(&Event::End(end)), expected);
}

#[test]
fn a_monstrous_request_still_fits_in_a_line() {
    // Control characters grow sixfold when they are escaped.
    let monster = "\u{1}".repeat(100_000);
    let many = vec![monster.as_str(); 500];
    let request =
        Request { method: &monster, host: &monster, path: &monster, path_hash: None, query_names: &many, bytes: None };
    let limits = vec![Limit { id: &monster, remaining: u64::MAX }; 500];
    let token = Token { issuer: &monster, subject: &monster, client: Some(&monster), id_hash: &monster };
    let caller = CallerText::of(&Caller { user: &monster, token: Some(token), ..caller() });
    let event = Event::Decision(Decision {
        near_miss: &many,
        api: Some(&monster),
        rule: Some(&monster),
        caller: &caller,
        request: Some(request),
        limits: &limits,
        ..decision()
    });
    let line = line(&event);
    assert!(line.len() <= MAX_LINE, "{}", line.len());
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["cut"], true);
    assert_eq!(value["decision_id"], id().to_string());
}

#[test]
fn no_claim_of_a_token_cuts_the_name_of_its_user() {
    let (user, client) = ("a".repeat(MAX_NAME), "\u{1}".repeat(4000));
    let token = Token { issuer: "corp", subject: "u-1", client: Some(&client), id_hash: "0011223344556677" };
    let caller = CallerText::of(&Caller { user: &user, token: Some(token), ..caller() });
    let value: serde_json::Value =
        serde_json::from_str(&line(&Event::Decision(Decision { caller: &caller, ..decision() }))).unwrap();
    assert_eq!((&value["user"]["id"], &value["cut"]), (&serde_json::json!(user), &serde_json::json!(true)));
}

#[test]
fn a_long_path_is_kept_up_to_half_a_line() {
    let path = format!("/{}", "a".repeat(LONGEST - 1));
    let Some(request) = decision().request else { panic!("the template has a request") };
    let event = Event::Decision(Decision { request: Some(Request { path: &path, ..request }), ..decision() });
    let value: serde_json::Value = serde_json::from_str(&line(&event)).unwrap();
    assert_eq!(value["req"]["path"], path.as_str());
    assert!(value.get("cut").is_none());
}

proptest! {
    #[test]
    fn what_strangers_send_comes_out_unchanged_or_is_marked_as_cut(
        user: Vec<u8>, method: String, host: String, path: String, names: Vec<String>,
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let request = Request { method: &method, host: &host, path: &path, path_hash: None, query_names: &names, bytes: None };
        let text = line(&Event::Decision(Decision { request: Some(request), ..decision() }));
        prop_assert!(text.len() <= MAX_LINE && text.matches('\n').count() == 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        if value.get("cut").is_none() {
            prop_assert_eq!(&value["req"]["method"], method.as_str());
            prop_assert_eq!(&value["req"]["host"], host.as_str());
            prop_assert_eq!(&value["req"]["path"], path.as_str());
            let written = value["req"].get("query_names").cloned().unwrap_or_else(|| serde_json::json!([]));
            prop_assert_eq!(written, serde_json::json!(names));
        }
        let refused = LoginRefused { source: SOURCE, user: &user, method: None, reason: "credentials", correlation: None };
        let value: serde_json::Value = serde_json::from_str(&line(&Event::LoginRefused(refused))).unwrap();
        prop_assert_eq!(value["user"].as_str(), Some(&*String::from_utf8_lossy(&user)));
    }
}
