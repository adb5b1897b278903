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
    Row { module: "field", may_import: &[], because: "it is a word that everybody uses" },
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
    Row { module: "request", may_import: &["field"], because: "the one reading of a request depends on nothing else" },
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
        may_import: &["clock", "identity", "netstack", "ppp::auth", "tunnel::stream"],
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
        may_import: &["policy", "clock", "field", "off_limits"],
        because: "the last door checks the ticket, not the person",
    },
    Row {
        module: "snapshot",
        may_import: &["identity::authn", "listener", "policy", "upstream"],
        because: "it holds what a reload replaces and does nothing with it",
    },
    Row {
        module: "proxy",
        may_import: &[
            "audit",
            "clock",
            "field",
            "identity",
            "identity::authn",
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

/// What stands outside comments and inline test modules.
fn code(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{')) {
            // rustfmt puts the end of a module into the first column.
            let end = lines.by_ref().find(|line| *line == "}");
            assert!(end.is_some(), "a test module without an end");
        } else if !line.trim_start().starts_with("//") {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The paths in this code of a module that lead to other modules of this crate, from its root on: those behind `crate::`,
/// `super::` and `self::`, and behind the names of modules that were imported whole or are declared here. Groups are
/// unfolded: `{ppp, sstp::wire}` are two.
fn imports(module: &str, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in word_starts(code, "crate::") {
        unfold("", &code[at + "crate::".len()..], &mut found);
    }
    for at in word_starts(code, "super::") {
        let mut rest = &code[at..];
        let mut home: Vec<&str> = module.split("::").collect();
        while let Some(behind) = rest.strip_prefix("super::") {
            rest = behind;
            home.pop();
        }
        unfold(&home.join("::"), rest, &mut found);
    }
    for at in word_starts(code, "self::") {
        unfold(module, &code[at + "self::".len()..], &mut found);
    }
    let mut whole: Vec<String> = found.iter().filter(|path| is_module(path)).cloned().collect();
    let children = code.lines().filter_map(|line| line.trim_end().strip_suffix(';')?.rsplit_once("mod "));
    whole.extend(children.map(|(_, name)| format!("{module}::{name}")));
    for path in whole {
        let name = format!("{}::", path.rsplit("::").next().unwrap_or(&path));
        for at in word_starts(code, &name) {
            unfold(&path, &code[at + name.len()..], &mut found);
        }
    }
    found
}

/// Where this stands at the beginning of a path.
fn word_starts<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    code.match_indices(word).map(|(at, _)| at).filter(|at| {
        let before = code[..*at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || matches!(character, '_' | ':'))
    })
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
    let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if text.starts_with('*') {
        // Everything that is there: all of what stands in rows of their own too.
        let rows = TABLE.iter().map(|row| row.module).filter(|row| covers(prefix, row));
        found.extend(rows.map(str::to_owned).chain([prefix.to_owned()]));
        return;
    }
    let word: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    if word.is_empty() {
        return;
    }
    let path = if word == "self" { prefix.to_owned() } else { below(&word) };
    match text[word.len()..].strip_prefix("::") {
        Some(rest) if path.split("::").count() < 3 => unfold(&path, rest, found),
        _ => {
            found.insert(path);
        }
    }
}

/// Whether a path is that of a module and not of something in it.
fn is_module(path: &str) -> bool {
    let file = root().join(path.replace("::", "/"));
    file.is_dir() || file.with_extension("rs").is_file()
}

/// Whether a module may import this: something of its own row, of the row around that, or of what its row lists. What
/// stands in a row of its own must be listed by its own name.
fn may_import(row: &Row, import: &str) -> bool {
    let Some(other) = row_for(import) else { return false };
    let listed = row.may_import.iter().any(|allowed| covers(allowed, import) && !is_inside(other.module, allowed));
    other.module == row.module || is_inside(row.module, other.module) || listed
}

fn is_inside(special: &str, general: &str) -> bool {
    special != general && covers(general, special)
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
        let text = code(&fs::read_to_string(file).expect("a source file"));
        if WIRING.contains(&station) || is_test(&module) {
            continue;
        }
        let Some(row) = row_for(&module) else {
            wrong.push(format!("{module}: stands in no row of the table"));
            continue;
        };
        for import in imports(&module, &text) {
            if !may_import(row, &import) {
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
        let pure = ["sstp", "ppp", "netstack", "request", "policy", "tunnel", "limits", "identity"];
        if is_test(&module) || !row_for(&module).is_some_and(|row| pure.contains(&row.module)) {
            continue;
        }
        let text = code(&fs::read_to_string(file).expect("a source file"));
        for banned in ["tokio", "async fn", "Instant::now", "SystemTime::now", "hyper", "rand::"] {
            assert!(!text.contains(banned), "{module} is pure and must not have `{banned}`");
        }
    }
}

fn found(module: &str, code: &str) -> Vec<String> {
    imports(module, code).into_iter().collect()
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let code = "use crate::{ppp, sstp::wire};\nlet x = crate::clock::now();\nuse supercrate::no;";
    assert_eq!(found("proxy", code), ["clock::now", "ppp", "sstp::wire"]);
    assert_eq!(
        found("proxy", "use crate::identity::{self, authn::{Users, Tokens}};"),
        ["identity", "identity::authn::Tokens", "identity::authn::Users"]
    );
}

#[test]
fn imports_are_found_by_relative_paths_and_behind_modules_that_are_imported_whole() {
    assert_eq!(
        found("tunnel::driver", "use super::super::proxy::Proxy;\nuse super::Tunnel;"),
        ["proxy::Proxy", "tunnel::Tunnel"]
    );
    assert_eq!(found("audit", "use super::proxy;"), ["proxy"]);
    assert_eq!(
        found("tunnel", "pub mod driver;\nuse self::stream::TunnelStream;\nfn f(_: driver::Driver) {}"),
        ["tunnel::driver::Driver", "tunnel::stream::TunnelStream"]
    );
    assert_eq!(
        found("tunnel", "use crate::identity;\nfn f() { identity::authn::login() }"),
        ["identity", "identity::authn::login"]
    );
    assert_eq!(
        found("proxy", "use crate::tunnel::*;"),
        ["tunnel", "tunnel::driver", "tunnel::registry", "tunnel::stream"]
    );
}

#[test]
fn test_modules_and_comments_are_no_code_and_what_is_behind_them_is() {
    let text = "#[cfg(test)]\nmod tests;\nuse crate::ppp;\n#[cfg(test)]\nmod tests {\n    use crate::no;\n}\n// crate::no\nuse crate::sstp;";
    assert_eq!(found("proxy", &code(text)), ["ppp", "sstp"]);
}

#[test]
fn to_allow_a_module_does_not_allow_what_has_a_row_of_its_own_in_it() {
    let row = |may_import| Row { module: "upstream", may_import, because: "" };
    assert!(may_import(&row(&["identity"]), "identity::Subject"));
    assert!(!may_import(&row(&["identity"]), "identity::authn::Users"));
    assert!(may_import(&row(&["identity::authn"]), "identity::authn::Users"));
    assert!(!may_import(&row(&["identity::authn"]), "identity::Subject"));
    let of = |module| row_for(module).expect("a row");
    assert!(may_import(of("tunnel::driver"), "tunnel::Tunnel"), "the part knows the whole");
    assert!(!may_import(of("tunnel"), "tunnel::driver::Driver"), "the whole does not know this part");
    assert!(!may_import(of("identity"), "identity::authn::Users"));
}
