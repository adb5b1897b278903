//! The file of records: appended to, line by line, by every shard.
//!
//! Lines are made outside the lock and written by one `write(2)` under the lock: lines never interleave, and the lock
//! costs nothing that the kernel's own lock on the file would not. Nothing is buffered here: when [`Audit::write`]
//! returns, the record stands in the file. It is not forced to the disk: what `write(2)` took survives the death of
//! this process, though not the loss of power.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::MAX_LINE;
use super::encode::encode;
use super::event::{AuditLost, Event};
use crate::{clock, telemetry};

/// What happens to requests while records cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused: 503 `audit-unavailable`.
    Refuse,
    /// They pass; the missing records are counted.
    Drop,
}

/// A record could not be written, and what it is about must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit record could not be written: {kind}")]
pub struct AuditUnavailable {
    /// What the operating system says.
    pub kind: io::ErrorKind,
}

/// What became of lines that were written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// So many bytes of them stand in the file.
    until: usize,
    /// Why the rest must not happen.
    failure: Option<io::ErrorKind>,
}

impl Written {
    /// Whether what the line is about may happen that ends at `end`.
    pub(super) fn check(self, end: usize) -> Result<(), AuditUnavailable> {
        match self.failure {
            Some(kind) if self.until < end => Err(AuditUnavailable { kind }),
            _ => Ok(()),
        }
    }
}

/// The sink.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    on_failure: OnFailure,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The last line was written in part: the next one begins on a line of its own.
    torn: bool,
    /// Records that are missing since the last one that stands in the file.
    lost: u64,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(MAX_LINE));
}

impl Audit {
    /// Opens the file for appending; makes it, with mode 0600, when it is not there.
    pub fn open(path: &Path, on_failure: OnFailure) -> io::Result<Self> {
        let file = open(path)?;
        let state = State { torn: is_torn(path, &file)?, file, lost: 0 };
        Ok(Self { path: path.to_path_buf(), on_failure, state: Mutex::new(state) })
    }

    /// Writes one record with the time of now. When this returns `Ok`, the whole line was given to the operating
    /// system, or `on_failure` is [`OnFailure::Drop`] and the loss was counted.
    pub fn write(&self, event: &Event<'_>) -> Result<(), AuditUnavailable> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            encode(clock::wall(), event, buffer);
            self.append(buffer).check(buffer.len())
        })
    }

    /// Writes whole lines at once.
    pub(super) fn append(&self, lines: &[u8]) -> Written {
        let mut state = self.lock();
        let recovered = state.recover(clock::wall()).map_err(|error| Short { taken: 0, error });
        let Err(Short { taken, error }) = recovered.and_then(|()| state.append(lines)) else {
            return Written { until: lines.len(), failure: None };
        };
        let lost = memchr::memchr_iter(b'\n', lines.get(taken..).unwrap_or_default()).count() as u64;
        let is_first = state.lost == 0;
        state.lost = state.lost.saturating_add(lost);
        drop(state);
        if is_first {
            tracing::error!(%error, "audit records are lost, until one says how many");
        }
        metrics::counter!(telemetry::AUDIT_FAILED).increment(lost);
        Written { until: taken, failure: (self.on_failure == OnFailure::Refuse).then(|| error.kind()) }
    }

    /// Opens the path again, for whoever moved the file away (log rotation). On an error the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open(&self.path)?;
        // Under the lock: it may be the same file, in the middle of a write.
        let mut state = self.lock();
        let torn = is_torn(&self.path, &file)?;
        (state.file, state.torn) = (file, torn);
        drop(state);
        self.retry();
        Ok(())
    }

    /// Tries to tell what was lost, so that the file is known to take lines again also when nobody asks for one.
    pub fn retry(&self) {
        // Still so: what was lost stays counted, and `is_refusing` says it.
        let _failed = self.lock().recover(clock::wall()).is_err();
    }

    /// Whether requests are refused because the last record could not be written.
    pub fn is_refusing(&self) -> bool {
        self.on_failure == OnFailure::Refuse && self.lock().lost > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock; and if it did, a file and two numbers would still be as true as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Whether a file ends in the middle of a line: the process that wrote it ended there. A file that we may only write to
/// is taken for whole.
fn is_torn(path: &Path, file: &File) -> io::Result<bool> {
    let seen = file.metadata()?;
    let Some(last) = seen.len().checked_sub(1).filter(|_| seen.is_file()) else { return Ok(false) };
    let mut end = [b'\n'];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut end, last));
    Ok(read.is_ok() && end != [b'\n'])
}

/// The file has not taken all of some lines.
struct Short {
    taken: usize,
    error: io::Error,
}

