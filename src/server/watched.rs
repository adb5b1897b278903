//! What the files and folders that a reload reads look like from outside.
//!
//! They are looked at a few times a second, not waited for: the audit file often lies in the same folder, and a watcher
//! of the operating system would be woken by every one of its lines; and what has looked the same twice in a row is
//! not in the middle of being written. A look follows links, so the `..data` swap of a `ConfigMap` is a change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files and the folder whose changes ask for a reload.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) users: Vec<PathBuf>,
    pub(super) files: Vec<PathBuf>,
    pub(super) folder: PathBuf,
}

/// One look at all of them. Two that are equal saw the same files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// The user file and its key, which are read alone while the others do not rest.
    pub(super) users: Vec<Seen>,
    others: Vec<Seen>,
}

/// A file, and what it looked like, if it could be looked at.
type Seen = (PathBuf, Option<Stamp>);

/// What changes when a file is written, replaced, linked to another, or given to others: owner and mode decide whether it
/// can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Watched {
    /// Looks at everything. What cannot be looked at is a fact as well.
    pub(super) fn look(&self) -> Look {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        paths.sort();
        paths.extend(self.files.iter().cloned());
        Look { users: seen(self.users.clone()), others: seen(paths) }
    }
}

fn seen(paths: Vec<PathBuf>) -> Vec<Seen> {
    let seen = paths.into_iter().map(|path| {
        let stamp = stamp(&path);
        (path, stamp)
    });
    seen.collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = fs::metadata(path).ok()?;
    Some(Stamp {
        device: seen.dev(),
        inode: seen.ino(),
        length: seen.len(),
        written: (seen.mtime(), seen.mtime_nsec()),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_is_read_makes_a_difference() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        fs::write(at("users.toml"), "a").unwrap();
        let watched = Watched { users: vec![at("users.toml")], files: Vec::new(), folder: at("policies") };
        let mut last = watched.look();
        let mut differs = || {
            let look = watched.look();
            let differs = look != last;
            last = look;
            differs
        };
        assert!(!differs());
        fs::write(at("audit.jsonl"), "{}").unwrap();
        fs::write(at("policies/.orders.toml.swp"), "x").unwrap();
        assert!(!differs(), "what nobody reads");
        fs::write(at("policies/orders.toml"), "api = 1").unwrap();
        assert!(differs(), "a new file");
        fs::write(at("users.toml"), "ab").unwrap();
        assert!(differs(), "a longer file");
        fs::set_permissions(at("users.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(differs(), "another mode");
        fs::remove_file(at("users.toml")).unwrap();
        assert!(differs(), "a file that is gone");
        assert!(!differs());
    }

    #[test]
    fn a_link_that_points_elsewhere_is_a_change() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("orders.toml"), "api = 1").unwrap();
        }
        symlink(at("one"), at("..data")).unwrap();
        symlink("..data/orders.toml", at("orders.toml")).unwrap();
        let watched = Watched { users: Vec::new(), files: Vec::new(), folder: folder.path().to_owned() };
        let before = watched.look();
        symlink(at("two"), at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_ne!(watched.look(), before);
    }
}
