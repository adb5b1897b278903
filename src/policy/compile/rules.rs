//! Rules and limits: their subjects, methods and keys resolved.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::policy::Source;
use crate::policy::decision::RuleId;
use crate::policy::limit::{KeyPart, Limit};
use crate::policy::pattern::Pattern;
use crate::policy::rule::{Applied, Rule};
use crate::policy::syntax::api::USUAL_METHODS;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::rule::{LimitText, RuleText};
use crate::policy::syntax::table::{At, unknown};
use crate::policy::syntax::value::Flaw;

use super::names::Names;

/// The file whose rules are linked.
pub(crate) struct Scope<'a> {
    /// The first part of the rules' ids.
    pub(crate) file: &'a str,
    pub(crate) source: &'a Source,
    pub(crate) methods_extra: &'a BTreeSet<String>,
    pub(crate) names: &'a Names,
    /// Whether the file says whose tokens are evidence: it lists them in `login`, or takes none.
    pub(crate) tokens_named: bool,
    pub(crate) log: &'a mut Log,
    /// The place of each id so far.
    pub(crate) ids: HashMap<String, Range<usize>>,
}

impl Scope<'_> {
    /// The full id; a second one of its kind in the file is a complaint.
    fn id(&mut self, id: &At<String>) -> RuleId {
        if let Some(first) = self.ids.get(&id.value) {
            let before = self.source.text.get(..first.start).unwrap_or_default();
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            let message = format!("`{}` is already the id of the rule in line {line}", id.value);
            let flaw = Flaw::new("duplicate-id", message, "decisions and audit records name rules by their id");
            self.log.error(self.source, id.span.clone(), flaw);
        } else {
            self.ids.insert(id.value.clone(), id.span.clone());
        }
        RuleId::new(self.file, &id.value)
    }

    fn methods(&mut self, methods: &[At<String>]) -> Box<[Box<str>]> {
        let mut list: Vec<Box<str>> = Vec::with_capacity(methods.len());
        for method in methods {
            if self.log.is_full() {
                break;
            }
            let name = method.value.as_str();
            if !USUAL_METHODS.contains(&name) && !self.methods_extra.contains(name) {
                let known = USUAL_METHODS.iter().copied().chain(self.methods_extra.iter().map(String::as_str));
                let message = format!("`{name}` is neither a usual method nor in `methods_extra` of [http]");
                self.log.error(self.source, method.span.clone(), unknown("bad-method", message, name, known));
            }
            list.push(name.into());
        }
        list.sort();
        list.into()
    }

    fn error(&mut self, span: Range<usize>, flaw: Flaw) {
        self.log.error(self.source, span, flaw);
    }
}

fn values<T: Clone>(list: &[At<T>]) -> Vec<T> {
    list.iter().map(|item| item.value.clone()).collect()
}

/// Links allow rules, which take exactly the paths that they name.
pub(crate) fn link_allows(texts: &[RuleText], scope: &mut Scope<'_>) -> Vec<Rule> {
    texts.iter().map(|text| link_rule(text, values(&text.paths), scope)).collect()
}

/// Links deny rules, which take more than they name: see [`Pattern::with_slash`].
pub(crate) fn link_denies(texts: &[RuleText], scope: &mut Scope<'_>) -> Vec<Rule> {
    texts.iter().map(|text| link_rule(text, with_slashes(&text.paths), scope)).collect()
}

fn with_slashes(paths: &[At<Pattern>]) -> Vec<Pattern> {
    values(paths).into_iter().flat_map(Pattern::with_slash).collect()
}

fn sorted(mut paths: Vec<Pattern>) -> Box<[Pattern]> {
    paths.sort_by(|one, two| one.as_str().cmp(two.as_str()));
    paths.into()
}

fn link_rule(text: &RuleText, paths: Vec<Pattern>, scope: &mut Scope<'_>) -> Rule {
    Rule {
        id: scope.id(&text.id),
        why: text.why.as_deref().map(Arc::from),
        methods: scope.methods(&text.methods),
        paths: sorted(paths),
        who: scope.names.who(&text.who, scope.tokens_named, scope.source, scope.log),
        span: text.id.span.clone(),
    }
}

/// Links limits, in the order of their ids. They count what deny rules would take, so that no spelling is free.
pub(crate) fn link_limits(texts: &[LimitText], scope: &mut Scope<'_>) -> Vec<Applied> {
    let mut limits: Vec<Applied> = texts.iter().map(|text| link_limit(text, scope)).collect();
    limits.sort_by(|one, two| one.limit.id.cmp(&two.limit.id));
    limits
}

fn link_limit(text: &LimitText, scope: &mut Scope<'_>) -> Applied {
    for part in &text.key {
        check_bound(&part.value, part.span.clone(), text, scope);
    }
    let limit = Limit {
        id: scope.id(&text.id),
        key: values(&text.key),
        rate: text.rate,
        burst: text.burst,
        status: text.status,
    };
    Applied {
        limit: Arc::new(limit),
        methods: text.methods.as_ref().map(|methods| scope.methods(methods)),
        paths: text.paths.as_ref().map(|paths| sorted(with_slashes(paths))),
        who: text.who.as_ref().map(|who| scope.names.who(who, scope.tokens_named, scope.source, scope.log)),
    }
}

/// A parameter in a key must be bound by every path that the limit counts.
fn check_bound(part: &KeyPart, span: Range<usize>, text: &LimitText, scope: &mut Scope<'_>) {
    let KeyPart::Path(name) = part else { return };
    let Some(paths) = &text.paths else {
        let message = format!("`path.{name}` needs `match = {{ paths = [...] }}` with `{{{name}}}`");
        scope.error(span, Flaw::new("unbound-parameter", message, "a limit of a whole API has no parameters"));
        return;
    };
    if let Some(path) = paths.iter().find(|path| !path.value.binds(name)) {
        let message = format!("the path `{}` of this limit does not bind `{{{name}}}`", path.value.as_str());
        let flaw = unknown("unbound-parameter", message, name, path.value.parameters().collect::<Vec<_>>());
        scope.error(span, flaw);
    }
}
