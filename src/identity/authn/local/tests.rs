use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;

use super::testing::hash_of;
use super::*;
use crate::complaint::Complaint;

struct Place {
    directory: tempfile::TempDir,
    files: UserFile,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = UserFile::new(directory.path().join("users.toml"), directory.path().join("users.key"));
        Self { directory, files }
    }

    fn with_alice_and_bob() -> Self {
        let place = Self::new();
        place.files.add("CORP\\Alice", &["b".to_owned(), "a".to_owned(), "b".to_owned()], "wonder").unwrap();
        place.files.add("bob", &[], "builder").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path("users.toml")).unwrap();
        fs::write(self.path("users.toml"), change(text)).unwrap();
    }

    fn complaints(&self) -> Vec<Complaint> {
        self.files.load().unwrap_err()
    }

    fn codes(&self) -> Vec<&'static str> {
        self.complaints().iter().map(|complaint| complaint.code).collect()
    }
}

fn proves(users: &Users, name: &str, password: &str) -> bool {
    *users.credential(name.as_bytes()).nt_hash == hash_of(password)
}

#[test]
fn before_the_first_user_there_is_nobody() {
    let place = Place::new();
    assert!(place.files.list().unwrap().is_empty());
    place.files.add("alice", &[], "wonder").unwrap();
    assert_eq!(place.files.list().unwrap().len(), 1);
}

