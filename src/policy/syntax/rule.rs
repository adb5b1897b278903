//! `[[allow]]`, `[[deny]]` and `[[limit]]` as written.

use std::time::Duration;

use crate::policy::limit::KeyPart;
use crate::policy::pattern::Pattern;

use super::identity::{SELECTOR, SelectorText};
use super::log::Reader;
use super::table::{At, Schema, Table, not_supported, one_of};
use super::value::{self, Flaw, MAX_RATE, Rate};

const RULE: Schema = Schema {
    what: "a rule",
    keys: &["id", "why", "methods", "paths", "who"],
    later: &[
        "ops", "grpc", "safe", "graphql", "query", "header", "body", "require", "network", "networks", "time",
        "expires", "shadow", "when",
    ],
    elsewhere: &[("rate", "[[limit]]"), ("key", "[[limit]]"), ("expect", "[[test]]"), ("groups", "[subjects.<name>]")],
};

const LIMIT: Schema = Schema {
    what: "a limit",
    keys: &["id", "match", "key", "rate", "burst", "status"],
    later: &["cost", "concurrency", "quota", "scope", "on_store_down"],
    elsewhere: &[("methods", "`match`"), ("paths", "`match`"), ("who", "`match`")],
};

const MATCH: Schema = Schema {
    what: "`match`",
    keys: &["methods", "paths", "who"],
    later: &[
        "ops", "grpc", "graphql", "query", "header", "body", "require", "network", "networks", "time", "expires",
        "when",
    ],
    elsewhere: &[],
};

/// The longest time in which a bucket fills: what is counted for longer than a year does not live in memory.
const MAX_FILL: Duration = Duration::from_secs(400 * 86_400);

/// Longest text that is shown to a person.
const MAX_WHY: usize = 512;

/// An allow or deny rule.
#[derive(Debug)]
pub(crate) struct RuleText {
    pub(crate) id: At<String>,
    pub(crate) why: Option<String>,
    pub(crate) methods: Vec<At<String>>,
    pub(crate) paths: Vec<At<Pattern>>,
    pub(crate) who: WhoText,
}

/// Named subjects, or (organisation only) one without a name.
#[derive(Debug)]
pub(crate) enum WhoText {
    Names(Vec<At<String>>),
    Inline(SelectorText),
}

/// A rate limit.
#[derive(Debug)]
pub(crate) struct LimitText {
    pub(crate) id: At<String>,
    pub(crate) methods: Option<Vec<At<String>>>,
    pub(crate) paths: Option<Vec<At<Pattern>>>,
    pub(crate) who: Option<WhoText>,
    pub(crate) key: Vec<At<KeyPart>>,
    pub(crate) rate: Rate,
    pub(crate) burst: u64,
    pub(crate) status: u16,
}

/// Reads all rules under `key`. `inline` admits a selector table in `who`.
pub(crate) fn read_rules(table: &Table<'_>, key: &'static str, inline: bool, reader: &mut Reader<'_>) -> Vec<RuleText> {
    table.tables(key, &RULE, reader).iter().filter_map(|rule| read_rule(rule, inline, reader)).collect()
}

fn read_rule(table: &Table<'_>, inline: bool, reader: &mut Reader<'_>) -> Option<RuleText> {
    for key in ["id", "methods", "paths", "who"] {
        table.need(key, reader);
    }
    let id = table.parsed("id", reader, value::name);
    let why = table.has("why").then(|| table.parsed("why", reader, shown));
    let methods = table.list("methods", reader, false, value::method);
    let paths = table.list("paths", reader, false, Pattern::parse);
    let who = read_who(table, inline, reader);
    Some(RuleText {
        id: id?,
        why: why.map_or(Some(None), |why| why.map(|why| Some(why.value)))?,
        methods: methods?,
        paths: paths?,
        who: who?,
    })
}

