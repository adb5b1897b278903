//! The records of one shard on their way to the file: those of one turn are written together (group commit).
//!
//! A record that something must wait for is staged with it, and [`Journal::commit`] gives it back when the record stands
//! in the file. One that nothing waits for is noted: whoever notes the first of a group sees to it that the group is
//! flushed.

use std::io::ErrorKind;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use super::MAX_LINE;
use super::encode::encode;
use super::event::Event;
use super::sink::{Audit, AuditUnavailable, Written};

/// The largest group in bytes. What comes on top of it finds it written.
const MAX_GROUP: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Journal {
    audit: Arc<Audit>,
    group: Mutex<Group>,
}

/// Records that are not in the file yet.
#[derive(Debug, Default)]
struct Group {
    lines: Vec<u8>,
    /// What became of them, for those who wait.
    written: Arc<OnceLock<Written>>,
    /// Somebody was told to flush them.
    noted: bool,
}

/// A record on its way to the file.
#[derive(Clone, Debug)]
#[must_use]
pub struct Record {
    /// Where it ends in its group.
    end: usize,
    written: Arc<OnceLock<Written>>,
}

/// What may happen when its record stands in the file, and until then can only be looked at.
#[derive(Debug)]
#[must_use]
pub struct Staged<T> {
    value: T,
    record: Record,
}

impl Record {
    /// What the record has to stand before.
    pub fn before<T>(self, value: T) -> Staged<T> {
        Staged { value, record: self }
    }

    /// Whether it was not written, and what it is about must not happen.
    pub fn is_lost(&self) -> bool {
        self.written.get().is_some_and(|written| written.check(self.end).is_err())
    }
}

impl<T> Staged<T> {
    /// Its record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl<T> Deref for Staged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Journal {
    /// An empty one in front of the file.
    pub fn new(audit: Arc<Audit>) -> Self {
        Self { audit, group: Mutex::default() }
    }

    /// Adds a record of this time that something has to wait for.
    pub fn stage(&self, at: SystemTime, event: &Event<'_>) -> Record {
        let mut group = self.lock();
        let end = self.add(&mut group, at, event);
        Record { end, written: Arc::clone(&group.written) }
    }

    /// Writes the record, with all others of its group, unless that was done before.
    ///
    /// # Errors
    ///
    /// The record does not stand in the file, and `on_failure` is [`super::OnFailure::Refuse`]; or it is of another
    /// journal.
    pub fn commit<T>(&self, staged: Staged<T>) -> Result<T, AuditUnavailable> {
        let Staged { value, record: Record { end, written } } = staged;
        let mut group = self.lock();
        let written = match written.get() {
            Some(written) => *written,
            None if Arc::ptr_eq(&written, &group.written) => self.write(&mut group),
            None => return Err(AuditUnavailable { kind: ErrorKind::NotFound }),
        };
        written.check(end).map(|()| value)
    }

    /// Adds a record of this time that nothing waits for. True when the caller has to see to it that it is flushed soon.
    pub fn note(&self, at: SystemTime, event: &Event<'_>) -> bool {
        let mut group = self.lock();
        self.add(&mut group, at, event);
        !std::mem::replace(&mut group.noted, true)
    }

    /// Writes what is here. A record that cannot be written is counted as lost.
    pub fn flush(&self) {
        let mut group = self.lock();
        if !group.lines.is_empty() {
            self.write(&mut group);
        }
    }

    fn add(&self, group: &mut Group, at: SystemTime, event: &Event<'_>) -> usize {
        if group.lines.len() + MAX_LINE > MAX_GROUP {
            self.write(group);
        }
        encode(at, event, &mut group.lines);
        group.lines.len()
    }

    fn write(&self, group: &mut Group) -> Written {
        let written = self.audit.append(&group.lines);
        group.lines.clear();
        group.noted = false;
        // This group's word is said once, here.
        let _unsaid = std::mem::take(&mut group.written).set(written);
        written
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::audit::OnFailure;
    use crate::audit::event::Reloaded;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn event(what: &str) -> Event<'_> {
        Event::Reloaded(Reloaded { what, result: "ok" })
    }

    fn journal() -> (TempDir, PathBuf, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let journal = Journal::new(Arc::new(Audit::open(&path, OnFailure::Refuse).unwrap()));
        (directory, path, journal)
    }

    fn written(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["what"].as_str().unwrap().into()).collect()
    }

    #[test]
    fn what_waits_is_given_back_when_its_record_is_written_and_all_of_a_group_are_at_once() {
        let (_directory, path, journal) = journal();
        let first = journal.stage(NOW, &event("first")).before(1);
        let second = journal.stage(NOW, &event("second")).before(2);
        assert_eq!((*first, *second), (1, 2), "they can be looked at");
        assert!(written(&path).is_empty());
        assert_eq!(journal.commit(second), Ok(2));
        assert_eq!(written(&path), ["first", "second"]);
        let third = journal.stage(NOW, &event("third")).before(3);
        assert_eq!(journal.commit(first), Ok(1));
        assert_eq!(written(&path).len(), 2, "the first was written before");
        assert_eq!(journal.commit(third), Ok(3));
        assert_eq!(written(&path).len(), 3);
    }

    #[test]
    fn whoever_notes_the_first_of_a_group_is_told_to_flush_it() {
        let (_directory, path, journal) = journal();
        assert!(journal.note(NOW, &event("first")));
        assert!(!journal.note(NOW, &event("second")));
        journal.flush();
        assert_eq!(written(&path), ["first", "second"]);
        assert!(journal.note(NOW, &event("third")));
        drop(journal);
        assert_eq!(written(&path), ["first", "second", "third"], "also by the last who has the journal");
    }

    #[test]
    fn a_group_has_a_largest_size() {
        let (_directory, path, journal) = journal();
        let long = "x".repeat(MAX_LINE / 4);
        let first = journal.stage(NOW, &event("first"));
        for _ in 0..MAX_GROUP / long.len() {
            let _noted = journal.note(NOW, &event(&long));
        }
        assert_eq!(written(&path)[0], "first");
        assert!(journal.lock().lines.len() <= MAX_GROUP);
        assert_eq!(journal.commit(first.before(1)), Ok(1));
    }

    #[test]
    fn a_record_of_another_journal_gives_nothing_back() {
        let ((_one, _, journal), (_two, path, other)) = (journal(), journal());
        let _mine = journal.stage(NOW, &event("mine"));
        assert!(journal.commit(other.stage(NOW, &event("theirs")).before(1)).is_err());
        assert!(written(&path).is_empty());
    }

    #[test]
    fn without_its_record_nothing_is_given_back() {
        let journal = Journal::new(Arc::new(Audit::open(Path::new("/dev/full"), OnFailure::Refuse).unwrap()));
        let staged = [journal.stage(NOW, &event("first")), journal.stage(NOW, &event("second"))];
        assert!(staged.iter().all(|staged| !staged.is_lost()));
        for staged in staged {
            assert_eq!(journal.commit(staged.clone().before(1)).unwrap_err().kind, ErrorKind::StorageFull);
            assert!(staged.is_lost());
        }
        let journal = Journal::new(Arc::new(Audit::open(Path::new("/dev/full"), OnFailure::Drop).unwrap()));
        let staged = journal.stage(NOW, &event("by wish"));
        assert_eq!(journal.commit(staged.before(1)), Ok(1));
    }
}
