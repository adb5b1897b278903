//! Every seed of the fuzzer, as an ordinary test: what was found once is never lost again.

#[path = "src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most that a target has, and the longest: they are read by people, and run with every test.
const MAX_SEEDS: usize = 40;
const MAX_SEED: usize = 4096;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_seed_keeps_the_properties_of_its_target() {
    for (name, target) in targets::TARGETS {
        let paths = entries(&seeds().join(name));
        assert!((1..=MAX_SEEDS).contains(&paths.len()), "{name} has {} seeds", paths.len());
        for path in paths {
            let seed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(seed.len() <= MAX_SEED, "{} has {} bytes", path.display(), seed.len());
            // The name stands in the output of a test that fails.
            println!("{}", path.display());
            target(&seed);
        }
    }
}

#[test]
fn every_directory_of_seeds_has_its_target() {
    let named: BTreeSet<_> = targets::TARGETS.iter().map(|(name, _)| seeds().join(name)).collect();
    assert_eq!(entries(&seeds()).into_iter().collect::<BTreeSet<_>>(), named);
}
