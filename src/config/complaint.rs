//! Complaints: collecting them while a file is read, and printing them for people and for machines.
//!
//! For people, the first line of each is `file:line:column: error[code]: message`, so that `grep` and editors find the
//! place; the source line and the cure follow. For machines, each is one JSON object on one line.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::complaint::{Complaint, Severity};

/// The complaints about one file, as they come.
#[derive(Debug)]
pub(super) struct Complaints {
    file: Arc<str>,
    text: Arc<str>,
    list: Vec<Complaint>,
}

impl Complaints {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: Arc::from(file.display().to_string()), text: Arc::from(text), list: Vec::new() }
    }

    /// The file cannot be used.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Severity::Error, code, span, message.into(), hint.into());
    }

    /// The file can be used, but it should not stay like this.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, span, message.into(), hint.into());
    }

    pub(super) fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: &Range<usize>,
        message: String,
        hint: String,
    ) {
        let (file, text) = (Arc::clone(&self.file), Arc::clone(&self.text));
        self.list.push(Complaint { severity, code, file, text, span: span.clone(), message, hint: Some(hint) });
    }

    /// All of them in the order of their places.
    pub(super) fn sorted(mut self) -> Vec<Complaint> {
        self.list.sort_by_key(|complaint| (complaint.span.start, complaint.span.end));
        self.list
    }
}

/// The word for a severity.
fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// All complaints for people, separated by empty lines.
pub fn text(complaints: &[Complaint]) -> String {
    complaints.iter().map(one_as_text).collect::<Vec<_>>().join("\n")
}

/// One complaint for people; ends with a newline.
fn one_as_text(complaint: &Complaint) -> String {
    let Complaint { severity, code, file, message, hint, .. } = complaint;
    let (line, column) = complaint.place();
    let mut text = format!("{file}:{line}:{column}: {}[{code}]: {message}\n", word(*severity));
    if let Some(span) = visible_span(complaint) {
        let snippet = Snippet::source(complaint.text.as_ref()).annotation(AnnotationKind::Primary.span(span));
        let level = match severity {
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let mut group = Group::with_level(level).element(snippet);
        if let Some(hint) = hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        text.push_str(&Renderer::plain().render(&[group]));
        text.push('\n');
    } else if let Some(hint) = hint {
        writeln!(text, "  = help: {hint}").expect("a String takes everything");
    }
    text
}

/// The part of the span on its first line; `None` when there is nothing to show: the text is not known, or the complaint
/// is about what is missing from it.
fn visible_span(complaint: &Complaint) -> Option<Range<usize>> {
    let Range { start, end } = complaint.span;
    let marked = complaint.text.get(start..end)?;
    if end == 0 {
        return None;
    }
    let first_line = marked.lines().next().unwrap_or_default();
    Some(start..start + first_line.len())
}

/// All complaints for machines: JSON lines.
pub fn json_lines(complaints: &[Complaint]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        severity: &'static str,
        code: &'static str,
        file: &'a str,
        line: usize,
        column: usize,
        message: &'a str,
        hint: Option<&'a str>,
    }

    let mut lines = String::new();
    for complaint in complaints {
        let (line, column) = complaint.place();
        let line = Line {
            severity: word(complaint.severity),
            code: complaint.code,
            file: &complaint.file,
            line,
            column,
            message: &complaint.message,
            hint: complaint.hint.as_deref(),
        };
        lines.push_str(&serde_json::to_string(&line).expect("plain strings and numbers are always JSON"));
        lines.push('\n');
    }
    lines
}

/// Text from a file inside a message: in backticks, control characters escaped, so that it cannot paint a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("`");
    for character in text.chars() {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('`');
    quoted
}

/// A hint for an unknown word: the nearest known one, or all of them.
pub(super) fn suggestion(unknown: &str, known: &[&str]) -> String {
    nearest(unknown, known).map_or_else(
        || format!("known here: {}", known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
        |near| format!("did you mean `{near}`?"),
    )
}

/// The known word that is at most a third of its letters away.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(unknown, word), *word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint() -> Complaint {
        Complaint {
            severity: Severity::Error,
            code: "unknown-key",
            file: Arc::from("wicketgate.toml"),
            text: Arc::from("[listen]\nadress = \"0.0.0.0:443\"\n"),
            span: 9..15,
            message: "unknown key `adress` in [listen]".to_owned(),
            hint: Some("did you mean `address`?".to_owned()),
        }
    }

    #[test]
    fn people_see_the_place_the_line_and_the_cure() {
        let expected = "\
wicketgate.toml:2:1: error[unknown-key]: unknown key `adress` in [listen]
  |
2 | adress = \"0.0.0.0:443\"
  | ^^^^^^
  |
  = help: did you mean `address`?
";
        assert_eq!(text(&[complaint()]), expected);
    }

    #[test]
    fn a_complaint_without_a_place_still_names_the_file_and_the_cure() {
        let nowhere = Complaint { text: Arc::from(""), span: 0..0, ..complaint() };
        let expected = "\
wicketgate.toml:1:1: error[unknown-key]: unknown key `adress` in [listen]
  = help: did you mean `address`?
";
        assert_eq!(text(&[nowhere]), expected);
    }

    #[test]
    fn a_span_outside_the_text_does_no_harm() {
        for span in [9..9999, 5000..6000] {
            let rendered = text(&[Complaint { span, ..complaint() }]);
            assert!(rendered.starts_with("wicketgate.toml:"), "{rendered}");
        }
        let inside_a_letter = Complaint { text: Arc::from("ä = 1"), span: 1..2, ..complaint() };
        assert!(text(&[inside_a_letter]).starts_with("wicketgate.toml:1:"));
    }

    #[test]
    fn machines_see_one_object_a_line() {
        let lines = json_lines(&[complaint(), complaint()]);
        assert_eq!(lines.lines().count(), 2);
        for line in lines.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(object["severity"], "error");
            assert_eq!(object["code"], "unknown-key");
            assert_eq!((object["line"].as_u64(), object["column"].as_u64()), (Some(2), Some(1)));
            assert_eq!(object["hint"], "did you mean `address`?");
        }
    }

    #[test]
    fn quoted_text_cannot_paint_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31mb\r"), "`a\\u{1b}[31mb\\r`");
    }

    #[test]
    fn far_words_get_the_list_instead_of_a_guess() {
        assert_eq!(suggestion("adress", &["address", "key"]), "did you mean `address`?");
        assert_eq!(suggestion("zebra", &["address", "key"]), "known here: `address`, `key`");
    }
}
