//! The key file, and the sealing of NT hashes with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use md4::{Digest as _, Md4};
use zeroize::Zeroizing;

use super::NtHash;
use crate::complaint::Complaint;
use crate::entropy;
use crate::identity::authn::hex;

const TAG: usize = 16;

/// Nonce, sealed hash and tag.
const SEALED: usize = NONCE_LEN + 16 + TAG;

/// What the sealing is bound to besides the name, so that a sealed hash has no second meaning.
const PURPOSE: &[u8] = b"wicketgate users.toml nt_hash\0";

/// Longer files are not key files.
const MAX_KEY_FILE: u64 = 128;

/// The key of a user file. Has no `Debug`.
pub(in crate::identity::authn) struct Key {
    sealing: LessSafeKey,
    decoys: hmac::Key,
}

impl Key {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        let sealing = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256");
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let decoys = hmac::sign(&root, b"wicketgate decoys");
        Self { sealing: LessSafeKey::new(sealing), decoys: hmac::Key::new(hmac::HMAC_SHA256, decoys.as_ref()) }
    }

    /// Seals the hash for this user alone; in hexadecimal.
    pub(super) fn seal(&self, name: &str, nt_hash: &NtHash) -> String {
        let nonce = entropy::bytes::<NONCE_LEN>();
        let mut text = Zeroizing::new(nt_hash.to_vec());
        let tag = self
            .sealing
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Self::bound_to(name), &mut text)
            .expect("16 bytes are not too long for AES-GCM");
        [hex::encode(&nonce), hex::encode(&text), hex::encode(tag.as_ref())].concat()
    }

    /// The hash, if it was sealed with this key for this user.
    pub(super) fn open(&self, name: &str, sealed: &str) -> Option<NtHash> {
        let mut bytes = hex::decode::<SEALED>(sealed)?;
        let (nonce, text) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.sealing.open_in_place(nonce, Self::bound_to(name), text).ok()?;
        <&[u8; 16]>::try_from(&*opened).ok().map(|hash| Zeroizing::new(*hash))
    }

    /// A hash that nobody has: without the key it cannot be told from a real one, and it never changes for a name.
    pub(super) fn decoy(&self, name: &[u8]) -> NtHash {
        let tag = hmac::sign(&self.decoys, name);
        let mut decoy = NtHash::default();
        decoy.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        decoy
    }

    fn bound_to(name: &str) -> Aad<Vec<u8>> {
        Aad::from([PURPOSE, name.as_bytes()].concat())
    }

    /// Reads a key file: 64 hexadecimal digits, readable by its owner only. Returns the open file too, to lock it.
    pub(super) fn load(path: &Path) -> Result<(Self, File), Complaint> {
        let complain = |code, message: String, hint: &str| Complaint::of_file(path, code, message, hint);
        let file = File::open(path).map_err(|error| {
            complain("unreadable", format!("cannot read the key file: {error}"), "`wicketgate user add` makes it")
        })?;
        private(path, &file)?;
        let mut text = Zeroizing::new(String::with_capacity(128));
        let read = (&file).take(MAX_KEY_FILE).read_to_string(&mut text);
        let bytes = read.ok().and_then(|_| hex::decode::<32>(text.trim_end()));
        let Some(bytes) = bytes else {
            let message = "the key file does not hold 64 hexadecimal digits".to_owned();
            return Err(complain("bad-key", message, "restore it from a backup; a new key needs new passwords"));
        };
        Ok((Self::new(&bytes), file))
    }

    /// Makes a key file, unless there is one. Whole or not at all, and never in place of another.
    pub(super) fn make(path: &Path) -> io::Result<()> {
        if path.exists() {
            return Ok(());
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", entropy::number()));
        let draft = path.with_file_name(name);
        let digits = Zeroizing::new(hex::encode(&*Zeroizing::new(entropy::bytes::<32>())) + "\n");
        write_private(&draft, path, digits.as_bytes())?;
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => sync_directory(path),
        }
    }
}

