//! One login with a password-like proof: name and proof in, [`Proven`] or a [`Refusal`] out.
//!
//! Pure: the users, the back-off and the time are arguments, and the proof is a question to the caller, who knows the
//! method's arithmetic: "was this made with that NT hash?".

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, RetryIn};
use super::local::{Account, Users};
use crate::identity::{Subject, fold};

/// A proof that is right. Only [`login`] makes one, and only [`super::tunnel_identity`] takes it.
#[derive(Debug)]
pub struct Proven {
    account: Account,
    /// By which name the back-off counts.
    key: Box<[u8]>,
    source: IpAddr,
}

impl Proven {
    /// Who it is.
    pub fn subject(&self) -> &Subject {
        self.account.name()
    }

    /// Tells the back-off that the login is complete: bound to its connection. A right proof alone is no success, because
    /// whoever relays somebody else's has one too; it clears no count and adds to none.
    pub fn completed(&self, backoff: &mut Backoff, now: Instant) {
        backoff.succeeded(&self.key, self.source, now);
    }

    pub(super) fn into_account(self) -> Account {
        self.account
    }
}

/// Why a login was refused: for the log. The client only gets [`Refusal::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No user has this name.
    #[error("no user has this name")]
    UnknownUser,
    /// The proof is wrong.
    #[error("wrong credentials")]
    WrongCredentials,
    /// Not even looked at, after too many failures.
    #[error("too many failures, the next attempt counts in {} ms", retry_in.as_millis())]
    BackedOff {
        /// When the next attempt counts.
        retry_in: Duration,
    },
    /// The proof is right, and the account is disabled.
    #[error("the account is disabled")]
    Disabled,
}

impl Refusal {
    /// The code that Windows shows (RFC 2759 section 6). Unknown name, wrong proof and back-off answer alike; that an
    /// account is disabled, only its owner learns.
    pub fn code(self) -> u16 {
        match self {
            Self::UnknownUser | Self::WrongCredentials | Self::BackedOff { .. } => 691,
            Self::Disabled => 647,
        }
    }
}

