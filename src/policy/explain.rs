//! Why a request is judged as it is: every rule that could have spoken, and what it looked at.
//!
//! The verdict is [`judge`]'s own; the rest is told with the same matchers. For the authors of policies, not for
//! callers: it names all groups.

use std::fmt;

use serde_json::{Value, json};

use crate::identity::{Group, StatedGroups};

use super::bundle::Bundle;
use super::decision::{Charge, Judgement, Reason, RuleId};
use super::judge::{judge, readings, seen};
use super::rule::Rule;
use super::select::{Seen, Truth, View as _};
use super::{Facts, visibility};

/// The tree of one judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub(super) bundle: String,
    method: String,
    host: String,
    path: String,
    subject: Option<String>,
    identity: Vec<(&'static str, String)>,
    api: Option<String>,
    visible: Option<bool>,
    allowed: bool,
    reason: Option<Reason>,
    status: Option<u16>,
    rule: Option<RuleId>,
    denies: Vec<Line>,
    allows: Vec<Line>,
    charges: Vec<Charge>,
}

/// What one rule has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    rule: RuleId,
    method: bool,
    methods: Vec<String>,
    /// The pattern that matched.
    path: Option<String>,
    who: Truth,
    subjects: Vec<(String, Truth)>,
}

impl Line {
    fn of(rule: &Rule, seen: &Seen<'_>, paths: &[&str]) -> Self {
        let built_in = |named, name: &str, truth| (named, (name.to_owned(), truth));
        let subjects = [
            built_in(rule.who.anonymous, "anonymous", Truth::True),
            built_in(rule.who.authenticated, "anyone-authenticated", seen.authenticated().into()),
        ];
        let named = rule.who.subjects.iter().map(|subject| (subject.name.to_string(), subject.holds(seen)));
        Self {
            rule: rule.id.clone(),
            method: rule.names_method(seen.facts.request.method()),
            methods: rule.methods.iter().map(|method| method.to_string()).collect(),
            path: rule.pattern_of(paths).map(|pattern| pattern.as_str().to_owned()),
            who: rule.who.holds(seen),
            subjects: subjects.into_iter().filter(|(named, _)| *named).map(|(_, line)| line).chain(named).collect(),
        }
    }

    fn routes(&self) -> bool {
        self.method && self.path.is_some()
    }

    /// How near the rule came, for the order of printing.
    fn nearness(&self) -> (bool, Truth) {
        (self.routes(), self.who)
    }

    fn json(&self) -> Value {
        let subjects: serde_json::Map<String, Value> =
            self.subjects.iter().map(|(name, truth)| (name.clone(), word(*truth).into())).collect();
        json!({
            "rule": self.rule.as_str(),
            "method": self.method,
            "methods": self.methods,
            "path": self.path,
            "who": word(self.who),
            "subjects": subjects,
        })
    }
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "yes",
        Truth::False => "no",
        Truth::Unknown => "unknown",
    }
}

/// Explains the judgement of these facts.
pub fn explain(bundle: &Bundle, facts: &Facts<'_>) -> Explanation {
    let request = facts.request;
    let (allowed, reason, status, rule, charges) = match judge(bundle, facts) {
        Judgement::Allow(allowance) => (true, None, None, Some(allowance.rule), allowance.charges),
        Judgement::Deny(denial) => (false, Some(denial.reason), Some(denial.status), denial.rule, Vec::new()),
    };
    let api = bundle.api_for(request.host(), request.path());
    let mut denies = Vec::new();
    let mut allows = Vec::new();
    if let Some((api, relative)) = api.and_then(|api| Some((api, api.relative(request.path())?))) {
        let seen = seen(api, facts);
        let both = [request.path(), relative];
        let both = readings(&both);
        denies.extend(bundle.org.denies.iter().map(|rule| Line::of(rule, &seen, both)));
        denies.extend(api.denies.iter().map(|rule| Line::of(rule, &seen, &[relative])));
        allows.extend(api.allows.iter().map(|rule| Line::of(rule, &seen, &[relative])));
        allows.sort_by_key(|line| std::cmp::Reverse(line.nearness()));
    }
    Explanation {
        bundle: bundle.id().to_owned(),
        method: request.method().to_owned(),
        host: request.host().to_owned(),
        path: request.path().to_owned(),
        subject: facts.subject.map(str::to_owned),
        identity: identity(facts),
        api: api.map(|api| api.name.clone()),
        visible: api
            .filter(|_| facts.subject.is_some())
            .map(|api| visibility::is_visible(bundle, api, &facts.evidence())),
        allowed,
        reason,
        status,
        rule,
        denies,
        allows,
        charges,
    }
}