/// The NT hash of a password.
pub(super) fn nt_hash(password: &str) -> NtHash {
    // Never grows, so that no copy of the password stays behind.
    let mut text = Zeroizing::new(Vec::with_capacity(password.len().saturating_mul(2)));
    for unit in password.encode_utf16() {
        text.extend_from_slice(&unit.to_le_bytes());
    }
    let mut hash = NtHash::default();
    hash.copy_from_slice(&Md4::digest(&*text));
    hash
}

/// Refuses a file that others than its owner may read or write.
pub(super) fn private(path: &Path, file: &File) -> Result<(), Complaint> {
    let mode = match file.metadata() {
        Ok(metadata) => metadata.mode() & 0o777,
        Err(error) => {
            return Err(Complaint::of_file(path, "unreadable", format!("cannot read: {error}"), "check the file"));
        }
    };
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let message = format!("others than its owner may use this file: its mode is {mode:04o}");
    Err(Complaint::of_file(path, "permissions", message, &format!("chmod 600 {}", path.display())))
}

/// Writes a new file that only its owner can read, down to the disk. It will take the place of `old`, and belongs to
/// the same user.
pub(super) fn write_private(path: &Path, old: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = hand_over(&file, old).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    if written.is_err() {
        fs::remove_file(path)?;
    }
    written
}

/// Gives a file to the owner of the one that it will replace, or of the directory where it will be the first: what root
/// changes, the server, which is another user, must still be able to read.
fn hand_over(file: &File, old: &Path) -> io::Result<()> {
    let (model, first) = match fs::metadata(old) {
        Ok(replaced) => (replaced, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (fs::metadata(directory_of(old))?, true),
        Err(error) => return Err(error),
    };
    let owner = model.uid();
    if file.metadata()?.uid() == owner {
        return Ok(());
    }
    match fchown(file, Some(owner), Some(model.gid())) {
        // A first file is taken from nobody.
        Err(error) if first && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => {
            let message = format!("it belongs to the user {owner}, and only he or root can keep it so: {error}");
            Err(io::Error::new(error.kind(), message))
        }
        Ok(()) => Ok(()),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes the appearance of `path` in its directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nt_hash_is_that_of_rfc_2759() {
        // Section 9.2: the password `clientPass`.
        let hash = [0x44, 0xeb, 0xba, 0x8d, 0x53, 0x12, 0xb8, 0xd6, 0x11, 0x47, 0x44, 0x11, 0xf5, 0x69, 0x89, 0xae];
        assert_eq!(*nt_hash("clientPass"), hash);
    }

    #[test]
    fn a_sealed_hash_opens_with_its_key_for_its_user_only() {
        let (key, hash) = (Key::new(&[1; 32]), nt_hash("secret"));
        let sealed = key.seal("alice", &hash);
        assert_eq!(sealed.len(), 88);
        assert_eq!(key.open("alice", &sealed), Some(hash.clone()));
        assert_eq!(key.open("bob", &sealed), None, "copied to another user");
        assert_eq!(Key::new(&[2; 32]).open("alice", &sealed), None);
        assert_ne!(key.seal("alice", &hash), sealed, "a nonce of its own each time");
        for at in 0..sealed.len() {
            let flipped = if sealed.as_bytes()[at] == b'0' { "1" } else { "0" };
            let mut tampered = sealed.clone();
            tampered.replace_range(at..=at, flipped);
            assert_eq!(key.open("alice", &tampered), None, "digit {at}");
        }
        assert_eq!(key.open("alice", &sealed[..86]), None);
        assert_eq!(key.open("alice", ""), None);
    }

    #[test]
    fn a_key_file_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.key");
        Key::make(&path).unwrap();
        let first = fs::read(&path).unwrap();
        Key::make(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(first.len(), 65);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays");
        assert!(Key::load(&path).is_ok());
    }
}
