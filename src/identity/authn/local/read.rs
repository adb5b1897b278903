//! `users.toml` from text: all entries, or everything that is wrong with it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::seal::Key;
use super::{Account, Entry, Link};
use crate::complaint::{Complaint, Severity};
use crate::identity::authn::claims;
use crate::identity::{Group, IssuerName, MAX_NAME, Subject, fold};

const USER_KEYS: [&str; 5] = ["name", "groups", "disabled", "links", "nt_hash"];
const LINK_KEYS: [&str; 2] = ["issuer", "sub"];

/// Whether a folded name may be given to a user: nothing that another list or shell would take apart.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= MAX_NAME
        && bytes.next().is_some_and(plain)
        && bytes.all(|byte| plain(byte) || matches!(byte, b'.' | b'-' | b'@' | b'+' | b'$'))
}

/// Whether a text may be a group's name.
pub(super) fn is_group(name: &str) -> bool {
    let hidden = |letter: char| letter.is_control() || letter == ',';
    (1..=claims::MAX_GROUP).contains(&name.len()) && name.trim() == name && !name.contains(hidden)
}

/// Reads the file's text.
pub(super) fn entries(file: &str, text: &str, key: &Key) -> Result<Vec<Entry>, Vec<Complaint>> {
    let mut reader = Reader { file: file.into(), text: text.into(), complaints: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        reader.complain("syntax", span, format!("this is not TOML: {}", error.message()), None);
    }
    let mut entries = Vec::new();
    if reader.complaints.is_empty() {
        reader.file(table.get_ref(), key, &mut entries);
    }
    if reader.complaints.is_empty() { Ok(entries) } else { Err(reader.complaints) }
}

struct Reader {
    file: Arc<str>,
    text: Arc<str>,
    complaints: Vec<Complaint>,
}

/// A value, and where it stands.
type Place<'a> = &'a Spanned<DeValue<'a>>;

