//! Users for the tests of other files, read through the same door as everybody's.

use super::seal::{Key, nt_hash};
use super::{Users, read};

/// The users of this file; `{alice}` stands for the sealed password `alice` of the user `alice`.
pub(in crate::identity::authn) fn users(text: &str) -> Users {
    let key = Key::new(&[1; 32]);
    let mut text = text.to_owned();
    for name in ["alice", "bob", "carol"] {
        text = text.replace(&format!("{{{name}}}"), &key.seal(name, &nt_hash(name)));
    }
    let entries = read::entries("users.toml", &text, &key).unwrap();
    Users::new(entries, key)
}

/// The NT hash of a password.
pub(in crate::identity::authn) fn hash_of(password: &str) -> [u8; 16] {
    *nt_hash(password)
}
