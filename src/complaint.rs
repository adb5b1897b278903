//! What is wrong with a file that somebody wrote: the place, the fact, and the cure.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How much a complaint weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file can be used.
    Warning,
    /// The file cannot be used.
    Error,
}

/// One complaint about one place in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// How much it weighs.
    pub severity: Severity,
    /// A stable word for tests and machines: `unknown-key`, `unreachable-allow`.
    pub code: &'static str,
    /// The file, as the operator would name it.
    pub file: Arc<str>,
    /// The file's text; empty when it could not be read.
    pub text: Arc<str>,
    /// Where, in bytes of `text`.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Complaint {
    /// An error of a file as a whole. Its text stays away: it may not be readable, and it may hold a secret.
    pub fn of_file(path: &Path, code: &'static str, message: String, hint: &str) -> Self {
        Self {
            severity: Severity::Error,
            code,
            file: path.display().to_string().into(),
            text: Arc::from(""),
            span: 0..0,
            message,
            hint: Some(hint.to_owned()),
        }
    }

    /// Line and column, both from 1; the column counts characters.
    pub fn place(&self) -> (usize, usize) {
        let before = self.text.get(..self.span.start).unwrap_or(&self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }
}
