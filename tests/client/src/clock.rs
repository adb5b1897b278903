//! The only reader of the operating system's time and randomness in this package.

use std::time::Instant;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock in this package")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Fresh bytes from the TLS library's generator, for seeds.
pub(crate) fn seed() -> [u8; 32] {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the generator of the TLS library never fails after it started");
    bytes
}
