//! The log of all worlds of this process, kept for the tests that ask what was logged.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to keep the log; `WICKETGATE_TEST_LOG=debug` shows it too.
pub(super) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let level = wicketgate::telemetry::targets("info").unwrap();
        let kept = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Keeper).with_filter(level);
        let shown = std::env::var("WICKETGATE_TEST_LOG").ok().map(|level| {
            let level = wicketgate::telemetry::targets(&level).unwrap();
            tracing_subscriber::fmt::layer().with_writer(io::stderr).with_filter(level)
        });
        tracing_subscriber::registry().with(kept).with(shown).init();
    });
}

/// The lines with this text in them.
pub(crate) fn lines_with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

struct Keeper;

impl io::Write for Keeper {
    /// The formatter gives whole lines.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
