//! `_identity.toml`: issuers and named subjects.

use std::collections::btree_map::Entry as BTreeEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::identity::{Binding, IssuerName, MAX_NAME, Method, fold, is_address};
use crate::policy::Source;
use crate::policy::issuer::{Alg, Allowed, ClaimType, GroupsAbsent, Issuer, PersonClaim};

use super::log::Reader;
use super::table::{At, Entry, Schema, Table, one_of, open_value, read_list, unknown};
use super::value::{self, Flaw};

const FILE: Schema = Schema {
    what: "_identity.toml",
    keys: &["policy_version", "owner", "issuers", "subjects"],
    later: &["requirements", "networks"],
    elsewhere: &[("guardrails", "_org.toml"), ("defaults", "_org.toml")],
};

const ISSUER: Schema = Schema {
    what: "an issuer",
    keys: &[
        "url",
        "audiences",
        "algs",
        "clock_skew",
        "jwks_max_age",
        "groups_claim",
        "groups",
        "groups_prefix",
        "groups_absent",
        "person",
        "claims",
        "ca",
    ],
    later: &["groups_max_age", "introspect"],
    elsewhere: &[],
};

const PERSON: Schema = Schema { what: "`person`", keys: &["claim"], later: &[], elsewhere: &[] };

pub(crate) const SELECTOR: Schema = Schema {
    what: "a subject",
    keys: &["groups", "users", "emails", "claims", "issuers", "tunnel"],
    later: &["clients", "spiffe", "cert", "network", "networks", "device", "require", "time"],
    elsewhere: &[("methods", "a rule"), ("paths", "a rule")],
};

const TUNNEL: Schema =
    Schema { what: "`tunnel`", keys: &["binding", "method"], later: &["source", "age"], elsewhere: &[] };

const BINDINGS: [(&str, Binding); 2] = [("keys", Binding::Keys), ("zero", Binding::Zero)];

const METHODS: [(&str, Method); 3] =
    [("pap", Method::Pap), ("mschapv2", Method::MsChapV2), ("eap-mschapv2", Method::EapMsChapV2)];

/// Largest difference of clocks that an issuer may be granted.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Bounds of `jwks_max_age`: long enough to be no flood, short enough that a withdrawn key dies.
const JWKS_MAX_AGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));

/// Longest group, address or claim value.
const MAX_VALUE: usize = 256;

/// `_identity.toml` as written.
#[derive(Debug)]
pub(crate) struct IdentityText {
    pub(crate) source: Source,
    pub(crate) issuers: Vec<IssuerText>,
    pub(crate) subjects: Vec<SubjectText>,
}

/// An issuer and the places of what must fit elsewhere.
#[derive(Debug)]
pub(crate) struct IssuerText {
    pub(crate) name: At<String>,
    /// `None` when something in it is wrong.
    pub(crate) issuer: Option<Issuer>,
    pub(crate) url: Range<usize>,
    pub(crate) groups: Range<usize>,
    pub(crate) claims: Range<usize>,
    pub(crate) ca: Range<usize>,
}

/// A named identity requirement.
#[derive(Debug)]
pub(crate) struct SubjectText {
    pub(crate) name: At<String>,
    /// `None` when something in it is wrong.
    pub(crate) selector: Option<SelectorText>,
}

/// What a subject asks of an identity: OR inside a list, AND across lists that are not empty.
#[derive(Debug)]
pub(crate) struct SelectorText {
    /// Whose tokens count; empty: those of every issuer.
    pub(crate) issuers: Vec<At<String>>,
    /// The place of what any issuer could state: addresses or claims without `issuers`.
    pub(crate) open: Option<Range<usize>>,
    pub(crate) groups: Vec<String>,
    pub(crate) users: Vec<String>,
    pub(crate) emails: Vec<String>,
    pub(crate) claims: Vec<(At<String>, ClaimValues)>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) methods: Vec<Method>,
}

/// The values that a claim is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimValues {
    Texts(Vec<String>),
    Numbers(Vec<i64>),
    Flags(Vec<bool>),
}

