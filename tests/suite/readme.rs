//! What README.md shows is true: its policy loads. What it gives to a shell is run by `tests/readme/run`, what it gives to
//! the program by `end_to_end::command`.

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
fn there_is_no_block_in_the_readme_that_nobody_runs() {
    let mut fences = README.lines().filter(|line| line.starts_with("```"));
    while let (Some(begin), Some(end)) = (fences.next(), fences.next()) {
        assert!(["```sh", "```toml", "```text"].contains(&begin) && end == "```", "{begin} {end}");
    }
    assert_eq!(README.matches("```toml\n").count(), 1, "only one policy is loaded");
}

#[test]
fn the_policy_in_the_readme_loads_and_its_test_passes() {
    let identity = "[subjects.orders-dev]\ngroups = [\"orders-dev\"]\n";
    let sources = [("orders.toml", block("toml")), ("_identity.toml", identity)]
        .map(|(file, text)| Source { file: file.into(), text: Arc::from(text) });
    let compiled = policy::compile(&sources, &loader::lone_environment(), None).expect("it loads");
    assert_eq!(compiled.bundle.tests().len(), 1);
}
