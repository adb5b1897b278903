//! A closed table: every key is known, is not built yet, or is a complaint.
//!
//! A [`Schema`] lists the keys. Opening a table complains about all other keys at once; the getters complain about
//! wrong types and missing values and return `None`, so that one pass over a file finds everything.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::log::Reader;
use super::value::{Flaw, nearest};

/// Most items of one list: a list that long is a mistake, and lists are compared in pairs.
const MAX_ITEMS: usize = 1000;

/// Most complaints about the keys of one table: a table with more of them is something else altogether.
const MAX_UNKNOWN_KEYS: usize = 50;

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), span: self.span }
    }
}

/// The keys of a kind of table.
#[derive(Debug)]
pub(crate) struct Schema {
    /// How messages name the table.
    pub(crate) what: &'static str,
    /// The keys that have a meaning.
    pub(crate) keys: &'static [&'static str],
    /// The keys of the language that this version does not build.
    pub(crate) later: &'static [&'static str],
    /// Keys that people look for here, and where they belong.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

/// A table whose keys were checked.
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// The place of the table's header.
    pub(crate) span: Range<usize>,
    schema: &'static Schema,
}

/// The complaint about a key that the language has and this version has not.
pub(crate) fn not_supported(what: &str) -> Flaw {
    Flaw::new("not-supported", format!("`{what}` is not supported by this version"), "leave it out")
}

/// The complaint about a word that is none of the known ones.
pub(crate) fn unknown<'k>(
    code: &'static str,
    message: String,
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Flaw {
    let hint = match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let mut all: Vec<&str> = known.into_iter().take(20).collect();
            all.sort_unstable();
            if all.is_empty() {
                "nothing is known here yet".to_owned()
            } else {
                format!("known here: {}", all.join(", "))
            }
        }
    };
    Flaw { code, message, hint }
}

fn wrong_type(key: &str, wanted: &str, example: &str, got: &DeValue<'_>) -> Flaw {
    let message = format!("`{key}` must be {wanted}, not {}", with_article(got.type_str()));
    Flaw::new("wrong-type", message, &format!("write it as {example}"))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

impl<'t> Table<'t> {
    /// Checks the keys of a table.
    pub(crate) fn open(
        entries: &'t DeTable<'t>,
        span: Range<usize>,
        schema: &'static Schema,
        reader: &mut Reader<'_>,
    ) -> Self {
        let unknown_keys = entries.keys().filter(|key| !schema.keys.contains(&key.get_ref().as_ref()));
        for key in unknown_keys.take(MAX_UNKNOWN_KEYS) {
            let name: &str = key.get_ref();
            if schema.later.contains(&name) {
                reader.error(key.span(), not_supported(name));
                continue;
            }
            let message = format!("`{name}` is not a key of {}", schema.what);
            let flaw = match schema.elsewhere.iter().find(|(known, _)| *known == name) {
                Some((_, place)) => Flaw::new("unknown-key", message, &format!("it belongs in {place}")),
                None => match nearest(name, schema.keys.iter().chain(schema.later).copied()) {
                    Some(near) => Flaw::new("unknown-key", message, &format!("did you mean `{near}`?")),
                    None => unknown("unknown-key", message, name, schema.keys.iter().copied()),
                },
            };
            reader.error(key.span(), flaw);
        }
        Self { entries, span, schema }
    }

    fn value(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(self.schema.keys.contains(&key), "{key} is not in the schema of {}", self.schema.what);
        self.entries.get(key)
    }

    /// Whether the key is written, well or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The place of a key's value, or of the table.
    pub(crate) fn place(&self, key: &'static str) -> Range<usize> {
        self.value(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    fn missing(&self, key: &str, reader: &mut Reader<'_>) {
        let message = format!("{} needs `{key}`", self.schema.what);
        reader.complain(self.span.clone(), "missing-key", message, "add it: it has no default");
    }

    /// Whether nothing at all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Complains unless the key is written.
    pub(crate) fn need(&self, key: &'static str, reader: &mut Reader<'_>) {
        if !self.has(key) {
            self.missing(key, reader);
        }
    }

    /// A string.
    pub(crate) fn text(&self, key: &'static str, reader: &mut Reader<'_>) -> Option<At<&'t str>> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text, span: value.span() }),
            None => {
                reader.error(value.span(), wrong_type(key, "a string", "\"…\"", value.get_ref()));
                None
            }
        }
    }

    /// A string of a certain form.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        reader: &mut Reader<'_>,
        parse: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Option<At<T>> {
        let text = self.text(key, reader)?;
        match parse(text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(flaw) => {
                reader.error(text.span, flaw);
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &'static str,
        reader: &mut Reader<'_>,
        words: &[(&'static str, T)],
    ) -> Option<At<T>> {
        self.parsed(key, reader, |text| one_of(key, text, words))
    }

    /// A boolean.
    pub(crate) fn flag(&self, key: &'static str, reader: &mut Reader<'_>) -> Option<At<bool>> {
        let value = self.value(key)?;
        match value.get_ref().as_bool() {
            Some(flag) => Some(At { value: flag, span: value.span() }),
            None => {
                reader.error(
                    value.span(),
                    wrong_type(key, "true or false", "`true` or `false`, without quotes", value.get_ref()),
                );
                None
            }
        }
    }

    /// An integer within bounds.
    pub(crate) fn integer(
        &self,
        key: &'static str,
        reader: &mut Reader<'_>,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            reader.error(value.span(), wrong_type(key, "an integer", "digits, without quotes", value.get_ref()));
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if bounds.contains(&number) => Some(At { value: number, span: value.span() }),
            Ok(_) | Err(_) => {
                let message = format!("`{key}` must be between {} and {}", bounds.start(), bounds.end());
                reader.complain(value.span(), "out-of-range", message, "write a number within these bounds");
                None
            }
        }
    }

    /// A list that is not empty, without repetitions, of strings of a certain form. `single` admits a lone string.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        reader: &mut Reader<'_>,
        single: bool,
        parse: impl Fn(&str) -> Result<T, Flaw>,
    ) -> Option<Vec<At<T>>> {
        read_list(key, self.value(key)?, reader, single, parse)
    }

    /// A table below this one.
    pub(crate) fn table(&self, key: &'static str, schema: &'static Schema, reader: &mut Reader<'_>) -> Option<Self> {
        let value = self.value(key)?;
        open_value(key, value, schema, reader)
    }

    /// An array of tables below this one.
    pub(crate) fn tables(&self, key: &'static str, schema: &'static Schema, reader: &mut Reader<'_>) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let wanted = format!("written as [[{key}]]");
            reader.error(value.span(), wrong_type(key, &wanted, "a table of its own for each", value.get_ref()));
            return Vec::new();
        };
        items.iter().filter_map(|item| open_value(key, item, schema, reader)).collect()
    }

    /// The entries of a table whose keys are the author's.
    pub(crate) fn entries(&self, key: &'static str, reader: &mut Reader<'_>) -> Vec<Entry<'t>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            reader.error(value.span(), wrong_type(key, "a table", "`{ … }` or under its `[name]`", value.get_ref()));
            return Vec::new();
        };
        table
            .iter()
            .map(|(name, value)| Entry { name: At { value: name.get_ref(), span: name.span() }, value })
            .collect()
    }

    /// The value of a key as TOML has it, where several types are possible.
    pub(crate) fn raw(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.value(key)
    }
}

