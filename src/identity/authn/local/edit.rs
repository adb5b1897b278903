//! The user file on disk: read as a whole, and changed by `wicketgate user`.
//!
//! A change holds a lock on the key file (which is never replaced), writes a new file beside the old one and renames it,
//! so that a reader sees the old or the new one, and of two changes none is lost.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::seal::{self, Key};
use super::{Account, Entry, Users, read};
use crate::complaint::Complaint;
use crate::identity::fold;
use crate::identity::{Group, Subject};

/// The longest file that is read: room for more than 50 000 users.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The longest password, in UTF-16 units (RFC 2759 section 8.1).
const MAX_PASSWORD: usize = 256;

const HEADING: &str = "# Made by `wicketgate user`. Groups and links may be edited by hand; comments are not kept.\n\n";

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The name cannot be a user's.
    #[error(
        "{name:?} cannot be a user's name: ASCII letters, digits and `._-@+$` only, beginning with a letter, a digit or `_`"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// The group cannot be a group's.
    #[error("{group:?} cannot be a group's name")]
    Group {
        /// As given.
        group: String,
    },
    /// The password is empty or too long.
    #[error("a password has 1 to {MAX_PASSWORD} characters")]
    Password,
    /// There is such a user.
    #[error("the user `{name}` exists already")]
    Exists {
        /// The folded name.
        name: String,
    },
    /// There is no such user.
    #[error("there is no user `{name}`")]
    Missing {
        /// The folded name.
        name: String,
    },
    /// One of the files is not as it should be; nothing was changed.
    #[error("the user file or its key cannot be used")]
    Files(Vec<Complaint>),
    /// The file could not be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// A user file and its key file.
#[derive(Clone, Debug)]
pub struct UserFile {
    file: PathBuf,
    key: PathBuf,
}

