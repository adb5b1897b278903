//! `wicketgate policy`: the tests inside the files, and single questions.

use std::collections::BTreeMap;
use std::path::Path;

use wicketgate::complaint::Severity;

use super::check::failed_tests;
use super::output::counted;
use super::program::{Explained, Program};
use super::{Cli, Exit, ExplainArgs, Failure, Format, Terminal, policies, render};

/// Who asks: names of facts, as in a test's `as`, each with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who(pub(crate) BTreeMap<String, Vec<String>>);

/// A method and a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
}

/// Reads `user=alice,groups=staff,orders-read`: a word without `=` is one more value of the name before it.
pub(super) fn parse_who(text: &str) -> Result<Who, String> {
    let mut facts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = None;
    for part in text.split(',').map(str::trim) {
        let (name, value) = match (part.split_once('='), &current) {
            (Some((name, value)), _) => (name.trim().to_owned(), value.trim()),
            (None, Some(name)) => (String::clone(name), part),
            (None, None) => return Err(format!("`{part}` is not name=value, as in user=alice")),
        };
        if name.is_empty() || value.is_empty() {
            return Err(format!("`{part}` lacks a name or a value"));
        }
        facts.entry(name.clone()).or_default().push(value.to_owned());
        current = Some(name);
    }
    match facts.get("user").map(Vec::as_slice) {
        Some([_]) => Ok(Who(facts)),
        Some(_) => Err("only one `user` can ask".to_owned()),
        None => Err("`user=NAME` is missing".to_owned()),
    }
}

/// Reads `GET https://host/path`.
fn parse_request(text: &str) -> Result<Request, String> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        [method, url] if !method.is_empty() && (url.starts_with("https://") || url.starts_with("http://")) => {
            Ok(Request { method: (*method).to_owned(), url: (*url).to_owned() })
        }
        _ => Err("a method, one space and a URL are needed, as in 'GET https://host/path'".to_owned()),
    }
}

pub(super) fn test(
    cli: &Cli,
    directory: Option<&Path>,
    program: &dyn Program,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Failure> {
    let (directory, config) = policies(cli, directory)?;
    let report = program.policies(&directory, config.as_ref())?;
    let failed = report.tests.iter().filter(|test| test.failure.is_some()).count();
    let compiled = report.complaints.iter().all(|complaint| complaint.severity < Severity::Error);
    match cli.format {
        Format::Text => {
            write!(terminal.out, "{}{}", render(&report.complaints, Format::Text), failed_tests(&report.tests))?;
            if compiled {
                writeln!(terminal.out, "{}, {failed} failed", counted(report.tests.len(), "test"))?;
            }
        }
        Format::Json => {
            write!(terminal.out, "{}", render(&report.complaints, Format::Json))?;
            let summary = serde_json::json!({ "bundle": report.bundle, "tests": report.tests, "failed": failed });
            writeln!(terminal.out, "{summary}")?;
        }
    }
    Ok(if compiled && failed == 0 { Exit::Done } else { Exit::No })
}

pub(super) fn explain(
    cli: &Cli,
    arguments: &ExplainArgs,
    program: &dyn Program,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Failure> {
    let (directory, request) = arguments.split();
    let request = match parse_request(request) {
        Ok(request) => request,
        Err(fault) => {
            writeln!(terminal.err, "error: {fault}")?;
            return Ok(Exit::Usage);
        }
    };
    let (directory, config) = policies(cli, directory)?;
    match program.explain(&directory, config.as_ref(), &arguments.who, &request)? {
        Explained::Broken(complaints) => {
            write!(terminal.out, "{}", render(&complaints, cli.format))?;
            Ok(Exit::No)
        }
        Explained::Judged { allowed, text, json } => {
            match cli.format {
                Format::Text => write!(terminal.out, "{text}")?,
                Format::Json => writeln!(terminal.out, "{json}")?,
            }
            Ok(if allowed { Exit::Done } else { Exit::No })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_without_equals_belongs_to_the_name_before_it() {
        let Who(facts) = parse_who("user=alice, groups=staff,orders-read,acr=phr").unwrap();
        assert_eq!(facts["user"], ["alice"]);
        assert_eq!(facts["groups"], ["staff", "orders-read"]);
        assert_eq!(facts["acr"], ["phr"]);
    }

    #[test]
    fn somebody_must_ask_and_only_one() {
        for text in ["", "alice", "groups=a", "user=", "=alice", "user=alice,bob", "user=a,user=b", "user=a,"] {
            assert!(parse_who(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_is_a_method_and_a_url() {
        let request = parse_request("GET https://host/path?a=b").unwrap();
        assert_eq!((request.method.as_str(), request.url.as_str()), ("GET", "https://host/path?a=b"));
        for text in
            ["", "GET", "https://host/", "GET /path", "GET  https://host/", "GET https://host/ x", " https://a/"]
        {
            assert!(parse_request(text).is_err(), "{text}");
        }
    }
}
