//! Somebody to speak as, in tests and in `explain`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::identity::{Binding, Claim, Group, IssuerName, Kind, Method, SessionId, StatedGroups, Token};
use crate::request::CanonicalRequest;

use super::api::Bearer;
use super::bundle::Bundle;
use super::issuer::{ClaimType, GroupsAbsent, Issuer};
use super::syntax::identity as words;
use super::visibility::is_visible;
use super::{Facts, ReadRequest, RequestText};

/// The person that a test speaks as when it names none.
const SOMEBODY: &str = "somebody";

/// Who asks. The default is nobody: not logged in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persona {
    /// Whether anything is known at all.
    pub logged_in: bool,
    /// The local name.
    pub user: Option<String>,
    /// The groups of the user file.
    pub groups: Vec<String>,
    /// How strongly the login is bound; `keys` unless said otherwise.
    pub binding: Option<Binding>,
    /// How the login was made; `eap-mschapv2` unless said otherwise.
    pub method: Option<Method>,
    /// The token of the request.
    pub token: Option<PersonaToken>,
}

/// A verified token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersonaToken {
    /// Its issuer; may be left out when the bundle has one.
    pub issuer: Option<String>,
    /// The groups in its groups claim; `None`: the claim is absent.
    pub groups: Option<Vec<String>>,
    /// The verified address.
    pub email: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// The claims, by dotted path.
    pub claims: BTreeMap<String, Claim>,
    /// Claims as one line has them: their issuer declares the type.
    pub untyped: BTreeMap<String, String>,
}

/// A persona as a bundle's issuers let it be: what [`Facts`] borrow from.
#[derive(Clone, Debug)]
pub struct Played {
    subject: Option<String>,
    groups: Vec<Group>,
    token: Option<Token>,
    binding: Option<Binding>,
    method: Option<Method>,
    session: Option<SessionId>,
}

impl Persona {
    /// Reads `user=alice,groups=a,groups=b,binding=zero,method=pap,issuer=corp,token-groups=x,email=…`; a list may
    /// also be written with `+`: `groups=a+b`. The empty text is nobody.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut persona = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not `key=value`"))?;
            persona.logged_in = true;
            let items = value.split('+').map(str::to_owned);
            match key {
                "user" => persona.user = Some(words::user(value).map_err(|flaw| flaw.message)?),
                "groups" => persona.groups.extend(items),
                "binding" => persona.binding = Some(words::binding(value).map_err(|flaw| flaw.message)?),
                "method" => persona.method = Some(words::method(value).map_err(|flaw| flaw.message)?),
                "issuer" => persona.token_mut().issuer = Some(value.to_owned()),
                "email" => persona.token_mut().email = Some(words::email(value).map_err(|flaw| flaw.message)?),
                "token-client" => persona.token_mut().client = Some(value.to_owned()),
                "token-groups" => persona.token_mut().groups.get_or_insert_default().extend(items),
                key => match key.strip_prefix("claims.") {
                    Some(path) => drop(persona.token_mut().untyped.insert(path.to_owned(), value.to_owned())),
                    None => return Err(format!("`{key}` says nothing about an identity")),
                },
            }
        }
        Ok(persona)
    }

    fn token_mut(&mut self) -> &mut PersonaToken {
        self.token.get_or_insert_default()
    }

    /// Applies what the bundle says about the token's issuer: which groups count, which claims have which type.
    pub fn play(&self, bundle: &Bundle) -> Result<Played, String> {
        let token = self.token.as_ref().map(|token| play_token(token, bundle)).transpose()?;
        let subject = self.user.as_deref().unwrap_or(SOMEBODY);
        let mut groups: Vec<Group> = self.groups.iter().map(|group| Group::new(group.as_str())).collect();
        groups.sort();
        groups.dedup();
        Ok(Played {
            subject: self.logged_in.then(|| subject.to_owned()),
            groups,
            token,
            binding: self.logged_in.then(|| self.binding.unwrap_or(Binding::Keys)),
            method: self.logged_in.then(|| self.method.unwrap_or(Method::EapMsChapV2)),
            session: self.logged_in.then(|| SessionId::from_random(0)),
        })
    }
}