impl ClaimValues {
    /// Whether values of this kind can be compared with a claim of the type.
    pub(crate) fn fits(&self, kind: ClaimType) -> bool {
        match self {
            Self::Texts(_) => matches!(kind, ClaimType::Text | ClaimType::Texts),
            Self::Numbers(_) => kind == ClaimType::Number,
            Self::Flags(_) => kind == ClaimType::Flag,
        }
    }
}

impl IdentityText {
    pub(crate) fn read(root: &toml::de::DeTable<'_>, reader: &mut Reader<'_>) -> Self {
        let table = Table::open(root, 0..0, &FILE, reader);
        super::policy_version(&table, reader);
        table.text("owner", reader);
        let issuers = table.entries("issuers", reader).into_iter().map(|entry| read_issuer(entry, reader)).collect();
        let subjects = table.entries("subjects", reader).into_iter().map(|entry| read_subject(entry, reader)).collect();
        Self { source: reader.source.clone(), issuers, subjects }
    }
}

/// The author's name of something; a bad one is a complaint and is used nevertheless, so that nothing else fails.
fn entry_name(entry: &Entry<'_>, reader: &mut Reader<'_>) -> At<String> {
    if let Err(flaw) = value::name(entry.name.value) {
        reader.error(entry.name.span.clone(), flaw);
    }
    At { value: entry.name.value.to_owned(), span: entry.name.span.clone() }
}

fn read_issuer(entry: Entry<'_>, reader: &mut Reader<'_>) -> IssuerText {
    let name = entry_name(&entry, reader);
    let nowhere = entry.value.span();
    let Some(table) = open_value("issuers", entry.value, &ISSUER, reader) else {
        let [url, groups, claims, ca] = [(); 4].map(|()| nowhere.clone());
        return IssuerText { name, issuer: None, url, groups, claims, ca };
    };
    for key in ["url", "audiences", "algs", "person"] {
        table.need(key, reader);
    }
    let url = table.parsed("url", reader, issuer_url);
    let audiences = table.list("audiences", reader, false, plain);
    let algs = table.list("algs", reader, false, alg);
    let clock_skew = table.parsed("clock_skew", reader, |text| match text {
        "0s" => Ok(Duration::ZERO),
        text => value::duration(text),
    });
    if let Some(skew) = clock_skew.as_ref().filter(|skew| skew.value > MAX_CLOCK_SKEW) {
        reader.complain(skew.span.clone(), "out-of-range", "`clock_skew` is at most 60s", "mend the clocks");
    }
    let jwks_max_age = table.parsed("jwks_max_age", reader, value::duration);
    if let Some(age) = jwks_max_age.as_ref().filter(|age| age.value < JWKS_MAX_AGE.0 || age.value > JWKS_MAX_AGE.1) {
        reader.complain(age.span.clone(), "out-of-range", "`jwks_max_age` is between 1m and 7d", "the default is 1h");
    }
    let groups_claim = table.parsed("groups_claim", reader, claim_path);
    let groups = read_allowed(&table, reader);
    let absent = [("unknown", GroupsAbsent::Unknown), ("empty", GroupsAbsent::Empty)];
    let groups_absent = table.word("groups_absent", reader, &absent);
    let person = read_person(&table, reader);
    let claims = read_claim_types(&table, reader);
    let ca = table.parsed("ca", reader, value::name);
    let [at_url, at_groups, at_claims, at_ca] = ["url", "groups", "claims", "ca"].map(|key| table.place(key));
    let issuer = (|| {
        Some(Issuer {
            name: IssuerName::new(name.value.as_str()),
            url: url?.value,
            audiences: values(audiences?),
            algs: values(algs?),
            clock_skew: clock_skew.map_or(Duration::from_secs(30), |skew| skew.value),
            jwks_max_age: jwks_max_age.map_or(Duration::from_secs(3600), |age| age.value),
            groups_claim: groups_claim.map(|claim| claim.value),
            groups: groups?,
            groups_absent: groups_absent.map_or(GroupsAbsent::Unknown, |absent| absent.value),
            person: person?,
            claims,
            ca: ca.map(|ca| ca.value),
        })
    })();
    IssuerText { name, issuer, url: at_url, groups: at_groups, claims: at_claims, ca: at_ca }
}

