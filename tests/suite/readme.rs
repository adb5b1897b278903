//! What README.md shows is true: its policy loads. Its commands are run by `tests/readme/run`.

use std::sync::Arc;

use wicketgate::policy::{self, Source};
use wicketgate::server::loader;

const README: &str = include_str!("../../README.md");

fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let start = README.find(&begin).expect("such a block") + begin.len();
    let length = README[start..].find("```").expect("its end");
    &README[start..start + length]
}

#[test]
fn the_policy_in_the_readme_loads_and_its_test_passes() {
    let identity = "[subjects.orders-dev]\ngroups = [\"orders-dev\"]\n";
    let sources = [("orders.toml", block("toml")), ("_identity.toml", identity)]
        .map(|(file, text)| Source { file: file.into(), text: Arc::from(text) });
    let compiled = policy::compile(&sources, &loader::lone_environment(), None).expect("it loads");
    assert_eq!(compiled.bundle.tests().len(), 1);
}
