//! All complaints about one bundle, in one bounded list.

use std::ops::Range;

use crate::complaint::{Complaint, Severity};
use crate::policy::Source;

use super::value::Flaw;

/// Most complaints that are kept: more than anybody reads, few enough for a file of garbage.
const MAX_COMPLAINTS: usize = 500;

/// The complaints so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    complaints: Vec<Complaint>,
    errors: usize,
}

impl Log {
    /// Something that keeps the bundle from being used.
    pub(crate) fn error(&mut self, source: &Source, span: Range<usize>, flaw: Flaw) {
        self.errors += 1;
        self.push(source, span, flaw, Severity::Error);
    }

    /// Something that its author should look at.
    pub(crate) fn warn(&mut self, source: &Source, span: Range<usize>, flaw: Flaw) {
        self.push(source, span, flaw, Severity::Warning);
    }

    fn push(&mut self, source: &Source, span: Range<usize>, flaw: Flaw, severity: Severity) {
        if self.complaints.len() >= MAX_COMPLAINTS {
            return;
        }
        self.complaints.push(Complaint {
            severity,
            code: flaw.code,
            file: source.file.clone(),
            text: source.text.clone(),
            span,
            message: flaw.message,
            hint: Some(flaw.hint),
        });
    }

    /// Whether another complaint would not be kept: whoever searches for the nearest name need not begin.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= MAX_COMPLAINTS
    }

    /// Whether nothing so far keeps the bundle from being used.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors == 0
    }

    /// The complaints by file and place.
    pub(crate) fn finish(mut self) -> Vec<Complaint> {
        self.complaints.sort_by(|one, two| (&one.file, one.span.start).cmp(&(&two.file, two.span.start)));
        self.complaints
    }
}

/// One file and the place for complaints about it.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) log: &'a mut Log,
}

impl Reader<'_> {
    pub(crate) fn error(&mut self, span: Range<usize>, flaw: Flaw) {
        self.log.error(self.source, span, flaw);
    }

    pub(crate) fn complain(&mut self, span: Range<usize>, code: &'static str, message: impl Into<String>, hint: &str) {
        self.error(span, Flaw::new(code, message.into(), hint));
    }
}
