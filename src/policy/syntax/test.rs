//! `[[test]]` as written.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use crate::identity::Claim;
use crate::policy::decision::Reason;
use crate::policy::persona::{Persona, PersonaToken};
use crate::policy::selftest::Expectation;

use super::identity::{self, flatten, integer, plain};
use super::log::Reader;
use super::table::{At, Schema, Table, not_supported, one_of, unknown};
use super::value::{self, Flaw};

const TEST: Schema = Schema {
    what: "a test",
    keys: &["name", "as", "req", "repeat", "expect", "rule", "reason"],
    later: &["headers", "body"],
    elsewhere: &[("groups", "`as`"), ("user", "`as`")],
};

const AS: Schema = Schema {
    what: "`as`",
    keys: &["user", "groups", "binding", "method", "token"],
    later: &["client", "acr", "amr", "auth_age", "cert", "token_bound", "network", "device", "at"],
    elsewhere: &[("email", "`token`"), ("claims", "`token`"), ("issuer", "`token`")],
};

const TOKEN: Schema = Schema {
    what: "`token`",
    keys: &["issuer", "groups", "email", "client", "claims"],
    later: &["scopes", "acr", "amr", "auth_age", "bound"],
    elsewhere: &[],
};

/// Most repetitions of one test, so that loading a bundle stays quick.
const MAX_REPEAT: u64 = 10_000;

/// A test inside a policy file.
#[derive(Debug)]
pub(crate) struct TestText {
    pub(crate) name: String,
    pub(crate) persona: Persona,
    /// The method and the target, which is a path or begins with a scheme.
    pub(crate) request: At<(String, String)>,
    pub(crate) repeat: u64,
    pub(crate) expect: Expectation,
    pub(crate) rule: Option<At<String>>,
    pub(crate) reason: Option<Reason>,
    pub(crate) span: Range<usize>,
}

/// Reads all tests of a file.
pub(crate) fn read_tests(table: &Table<'_>, reader: &mut Reader<'_>) -> Vec<TestText> {
    table.tables("test", &TEST, reader).iter().filter_map(|test| read_test(test, reader)).collect()
}

fn read_test(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<TestText> {
    for key in ["name", "req", "expect"] {
        table.need(key, reader);
    }
    let name = table.parsed("name", reader, super::rule::shown);
    let persona = match table.has("as").then(|| table.table("as", &AS, reader)) {
        None => Some(Persona::default()),
        Some(None) => None,
        Some(Some(table)) => read_persona(&table, reader),
    };
    let request = table.parsed("req", reader, request_line);
    let repeat = table.has("repeat").then(|| table.integer("repeat", reader, 1..=MAX_REPEAT));
    let expect = table.parsed("expect", reader, |text| {
        if text == "step-up" { Err(not_supported("step-up")) } else { one_of("expect", text, &Expectation::NAMES) }
    });
    let rule = table.has("rule").then(|| table.text("rule", reader));
    let reason = table.has("reason").then(|| table.parsed("reason", reader, reason));
    Some(TestText {
        name: name?.value,
        persona: persona?,
        request: request?,
        repeat: repeat.map_or(Some(1), |repeat| repeat.map(|repeat| repeat.value))?,
        expect: expect?.value,
        rule: rule.map_or(Some(None), |rule| rule.map(|rule| Some(rule.map(str::to_owned))))?,
        reason: reason.map_or(Some(None), |reason| reason.map(|reason| Some(reason.value)))?,
        span: table.span.clone(),
    })
}

fn request_line(text: &str) -> Result<(String, String), Flaw> {
    match text.split_once(' ') {
        Some((method, target)) if !method.is_empty() && !target.is_empty() => {
            Ok((method.to_owned(), target.to_owned()))
        }
        Some(_) | None => {
            let hint = "write \"GET /path?query\" or \"GET https://host/path\"";
            Err(Flaw::new("bad-value", format!("`{}` is not a request", text.escape_debug()), hint))
        }
    }
}

fn reason(text: &str) -> Result<Reason, Flaw> {
    Reason::parse(text).ok_or_else(|| {
        let known = Reason::ALL.iter().map(|reason| reason.as_str());
        unknown("bad-value", format!("`{text}` is not a reason"), text, known)
    })
}

fn read_persona(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<Persona> {
    let user = table.has("user").then(|| table.parsed("user", reader, identity::user));
    let groups = table.has("groups").then(|| table.list("groups", reader, false, plain));
    let binding = table.has("binding").then(|| table.parsed("binding", reader, identity::binding));
    let method = table.has("method").then(|| table.parsed("method", reader, identity::method));
    let token = table.has("token").then(|| {
        let table = table.table("token", &TOKEN, reader)?;
        read_token(&table, reader)
    });
    Some(Persona {
        user: settled(user)?.map(|user| user.value),
        groups: settled(groups)?.map(identity::values).unwrap_or_default(),
        binding: settled(binding)?.map(|binding| binding.value),
        method: settled(method)?.map(|method| method.value),
        token: settled(token)?,
        logged_in: ["user", "groups", "binding", "method", "token"].iter().any(|key| table.has(key)),
    })
}

/// Absent is `Some(None)`, flawed is `None`.
fn settled<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    match written {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

fn read_token(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<PersonaToken> {
    let issuer = table.has("issuer").then(|| table.parsed("issuer", reader, value::name));
    let groups = if table.raw("groups").and_then(|raw| raw.get_ref().as_array()).is_some_and(|list| list.is_empty()) {
        Some(Some(Vec::new()))
    } else {
        table.has("groups").then(|| table.list("groups", reader, false, plain))
    };
    let email = table.has("email").then(|| table.parsed("email", reader, identity::email));
    let client = table.has("client").then(|| table.parsed("client", reader, plain));
    let mut claims = BTreeMap::new();
    for (path, value) in flatten(table.entries("claims", reader), reader) {
        match claim(value) {
            Some(claim) => drop(claims.insert(path.value, claim)),
            None => reader.complain(
                value.span(),
                "wrong-type",
                format!("the claim `{}` has no type that policies know", path.value),
                "write a string, a list of strings, an integer or a boolean",
            ),
        }
    }
    Some(PersonaToken {
        issuer: settled(issuer)?.map(|issuer| issuer.value),
        groups: settled(groups)?.map(identity::values),
        email: settled(email)?.map(|email| email.value),
        client: settled(client)?.map(|client| client.value),
        claims,
        untyped: BTreeMap::new(),
    })
}

fn claim(value: &Spanned<DeValue<'_>>) -> Option<Claim> {
    let value = value.get_ref();
    if let Some(items) = value.as_array() {
        return items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(Claim::Texts);
    }
    let text = value.as_str().map(|text| Claim::Text(text.to_owned()));
    text.or_else(|| value.as_bool().map(Claim::Flag)).or_else(|| integer(value).map(Claim::Number))
}