fn play_token(token: &PersonaToken, bundle: &Bundle) -> Result<Token, String> {
    let issuer = match (&token.issuer, bundle.issuers()) {
        (Some(name), issuers) => issuers
            .iter()
            .find(|issuer| issuer.name.as_str() == name)
            .ok_or_else(|| format!("the bundle has no issuer `{name}`"))?,
        (None, [only]) => only,
        (None, _) => return Err("the token needs an `issuer`, as the bundle does not have exactly one".into()),
    };
    let groups = match (&issuer.groups_claim, &token.groups) {
        (None, _) => StatedGroups::NotStated,
        (Some(_), None) => match issuer.groups_absent {
            GroupsAbsent::Unknown => StatedGroups::Unknown,
            GroupsAbsent::Empty => StatedGroups::Known(Vec::new()),
        },
        (Some(_), Some(groups)) => {
            let admitted = groups.iter().filter(|group| issuer.admits(group));
            StatedGroups::Known(admitted.map(|group| Group::new(group.as_str())).collect())
        }
    };
    let mut claims = BTreeMap::new();
    for (path, claim) in &token.claims {
        if fits(claim, declared(issuer, path)?) {
            claims.insert(path.clone(), claim.clone());
        }
    }
    for (path, text) in &token.untyped {
        let kind = declared(issuer, path)?;
        let claim =
            typed(text, kind).ok_or_else(|| format!("the claim `{path}` is declared as \"{}\"", kind.as_str()))?;
        claims.insert(path.clone(), claim);
    }
    Ok(Token {
        issuer: IssuerName::new(issuer.name.as_str()),
        sub: SOMEBODY.to_owned(),
        client_id: token.client.clone(),
        email: token.email.clone(),
        scopes: Vec::new(),
        groups,
        claims,
        expires: SystemTime::UNIX_EPOCH,
        id_hash: String::new(),
    })
}

fn declared(issuer: &Issuer, path: &str) -> Result<ClaimType, String> {
    let name = &issuer.name;
    issuer.claims.get(path).copied().ok_or_else(|| format!("the issuer `{name}` declares no claim `{path}`"))
}

/// Whether a claim has its declared type; a badly typed one counts as absent.
fn fits(claim: &Claim, kind: ClaimType) -> bool {
    match claim {
        Claim::Text(_) => kind == ClaimType::Text,
        Claim::Texts(_) => kind == ClaimType::Texts,
        Claim::Number(_) => kind == ClaimType::Number,
        Claim::Flag(_) => kind == ClaimType::Flag,
    }
}

fn typed(text: &str, kind: ClaimType) -> Option<Claim> {
    Some(match kind {
        ClaimType::Text => Claim::Text(text.to_owned()),
        ClaimType::Texts => Claim::Texts(text.split('+').map(str::to_owned).collect()),
        ClaimType::Number => Claim::Number(text.parse().ok()?),
        ClaimType::Flag => Claim::Flag(text.parse().ok()?),
    })
}

impl Played {
    /// Reads a request by this persona as traffic is read; an error is a `bad-request`.
    pub fn ask(&self, bundle: &Bundle, text: &RequestText, read: ReadRequest) -> Result<CanonicalRequest, String> {
        let request = read(bundle, text, self.token.is_some())?;
        if self.token.is_none() && request.has_access_token() {
            let evidence = self.facts(&request).evidence();
            let api = bundle.api_for(request.host(), request.path());
            if api.is_some_and(|api| api.bearer == Bearer::Judge && is_visible(bundle, api, &evidence)) {
                return Err("an access token in the query, which nobody judges".into());
            }
        }
        Ok(request)
    }

    /// The facts of a request by this persona.
    pub fn facts<'a>(&'a self, request: &'a CanonicalRequest) -> Facts<'a> {
        Facts {
            request,
            subject: self.subject.as_deref(),
            kind: Kind::Person,
            local_groups: &self.groups,
            token: self.token.as_ref(),
            binding: self.binding,
            method: self.method,
            session: self.session,
        }
    }
}
