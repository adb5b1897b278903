//! `wicketgate check`: everything that `serve` would refuse, and everything worth a warning.

use wicketgate::complaint::{Complaint, Severity};
use wicketgate::config;

use super::output::{counted, table};
use super::program::{PolicyReport, Program};
use super::{Cli, Exit, Failure, Format, Terminal, render};

pub(super) fn check(cli: &Cli, program: &dyn Program, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let path = config::locate(cli.config.clone())?;
    let (mut complaints, report) = match config::load(&path) {
        Ok((config, warnings)) => (warnings, Some(program.policies(&config.policies, Some(&config))?)),
        Err(complaints) => (complaints, None),
    };
    if let Some(report) = &report {
        complaints.extend(report.complaints.iter().cloned());
    }
    let verdict = Verdict::of(&complaints, report.as_ref());
    match cli.format {
        Format::Text => {
            write!(terminal.out, "{}", render(&complaints, Format::Text))?;
            write!(terminal.out, "{}", report_text(report.as_ref()))?;
            writeln!(terminal.out, "{}", verdict.text(&path.display().to_string()))?;
        }
        Format::Json => {
            write!(terminal.out, "{}", render(&complaints, Format::Json))?;
            writeln!(terminal.out, "{}", verdict.json(report.as_ref()))?;
        }
    }
    Ok(if verdict.good() { Exit::Done } else { Exit::No })
}

fn report_text(report: Option<&PolicyReport>) -> String {
    let Some(report) = report else { return String::new() };
    let mut text = String::new();
    if !report.hosts.is_empty() {
        text += &table(["HOST", "ADDRESS"], report.hosts.iter().map(|row| [row.host.clone(), row.address.clone()]));
    }
    text
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    errors: usize,
    warnings: usize,
    tests: usize,
}

impl Verdict {
    fn of(complaints: &[Complaint], report: Option<&PolicyReport>) -> Self {
        let errors = complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count();
        Self { errors, warnings: complaints.len() - errors, tests: report.map_or(0, |report| report.tests.len()) }
    }

    fn good(&self) -> bool {
        self.errors == 0
    }

    fn text(&self, file: &str) -> String {
        let word = if self.good() { "good" } else { "not good" };
        let parts = [counted(self.errors, "error"), counted(self.warnings, "warning"), counted(self.tests, "test")];
        format!("{file} is {word}: {}", parts.join(", "))
    }

    fn json(&self, report: Option<&PolicyReport>) -> serde_json::Value {
        serde_json::json!({
            "good": self.good(),
            "errors": self.errors,
            "warnings": self.warnings,
            "bundle": report.and_then(|report| report.bundle.as_deref()),
            "apis": report.map(|report| report.apis),
            "hosts": report.map(|report| &report.hosts),
            "tests": report.map(|report| &report.tests),
        })
    }
}
