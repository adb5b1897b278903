//! libFuzzer's side: one binary for all targets. The environment names the one that this process is about; see
//! `tests/fuzz/run`.

#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::Target;

/// Names the target, as in [`targets::TARGETS`]; without it, their names are printed.
const VARIABLE: &str = "WICKETGATE_FUZZ";

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(bytes);
    }
});

fn choose() {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    match targets::TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => TARGET.set(*target).expect("libFuzzer initializes once"),
        None => {
            for (name, _) in targets::TARGETS {
                println!("{name}");
            }
            std::process::exit(i32::from(!name.is_empty()));
        }
    }
}
