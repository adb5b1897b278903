//! From TOML's syntax tree to typed entries that keep their places, complaining about all that does not fit.
//!
//! serde's `deny_unknown_fields` stops at the first fault and knows no place for it; this walk goes on to the end.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::complaint::{Complaints, quoted, suggestion};

/// What stands at a key.
#[derive(Debug, Default)]
pub(super) enum Entry<T> {
    /// Nothing: the default counts.
    #[default]
    Absent,
    /// Something that was complained about already.
    Broken,
    /// A value of the right type.
    Written(Spanned<T>),
}

impl<T> Entry<T> {
    /// The value with its place.
    pub(super) fn written(&self) -> Option<(&T, Range<usize>)> {
        match self {
            Self::Written(value) => Some((value.get_ref(), value.span())),
            Self::Absent | Self::Broken => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Broken | Self::Written(_) => false,
        }
    }

    /// Where it stands, if it does.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.written().map(|(_, span)| span)
    }
}

/// A type that can be written in the configuration.
pub(super) trait FromToml: Sized {
    /// In complaints: "must be …".
    const EXPECTED: &'static str;
    /// How to write one.
    const HOW: &'static str;

    /// The value; `None` when the TOML type is another one. Complains about what is wrong further inside by itself.
    fn from_toml(value: &DeValue<'_>, path: &str, complaints: &mut Complaints) -> Option<Self>;

    /// Every key at and below `path`, for the test of the template.
    #[cfg(test)]
    fn keys(path: &str, keys: &mut Vec<String>) {
        keys.push(path.to_owned());
    }
}

/// Reads what stands at a key.
pub(super) fn entry<T: FromToml>(value: &Spanned<DeValue<'_>>, path: &str, complaints: &mut Complaints) -> Entry<T> {
    T::from_toml(value.get_ref(), path, complaints).map_or_else(
        || {
            let got = value.get_ref().type_str();
            complaints.error(
                "wrong-type",
                &value.span(),
                format!("`{path}` must be {}, not {}", T::EXPECTED, with_article(got)),
                T::HOW,
            );
            Entry::Broken
        },
        |read| Entry::Written(Spanned::new(value.span(), read)),
    )
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// Complains about a key that nobody knows.
pub(super) fn unknown_key(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    path: &str,
    known: &[&str],
    complaints: &mut Complaints,
) {
    let what = if path.is_empty() { "section" } else { "key" };
    let place = if path.is_empty() { String::new() } else { format!(" in [{path}]") };
    let name = key.get_ref();
    complaints.error(
        "unknown-key",
        &key.span(),
        format!("unknown {what} {}{place}", quoted(name)),
        suggestion(name, known),
    );
}

/// The path of a key in complaints.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl FromToml for String {
    const EXPECTED: &'static str = "a string";
    const HOW: &'static str = "write it in double quotes";

    fn from_toml(value: &DeValue<'_>, _path: &str, _complaints: &mut Complaints) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromToml for i64 {
    const EXPECTED: &'static str = "an integer";
    const HOW: &'static str = "write a whole number without quotes, as in 1_000";

    fn from_toml(value: &DeValue<'_>, _path: &str, _complaints: &mut Complaints) -> Option<Self> {
        let integer = value.as_integer()?;
        // TOML's grammar was checked by the parser; what is left to fail is a number beyond 64 bits.
        Some(Self::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(Self::MAX))
    }
}

impl<T: FromToml> FromToml for Vec<Entry<T>> {
    const EXPECTED: &'static str = "an array";
    const HOW: &'static str = "write it in square brackets, as in [\"a\", \"b\"]";

    fn from_toml(value: &DeValue<'_>, path: &str, complaints: &mut Complaints) -> Option<Self> {
        let array: &DeArray<'_> = value.as_array()?;
        Some(array.iter().map(|item| entry(item, path, complaints)).collect())
    }

    #[cfg(test)]
    fn keys(path: &str, keys: &mut Vec<String>) {
        T::keys(path, keys);
    }
}

/// A table whose keys are names that the operator chooses.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(Spanned<String>, Entry<T>)>);

impl<T: FromToml> FromToml for Named<T> {
    const EXPECTED: &'static str = "a table";
    const HOW: &'static str = "write it as a section with one line for each name";

    fn from_toml(value: &DeValue<'_>, path: &str, complaints: &mut Complaints) -> Option<Self> {
        let table: &DeTable<'_> = value.as_table()?;
        let entries = table.iter().map(|(name, value)| {
            let owned = Spanned::new(name.span(), name.get_ref().to_string());
            (owned, entry(value, &join(path, name.get_ref()), complaints))
        });
        Some(Self(entries.collect()))
    }
}
