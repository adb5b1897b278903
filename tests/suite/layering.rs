//! The architecture, kept by a test: which module may import which, and why not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module (the longest matching path counts), what it may import of this crate, and why nothing else.
struct Row {
    module: &'static str,
    may_import: &'static [&'static str],
    because: &'static str,
}

const WORDS: &[&str] = &["identity"];

const TABLE: &[Row] = &[
    Row { module: "clock", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "complaint", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "entropy", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "identity", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "off_limits", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "shutdown", may_import: &[], because: "it is a word that everybody uses" },
    Row { module: "telemetry", may_import: &[], because: "it is a word that everybody uses" },
    Row {
        module: "identity::authn",
        may_import: &["identity", "ppp::auth", "clock", "entropy", "complaint", "off_limits", "telemetry"],
        because: "the only minting place stays small enough to review",
    },
    Row { module: "sstp", may_import: &[], because: "it is testable with one document open" },
    Row { module: "ppp", may_import: WORDS, because: "it is testable with one document open" },
    Row { module: "netstack", may_import: &[], because: "it is testable with one document open" },
    Row { module: "request", may_import: &[], because: "the one reading of a request depends on nothing else" },
    Row {
        module: "policy",
        may_import: &["identity", "request", "complaint", "off_limits"],
        because: "decisions can be replayed, explained and tested from text",
    },
    Row { module: "limits", may_import: &[], because: "it counts what it is given" },
    Row {
        module: "tunnel",
        may_import: &["sstp", "ppp", "netstack", "identity"],
        because: "it asks for a verdict by event and parks",
    },
    Row {
        module: "tunnel::driver",
        may_import: &["clock", "identity", "netstack", "ppp::auth"],
        because: "it hands out streams; who serves them is not its business",
    },
    Row { module: "tunnel::stream", may_import: &["clock"], because: "it is two directions of one socket" },
    Row { module: "tunnel::registry", may_import: WORDS, because: "it lists sessions and ends them" },
    Row { module: "listener", may_import: &["sstp", "clock", "telemetry"], because: "it ends where SSTP begins" },
    Row {
        module: "audit",
        may_import: &["identity", "policy", "clock", "entropy", "telemetry"],
        because: "an event says who, what, which rule; it cannot reach into a request",
    },
    Row {
        module: "upstream",
        may_import: &["policy", "clock", "off_limits"],
        because: "the last door checks the ticket, not the person",
    },
    Row {
        module: "snapshot",
        may_import: &["identity", "listener", "policy", "upstream"],
        because: "it holds what a reload replaces and does nothing with it",
    },
    Row {
        module: "proxy",
        may_import: &[
            "audit",
            "clock",
            "identity",
            "limits",
            "policy",
            "request",
            "shutdown",
            "snapshot",
            "telemetry",
            "upstream",
        ],
        because: "it serves any stream, so tests use an in-memory pipe",
    },
    Row {
        module: "config",
        may_import: &[
            "audit",
            "complaint",
            "identity",
            "listener",
            "limits",
            "netstack",
            "policy",
            "ppp",
            "sstp",
            "tunnel",
            "clock",
        ],
        because: "modules define what they need, config builds it",
    },
    Row {
        module: "admin",
        may_import: &["clock", "identity", "shutdown", "telemetry", "audit"],
        because: "it shows and ends sessions, and touches no request",
    },
];

/// Sees all: the only place where circles could start.
const WIRING: &[&str] = &["server", "cli", "main", "lib"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `src/tunnel/driver.rs` is `tunnel::driver`.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(root()).expect("below src").with_extension("");
    let mut parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts.join("::")
}

/// What stands outside comments and test modules.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The paths behind each `crate::`, groups unfolded: `{ppp, sstp::wire}` are two.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|character| character.is_alphanumeric() || character == '_') {
            continue;
        }
        unfold("", &code[at + "crate::".len()..], &mut found);
    }
    found
}

fn unfold(prefix: &str, text: &str, found: &mut BTreeSet<String>) {
    if let Some(group) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    unfold(prefix, group[start..at].trim(), found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    unfold(prefix, group[start..at].trim(), found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let word: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    if word.is_empty() {
        return;
    }
    let path = if prefix.is_empty() { word.clone() } else { format!("{prefix}::{word}") };
    match text[word.len()..].strip_prefix("::") {
        Some(rest) if prefix.is_empty() => unfold(&path, rest, found),
        _ => {
            found.insert(path);
        }
    }
}

fn covers(general: &str, special: &str) -> bool {
    special == general || special.strip_prefix(general).is_some_and(|rest| rest.starts_with("::"))
}

/// Test modules in files of their own may use what they like.
fn is_test(module: &str) -> bool {
    module.split("::").any(|part| part == "tests" || part == "testing")
}

fn row_for(module: &str) -> Option<&'static Row> {
    TABLE.iter().filter(|row| covers(row.module, module)).max_by_key(|row| row.module.len())
}

#[test]
fn no_module_imports_what_it_must_not_know() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let mut wrong = Vec::new();
    for file in &all {
        let module = module_of(file);
        let station = module.split("::").next().unwrap_or_default();
        if WIRING.contains(&station) || is_test(&module) {
            continue;
        }
        let Some(row) = row_for(&module) else {
            wrong.push(format!("src/{module}: stands in no row of the table"));
            continue;
        };
        for import in imports(&code(&fs::read_to_string(file).expect("a source file"))) {
            let own = covers(station, &import) && (row.module != "identity" || !covers("identity::authn", &import));
            if !own && !row.may_import.iter().any(|allowed| covers(allowed, &import)) {
                wrong.push(format!("{module} imports {import}, and must not, because {}", row.because));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_names_only_modules_that_exist() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let modules: BTreeSet<_> = all.iter().map(|file| module_of(file)).collect();
    for row in TABLE {
        for name in std::iter::once(&row.module).chain(row.may_import) {
            assert!(modules.iter().any(|module| covers(name, module)), "{name} is no module");
        }
    }
}

#[test]
fn the_machines_are_pure() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    for file in &all {
        let module = module_of(file);
        let pure = ["sstp", "ppp", "netstack", "request", "policy"].iter().any(|machine| covers(machine, &module));
        if !pure || is_test(&module) {
            continue;
        }
        let text = code(&fs::read_to_string(file).expect("a source file"));
        for banned in ["tokio", "async fn", "Instant::now", "SystemTime::now", "hyper", "rand::"] {
            assert!(!text.contains(banned), "{module} is pure and must not have `{banned}`");
        }
    }
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let found = imports("use crate::{ppp, sstp::wire};\nlet x = crate::clock::now();\nuse supercrate::no;");
    assert_eq!(found, ["clock::now", "ppp", "sstp::wire"].map(str::to_owned).into());
}
