//! The minting of identities, and the agreement of a token with the tunnel in which it arrives.

use std::sync::Arc;

use super::jwt::Person;
use super::local::{Account, Users};
use super::login::Proven;
use crate::identity::{Identity, Kind, Token, Tunnel};

/// Why a genuine token does not count in this tunnel. The text names no person: whoever carries somebody else's token
/// does not learn whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It names another person.
    #[error("the token names another person than the tunnel's login")]
    AnotherPerson,
    /// It names a client or workload.
    #[error("the token names a client or workload, and the tunnel is a person's")]
    Machine,
    /// It names nobody that could be compared.
    #[error("the token names nobody: the claim that should is missing, not verified, or has more than one reading")]
    Nobody,
    /// No user is linked to it.
    #[error("the token's issuer and subject are not linked to any user")]
    NotLinked,
}

/// The identity of a tunnel, after a login that succeeded.
pub fn tunnel_identity(proven: Proven, tunnel: Arc<Tunnel>) -> Identity {
    mint(&proven.into_account(), tunnel)
}

/// The same tunnel's identity by a newer user file; `None` when its person is gone or disabled.
///
/// It has no token: a token counts for its one request.
pub fn renew(identity: &Identity, users: &Users) -> Option<Identity> {
    let account = users.account(identity.subject.as_str())?;
    (!account.is_disabled()).then(|| mint(account, Arc::clone(&identity.tunnel)))
}

fn mint(account: &Account, tunnel: Arc<Tunnel>) -> Identity {
    Identity {
        subject: account.name().clone(),
        kind: Kind::Person,
        groups: Arc::clone(account.shared_groups()),
        tunnel,
        token: None,
    }
}

#[cfg(test)]
impl Identity {
    /// Somebody without groups, for the tests of what carries identities about.
    pub(crate) fn of(name: &str, tunnel: Tunnel) -> Self {
        let (subject, groups) = (crate::identity::Subject::new(name), Arc::default());
        Self { subject, kind: Kind::Person, groups, tunnel: Arc::new(tunnel), token: None }
    }
}

/// The identity of one request: the tunnel's, with the token, when both name one person.
///
/// `person` is what the token's issuer says whom it names; a linked token is looked up in `users`.
pub(super) fn agree(
    tunnel: Identity,
    token: &Arc<Token>,
    person: &Person,
    users: &Users,
) -> Result<Identity, Conflict> {
    let named = match person {
        Person::Named(subject) => subject,
        Person::Linked => users.linked(&token.issuer, &token.sub).ok_or(Conflict::NotLinked)?.name(),
        Person::Machine => return Err(Conflict::Machine),
        Person::Nobody => return Err(Conflict::Nobody),
    };
    if *named != tunnel.subject {
        return Err(Conflict::AnotherPerson);
    }
    Ok(Identity { token: Some(Arc::clone(token)), ..tunnel })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::identity::authn::local::testing::users;
    use crate::identity::{Binding, Group, IssuerName, Method, SessionId, StatedGroups, Subject};

    const FILE: &str = r#"
        [[user]]
        name = "alice"
        groups = ["b", "a"]
        links = [{ issuer = "corp", sub = "248" }]
        nt_hash = "{alice}"
        [[user]]
        name = "bob"
        nt_hash = "{bob}"
    "#;

    fn tunnel(users: &Users, name: &str) -> Identity {
        let tunnel = Tunnel {
            session: SessionId::from_random(1),
            method: Method::MsChapV2,
            binding: Binding::Keys,
            source: "192.0.2.1:1000".parse().unwrap(),
            since: UNIX_EPOCH,
        };
        mint(users.account(name).unwrap(), Arc::new(tunnel))
    }

    fn token(issuer: &str, sub: &str) -> Arc<Token> {
        Arc::new(Token {
            issuer: IssuerName::new(issuer),
            sub: sub.to_owned(),
            client_id: None,
            email: None,
            scopes: Vec::new(),
            groups: StatedGroups::NotStated,
            claims: BTreeMap::new(),
            expires: UNIX_EPOCH,
            id_hash: "0".repeat(16),
        })
    }

    #[test]
    fn nt_36_a_token_of_alice_in_bobs_tunnel_is_a_conflict() {
        let users = users(FILE);
        let alice = Person::Named(Subject::new("alice"));
        let token = token("corp", "248");
        assert_eq!(agree(tunnel(&users, "bob"), &token, &alice, &users).unwrap_err(), Conflict::AnotherPerson);
        assert_eq!(agree(tunnel(&users, "bob"), &token, &Person::Linked, &users).unwrap_err(), Conflict::AnotherPerson);
        let agreed = agree(tunnel(&users, "alice"), &token, &alice, &users).unwrap();
        assert_eq!(agreed.token(), Some(&token));
    }

    #[test]
    fn nt_59_with_a_token_or_without_it_one_person_is_one_subject() {
        let users = users(FILE);
        let alone = tunnel(&users, "alice");
        for person in [Person::Named(Subject::new("alice")), Person::Linked] {
            let agreed = agree(alone.clone(), &token("corp", "248"), &person, &users).unwrap();
            assert_eq!(agreed.subject(), alone.subject());
            assert_eq!(agreed.local_groups(), [Group::new("a"), Group::new("b")]);
            assert_eq!(agreed.tunnel(), alone.tunnel());
        }
    }

    #[test]
    fn a_link_is_of_one_issuer_and_one_sub() {
        let users = users(FILE);
        let alice = tunnel(&users, "alice");
        for (issuer, sub) in [("partner", "248"), ("corp", "249"), ("corp", "alice"), ("corp", "248 ")] {
            let conflict = agree(alice.clone(), &token(issuer, sub), &Person::Linked, &users).unwrap_err();
            assert_eq!(conflict, Conflict::NotLinked, "{issuer} {sub}");
        }
    }

    #[test]
    fn a_machine_and_a_nobody_conflict_with_every_person() {
        let users = users(FILE);
        let alice = tunnel(&users, "alice");
        let token = token("corp", "248");
        assert_eq!(agree(alice.clone(), &token, &Person::Machine, &users).unwrap_err(), Conflict::Machine);
        assert_eq!(agree(alice, &token, &Person::Nobody, &users).unwrap_err(), Conflict::Nobody);
        assert_eq!(super::super::TokenRefusal::from(Conflict::Machine).reason(), "identity-conflict");
    }

    #[test]
    fn a_newer_user_file_changes_or_ends_an_identity() {
        let users_now = users(FILE);
        let request = agree(tunnel(&users_now, "alice"), &token("corp", "248"), &Person::Linked, &users_now).unwrap();
        let fewer = users(&FILE.replace(r#"["b", "a"]"#, r#"["b"]"#));
        let renewed = renew(&request, &fewer).unwrap();
        assert_eq!(renewed.local_groups(), [Group::new("b")]);
        assert_eq!(renewed.tunnel(), request.tunnel());
        assert!(renewed.token().is_none(), "a token is of one request");
        assert!(renew(&request, &users(&FILE.replace("groups", "disabled = true\n groups"))).is_none());
        assert!(renew(&request, &users(&FILE.replace("alice", "carol"))).is_none());
    }
}