/// Judges one login. A wrong proof counts at once, a right one when [`Proven::completed`] is called.
///
/// `proves` is asked exactly once, whatever the name and the back-off: with the user's NT hash or with a decoy. So every
/// refused login does the same work.
pub fn login(
    users: &Users,
    backoff: &mut Backoff,
    name: &[u8],
    source: IpAddr,
    now: Instant,
    proves: impl FnOnce(&[u8; 16]) -> bool,
) -> Result<Proven, Refusal> {
    let credential = users.credential(name);
    let folded = fold(name);
    let key = folded.as_deref().map_or(name, str::as_bytes);
    let allowed = backoff.check(key, source, now);
    let proven = proves(if allowed.is_ok() { &credential.nt_hash } else { &credential.decoy });

    if let Err(RetryIn(retry_in)) = allowed {
        return Err(Refusal::BackedOff { retry_in });
    }
    match credential.account {
        Some(account) if proven && account.is_disabled() => Err(Refusal::Disabled),
        Some(account) if proven => Ok(Proven { account: account.clone(), key: key.into(), source }),
        Some(_) => {
            backoff.failed(key, source, now);
            Err(Refusal::WrongCredentials)
        }
        None => {
            backoff.failed(key, source, now);
            Err(Refusal::UnknownUser)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authn::local::testing::{hash_of, users};

    const FILE: &str = r#"
        [[user]]
        name = "alice"
        nt_hash = "{alice}"
        [[user]]
        name = "bob"
        disabled = true
        nt_hash = "{bob}"
    "#;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    struct Desk {
        users: Users,
        backoff: Backoff,
        now: Instant,
    }

    impl Desk {
        fn new() -> Self {
            Self { users: users(FILE), backoff: Backoff::new([7; 16]), now: crate::clock::now() }
        }

        /// The answer, and the hashes that the proof was compared with.
        fn login(&mut self, name: &[u8], password: &str) -> (Result<Subject, Refusal>, Vec<[u8; 16]>) {
            let mut asked = Vec::new();
            let answer = login(&self.users, &mut self.backoff, name, SOURCE, self.now, |hash| {
                asked.push(*hash);
                *hash == hash_of(password)
            });
            (answer.map(|proven| proven.subject().clone()), asked)
        }
    }

    #[test]
    fn the_right_proof_is_the_person() {
        let mut desk = Desk::new();
        for name in [&b"alice"[..], b"ALICE", b"CORP\\Alice"] {
            assert_eq!(desk.login(name, "alice").0, Ok(Subject::new("alice")));
        }
    }

    #[test]
    fn unknown_user_and_wrong_password_answer_alike_after_the_same_work() {
        let mut desk = Desk::new();
        let (wrong, asked_wrong) = desk.login(b"alice", "guess");
        let (unknown, asked_unknown) = desk.login(b"mallory", "guess");
        assert_eq!(wrong, Err(Refusal::WrongCredentials));
        assert_eq!(unknown, Err(Refusal::UnknownUser));
        assert_eq!(wrong.unwrap_err().code(), unknown.unwrap_err().code());
        assert_eq!((asked_wrong.len(), asked_unknown.len()), (1, 1), "the proof is judged once, for both");
        assert_eq!(desk.login(b"mallory", "guess").1, asked_unknown, "a decoy is always the same");
        assert_ne!(desk.login(b"oscar", "guess").1, asked_unknown, "and another for another name");
        let (odd, asked) = desk.login("al\u{131}ce".as_bytes(), "alice");
        assert_eq!((odd, asked.len()), (Err(Refusal::UnknownUser), 1));
    }

    #[test]
    fn only_the_owner_learns_that_an_account_is_disabled() {
        let mut desk = Desk::new();
        assert_eq!(desk.login(b"bob", "guess").0, Err(Refusal::WrongCredentials));
        let (refused, _) = desk.login(b"bob", "bob");
        assert_eq!(refused, Err(Refusal::Disabled));
        assert_eq!(refused.unwrap_err().code(), 647);
    }

    #[test]
    fn a_login_in_back_off_answers_like_wrong_credentials_even_with_the_right_password() {
        let mut desk = Desk::new();
        while !matches!(desk.login(b"alice", "guess").0, Err(Refusal::BackedOff { .. })) {}
        let (refused, asked) = desk.login(b"alice", "alice");
        let Err(Refusal::BackedOff { retry_in }) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.unwrap_err().code(), Refusal::WrongCredentials.code());
        assert_eq!(asked.len(), 1);
        assert_ne!(asked[0], hash_of("alice"), "the real hash is not even compared");
        desk.now += retry_in;
        assert_eq!(desk.login(b"alice", "alice").0, Ok(Subject::new("alice")));
    }

    #[test]
    fn a_right_password_clears_the_failures_when_its_login_is_complete_and_not_before() {
        for (completed, free) in [(false, 0), (true, 3)] {
            let mut desk = Desk::new();
            for _ in 0..4 {
                assert_eq!(desk.login(b"alice", "guess").0, Err(Refusal::WrongCredentials));
            }
            desk.now += Duration::from_secs(1);
            let proves = |hash: &[u8; 16]| *hash == hash_of("alice");
            let proven = login(&desk.users, &mut desk.backoff, b"Alice", SOURCE, desk.now, proves).unwrap();
            if completed {
                proven.completed(&mut desk.backoff, desk.now);
            }
            for _ in 0..=free {
                assert_eq!(desk.login(b"alice", "guess").0, Err(Refusal::WrongCredentials));
            }
            assert!(matches!(desk.login(b"alice", "guess").0, Err(Refusal::BackedOff { .. })));
        }
    }

    #[test]
    fn another_spelling_of_the_name_is_no_second_budget() {
        let mut desk = Desk::new();
        while !matches!(desk.login(b"alice", "guess").0, Err(Refusal::BackedOff { .. })) {}
        for name in [&b"ALICE"[..], b"X\\alice", b"Y\\Alice"] {
            assert!(matches!(desk.login(name, "guess").0, Err(Refusal::BackedOff { .. })));
        }
        let mut desk = Desk::new();
        for name in [&b"mallory"[..], b"MALLORY", b"X\\mallory", b"Y\\Mallory"] {
            assert_eq!(desk.login(name, "guess").0, Err(Refusal::UnknownUser));
        }
        let refused = desk.login(b"mallory", "guess").0;
        assert!(matches!(refused, Err(Refusal::BackedOff { .. })), "unknown names are counted alike");
    }
}
