//! An API file as written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::policy::Source;
use crate::policy::api::{Attribute, Bearer, Handling, HttpOptions};
use crate::policy::pattern::Pattern;
use crate::request::canonical_path;

use super::log::Reader;
use super::rule::{LimitText, RuleText, read_limits, read_rules, shown};
use super::table::{At, Schema, Table, not_supported, one_of};
use super::test::{TestText, read_tests};
use super::upstream::{UpstreamText, read_upstream};
use super::value::{self, Flaw};

const FILE: Schema = Schema {
    what: "an API file",
    keys: &[
        "api",
        "policy_version",
        "owner",
        "hosts",
        "address",
        "base",
        "mode",
        "upstream",
        "http",
        "assert",
        "login",
        "bearer",
        "hide_routes",
        "allow",
        "deny",
        "limit",
        "test",
    ],
    later: &["openapi", "cors", "requirements", "networks"],
    elsewhere: &[
        ("strip_base", "[upstream]"),
        ("authorization", "[upstream]"),
        ("url", "[upstream]"),
        ("timeout", "[upstream]"),
        ("max_body", "[upstream]"),
        ("subjects", "_identity.toml"),
        ("issuers", "_identity.toml"),
        ("guardrails", "_org.toml"),
        ("defaults", "_org.toml"),
    ],
};

const HTTP: Schema = Schema {
    what: "[http]",
    keys: &["encoded_slash", "double_encoding", "matrix_params", "methods_extra"],
    later: &["grpc", "sse", "websocket"],
    elsewhere: &[],
};

const ASSERT: Schema =
    Schema { what: "[assert]", keys: &["headers"], later: &["jwt", "audience", "ttl"], elsewhere: &[] };

const HANDLING: [(&str, Handling); 2] = [("reject", Handling::Reject), ("opaque", Handling::Opaque)];

/// Methods that every API's rules may name.
pub(crate) const USUAL_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Headers that carry the message itself or the connection; asserting one would make a second reading.
const FRAMING_HEADERS: [&str; 16] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// An API file.
#[derive(Debug)]
pub(crate) struct ApiText {
    pub(crate) source: Source,
    pub(crate) api: At<String>,
    pub(crate) owner: String,
    pub(crate) hosts: Vec<At<String>>,
    pub(crate) address: Option<At<Ipv4Addr>>,
    /// `/`, or `/` and literal segments.
    pub(crate) base: At<String>,
    pub(crate) upstream: UpstreamText,
    pub(crate) http: At<HttpOptions>,
    pub(crate) assert_headers: Vec<(String, At<Attribute>)>,
    pub(crate) login: Vec<At<String>>,
    pub(crate) bearer: Bearer,
    pub(crate) hide_routes: Option<bool>,
    pub(crate) allows: Vec<RuleText>,
    pub(crate) denies: Vec<RuleText>,
    pub(crate) limits: Vec<LimitText>,
    pub(crate) tests: Vec<TestText>,
}

impl ApiText {
    /// Reads an API file; `stem` is what its name demands of `api`.
    pub(crate) fn read(root: &toml::de::DeTable<'_>, stem: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let table = Table::open(root, 0..0, &FILE, reader);
        for key in ["api", "policy_version", "owner", "hosts"] {
            table.need(key, reader);
        }
        super::policy_version(&table, reader);
        let api = table.parsed("api", reader, value::name);
        if let Some(api) = api.as_ref().filter(|api| api.value != stem) {
            let message = format!("the API is called `{}` and its file `{stem}.toml`", api.value);
            reader.complain(api.span.clone(), "file-name", message, "both names must be equal");
        }
        let owner = table.parsed("owner", reader, shown);
        let hosts = table.list("hosts", reader, false, value::host);
        let address = table.parsed("address", reader, address);
        let base = if table.has("base") {
            table.parsed("base", reader, base)
        } else {
            Some(At { value: "/".to_owned(), span: table.place("hosts") })
        };
        read_mode(&table, reader);
        let upstream = read_upstream(&table, reader);
        let http = read_http(&table, reader);
        let assert_headers = read_assert(&table, reader);
        let login = if table.has("login") { table.list("login", reader, false, value::name) } else { Some(Vec::new()) };
        let bearer = table.word("bearer", reader, &[("judge", Bearer::Judge), ("pass", Bearer::Pass)]);
        if bearer.as_ref().is_some_and(|bearer| bearer.value == Bearer::Pass) && table.has("login") {
            reader.complain(
                table.place("login"),
                "contradiction",
                "`login` needs tokens, and with `bearer = \"pass\"` no token is looked at",
                "remove one of them",
            );
        }
        let hide_routes = table.flag("hide_routes", reader);
        let allows = read_rules(&table, "allow", false, reader);
        let denies = read_rules(&table, "deny", false, reader);
        let limits = read_limits(&table, false, reader);
        let tests = read_tests(&table, reader);
        Some(Self {
            source: reader.source.clone(),
            api: api?,
            owner: owner?.value,
            hosts: hosts?,
            address,
            base: base?,
            upstream: upstream?,
            http: http?,
            assert_headers,
            login: login?,
            bearer: bearer.map_or(Bearer::Judge, |bearer| bearer.value),
            hide_routes: hide_routes.map(|flag| flag.value),
            allows,
            denies,
            limits,
            tests,
        })
    }
}

