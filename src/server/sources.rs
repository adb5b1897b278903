//! What policies are made of, as it lies on the disk: the files of their directory, and those that the configuration
//! names.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::services;
use crate::complaint::Complaint;
use crate::config::{self, Config, KeyPair};
use crate::policy;

/// Policy files of one bundle.
const MAX_FILES: usize = 512;

/// One policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// How often the policies are read until two readings agree: then nobody writes them at this moment.
const MAX_READINGS: usize = 10;

/// The time between two readings: longer than it takes to write the next file of a set.
const BETWEEN_READINGS: Duration = Duration::from_millis(50);

/// The cure of a file that cannot be read.
pub(super) const READABLE: &str = "the file must exist, and the server must be allowed to read it";

/// Everything that policies are made of, as read: the same again is no change.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) files: Vec<policy::Source>,
    others: Vec<Named>,
}

/// A file with what the configuration calls it: two names that change their files are a change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Sources {
    /// Reads until nobody writes the files at this moment, or they are as they were the last time.
    pub(super) fn read_settled(config: &Config, last: Option<&Self>) -> Result<Self, Vec<Complaint>> {
        let pause = || std::thread::sleep(BETWEEN_READINGS);
        settled(last, || Self::read(config), pause)?.ok_or_else(|| {
            let message = "the files change while they are read".to_owned();
            let hint = "they are read again when they change the next time";
            vec![Complaint::of_file(&config.policies, "unsettled", message, hint)]
        })
    }

    /// Every file of the policy directory, and every other file that the policies depend on.
    pub(super) fn read(config: &Config) -> Result<Self, Vec<Complaint>> {
        let files = policy_files(&config.policies)?;
        let mut others = Vec::new();
        for (name, path) in named_files(config) {
            let bytes =
                fs::read(path).map_err(|error| vec![Complaint::of_file(path, "file", error.to_string(), READABLE)])?;
            others.push(Named { name, path: path.clone(), bytes });
        }
        Ok(Self { files, others })
    }

    /// When the certificates among them end, in seconds since 1970, by their names in the configuration.
    pub(super) fn ends(&self) -> Vec<(String, f64)> {
        let end = |named: &Named| {
            let name = named.name.strip_suffix(".certificate").unwrap_or(&named.name);
            // A key is no certificate.
            let certificate = CertificateDer::from_pem_slice(&named.bytes).ok()?;
            Some((name.to_owned(), services::not_after(&[certificate])?))
        };
        self.others.iter().filter_map(end).collect()
    }

    /// Whether the files that the configuration names are the same, whatever the policies are.
    pub(super) fn same_files(&self, other: &Self) -> bool {
        self.others == other.others
    }
}

/// The files that the configuration names for the policies, with their names there.
pub(super) fn named_files(config: &Config) -> Vec<(String, &PathBuf)> {
    let authorities = config.authorities.iter().map(|(name, path)| (format!("authorities.{name}"), path));
    let shown = config.client_certificates.iter();
    let shown = shown.flat_map(|(name, files)| both(format!("client_certificates.{name}"), files));
    let mut named: Vec<(String, &PathBuf)> = authorities.chain(shown).collect();
    match &config.services {
        config::Services::Authority(files) => named.extend(both("services.ca".to_owned(), files)),
        config::Services::Certificates(pairs) => {
            named.extend(pairs.iter().enumerate().flat_map(|(at, files)| both(format!("services.{at}"), files)));
        }
    }
    named
}

fn both(name: String, files: &KeyPair) -> [(String, &PathBuf); 2] {
    [(format!("{name}.certificate"), &files.certificate), (format!("{name}.key"), &files.key)]
}

/// Reads until two readings in a row agree, or the first one agrees with the last that was good. `None`: never.
fn settled<T: PartialEq, E>(
    last: Option<&T>,
    mut read: impl FnMut() -> Result<T, E>,
    mut pause: impl FnMut(),
) -> Result<Option<T>, E> {
    let mut before = read()?;
    if last == Some(&before) {
        return Ok(Some(before));
    }
    for _ in 1..MAX_READINGS {
        pause();
        let now = read()?;
        if now == before {
            return Ok(Some(now));
        }
        before = now;
    }
    Ok(None)
}