impl State {
    /// Once the file takes lines again, the first of them says how many are missing.
    fn recover(&mut self, at: SystemTime) -> io::Result<()> {
        if self.lost == 0 {
            return Ok(());
        }
        let mut line = Vec::new();
        encode(at, &Event::AuditLost(AuditLost { count: self.lost }), &mut line);
        self.append(&line).map_err(|short| short.error)?;
        self.lost = 0;
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), Short> {
        if self.torn {
            self.file.write_all(b"\n").map_err(|error| Short { taken: 0, error })?;
            self.torn = false;
        }
        let mut taken = 0;
        while let Some(rest) = lines.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(Short { taken, error: io::ErrorKind::WriteZero.into() }),
                Ok(written) => {
                    taken += written;
                    self.torn = !lines.get(..taken).is_some_and(|taken| taken.ends_with(b"\n"));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Short { taken, error }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::Reloaded;
    use std::fs;
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    fn event(what: &str) -> Event<'_> {
        Event::Reloaded(Reloaded { what, result: "ok" })
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_record_stands_in_the_file_when_write_returns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        for what in ["one", "two"] {
            audit.write(&event(what)).unwrap();
            assert_eq!(lines(&path).last().unwrap()["what"], what);
        }
        assert_eq!(lines(&path).len(), 2);
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_an_old_one_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        Audit::open(&path, OnFailure::Refuse).unwrap().write(&event("one")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Audit::open(&path, OnFailure::Refuse).unwrap().write(&event("two")).unwrap();
        assert_eq!(lines(&path).len(), 2);
    }

    #[test]
    fn a_full_disk_refuses_and_what_was_lost_is_told_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        audit.write(&event("before")).unwrap();
        audit.lock().file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        for _ in 0..2 {
            assert_eq!(audit.write(&event("never")), Err(AuditUnavailable { kind: io::ErrorKind::StorageFull }));
        }
        audit.retry();
        assert_eq!(audit.lock().lost, 2);
        assert!(audit.is_refusing());

        audit.reopen().unwrap();
        assert!(!audit.is_refusing(), "before the next record");
        audit.write(&event("after")).unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[1]["event"], lines[1]["count"].as_u64()), (&"audit-lost".into(), Some(2)));
        assert_eq!(lines[2]["what"], "after");
    }

    #[test]
    fn of_lines_that_are_written_together_those_stand_that_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::open(&directory.path().join("audit.jsonl"), OnFailure::Refuse).unwrap();
        let (full, mut reader) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        audit.lock().file = File::from(OwnedFd::from(full));
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let lines = line.repeat(4096);
        let written = audit.append(&lines);
        assert_eq!(written.failure, Some(io::ErrorKind::WouldBlock));
        let whole = written.until / line.len();
        assert!((1..4096).contains(&whole), "{whole} lines");
        assert!((1..=whole).all(|count| written.check(count * line.len()).is_ok()));
        assert!(written.check((whole + 1) * line.len()).is_err());
        let mut state = audit.lock();
        assert_eq!(state.lost, 4096 - whole as u64);
        assert_eq!(state.torn, !written.until.is_multiple_of(line.len()));
        state.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        drop(state);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, lines[..written.until]);
    }

    #[test]
    fn a_disk_with_room_again_is_noticed_without_a_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        let good =
            std::mem::replace(&mut audit.lock().file, OpenOptions::new().append(true).open("/dev/full").unwrap());
        assert!(audit.write(&event("never")).is_err());
        audit.lock().file = good;
        assert!(audit.is_refusing());
        audit.retry();
        assert!(!audit.is_refusing());
        audit.retry();
        let lines = lines(&path);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["event"], "audit-lost");
    }

    #[test]
    fn by_wish_requests_pass_and_the_loss_is_counted() {
        let audit = Audit::open(Path::new("/dev/full"), OnFailure::Drop).unwrap();
        assert_eq!(audit.write(&event("never")), Ok(()));
        assert_eq!((audit.lock().lost, audit.is_refusing()), (1, false));
    }

    #[test]
    fn a_torn_line_stays_alone_in_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        {
            let mut state = audit.lock();
            state.file.write_all(b"{\"time\":\"20").unwrap();
            state.torn = true;
        }
        audit.write(&event("whole")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, "{\"time\":\"20");
        assert_eq!(serde_json::from_str::<serde_json::Value>(whole).unwrap()["what"], "whole");
    }

    #[test]
    fn the_torn_line_of_an_earlier_process_stays_alone_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(&path, "{\"time\":\"20").unwrap();
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        audit.write(&event("one")).unwrap();
        fs::write(&path, "{}\n{\"time").unwrap();
        audit.reopen().unwrap();
        audit.write(&event("two")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(before, "{}\n{\"time");
        assert_eq!(serde_json::from_str::<serde_json::Value>(last).unwrap()["what"], "two");
        drop(audit);
        Audit::open(&path, OnFailure::Refuse).unwrap().write(&event("three")).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("\n\n"), "a whole line is continued by the next");
    }

    #[test]
    fn after_a_rotation_records_go_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        audit.write(&event("one")).unwrap();
        fs::rename(&path, &moved).unwrap();
        audit.write(&event("two")).unwrap();
        audit.reopen().unwrap();
        audit.write(&event("three")).unwrap();
        assert_eq!(lines(&moved).len(), 2);
        assert_eq!(lines(&path).len(), 1);
    }

    #[test]
    fn a_reopen_that_fails_keeps_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs").join("audit.jsonl");
        fs::create_dir(directory.path().join("logs")).unwrap();
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        fs::rename(directory.path().join("logs"), directory.path().join("old")).unwrap();
        assert_eq!(audit.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
        audit.write(&event("still")).unwrap();
        assert_eq!(lines(&directory.path().join("old").join("audit.jsonl")).len(), 1);
    }

    #[test]
    fn lines_of_many_threads_never_interleave() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let (audit, name) = (&audit, name.repeat(3000));
                scope.spawn(move || (0..100).for_each(|_| audit.write(&event(&name)).unwrap()));
            }
        });
        let lines = lines(&path);
        assert_eq!(lines.len(), 400);
        for line in lines {
            let what = line["what"].as_str().unwrap();
            assert!(what.len() == 3000 && what.chars().all(|letter| what.starts_with(letter)));
        }
    }
}