/// Text for a person.
pub(crate) fn shown(text: &str) -> Result<String, Flaw> {
    if text.is_empty() || text.len() > MAX_WHY || text.chars().any(char::is_control) {
        let hint = "write one line of at most 512 bytes";
        return Err(Flaw::new("bad-value", "this text cannot be shown".into(), hint));
    }
    Ok(text.to_owned())
}

fn read_who(table: &Table<'_>, inline: bool, reader: &mut Reader<'_>) -> Option<WhoText> {
    if !table.raw("who")?.get_ref().is_table() {
        return table.list("who", reader, true, value::name).map(WhoText::Names);
    }
    if !inline {
        let hint = "name a subject of _identity.toml; only _org.toml may write selectors in place";
        reader.complain(
            table.place("who"),
            "wrong-type",
            "`who` must be the name of a subject or a list of names",
            hint,
        );
        return None;
    }
    let selector = table.table("who", &SELECTOR, reader)?;
    SelectorText::read(&selector, reader).map(WhoText::Inline)
}

/// Reads all limits of a file.
pub(crate) fn read_limits(table: &Table<'_>, inline: bool, reader: &mut Reader<'_>) -> Vec<LimitText> {
    table.tables("limit", &LIMIT, reader).iter().filter_map(|limit| read_limit(limit, inline, reader)).collect()
}

fn read_limit(table: &Table<'_>, inline: bool, reader: &mut Reader<'_>) -> Option<LimitText> {
    for key in ["id", "key", "rate"] {
        table.need(key, reader);
    }
    let id = table.parsed("id", reader, value::name);
    let key = table.list("key", reader, false, key_part);
    let rate = table.parsed("rate", reader, value::rate);
    let burst = table.has("burst").then(|| table.integer("burst", reader, 1..=MAX_RATE));
    let status = table.has("status").then(|| table.integer("status", reader, 400..=599));
    let (methods, paths, who) = match table.has("match").then(|| table.table("match", &MATCH, reader)) {
        None => (Some(None), Some(None), Some(None)),
        Some(None) => (None, None, None),
        Some(Some(table)) => (
            if table.has("methods") {
                table.list("methods", reader, false, value::method).map(Some)
            } else {
                Some(None)
            },
            if table.has("paths") { table.list("paths", reader, false, Pattern::parse).map(Some) } else { Some(None) },
            if table.has("who") { read_who(&table, inline, reader).map(Some) } else { Some(None) },
        ),
    };
    let rate = rate?.value;
    let most = MAX_FILL.as_nanos() / rate.interval().as_nanos().max(1);
    if let Some(Some(burst)) = &burst
        && u128::from(burst.value) > most
    {
        let message = format!("at this rate `burst` is at most {most}");
        reader.complain(burst.span.clone(), "out-of-range", message, "a bucket fills within 400 days");
        return None;
    }
    Some(LimitText {
        id: id?,
        methods: methods?,
        paths: paths?,
        who: who?,
        key: key?,
        rate,
        burst: burst.map_or(Some(rate.count), |burst| burst.map(|burst| burst.value))?,
        status: status.map_or(Some(429), |status| status.and_then(|status| u16::try_from(status.value).ok()))?,
    })
}

fn key_part(text: &str) -> Result<KeyPart, Flaw> {
    if let Some(name) = text.strip_prefix("path.") {
        return Ok(KeyPart::Path(name.into()));
    }
    if matches!(text, "group" | "device" | "cert" | "ip") || text.starts_with("header.") {
        return Err(not_supported(text));
    }
    let words =
        [("user", KeyWord::User), ("client", KeyWord::Client), ("tunnel", KeyWord::Tunnel), ("api", KeyWord::Api)];
    one_of("key", text, &words).map(|word| match word {
        KeyWord::User => KeyPart::User,
        KeyWord::Client => KeyPart::Client,
        KeyWord::Tunnel => KeyPart::Tunnel,
        KeyWord::Api => KeyPart::Api,
    })
}

#[derive(Clone, Copy)]
enum KeyWord {
    User,
    Client,
    Tunnel,
    Api,
}