impl Reader {
    fn complain(&mut self, code: &'static str, span: Range<usize>, message: String, hint: Option<String>) {
        let (file, text) = (Arc::clone(&self.file), Arc::clone(&self.text));
        self.complaints.push(Complaint { severity: Severity::Error, code, file, text, span, message, hint });
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let distance = |other: &&&str| strsim::damerau_levenshtein(other, name);
            let near = known.iter().min_by_key(distance).filter(|near| distance(near) <= near.len().div_ceil(3));
            let hint = near.map_or_else(
                || format!("the keys here are {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.complain("unknown-key", key.span(), format!("unknown key `{name}`"), Some(hint));
        }
    }

    fn wrong_type(&mut self, place: Place<'_>, what: &str) {
        let message = format!("{what} is wanted here, this is of type {}", place.get_ref().type_str());
        self.complain("wrong-type", place.span(), message, None);
    }

    fn text<'a>(&mut self, place: Place<'a>) -> Option<&'a str> {
        let text = place.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(place, "a text");
        }
        text
    }

    fn array<'a>(&mut self, table: &'a DeTable<'a>, key: &str, what: &str) -> &'a [Element<'a>] {
        let Some(place) = table.get(key) else {
            return &[];
        };
        match place.get_ref().as_array() {
            Some(array) => array,
            None => {
                self.wrong_type(place, what);
                &[]
            }
        }
    }

    /// A text that must be there.
    fn required<'a>(&mut self, table: &'a DeTable<'a>, key: &str, span: &Range<usize>) -> Option<Found<'a>> {
        let Some(place) = table.get(key) else {
            self.complain("missing-key", span.clone(), format!("`{key}` is missing here"), None);
            return None;
        };
        self.text(place).map(|text| Found { text, span: place.span() })
    }

    fn file<'a>(&mut self, table: &'a DeTable<'a>, key: &Key, entries: &mut Vec<Entry>) {
        self.unknown_keys(table, &["user"]);
        let mut seen = Seen::default();
        let (mut closed, mut sealed) = (Vec::new(), 0_usize);
        for place in self.array(table, "user", "a list of users, each under [[user]],") {
            let Some(user) = place.get_ref().as_table() else {
                self.wrong_type(place, "a table");
                continue;
            };
            let Some((account, hash)) = self.user(user, &place.span(), &mut seen) else {
                continue;
            };
            sealed += 1;
            match key.open(account.name.as_str(), hash.text) {
                Some(nt_hash) => entries.push(Entry { account, sealed: hash.text.to_owned(), nt_hash }),
                None => closed.push((account.name, hash.span)),
            }
        }
        self.closed(closed, sealed);
    }

    /// Complains about hashes that did not open: one by one, or once when none did.
    fn closed(&mut self, closed: Vec<(Subject, Range<usize>)>, sealed: usize) {
        if closed.len() == sealed && sealed > 1 {
            let span = closed.into_iter().next().map_or(0..0, |(_, span)| span);
            let message = "no `nt_hash` of this file was sealed with this key".to_owned();
            let hint = "is `[users] key` the key file that belongs to this user file?".to_owned();
            return self.complain("wrong-key", span, message, Some(hint));
        }
        for (name, span) in closed {
            let message = format!("the `nt_hash` of `{name}` was not sealed with this key for this user");
            self.complain("sealed", span, message, Some(format!("set a password: wicketgate user passwd {name}")));
        }
    }

    fn user<'a>(
        &mut self,
        user: &'a DeTable<'a>,
        span: &Range<usize>,
        seen: &mut Seen,
    ) -> Option<(Account, Found<'a>)> {
        self.unknown_keys(user, &USER_KEYS);
        let name = self.required(user, "name", span).and_then(|name| self.name(&name, seen));
        let groups = self.groups(user);
        let disabled = match user.get("disabled") {
            None => false,
            Some(place) => place.get_ref().as_bool().unwrap_or_else(|| {
                self.wrong_type(place, "true or false");
                true
            }),
        };
        let links = self.links(user, seen);
        let hash = self.required(user, "nt_hash", span)?;
        Some((Account { name: name?, groups, disabled, links }, hash))
    }

    fn name(&mut self, name: &Found<'_>, seen: &mut Seen) -> Option<Subject> {
        if !is_name(name.text) {
            let hint = match fold(name.text.as_bytes()).filter(|folded| is_name(folded)) {
                Some(folded) => format!("write `{folded}`"),
                None => "lower-case letters, digits and `._-@+$`, beginning with a letter, a digit or `_`".to_owned(),
            };
            let message = format!("{:?} is not a user's name", name.text);
            self.complain("bad-name", name.span.clone(), message, Some(hint));
            return None;
        }
        if !seen.names.insert(name.text.to_owned()) {
            let message = format!("the user `{}` is here twice", name.text);
            self.complain("duplicate-user", name.span.clone(), message, None);
            return None;
        }
        Some(Subject::new(name.text))
    }

    fn groups<'a>(&mut self, user: &'a DeTable<'a>) -> Arc<[Group]> {
        let mut groups = Vec::new();
        for place in self.array(user, "groups", "a list of groups") {
            let Some(name) = self.text(place) else { continue };
            if is_group(name) {
                groups.push(Group::new(name));
            } else {
                self.complain("bad-group", place.span(), format!("{name:?} is not a group's name"), None);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        groups.into()
    }

    fn links<'a>(&mut self, user: &'a DeTable<'a>, seen: &mut Seen) -> Vec<Link> {
        let mut links = Vec::new();
        for place in self.array(user, "links", "a list of { issuer, sub }") {
            let Some(table) = place.get_ref().as_table() else {
                self.wrong_type(place, "a table { issuer, sub }");
                continue;
            };
            self.unknown_keys(table, &LINK_KEYS);
            let issuer = self.required(table, "issuer", &place.span());
            let sub = self.required(table, "sub", &place.span());
            let (Some(issuer), Some(sub)) = (issuer, sub) else { continue };
            let link = Link { issuer: IssuerName::new(issuer.text), sub: sub.text.to_owned() };
            if let Some(first) = seen.links.insert(link.clone(), place.span()) {
                let line = self.text.get(..first.start).unwrap_or_default().matches('\n').count() + 1;
                let message = format!("this subject of `{}` is linked already, in line {line}", issuer.text);
                self.complain("duplicate-link", place.span(), message, Some("one subject is one person".to_owned()));
            }
            links.push(link);
        }
        links
    }
}

/// An element of a TOML array.
type Element<'a> = Spanned<DeValue<'a>>;

/// A text and where it stands.
struct Found<'a> {
    text: &'a str,
    span: Range<usize>,
}

/// What may occur once in a file.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    links: HashMap<Link, Range<usize>>,
}