#[test]
fn what_is_added_is_read_back() {
    let place = Place::with_alice_and_bob();
    let users = place.files.load().unwrap();
    assert_eq!(users.len(), 2);
    let alice = users.account("alice").unwrap();
    assert_eq!(alice.groups(), [Group::new("a"), Group::new("b")]);
    assert!(!alice.is_disabled() && alice.links().is_empty());
    assert!(proves(&users, "alice", "wonder") && !proves(&users, "alice", "Wonder"));
    assert!(proves(&users, "DOM\\ALICE", "wonder"));
    assert!(!proves(&users, "carol", "wonder") && users.account("carol").is_none());
    for name in ["users.toml", "users.key"] {
        assert_eq!(fs::metadata(place.path(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 2, "no draft stays");
}

#[test]
fn passwords_and_flags_change_and_nothing_else_does() {
    let place = Place::with_alice_and_bob();
    place.edit(|text| text.replacen("[[user]]\n", "[[user]]\nlinks = [{ issuer = \"corp\", sub = \"2\\\"48\" }]\n", 1));
    place.files.passwd("Alice", "glass").unwrap();
    place.files.set_disabled("bob", true).unwrap();
    let users = place.files.load().unwrap();
    assert!(proves(&users, "alice", "glass") && !proves(&users, "alice", "wonder"));
    assert!(proves(&users, "bob", "builder") && users.account("bob").unwrap().is_disabled());
    assert_eq!(users.linked(&IssuerName::new("corp"), "2\"48").unwrap().name(), &Subject::new("alice"));
    place.files.set_disabled("bob", false).unwrap();
    let listed = place.files.list().unwrap();
    assert_eq!(listed.iter().map(|account| account.name().as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    assert!(!listed[1].is_disabled());
}

#[test]
fn a_change_that_makes_no_sense_changes_nothing() {
    let place = Place::with_alice_and_bob();
    let before = fs::read(place.path("users.toml")).unwrap();
    let none: &[String] = &[];
    assert!(matches!(place.files.add("ALICE", none, "x"), Err(EditError::Exists { .. })));
    assert!(matches!(place.files.passwd("carol", "x"), Err(EditError::Missing { .. })));
    assert!(matches!(place.files.set_disabled("carol", true), Err(EditError::Missing { .. })));
    for name in ["", "al\u{131}ce", "\u{212a}arl", "a b", "a,b", "-a", "a=b", "a\n", "*", "CORP\\", &"a".repeat(129)] {
        assert!(matches!(place.files.add(name, none, "x"), Err(EditError::Name { .. })), "{name:?}");
    }
    for group in ["", " a", "a,b", "a\n"] {
        assert!(matches!(place.files.add("carol", &[group.to_owned()], "x"), Err(EditError::Group { .. })));
    }
    assert!(matches!(place.files.add("carol", none, ""), Err(EditError::Password)));
    assert!(matches!(place.files.passwd("alice", &"p".repeat(257)), Err(EditError::Password)));
    assert_eq!(fs::read(place.path("users.toml")).unwrap(), before);
}

#[test]
fn what_root_changes_keeps_its_owner() {
    let owners = |place: &Place| ["users.toml", "users.key"].map(|name| fs::metadata(place.path(name)).unwrap().uid());
    let place = Place::new();
    if chown(place.directory.path(), Some(4711), Some(4711)).is_err() {
        // Only root can give files away, so nobody else can see this.
        return;
    }
    place.files.add("alice", &[], "wonder").unwrap();
    assert_eq!(owners(&place), [4711, 4711], "the directory's");
    for name in ["users.toml", "users.key"] {
        chown(place.path(name), Some(815), Some(815)).unwrap();
    }
    place.files.set_disabled("alice", true).unwrap();
    assert_eq!(owners(&place), [815, 815], "the old file's");
}

#[test]
fn two_changes_at_once_are_both_kept() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let files = place.files.clone();
            scope.spawn(move || files.add(&format!("user-{n}"), &[], "x").unwrap());
        }
    });
    assert_eq!(place.files.load().unwrap().len(), 8);
}

#[test]
fn files_that_others_may_read_are_refused_with_the_cure() {
    for (name, mode) in [("users.toml", 0o640), ("users.toml", 0o604), ("users.key", 0o660), ("users.key", 0o644)] {
        let place = Place::with_alice_and_bob();
        fs::set_permissions(place.path(name), Permissions::from_mode(mode)).unwrap();
        let complaints = place.complaints();
        assert_eq!(complaints.len(), 1);
        assert_eq!(complaints[0].code, "permissions");
        let cure = complaints[0].hint.as_deref().unwrap();
        assert!(cure.starts_with("chmod 600 ") && cure.ends_with(name), "{cure}");
        assert!(matches!(place.files.passwd("alice", "x"), Err(EditError::Files(_))));
    }
}

#[test]
fn a_user_file_can_be_begun_with_a_key_that_is_there() {
    let place = Place::with_alice_and_bob();
    fs::remove_file(place.path("users.toml")).unwrap();
    let key = fs::read(place.path("users.key")).unwrap();
    assert!(place.files.list().unwrap().is_empty());
    place.files.add("carol", &[], "x").unwrap();
    assert!(proves(&place.files.load().unwrap(), "carol", "x"));
    assert_eq!(fs::read(place.path("users.key")).unwrap(), key);
}

#[test]
fn without_a_user_file_there_is_nobody_to_change() {
    let place = Place::new();
    assert!(place.files.load().unwrap().is_empty());
    assert!(matches!(place.files.passwd("alice", "x"), Err(EditError::Files(_))), "only `add` makes files");
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_lost_key_is_not_replaced_silently() {
    let place = Place::with_alice_and_bob();
    fs::remove_file(place.path("users.key")).unwrap();
    assert!(matches!(place.files.add("carol", &[], "x"), Err(EditError::Files(_))));
    assert!(!place.path("users.key").exists());
}

#[test]
fn the_wrong_key_is_one_complaint() {
    let place = Place::with_alice_and_bob();
    fs::write(place.path("users.key"), "00".repeat(32)).unwrap();
    assert_eq!(place.codes(), ["wrong-key"]);
    fs::write(place.path("users.key"), "not a key, but somebody's secret").unwrap();
    let complaint = &place.complaints()[0];
    assert_eq!(complaint.code, "bad-key");
    assert!(!format!("{complaint:?}").contains("somebody"), "the text of a key file is never repeated");
}

#[test]
fn a_hash_that_was_tampered_with_or_swapped_is_named() {
    let place = Place::with_alice_and_bob();
    let hashes: Vec<String> = fs::read_to_string(place.path("users.toml"))
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("nt_hash = \"").map(|hash| hash.trim_end_matches('"').to_owned()))
        .collect();
    place.edit(|text| text.replace(&hashes[1], &hashes[0]));
    let complaints = place.complaints();
    assert_eq!(complaints.len(), 1);
    assert_eq!(complaints[0].code, "sealed");
    assert!(complaints[0].message.contains("`bob`"));
    assert!(complaints[0].text[complaints[0].span.clone()].contains(&hashes[0]), "the span is the value");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let place = Place::with_alice_and_bob();
    place.edit(|text| {
        let text = text.replace("groups = []", "groups = [\"ok\", 7, \" x\"]\ngruops = []");
        let text = text.replacen("disabled = false", "disabled = \"no\"", 1);
        format!(
            "colour = 1\n{text}\n[[user]]\nname = \"Alice\"\nlinks = [{{ issuer = \"corp\", sbu = \"1\" }}, 3]\n\
             [[user]]\nname = \"bob\"\nnt_hash = 5\n"
        )
    });
    let mut found: Vec<(usize, &str)> =
        place.complaints().iter().map(|complaint| (complaint.place().0, complaint.code)).collect();
    found.sort_unstable();
    let codes: Vec<&str> = found.iter().map(|(_, code)| *code).collect();
    let mut wanted = vec![
        "unknown-key",
        "wrong-type",
        "unknown-key",
        "wrong-type",
        "bad-group",
        "bad-name",
        "missing-key",
        "unknown-key",
        "missing-key",
        "wrong-type",
        "duplicate-user",
        "wrong-type",
    ];
    wanted.sort_unstable();
    let mut sorted = codes;
    sorted.sort_unstable();
    assert_eq!(sorted, wanted, "{found:?}");
    let hints: Vec<String> = place.complaints().into_iter().filter_map(|complaint| complaint.hint).collect();
    assert!(hints.contains(&"did you mean `groups`?".to_owned()), "{hints:?}");
    assert!(hints.contains(&"did you mean `sub`?".to_owned()), "{hints:?}");
    assert!(hints.contains(&"write `alice`".to_owned()), "{hints:?}");
}

#[test]
fn text_that_is_not_toml_is_refused_where_it_breaks() {
    let place = Place::with_alice_and_bob();
    place.edit(|text| text + "[[user]\n");
    let complaints = place.complaints();
    assert!(complaints.iter().all(|complaint| complaint.code == "syntax"));
    assert!(matches!(place.files.add("carol", &[], "x"), Err(EditError::Files(_))), "and never overwritten");
}

#[test]
fn one_subject_is_one_person() {
    let place = Place::with_alice_and_bob();
    place.edit(|text| text.replace("[[user]]\n", "[[user]]\nlinks = [{ issuer = \"corp\", sub = \"1\" }]\n"));
    assert_eq!(place.codes(), ["duplicate-link"]);
}

#[test]
fn no_secret_is_printed() {
    let place = Place::with_alice_and_bob();
    let users = place.files.load().unwrap();
    let printed = format!("{users:?}");
    assert!(printed.contains("alice") && !printed.contains("nt_hash"));
}

#[test]
fn an_empty_file_is_no_users() {
    let place = Place::with_alice_and_bob();
    place.edit(|_| String::new());
    assert!(place.files.load().unwrap().is_empty());
}