/// The `*.toml` files of a directory, sorted by name.
///
/// # Errors
///
/// Complaints about files that cannot be read, are no regular files, are too large, too many, or lead out of the directory.
pub fn policy_files(directory: &Path) -> Result<Vec<policy::Source>, Vec<Complaint>> {
    let wrong = |path: &Path, code, message: String, hint| vec![Complaint::of_file(path, code, message, hint)];
    let unreadable = |path: &Path, error: &io::Error| wrong(path, "file", format!("cannot be read: {error}"), READABLE);
    let real = directory.canonicalize().map_err(|error| unreadable(directory, &error))?;
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            let hint = "describe small APIs of one host in one file";
            return Err(wrong(directory, "too-many-files", format!("more than {MAX_FILES} policy files"), hint));
        }
    }
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let target = path.canonicalize().map_err(|error| unreadable(&path, &error))?;
        if !target.starts_with(&real) {
            let hint = "put the file itself into the policy directory";
            return Err(wrong(&path, "outside", "a link that leads out of the policy directory".to_owned(), hint));
        }
        let metadata = fs::metadata(&target).map_err(|error| unreadable(&path, &error))?;
        if !metadata.is_file() {
            let hint = "a policy is a regular file: reading another kind may never end";
            return Err(wrong(&path, "not-a-file", "not a regular file".to_owned(), hint));
        }
        let size = metadata.len();
        if size > MAX_FILE {
            let message = format!("{size} bytes; a policy file has at most {MAX_FILE}");
            return Err(wrong(&path, "too-large", message, "make several APIs of it"));
        }
        let text = fs::read_to_string(&target).map_err(|error| unreadable(&path, &error))?;
        files.push(policy::Source { file: path.display().to_string().into(), text: text.into() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_no_policy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        let codes = || policy_files(directory.path()).map_err(|all| all.into_iter().map(|one| one.code).collect());
        let refused: Result<Vec<policy::Source>, Vec<&str>> = Err(vec!["not-a-file"]);
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(codes(), refused);
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(codes(), refused);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "api = 1").unwrap();
        assert_eq!(codes().unwrap().len(), 1);
    }

    #[test]
    fn names_that_change_their_files_are_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        for name in ["s.pem", "s.key", "ca.pem", "ca.key", "one.pem", "two.pem"] {
            fs::write(at(name), name).unwrap();
        }
        let sources = |authorities: &str| {
            let text = format!(
                "[tls]\ncertificate = \"s.pem\"\nkey = \"s.key\"\n[network]\nsuffix = \"api.corp.example\"\n\
                 [services]\nca = \"ca.pem\"\nca_key = \"ca.key\"\n[policies]\ndirectory = \"policies\"\n\
                 [authorities]\n{authorities}\n"
            );
            fs::write(at("wicketgate.toml"), text).unwrap();
            let (config, _) = config::read(&at("wicketgate.toml")).unwrap();
            Sources::read(&config).unwrap()
        };
        let before = sources("a = \"one.pem\"\nb = \"two.pem\"");
        assert!(before == sources("b = \"two.pem\"\na = \"one.pem\""));
        assert!(before != sources("a = \"two.pem\"\nb = \"one.pem\""));
        assert!(sources("a = \"one.pem\"") != sources("b = \"one.pem\""));
        fs::write(at("two.pem"), "renewed").unwrap();
        assert!(before != sources("a = \"one.pem\"\nb = \"two.pem\""));
    }

    #[test]
    fn files_are_taken_when_two_readings_agree() {
        let readings = |values: &[u32], last: Option<u32>| {
            let (mut at, mut pauses) = (0, 0);
            let read = || {
                at += 1;
                values.get(at - 1).copied().ok_or("gone")
            };
            let settled = settled(last.as_ref(), read, || pauses += 1);
            (settled, pauses)
        };
        assert_eq!(readings(&[1, 2, 3, 3], None), (Ok(Some(3)), 3));
        assert_eq!(readings(&[1], Some(1)), (Ok(Some(1)), 0));
        assert_eq!(readings(&[2, 2], Some(1)), (Ok(Some(2)), 1));
        assert_eq!(readings(&[1, 2], None), (Err("gone"), 2));
        let restless: Vec<u32> = (0..100).collect();
        assert_eq!(readings(&restless, None), (Ok(None), MAX_READINGS - 1));
    }
}