fn joined(groups: &[Group]) -> String {
    if groups.is_empty() {
        return "(none)".to_owned();
    }
    groups.iter().map(Group::as_str).collect::<Vec<_>>().join(",")
}

fn identity(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let mut words = vec![("groups", joined(facts.local_groups))];
    words.extend(facts.binding.map(|binding| ("binding", binding.as_str().to_owned())));
    words.extend(facts.method.map(|method| ("method", method.as_str().to_owned())));
    if let Some(token) = facts.token {
        words.push(("token", token.issuer.to_string()));
        words.push((
            "token-groups",
            match &token.groups {
                StatedGroups::NotStated => "(not stated)".to_owned(),
                StatedGroups::Unknown => "(unknown)".to_owned(),
                StatedGroups::Known(groups) => joined(groups),
            },
        ));
        words.extend(token.email.clone().map(|email| ("email", email)));
        words.extend(token.client_id.clone().map(|client| ("client", client)));
    }
    words
}

impl Explanation {
    /// Whether the request may pass.
    pub fn allowed(&self) -> bool {
        self.allowed
    }

    /// The same tree for machines.
    pub fn to_json(&self) -> Value {
        let identity: serde_json::Map<String, Value> =
            self.identity.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        let charges: Vec<Value> = self
            .charges
            .iter()
            .map(|charge| json!({ "limit": charge.limit.id.as_str(), "key": &*charge.key }))
            .collect();
        json!({
            "bundle": self.bundle,
            "request": { "method": self.method, "host": self.host, "path": self.path },
            "subject": self.subject,
            "identity": identity,
            "api": self.api,
            "visible": self.visible,
            "outcome": if self.allowed { "allow" } else { "deny" },
            "reason": self.reason.map(Reason::as_str),
            "status": self.status,
            "rule": self.rule.as_ref().map(RuleId::as_str),
            "deny": self.denies.iter().map(Line::json).collect::<Vec<_>>(),
            "allow": self.allows.iter().map(Line::json).collect::<Vec<_>>(),
            "charges": charges,
        })
    }

    fn write_rule(line: &Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match line.nearness() {
            (true, Truth::True) => "holds",
            (true, Truth::Unknown | Truth::False) => "near miss",
            (false, _) => "other",
        };
        write!(f, "  {label:<10} {}", line.rule)?;
        if !line.method {
            write!(f, "  methods {} only", line.methods.join(", "))?;
        }
        match &line.path {
            Some(pattern) => write!(f, "  path {pattern}")?,
            None => write!(f, "  no path matches")?,
        }
        for (name, truth) in &line.subjects {
            write!(f, "  {name}: {}", word(*truth))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundle = self.bundle.get(..12).unwrap_or(&self.bundle);
        writeln!(f, "{} {} {}      bundle {bundle}", self.method, self.host, self.path)?;
        match &self.subject {
            None => writeln!(f, "  as nobody")?,
            Some(subject) => {
                write!(f, "  as {subject}")?;
                for (name, value) in &self.identity {
                    write!(f, "  {name}={value}")?;
                }
                writeln!(f)?;
            }
        }
        let by = self.rule.as_ref().map_or_else(String::new, |rule| format!("  by {rule}"));
        match (self.reason, self.status) {
            (Some(reason), Some(status)) => writeln!(f, "DENY  {reason}  {status}{by}")?,
            (_, _) => writeln!(f, "ALLOW{by}")?,
        }
        let Some(api) = &self.api else { return writeln!(f, "  no API answers to this host and path") };
        let hidden = if self.visible == Some(false) { "  not visible to this identity" } else { "" };
        writeln!(f, "  api        {api}{hidden}")?;
        for line in &self.allows {
            Self::write_rule(line, f)?;
        }
        for line in self.denies.iter().filter(|line| line.routes()) {
            write!(f, "  deny       {}", line.rule)?;
            for (name, truth) in &line.subjects {
                write!(f, "  {name}: {}", word(*truth))?;
            }
            writeln!(f)?;
        }
        let silent: Vec<&str> =
            self.denies.iter().filter(|line| !line.routes()).map(|line| line.rule.as_str()).collect();
        if !silent.is_empty() {
            writeln!(f, "  deny       {}: no match", silent.join(", "))?;
        }
        for charge in &self.charges {
            writeln!(f, "  charge     {}  {}", charge.limit.id, charge.key)?;
        }
        Ok(())
    }
}
