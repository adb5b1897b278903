# The steps of .ci/run, one by one.

default: fmt clippy doc deny test

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked

deny:
    cargo deny --offline check licenses bans sources

test:
    tests/run

quickstart:
    cargo run --release --example quickstart -- --once

bench:
    benches/side-by-side/run
