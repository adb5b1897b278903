//! The one reader of the operating system's randomness.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// `N` bytes from the operating system's generator.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system's random generator works");
    bytes
}

/// A random number of 64 bits.
pub fn number() -> u64 {
    u64::from_ne_bytes(bytes())
}
