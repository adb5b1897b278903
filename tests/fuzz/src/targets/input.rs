//! Reads numbers and byte strings off the front of a fuzzer's input.

use std::time::Duration;

/// What is left of the input. When it is used up, every number is 0 and every string empty.
pub(crate) struct Input<'a>(&'a [u8]);

/// The steps of time that mean something to some timer, from "no time" to "longer than all of them".
const STEPS: [Duration; 12] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_millis(59_999),
    Duration::from_secs(60),
    Duration::from_secs(601),
];

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Big-endian.
    pub(crate) fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A string behind a byte with its length.
    pub(crate) fn short(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(usize::from(length))
    }

    /// A string behind two bytes with its length.
    pub(crate) fn long(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(usize::from(length))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A step of time.
    pub(crate) fn time(&mut self) -> Duration {
        STEPS[usize::from(self.byte()) % STEPS.len()]
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
