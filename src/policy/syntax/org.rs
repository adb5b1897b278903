//! `_org.toml` as written.

use std::ops::Range;

use crate::policy::Source;

use super::log::Reader;
use super::rule::{LimitText, RuleText, read_limits, read_rules, shown};
use super::table::{Schema, Table};
use super::test::{TestText, read_tests};
use super::value;

const FILE: Schema = Schema {
    what: "_org.toml",
    keys: &["policy_version", "owner", "guardrails", "defaults", "deny", "limit", "test"],
    later: &["allow", "requirements", "networks"],
    elsewhere: &[("subjects", "_identity.toml"), ("issuers", "_identity.toml"), ("hosts", "an API file")],
};

const GUARDRAILS: Schema = Schema {
    what: "[guardrails]",
    keys: &["anonymous", "every_api_needs_limit", "wildcard_hosts", "tests", "upstream_plaintext"],
    later: &["mutating_requires_any", "max_session", "max_rule_age"],
    elsewhere: &[],
};

const DEFAULTS: Schema = Schema { what: "[defaults]", keys: &["hide_routes", "max_body"], later: &[], elsewhere: &[] };

/// What the security team forbids the API teams. The default forbids nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guardrails {
    pub(crate) forbid_anonymous: bool,
    pub(crate) every_api_needs_limit: bool,
    pub(crate) forbid_wildcard_hosts: bool,
    pub(crate) tests_required: bool,
    pub(crate) forbid_plaintext: bool,
}

/// `_org.toml`.
#[derive(Debug)]
pub(crate) struct OrgText {
    pub(crate) source: Source,
    pub(crate) owner: Option<String>,
    pub(crate) guardrails: Guardrails,
    pub(crate) hide_routes: bool,
    pub(crate) max_body: u64,
    pub(crate) denies: Vec<RuleText>,
    pub(crate) limits: Vec<LimitText>,
    pub(crate) tests: Vec<TestText>,
}

/// Largest request body unless `_org.toml` or the API says otherwise: enough for usual JSON, not for a dump.
pub(crate) const DEFAULT_MAX_BODY: u64 = 4 << 20;

impl OrgText {
    /// What holds without the file.
    pub(crate) fn absent() -> Self {
        Self {
            source: Source { file: "_org.toml".into(), text: "".into() },
            owner: None,
            guardrails: Guardrails::default(),
            hide_routes: false,
            max_body: DEFAULT_MAX_BODY,
            denies: Vec::new(),
            limits: Vec::new(),
            tests: Vec::new(),
        }
    }

    pub(crate) fn read(root: &toml::de::DeTable<'_>, reader: &mut Reader<'_>) -> Self {
        let table = Table::open(root, Range::default(), &FILE, reader);
        super::policy_version(&table, reader);
        let owner = table.parsed("owner", reader, shown);
        let guardrails = table.table("guardrails", &GUARDRAILS, reader).map(|table| read_guardrails(&table, reader));
        let defaults = table.table("defaults", &DEFAULTS, reader);
        let hide_routes = defaults.as_ref().and_then(|table| table.flag("hide_routes", reader));
        let max_body = defaults.as_ref().and_then(|table| table.parsed("max_body", reader, value::size));
        Self {
            source: reader.source.clone(),
            owner: owner.map(|owner| owner.value),
            guardrails: guardrails.unwrap_or_default(),
            hide_routes: hide_routes.is_some_and(|flag| flag.value),
            max_body: max_body.map_or(DEFAULT_MAX_BODY, |size| size.value),
            denies: read_rules(&table, "deny", true, reader),
            limits: read_limits(&table, true, reader),
            tests: read_tests(&table, reader),
        }
    }
}

fn read_guardrails(table: &Table<'_>, reader: &mut Reader<'_>) -> Guardrails {
    let forbid = [("forbid", true), ("allow", false)];
    let forbidden = |key, reader: &mut Reader<'_>| table.word(key, reader, &forbid).is_some_and(|word| word.value);
    Guardrails {
        forbid_anonymous: forbidden("anonymous", reader),
        every_api_needs_limit: table.flag("every_api_needs_limit", reader).is_some_and(|flag| flag.value),
        forbid_wildcard_hosts: forbidden("wildcard_hosts", reader),
        tests_required: table
            .word("tests", reader, &[("required", true), ("optional", false)])
            .is_some_and(|word| word.value),
        forbid_plaintext: forbidden("upstream_plaintext", reader),
    }
}
