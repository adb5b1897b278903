//! A compiled rule: which requests it speaks about, and for whom.

use std::ops::Range;
use std::sync::Arc;

use super::decision::RuleId;
use super::limit::Limit;
use super::pattern::Pattern;
use super::select::Who;

/// An allow or deny rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) why: Option<Arc<str>>,
    pub(crate) methods: Box<[Box<str>]>,
    /// Those of the author; a deny rule also has what [`Pattern::with_slash`] adds: `P/` for `P`.
    pub(crate) paths: Box<[Pattern]>,
    pub(crate) who: Who,
    /// The place of its `id` in its file.
    pub(crate) span: Range<usize>,
}

impl Rule {
    /// Whether the rule speaks about this method and one of these readings of the path.
    pub(crate) fn routes(&self, method: &str, paths: &[&str]) -> bool {
        self.names_method(method) && self.pattern_of(paths).is_some()
    }

    pub(crate) fn names_method(&self, method: &str) -> bool {
        self.methods.iter().any(|known| **known == *method)
    }

    /// The first pattern that one of these readings of the path matches.
    pub(crate) fn pattern_of(&self, paths: &[&str]) -> Option<&Pattern> {
        self.paths.iter().find(|pattern| paths.iter().any(|path| pattern.matches(path)))
    }

    /// Whether every path of this rule is one of these patterns.
    pub(crate) fn is_within(&self, methods: &[Box<str>], patterns: impl Fn(&Pattern) -> bool) -> bool {
        self.methods.iter().all(|method| methods.contains(method)) && self.paths.iter().all(patterns)
    }

    /// Whether some request is in both.
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.methods.iter().any(|method| other.methods.contains(method))
            && self.paths.iter().any(|one| other.paths.iter().any(|two| one.intersects(two)))
    }

    /// Whether the rule can let a change through.
    pub(crate) fn mutates(&self) -> bool {
        self.methods.iter().any(|method| !matches!(&**method, "GET" | "HEAD"))
    }
}

/// A limit and the requests that it counts.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) limit: Arc<Limit>,
    pub(crate) methods: Option<Box<[Box<str>]>>,
    /// With what [`Pattern::with_slash`] adds; in the order of their texts, so that a key does not depend on the order
    /// in the file.
    pub(crate) paths: Option<Box<[Pattern]>>,
    pub(crate) who: Option<Who>,
}

/// What a limit counts of a request.
pub(crate) enum Counted<'l, 'p> {
    /// All of them.
    Whole,
    /// Those of a pattern; with the reading of the path that it matches.
    Path(&'l Pattern, &'p str),
}

impl Applied {
    /// Whether the limit counts this method and one of these readings of the path.
    pub(crate) fn counts<'p>(&self, method: &str, paths: &[&'p str]) -> Option<Counted<'_, 'p>> {
        if self.methods.as_ref().is_some_and(|methods| !methods.iter().any(|known| **known == *method)) {
            return None;
        }
        let Some(patterns) = &self.paths else { return Some(Counted::Whole) };
        patterns.iter().find_map(|pattern| {
            let path = paths.iter().find(|path| pattern.matches(path))?;
            Some(Counted::Path(pattern, path))
        })
    }
}
