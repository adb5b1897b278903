//! `wicketgate policy`: the tests inside the files, and single questions.

use std::path::Path;

use wicketgate::complaint::Severity;
use wicketgate::policy::RequestText;

use super::output::counted;
use super::program::{Explained, Program};
use super::{Cli, Exit, ExplainArgs, Failure, Format, Terminal, policies, render};

const FORM: &str = "a method, one space and a URL are needed, as in 'GET https://host/path'";

/// Reads `GET https://host/path`.
fn parse_request(text: &str) -> Result<RequestText, &'static str> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        [method, url] if !method.is_empty() => RequestText::of_url(method, url).ok_or(FORM),
        _ => Err(FORM),
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
    let compiled = report.complaints.iter().all(|complaint| complaint.severity < Severity::Error);
    match cli.format {
        Format::Text => {
            write!(terminal.out, "{}", render(&report.complaints, Format::Text))?;
            if compiled {
                writeln!(terminal.out, "{} passed", counted(report.tests.len(), "test"))?;
            }
        }
        Format::Json => {
            write!(terminal.out, "{}", render(&report.complaints, Format::Json))?;
            let summary = serde_json::json!({ "bundle": report.bundle, "tests": report.tests });
            writeln!(terminal.out, "{summary}")?;
        }
    }
    Ok(if compiled { Exit::Done } else { Exit::No })
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
    fn a_request_is_a_method_and_a_url() {
        let request = parse_request("GET https://host/path?a=b").unwrap();
        assert_eq!((&*request.method, &*request.host, &*request.target), ("GET", "host", "/path?a=b"));
        assert_eq!(parse_request("GET https://host?a=b").unwrap().target, "/?a=b");
        for text in
            ["", "GET", "https://host/", "GET /path", "GET  https://host/", "GET https://host/ x", " https://a/"]
        {
            assert!(parse_request(text).is_err(), "{text}");
        }
    }
}