/// An entry whose key is the author's.
pub(crate) struct Entry<'t> {
    pub(crate) name: At<&'t str>,
    pub(crate) value: &'t Spanned<DeValue<'t>>,
}

/// Opens a value that must be a table.
pub(crate) fn open_value<'t>(
    key: &str,
    value: &'t Spanned<DeValue<'t>>,
    schema: &'static Schema,
    reader: &mut Reader<'_>,
) -> Option<Table<'t>> {
    match value.get_ref().as_table() {
        Some(entries) => Some(Table::open(entries, value.span(), schema, reader)),
        None => {
            reader.error(value.span(), wrong_type(key, "a table", "`{ … }` or under its `[name]`", value.get_ref()));
            None
        }
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(key: &str, text: &str, words: &[(&'static str, T)]) -> Result<T, Flaw> {
    words.iter().find(|(word, _)| *word == text).map(|&(_, value)| value).ok_or_else(|| {
        let message = format!("`{text}` is not a value of `{key}`");
        unknown("bad-value", message, text, words.iter().map(|&(word, _)| word))
    })
}

/// A list as [`Table::list`] reads it.
pub(crate) fn read_list<T>(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    reader: &mut Reader<'_>,
    single: bool,
    parse: impl Fn(&str) -> Result<T, Flaw>,
) -> Option<Vec<At<T>>> {
    let wanted = if single { "a string or a list of strings" } else { "a list of strings" };
    let items = match (value.get_ref().as_array(), single) {
        (Some(items), _) => items.iter().collect::<Vec<_>>(),
        (None, true) => vec![value],
        (None, false) => {
            reader.error(value.span(), wrong_type(key, wanted, "[\"…\", \"…\"]", value.get_ref()));
            return None;
        }
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        let (code, message, hint) = match items.len() {
            0 => ("empty-list", format!("`{key}` is empty"), "write one item or more, or remove the key"),
            many => (
                "out-of-range",
                format!("`{key}` has {many} items, at most {MAX_ITEMS} are possible"),
                "shorten the list",
            ),
        };
        reader.complain(value.span(), code, message, hint);
        return None;
    }
    let mut seen: Vec<&str> = Vec::with_capacity(items.len());
    let mut list = Vec::with_capacity(items.len());
    let mut whole = true;
    for item in items {
        let Some(text) = item.get_ref().as_str() else {
            reader.error(item.span(), wrong_type(key, wanted, "[\"…\", \"…\"]", item.get_ref()));
            whole = false;
            continue;
        };
        if seen.contains(&text) {
            let message = format!("`{text}` stands twice in `{key}`");
            reader.error(item.span(), Flaw::new("duplicate-item", message, "remove one"));
            whole = false;
            continue;
        }
        seen.push(text);
        match parse(text) {
            Ok(value) => list.push(At { value, span: item.span() }),
            Err(flaw) => {
                reader.error(item.span(), flaw);
                whole = false;
            }
        }
    }
    whole.then_some(list)
}