pub(crate) fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|item| item.value).collect()
}

fn issuer_url(text: &str) -> Result<String, Flaw> {
    let bad = |message: String| Err(Flaw::new("bad-url", message, "write it as the claim `iss` has it"));
    let Some(rest) = text.strip_prefix("https://") else {
        return bad(format!("the issuer `{text}` does not begin with `https://`"));
    };
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || !graphic || text.contains(['?', '#', '@', '\\']) || text.len() > 512 {
        return bad(format!("`{text}` is not the address of an issuer"));
    }
    Ok(text.to_owned())
}

fn alg(text: &str) -> Result<Alg, Flaw> {
    if text.starts_with("HS") || text.eq_ignore_ascii_case("none") {
        let message = format!("`{text}` does not prove who made a token");
        return Err(Flaw::new("symmetric-algorithm", message, "use an asymmetric algorithm such as ES256 or RS256"));
    }
    one_of("algs", text, &Alg::NAMES)
}

/// A value that is compared byte for byte.
pub(crate) fn plain(text: &str) -> Result<String, Flaw> {
    if text.is_empty() || text.len() > MAX_VALUE || text.chars().any(char::is_control) {
        let hint = "write 1 to 256 bytes without control characters";
        return Err(Flaw::new("bad-value", format!("`{}` cannot be compared", text.escape_debug()), hint));
    }
    Ok(text.to_owned())
}