impl UserFile {
    /// Names the two files.
    pub fn new(file: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), key: key.into() }
    }

    /// Reads both, or says everything that is wrong with them. Without a user file there is nobody.
    pub fn load(&self) -> Result<Users, Vec<Complaint>> {
        if matches!(self.file.try_exists(), Ok(false)) {
            return Ok(Users::nobody());
        }
        let key = Key::load(&self.key);
        let text = self.text();
        match (key, text) {
            (Ok((key, _)), Ok(text)) => {
                let entries = read::entries(&self.file.display().to_string(), &text, &key)?;
                Ok(Users::new(entries, key))
            }
            (key, text) => Err(key.err().into_iter().chain(text.err()).collect()),
        }
    }

    /// All users by name.
    pub fn list(&self) -> Result<Vec<Account>, Vec<Complaint>> {
        let users = self.load()?;
        Ok(users.accounts().into_iter().cloned().collect())
    }

    /// Adds a user; makes the files when there are none. Returns the folded name.
    pub fn add(&self, name: &str, groups: &[String], password: &str) -> Result<Subject, EditError> {
        let folded = name_of(name)?;
        check_password(password)?;
        if let Some(group) = groups.iter().find(|group| !read::is_group(group)) {
            return Err(EditError::Group { group: group.clone() });
        }
        let mut groups: Vec<Group> = groups.iter().map(|group| Group::new(group.as_str())).collect();
        groups.sort_unstable();
        groups.dedup();
        self.change(true, |entries, key| {
            if entries.iter().any(|entry| entry.account.name == folded) {
                return Err(EditError::Exists { name: folded.to_string() });
            }
            let nt_hash = seal::nt_hash(password);
            let sealed = key.seal(folded.as_str(), &nt_hash);
            let account = Account { name: folded.clone(), groups: groups.into(), disabled: false, links: Vec::new() };
            entries.push(Entry { account, sealed, nt_hash });
            Ok(())
        })?;
        Ok(folded)
    }

    /// Sets a user's password.
    pub fn passwd(&self, name: &str, password: &str) -> Result<Subject, EditError> {
        check_password(password)?;
        self.change_one(name, |entry, key| {
            entry.nt_hash = seal::nt_hash(password);
            entry.sealed = key.seal(entry.account.name.as_str(), &entry.nt_hash);
        })
    }

    /// Refuses a user's logins, or allows them again.
    pub fn set_disabled(&self, name: &str, disabled: bool) -> Result<Subject, EditError> {
        self.change_one(name, |entry, _| entry.account.disabled = disabled)
    }

    fn change_one(&self, name: &str, change: impl FnOnce(&mut Entry, &Key)) -> Result<Subject, EditError> {
        let folded = name_of(name)?;
        self.change(false, |entries, key| {
            let entry = entries.iter_mut().find(|entry| entry.account.name == folded);
            change(entry.ok_or_else(|| EditError::Missing { name: folded.to_string() })?, key);
            Ok(())
        })?;
        Ok(folded)
    }

    fn change(
        &self,
        make: bool,
        change: impl FnOnce(&mut Vec<Entry>, &Key) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let failed = |path: &Path, error| EditError::Write { path: path.to_owned(), error };
        if make {
            // A new key for an old file would make every password of it unreadable.
            if self.file.exists() && !self.key.exists() {
                let message = "the key file of this user file is missing".to_owned();
                let hint = "restore it from a backup, or remove the user file and begin anew";
                return Err(EditError::Files(vec![Complaint::of_file(&self.key, "unreadable", message, hint)]));
            }
            Key::make(&self.key).map_err(|error| failed(&self.key, error))?;
        }
        let (key, locked) = Key::load(&self.key).map_err(|complaint| EditError::Files(vec![complaint]))?;
        locked.lock().map_err(|error| failed(&self.key, error))?;

        let mut entries = Vec::new();
        if !make || self.file.exists() {
            let text = self.text().map_err(|complaint| EditError::Files(vec![complaint]))?;
            entries = read::entries(&self.file.display().to_string(), &text, &key).map_err(EditError::Files)?;
        }
        change(&mut entries, &key)?;
        self.write(&entries).map_err(|error| failed(&self.file, error))
    }

    fn text(&self) -> Result<String, Complaint> {
        let complain = |error: io::Error| {
            let message = format!("cannot read the user file: {error}");
            Complaint::of_file(&self.file, "unreadable", message, "`wicketgate user add NAME` makes it")
        };
        let file = File::open(&self.file).map_err(complain)?;
        seal::private(&self.file, &file)?;
        let mut text = String::new();
        (&file).take(MAX_FILE + 1).read_to_string(&mut text).map_err(complain)?;
        if text.len() as u64 > MAX_FILE {
            let message = format!("the user file has more than {MAX_FILE} bytes");
            return Err(Complaint::of_file(&self.file, "too-long", message, "is this the right file?"));
        }
        Ok(text)
    }

    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        // A symbolic link stays one; what it points to is replaced.
        let target = fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let draft = target.with_file_name(name);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let written = WrittenFile { user: entries.iter().map(WrittenUser::new).collect() };
        let text = toml::to_string(&written).map_err(io::Error::other)?;
        seal::write_private(&draft, &target, [HEADING, &text].concat().as_bytes())?;
        fs::rename(&draft, &target)?;
        seal::sync_directory(&target)
    }
}

fn name_of(name: &str) -> Result<Subject, EditError> {
    let folded = fold(name.as_bytes()).filter(|folded| read::is_name(folded));
    folded.map(Subject::new).ok_or_else(|| EditError::Name { name: name.to_owned() })
}

fn check_password(password: &str) -> Result<(), EditError> {
    let fits = (1..=MAX_PASSWORD).contains(&password.encode_utf16().count());
    if fits { Ok(()) } else { Err(EditError::Password) }
}

#[derive(Serialize)]
struct WrittenFile<'a> {
    user: Vec<WrittenUser<'a>>,
}

#[derive(Serialize)]
struct WrittenUser<'a> {
    name: &'a str,
    groups: Vec<&'a str>,
    disabled: bool,
    nt_hash: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<WrittenLink<'a>>,
}

#[derive(Serialize)]
struct WrittenLink<'a> {
    issuer: &'a str,
    sub: &'a str,
}

impl<'a> WrittenUser<'a> {
    fn new(entry: &'a Entry) -> Self {
        let account = &entry.account;
        let link = |link: &'a super::Link| WrittenLink { issuer: link.issuer.as_str(), sub: &link.sub };
        Self {
            name: account.name.as_str(),
            groups: account.groups.iter().map(Group::as_str).collect(),
            disabled: account.disabled,
            nt_hash: &entry.sealed,
            links: account.links.iter().map(link).collect(),
        }
    }
}
