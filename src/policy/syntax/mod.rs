//! From text to what its author wrote: closed tables, every value with its place.
//!
//! In go the files of a bundle; out come [`Texts`], and complaints about all that is not in the language. What the
//! files mean together is the business of `compile`.

pub(crate) mod api;
pub(crate) mod identity;
pub(crate) mod log;
pub(crate) mod org;
pub(crate) mod rule;
pub(crate) mod table;
pub(crate) mod test;
pub(crate) mod upstream;
pub(crate) mod value;

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::Source;
use api::ApiText;
use identity::IdentityText;
use log::{Log, Reader};
use org::OrgText;
use table::Table;
use value::Flaw;

/// Largest file: thousands of rules, and no memory bomb.
const MAX_FILE: usize = 1 << 20;

/// Most files of a bundle.
const MAX_FILES: usize = 500;

/// Most rules, limits and tests of each kind in a file.
const MAX_RULES: usize = 1000;

/// Most paths of all rules and limits in a file: each path of a deny rule is compared with each of an allow rule.
const MAX_PATHS: usize = 5000;

/// Most complaints about the syntax of one file; what follows the first few is usually their consequence.
const MAX_SYNTAX_COMPLAINTS: usize = 5;

/// The files of a bundle as written.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) org: OrgText,
    pub(crate) identity: Option<IdentityText>,
    /// In the order of their names.
    pub(crate) apis: Vec<ApiText>,
}

/// Reads all files.
pub(crate) fn read(sources: &[Source], log: &mut Log) -> Texts {
    let mut texts = Texts { org: OrgText::absent(), identity: None, apis: Vec::new() };
    if let Some(source) = sources.get(MAX_FILES) {
        let message = format!("a bundle has at most {MAX_FILES} files, this one has {}", sources.len());
        log.error(source, 0..0, Flaw::new("too-many-files", message, "describe small APIs of one host in one file"));
        return texts;
    }
    let mut stems: Vec<&str> = Vec::with_capacity(sources.len());
    for source in sources {
        let reader = &mut Reader { source, log };
        let Some(stem) = stem(source, reader) else { continue };
        if stems.contains(&stem) {
            let message = format!("the bundle has two files `{stem}.toml`");
            reader.complain(0..0, "file-name", message, "a bundle is one directory");
            continue;
        }
        stems.push(stem);
        let Some(root) = parse(source, reader) else { continue };
        match stem {
            "_identity" => texts.identity = Some(IdentityText::read(&root, reader)),
            "_org" => texts.org = OrgText::read(&root, reader),
            stem => texts.apis.extend(ApiText::read(&root, stem, reader)),
        }
    }
    texts.apis.sort_by(|one, two| one.api.value.cmp(&two.api.value));
    texts
}

fn stem<'s>(source: &'s Source, reader: &mut Reader<'_>) -> Option<&'s str> {
    let name = source.file.rsplit('/').next().unwrap_or(&source.file);
    let stem =
        name.strip_suffix(".toml").filter(|stem| matches!(*stem, "_identity" | "_org") || value::name(stem).is_ok());
    if stem.is_none() {
        let hint = "a bundle has _org.toml, _identity.toml, and one file per API, called as its `api`";
        reader.complain(0..0, "file-name", format!("`{name}` is not a name of a policy file"), hint);
    }
    stem
}

fn parse<'s>(source: &'s Source, reader: &mut Reader<'_>) -> Option<DeTable<'s>> {
    if source.text.len() > MAX_FILE {
        let message = format!("a policy file has at most {MAX_FILE} bytes, this one has {}", source.text.len());
        reader.complain(0..0, "file-too-large", message, "make several APIs of it");
        return None;
    }
    let (root, flaws) = DeTable::parse_recoverable(&source.text);
    for flaw in flaws.iter().take(MAX_SYNTAX_COMPLAINTS) {
        let span = flaw.span().unwrap_or_default();
        let (code, hint) = match flaw.message().starts_with("duplicate key") {
            true => ("duplicate-key", "remove one of the two"),
            false => ("syntax", "the file is TOML: `key = value`, strings in quotes, each table under its `[name]`"),
        };
        reader.complain(span, code, flaw.message(), hint);
    }
    if !flaws.is_empty() {
        return None;
    }
    let root = root.into_inner();
    for key in ["allow", "deny", "limit", "test"] {
        let Some(value) = root.get(key) else { continue };
        let many = value.get_ref().as_array().map_or(0, |items| items.len());
        if many > MAX_RULES {
            let message = format!("a file has at most {MAX_RULES} [[{key}]], this one has {many}");
            reader.complain(value.span(), "too-many-rules", message, "make several APIs of it");
            return None;
        }
    }
    let many = paths(&root).count();
    if let Some(last) = paths(&root).nth(MAX_PATHS) {
        let message = format!("the rules and limits of a file have at most {MAX_PATHS} paths, these have {many}");
        reader.complain(last, "too-many-paths", message, "use `*`, `{name}` and `**`, or make several APIs of it");
        return None;
    }
    Some(root)
}

/// The places of all paths of a file.
fn paths(root: &DeTable<'_>) -> impl Iterator<Item = Range<usize>> {
    let items = ["allow", "deny", "limit"].into_iter().filter_map(|key| root.get(key)?.get_ref().as_array()).flatten();
    let tables = items.filter_map(|item| item.get_ref().as_table());
    let lists = tables.filter_map(|table| {
        let matched = table.get("match").and_then(|matched| matched.get_ref().as_table());
        matched.unwrap_or(table).get("paths")?.get_ref().as_array()
    });
    lists.flatten().map(Spanned::span)
}

/// The version of the language, which is 1.
fn policy_version(table: &Table<'_>, reader: &mut Reader<'_>) {
    let Some(version) = table.integer("policy_version", reader, 0..=u64::from(u32::MAX)) else { return };
    if version.value != 1 {
        let message = format!("the policy language has no version {}", version.value);
        reader.complain(version.span, "not-supported", message, "write `policy_version = 1`");
    }
}