/// Names of claims, joined by dots.
fn claim_path(text: &str) -> Result<String, Flaw> {
    let well_formed = !text.is_empty()
        && text.len() <= MAX_VALUE
        && text.split('.').all(|step| !step.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if well_formed {
        return Ok(text.to_owned());
    }
    Err(Flaw::new("bad-value", format!("`{text}` is not the path of a claim"), "write names joined by dots"))
}

fn read_allowed(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<Allowed> {
    let groups = table.list("groups", reader, false, plain);
    let prefix = table.parsed("groups_prefix", reader, plain);
    let stated = (table.has("groups"), table.has("groups_prefix"));
    let (code, message, hint) = match (table.has("groups_claim"), stated) {
        (false, (false, false)) => return Some(Allowed::Nothing),
        (false, _) => (
            "issuer-groups",
            "the issuer has no `groups_claim`, so it states no groups",
            "add `groups_claim`, or remove `groups` and `groups_prefix`",
        ),
        (true, (false, false)) => (
            "issuer-groups",
            "with `groups_claim` an issuer needs `groups` or `groups_prefix`",
            "list the groups that it may state, so that it cannot grant another's",
        ),
        (true, (true, true)) => {
            ("issuer-groups", "`groups` and `groups_prefix` exclude each other", "keep one of them")
        }
        (true, (false, true)) => return prefix.map(|prefix| Allowed::Prefixed(prefix.value)),
        (true, (true, false)) => {
            let groups = groups?;
            if !groups.iter().any(|group| group.value == "*") {
                return Some(Allowed::Listed(values(groups).into_iter().collect::<BTreeSet<_>>()));
            }
            if groups.len() == 1 {
                return Some(Allowed::All);
            }
            ("issuer-groups", "`*` stands alone in `groups`", "write `groups = [\"*\"]` or list the names")
        }
    };
    let place = if stated.0 { table.place("groups") } else { table.place("groups_claim") };
    reader.complain(place, code, message, hint);
    None
}

fn read_person(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<PersonClaim> {
    let raw = table.raw("person")?;
    if raw.get_ref().is_str() {
        return table.word("person", reader, &[("linked", ())]).map(|_| PersonClaim::Linked);
    }
    let person = table.table("person", &PERSON, reader)?;
    person.need("claim", reader);
    person.parsed("claim", reader, claim_path).map(|claim| PersonClaim::Claim(claim.value))
}

fn read_claim_types(table: &Table<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, ClaimType> {
    let mut types = BTreeMap::new();
    for (path, value) in flatten(table.entries("claims", reader), reader) {
        let Some(text) = value.get_ref().as_str() else {
            reader.complain(value.span(), "wrong-type", "the type of a claim is a string", "write \"string\"");
            continue;
        };
        match one_of("claims", text, &ClaimType::NAMES) {
            Ok(kind) => drop(types.insert(path.value, kind)),
            Err(flaw) => reader.error(value.span(), flaw),
        }
    }
    types
}

/// The leaves of nested tables, by dotted path: `claims.realm.roles` and `claims."realm.roles"` are the same.
pub(crate) fn flatten<'t>(
    entries: Vec<Entry<'t>>,
    reader: &mut Reader<'_>,
) -> Vec<(At<String>, &'t Spanned<DeValue<'t>>)> {
    let mut leaves: BTreeMap<String, (Range<usize>, &Spanned<DeValue<'_>>)> = BTreeMap::new();
    let mut open: Vec<(At<String>, &Spanned<DeValue<'_>>)> =
        entries.into_iter().map(|entry| (entry.name.map(str::to_owned), entry.value)).collect();
    while let Some((path, value)) = open.pop() {
        // Judged before what lies below it: a long name is not copied for each of its leaves.
        if let Err(flaw) = claim_path(&path.value) {
            reader.error(path.span, flaw);
            continue;
        }
        if let Some(table) = value.get_ref().as_table() {
            for (key, value) in table {
                open.push((At { value: format!("{}.{}", path.value, key.get_ref()), span: key.span() }, value));
            }
            continue;
        }
        match leaves.entry(path.value) {
            BTreeEntry::Vacant(free) => drop(free.insert((path.span, value))),
            BTreeEntry::Occupied(taken) => {
                let message = format!("the claim `{}` stands twice", taken.key());
                reader.complain(path.span, "duplicate-item", message, "remove one");
            }
        }
    }
    leaves.into_iter().map(|(path, (span, value))| (At { value: path, span }, value)).collect()
}

fn read_subject(entry: Entry<'_>, reader: &mut Reader<'_>) -> SubjectText {
    let name = entry_name(&entry, reader);
    if matches!(name.value.as_str(), "anonymous" | "anyone-authenticated") {
        let message = format!("`{}` is built in", name.value);
        reader.complain(name.span.clone(), "bad-name", message, "choose another name");
    }
    let selector =
        open_value("subjects", entry.value, &SELECTOR, reader).and_then(|table| SelectorText::read(&table, reader));
    SubjectText { name, selector }
}

impl SelectorText {
    /// Reads the lists of a subject; complains about one that asks for nothing, or for what nobody is.
    pub(crate) fn read(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let stated = ["emails", "claims"];
        if table.has("issuers") && !table.has("groups") && !stated.iter().any(|key| table.has(key)) {
            let message = "`issuers` says whose tokens count, and the subject asks for nothing of a token";
            reader.complain(table.place("issuers"), "contradiction", message, "remove it, or ask for what they state");
            return None;
        }
        let keys = ["groups", "users", "emails", "claims", "tunnel"];
        if !keys.iter().any(|key| table.has(key)) {
            if table.is_empty() {
                let hint = "write at least one of groups, users, emails, claims and tunnel";
                reader.complain(table.span.clone(), "missing-key", "the subject asks for nothing", hint);
            }
            return None;
        }
        let open = stated.into_iter().find(|key| table.has(key) && !table.has("issuers"));
        let open = open.map(|key| table.place(key));
        let issuers =
            if table.has("issuers") { table.list("issuers", reader, false, value::name) } else { Some(Vec::new()) };
        let groups = optional(table, "groups", reader, plain);
        let users = optional(table, "users", reader, user);
        let emails = optional(table, "emails", reader, email);
        let claims = read_claim_values(table, reader);
        let (bindings, methods) = match table.has("tunnel").then(|| table.table("tunnel", &TUNNEL, reader)) {
            None => (Some(Vec::new()), Some(Vec::new())),
            Some(None) => (None, None),
            Some(Some(tunnel)) => {
                if !tunnel.has("binding") && !tunnel.has("method") {
                    reader.complain(
                        tunnel.span.clone(),
                        "missing-key",
                        "`tunnel` asks for nothing",
                        "write `binding` or `method`",
                    );
                }
                (
                    optional(&tunnel, "binding", reader, |text| one_of("tunnel.binding", text, &BINDINGS)),
                    optional(&tunnel, "method", reader, |text| one_of("tunnel.method", text, &METHODS)),
                )
            }
        };
        Some(Self {
            issuers: issuers?,
            open,
            groups: groups?,
            users: users?,
            emails: emails?,
            claims: claims?,
            bindings: bindings?,
            methods: methods?,
        })
    }
}

/// An absent list is empty; a flawed one is `None`.
fn optional<T>(
    table: &Table<'_>,
    key: &'static str,
    reader: &mut Reader<'_>,
    parse: impl Fn(&str) -> Result<T, Flaw>,
) -> Option<Vec<T>> {
    if table.has(key) { table.list(key, reader, false, parse).map(values) } else { Some(Vec::new()) }
}

/// A local name, as folding leaves it.
pub(crate) fn user(text: &str) -> Result<String, Flaw> {
    let folded = fold(text.as_bytes());
    if folded.as_deref() == Some(text) {
        return Ok(text.to_owned());
    }
    let hint = match folded {
        Some(folded) => format!("names are compared after folding: write `{folded}`"),
        None => format!("a name has 1 to {MAX_NAME} visible ASCII characters"),
    };
    Err(Flaw::new("bad-value", format!("`{}` is not a folded name", text.escape_debug()), &hint))
}

/// An address that tokens may state, with its domain in lower case; compared without regard to the case of ASCII letters.
pub(crate) fn email(text: &str) -> Result<String, Flaw> {
    let domain = text.split('@').next_back().unwrap_or_default();
    if !is_address(text) || domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let hint =
            "write one `@` and a domain in lower-case ASCII: tokens with other addresses are taken to state none";
        return Err(Flaw::new("bad-value", format!("`{}` is not an e-mail address", text.escape_debug()), hint));
    }
    plain(text)
}

fn read_claim_values(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<Vec<(At<String>, ClaimValues)>> {
    let mut claims = Vec::new();
    let mut whole = true;
    for (path, value) in flatten(table.entries("claims", reader), reader) {
        match claim_values(&path.value, value, reader) {
            Some(values) => claims.push((path, values)),
            None => whole = false,
        }
    }
    if whole && claims.is_empty() && table.has("claims") {
        reader.complain(table.place("claims"), "empty-list", "`claims` is empty", "name a claim and its values");
        return None;
    }
    whole.then_some(claims)
}

fn claim_values(path: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<ClaimValues> {
    let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref().as_array() {
        Some(items) => items.iter().collect(),
        None => vec![value],
    };
    let numbers = || items.iter().map(|item| integer(item.get_ref())).collect::<Option<Vec<_>>>();
    let flags = || items.iter().map(|item| item.get_ref().as_bool()).collect::<Option<Vec<_>>>();
    if items.is_empty() || items.iter().any(|item| item.get_ref().is_str()) {
        return read_list(path, value, reader, true, plain).map(|list| ClaimValues::Texts(values(list)));
    }
    if let Some(values) = numbers() {
        return Some(ClaimValues::Numbers(values));
    }
    if let Some(values) = flags() {
        return Some(ClaimValues::Flags(values));
    }
    let message = format!("the claim `{path}` is compared with strings, integers or booleans");
    reader.complain(value.span(), "wrong-type", message, "write a list of values of one type");
    None
}

pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The binding that a word names.
pub(crate) fn binding(text: &str) -> Result<Binding, Flaw> {
    one_of("binding", text, &BINDINGS)
}

/// The login method that a word names.
pub(crate) fn method(text: &str) -> Result<Method, Flaw> {
    one_of("method", text, &METHODS)
}

/// The complaint about a claim that no issuer declares.
pub(crate) fn unknown_claim<'k>(path: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Flaw {
    let message = format!("no issuer declares the type of the claim `{path}` in `claims`");
    unknown("unknown-claim", message, path, known)
}
