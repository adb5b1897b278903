//! The local users: who exists, in which groups, and the key that proves them.
//!
//! `users.toml` is made by `wicketgate user` and read here into an immutable [`Users`]; a reload makes a new one. The NT
//! hash of a password is as good as the password (RFC 2759 section 8), so it is sealed at rest: AES-256-GCM with a key
//! from a second file, bound to the user's name. Neither file may be readable by anybody but its owner.

mod edit;
mod read;
mod seal;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::entropy;
use crate::identity::{Group, IssuerName, Subject, fold};

pub use edit::{EditError, UserFile};
pub(super) use seal::Key;

/// The NT hash of a password: MD4 of its UTF-16LE form (RFC 2759 section 8.3).
pub(super) type NtHash = Zeroizing<[u8; 16]>;

/// A name at an issuer that stands for a local user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The issuer, by its name in the bundle.
    pub issuer: IssuerName,
    /// The claim `sub`.
    pub sub: String,
}

/// What the file says about one user, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: Subject,
    /// Sorted and without duplicates.
    groups: Arc<[Group]>,
    disabled: bool,
    links: Vec<Link>,
}

impl Account {
    /// The folded name.
    pub fn name(&self) -> &Subject {
        &self.name
    }

    /// The groups, sorted.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn shared_groups(&self) -> &Arc<[Group]> {
        &self.groups
    }

    /// Whether logins are refused.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The names at issuers that stand for this user.
    pub fn links(&self) -> &[Link] {
        &self.links
    }
}

/// One user of the file. Has no `Debug`: it holds the secret.
struct Entry {
    account: Account,
    /// As in the file.
    sealed: String,
    nt_hash: NtHash,
}

/// All users of one version of the file.
pub struct Users {
    entries: HashMap<String, Entry>,
    links: HashMap<Link, String>,
    key: Key,
}

/// What a login is judged with. The account may be looked at only when the proof was right.
pub(super) struct Credential<'a> {
    /// The user's, or the decoy when there is no such user.
    pub(super) nt_hash: NtHash,
    /// A hash that belongs to nobody, always the same for one name.
    pub(super) decoy: NtHash,
    pub(super) account: Option<&'a Account>,
}

impl Users {
    fn new(entries: Vec<Entry>, key: Key) -> Self {
        let mut links = HashMap::new();
        for entry in &entries {
            for link in &entry.account.links {
                links.insert(link.clone(), entry.account.name.as_str().to_owned());
            }
        }
        let by_name = |entry: Entry| (entry.account.name.as_str().to_owned(), entry);
        Self { entries: entries.into_iter().map(by_name).collect(), links, key }
    }

    /// Nobody. The key is needed for decoys alone, so any will do.
    fn nobody() -> Self {
        Self::new(Vec::new(), Key::new(&entropy::bytes()))
    }

    /// The user with this folded name.
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.entries.get(name).map(|entry| &entry.account)
    }

    /// The user whom this subject of this issuer stands for.
    pub fn linked(&self, issuer: &IssuerName, sub: &str) -> Option<&Account> {
        let link = Link { issuer: issuer.clone(), sub: sub.to_owned() };
        self.account(self.links.get(&link)?)
    }

    /// All users by name.
    pub fn accounts(&self) -> Vec<&Account> {
        let mut accounts: Vec<_> = self.entries.values().map(|entry| &entry.account).collect();
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        accounts
    }

    /// How many users.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The credential for a name as the client sent it. The decoy is computed for a known name too, so that the work
    /// does not tell who exists.
    pub(super) fn credential(&self, name: &[u8]) -> Credential<'_> {
        let folded = fold(name);
        let decoy = self.key.decoy(folded.as_deref().map_or(name, str::as_bytes));
        let entry = folded.and_then(|name| self.entries.get(&name));
        let nt_hash = entry.map_or_else(|| decoy.clone(), |entry| entry.nt_hash.clone());
        Credential { nt_hash, decoy, account: entry.map(|entry| &entry.account) }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.accounts()).finish()
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