fn read_mode(table: &Table<'_>, reader: &mut Reader<'_>) {
    table.parsed("mode", reader, |text| match text {
        "shadow" => Err(not_supported("mode = \"shadow\"")),
        text => one_of("mode", text, &[("enforce", ())]),
    });
}

fn address(text: &str) -> Result<Ipv4Addr, Flaw> {
    text.parse().map_err(|_| {
        let hint = "write an IPv4 address of the network of virtual addresses";
        Flaw::new("bad-address", format!("`{text}` is not an address"), hint)
    })
}

/// The base as canonical paths spell it, for it is compared with them byte by byte.
fn base(text: &str) -> Result<String, Flaw> {
    let pattern = Pattern::parse(text)?;
    let literal = !text.contains(['{', '*']) && pattern.parameters().next().is_none();
    if !literal || (text != "/" && text.ends_with('/')) {
        let hint = "write literal segments without a slash at the end: \"/v1\"";
        return Err(Flaw::new("bad-path", format!("`{text}` cannot be a base"), hint));
    }
    let canonical = canonical_path(text).map_err(|malformed| {
        Flaw::new("bad-path", format!("`{text}` cannot be a base: {malformed}"), "write it as requests may have it")
    })?;
    Ok(canonical.into())
}

fn read_http(parent: &Table<'_>, reader: &mut Reader<'_>) -> Option<At<HttpOptions>> {
    let span = parent.place("http");
    if !parent.has("http") {
        return Some(At { value: HttpOptions::default(), span: parent.place("hosts") });
    }
    let table = parent.table("http", &HTTP, reader)?;
    let handling = |key, reader: &mut Reader<'_>| table.word(key, reader, &HANDLING).map(|word| word.value);
    let encoded_slash = handling("encoded_slash", reader);
    let double_encoding = handling("double_encoding", reader);
    let matrix_params = handling("matrix_params", reader);
    let extra = table.list("methods_extra", reader, false, |text| {
        let method = value::method(text)?;
        if USUAL_METHODS.contains(&text) {
            return Err(Flaw::new("bad-method", format!("`{text}` is a usual method"), "leave it out"));
        }
        Ok(method)
    });
    let value = HttpOptions {
        encoded_slash: encoded_slash.unwrap_or_default(),
        double_encoding: double_encoding.unwrap_or_default(),
        matrix_params: matrix_params.unwrap_or_default(),
        methods_extra: extra.map_or_else(BTreeSet::new, |list| list.into_iter().map(|item| item.value).collect()),
    };
    Some(At { value, span })
}

fn read_assert(parent: &Table<'_>, reader: &mut Reader<'_>) -> Vec<(String, At<Attribute>)> {
    let Some(table) = parent.table("assert", &ASSERT, reader) else { return Vec::new() };
    let mut headers: BTreeMap<String, At<Attribute>> = BTreeMap::new();
    for entry in table.entries("headers", reader) {
        let name = match header(entry.name.value) {
            Ok(name) => name,
            Err(flaw) => {
                reader.error(entry.name.span, flaw);
                continue;
            }
        };
        if headers.contains_key(&name) {
            let message = format!("the header `{name}` is asserted twice");
            reader.complain(entry.name.span, "duplicate-item", message, "header names have no case");
            continue;
        }
        let Some(text) = entry.value.get_ref().as_str() else {
            let message = format!("`{name}` must be the name of an attribute");
            reader.complain(entry.value.span(), "wrong-type", message, "write \"user.id\"");
            continue;
        };
        match attribute(text) {
            Ok(value) => drop(headers.insert(name, At { value, span: entry.value.span() })),
            Err(flaw) => reader.error(entry.value.span(), flaw),
        }
    }
    headers.into_iter().collect()
}

fn header(text: &str) -> Result<String, Flaw> {
    let bad = |message: String, hint: &str| Err(Flaw::new("bad-header", message, hint));
    let token = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !token {
        return bad(format!("`{text}` cannot be an asserted header"), "use letters, digits and hyphens");
    }
    let folded = value::folded_header(text);
    if FRAMING_HEADERS.contains(&folded.as_str()) {
        return bad(format!("`{text}` belongs to the message itself"), "choose a name such as `X-User`");
    }
    Ok(folded)
}

fn attribute(text: &str) -> Result<Attribute, Flaw> {
    const WORDS: [(&str, u8); 8] = [
        ("user.id", 0),
        ("user.email", 1),
        ("user.groups", 2),
        ("user.kind", 3),
        ("client.id", 4),
        ("tunnel.id", 5),
        ("tunnel.binding", 6),
        ("tunnel.method", 7),
    ];
    if let Some(path) = text.strip_prefix("claims.") {
        return Ok(Attribute::Claim(path.to_owned()));
    }
    let later = ["auth.", "token.", "cert.", "device.", "req.", "path.", "query.", "header.", "now."];
    if later.iter().any(|prefix| text.starts_with(prefix)) || matches!(text, "tunnel.source" | "tunnel.age") {
        return Err(not_supported(text));
    }
    let attributes = [
        Attribute::UserId,
        Attribute::UserEmail,
        Attribute::UserGroups,
        Attribute::UserKind,
        Attribute::ClientId,
        Attribute::TunnelId,
        Attribute::TunnelBinding,
        Attribute::TunnelMethod,
    ];
    let at = one_of("headers", text, &WORDS)?;
    attributes.into_iter().nth(at.into()).ok_or_else(|| not_supported(text))
}
