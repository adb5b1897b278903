//! From a request to a permit: one reading, one address, one person, one decision, one record.
//!
//! "Not found" and "denied" are decided by the policy; here it is asked. Whatever goes wrong on the way is a refusal:
//! there is no path through this file that ends in a permit without a decision, nor in one that is not behind its audit
//! record.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::memory::Who;
use super::open::{OpenRequest, Place};
use super::records::{self, Excerpt, Judging};
use super::reply::Refusal;
use super::{Connection, Unread};
use crate::audit::Staged;
use crate::clock::Moment;
use crate::field::Section;
use crate::identity::Identity;
use crate::identity::authn::{self, Verified};
use crate::limits::{BadQuota, Charge, Quota, Room};
use crate::policy::{self, Api, Bearer, Bundle, Decision, Evidence, Handling, HttpOptions, Permit, VirtualHost};
use crate::request::{self, CanonicalRequest, Malformed, Oddities};
use crate::snapshot::Snapshot;
use crate::upstream::{Cut, Target};
use crate::{clock, telemetry};

/// A request that may go to its upstream: the permit, and what came with it.
pub(super) struct Cleared {
    /// To be had when its record is written.
    pub(super) permit: Staged<Permit>,
    pub(super) who: Arc<Who>,
    /// Of the snapshot by which it was judged.
    pub(super) generation: u64,
    pub(super) target: Arc<Target>,
    pub(super) room: Option<RoomFields>,
    pub(super) cut: Cut,
    pub(super) place: Place,
}

impl Connection {
    /// Judges one request.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        read: Result<CanonicalRequest, Unread>,
        headers: &Section,
        judging: &mut Judging,
    ) -> Result<Cleared, Refusal> {
        let flight = self.caller.admit(judging.at.now).map_err(Refusal::pre_limited)?;
        let snapshot = self.proxy.snapshots.load_full();
        self.proxy.upstream.keep(snapshot.generation, snapshot.targets.values());
        judging.bundle.clone_from(&snapshot.bundle);
        let canonical = reading(read, judging)?;
        let bundle = snapshot.bundle.as_ref().ok_or_else(Refusal::closed)?;
        let entry = bundle.entry(canonical.host());
        self.check_host(entry.map(|entry| &entry.host), canonical.host())?;
        let login = || authn::renew(&self.caller.login, &snapshot.users).ok_or_else(Refusal::revoked);
        judging.api = entry.and_then(|entry| entry.api(canonical.path())).cloned();
        // Nothing of an API that this person does not know of may show in an answer, not even how it reads requests.
        let see = |api: &Arc<Api>| {
            let see = || Ok(policy::is_visible(bundle, api, &Evidence::of(&login()?)));
            self.memory.sees(snapshot.generation, api, see)
        };
        // Whoever is gone learns nothing either.
        let is_known = match &judging.api {
            Some(api) => see(api)?,
            None => login().map(|_| false)?,
        };
        let known = judging.api.as_deref().filter(|_| is_known);
        admit_oddities(bundle, &canonical).map_err(|malformed| Refusal::malformed(&malformed))?;
        let evidence = self.evidence(headers, &canonical, known, &snapshot, judging.at).await?;
        let verified = evidence.as_deref();
        judging.token = verified.map(|verified| Arc::clone(&verified.token));
        let find_out = || {
            let identity = self.agree(login()?, verified, &snapshot).inspect_err(|_| self.alarm(verified, judging))?;
            let text = records::text(&identity, judging.token.as_ref());
            Ok(Who::new(identity, text))
        };
        let who = self.memory.who(snapshot.generation, judging.token.as_ref(), canonical.host(), find_out)?;
        let kept = canonical.clone();
        let permit = match policy::decide(bundle, &who.identity, canonical) {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => {
                judging.rule = denial.rule().cloned();
                judging.reason = Some(denial.reason());
                judging.near_miss = denial.near_misses().iter().map(|miss| miss.rule.clone()).collect();
                return Err(Refusal::denied(&denial));
            }
        };
        judging.rule = Some(permit.rule().clone());
        refuse_upgrade(headers)?;
        let target = snapshot.targets.get(permit.api().name.as_str()).cloned().ok_or_else(Refusal::closed)?;
        let room = self.charge(&permit, snapshot.generation, judging.at.now)?;
        let record = self.record_allowed(&who, room.as_ref(), judging);
        let room = room.as_ref().map(RoomFields::of);
        let cut = Cut::default();
        let open = OpenRequest::new(kept, evidence, cut.clone(), target.timeout(), judging.at);
        let place = self.open.enter(self, open, flight);
        Ok(Cleared { permit: record.before(permit), who, generation: snapshot.generation, target, room, cut, place })
    }

    /// Address, server name and Host must name the same host.
    fn check_host(&self, named: Option<&VirtualHost>, host: &str) -> Result<(), Refusal> {
        let same_address = named.is_some_and(|named| named.address == self.dialled.address);
        let same_name = self.server_name.as_deref().is_none_or(|name| name == host);
        if same_address && same_name { Ok(()) } else { Err(Refusal::misdirected()) }
    }

    /// The bearer token of a request, verified, where the API lets tokens count.
    async fn evidence(
        &self,
        headers: &Section,
        request: &CanonicalRequest,
        api: Option<&Api>,
        snapshot: &Snapshot,
        Moment { now, wall }: Moment,
    ) -> Result<Option<authn::Verdict>, Refusal> {
        if api.is_none_or(|api| api.bearer == Bearer::Pass) {
            return Ok(None);
        }
        let authorization = headers.get("authorization");
        let last = authorization.and_then(|value| self.memory.verdict(snapshot.generation, value));
        if let Some(verdict) = last.filter(|verdict| snapshot.tokens.still_counts(verdict, wall, now)) {
            return Ok(Some(verdict));
        }
        let Some((value, raw)) = authorization.and_then(|value| Some((value, request::bearer(value)?))) else {
            // An upstream that reads it there would act on a token that nobody has judged.
            let hidden = request.has_access_token().then(|| Refusal::malformed(&Malformed::TokenInQuery));
            return hidden.map_or(Ok(None), Err);
        };
        let token = std::str::from_utf8(raw)
            .map_err(|_| Refusal::token("token-invalid", "The token is not text.".to_owned()))?;
        let verdict = snapshot.tokens.verify(token, wall, now).await;
        let verdict = verdict.map_err(|refusal| Refusal::token(refusal.reason(), refusal.to_string()))?;
        self.memory.keep_verdict(snapshot.generation, value, &verdict);
        Ok(Some(verdict))
    }

    /// The identity of one request: all evidence must name one person.
    fn agree(&self, login: Identity, verified: Option<&Verified>, snapshot: &Snapshot) -> Result<Identity, Refusal> {
        let Some(verified) = verified else { return Ok(login) };
        verified.agree(login, &snapshot.users).map_err(|conflict| {
            let login = &self.caller.login;
            tracing::warn!(session = %login.tunnel().session, subject = %login.subject(), %conflict, "identity conflict");
            Refusal::token("identity-conflict", conflict.to_string())
        })
    }

    /// Takes one from every bucket of the request, or from none.
    fn charge<'a>(&self, permit: &'a Permit, generation: u64, now: Instant) -> Result<Option<Room<'a>>, Refusal> {
        let charges = permit.charges();
        let bucket = |charge: &policy::Charge| {
            let policy::Charge { limit, key } = charge;
            quota(limit).map(|quota| self.proxy.limits.bucket(limit.id.as_str(), key, quota))
        };
        // A bundle whose limits cannot be counted is not loaded; if it were, nothing would pass.
        let buckets = self.memory.buckets(generation, charges, bucket).map_err(|_| Refusal::closed())?;
        let takes = charges.iter().zip(&*buckets);
        let takes = takes.map(|(charge, &bucket)| Charge { limit: charge.limit.id.as_str(), bucket });
        self.proxy.limits.take(takes, now).map_err(|exceeded| {
            metrics::counter!(telemetry::LIMITED, "limit" => "policy").increment(1);
            let limit = charges.iter().find(|charge| charge.limit.id.as_str() == exceeded.limit);
            Refusal::limited(&exceeded, limit.map_or(429, |charge| charge.limit.status))
        })
    }

    /// Judges the open requests again, under the current generation, and cuts those that are no longer allowed. False
    /// when one that was cut before did not leave.
    pub(super) fn rejudge(&self) -> bool {
        let snapshot = self.proxy.snapshots.load_full();
        self.open.look(|open| self.still_allowed(open, &snapshot))
    }

    fn still_allowed(&self, open: &OpenRequest, snapshot: &Snapshot) -> bool {
        let Some(bundle) = &snapshot.bundle else { return false };
        let Some(login) = authn::renew(&self.caller.login, &snapshot.users) else { return false };
        let host = open.request.host();
        if self.check_host(bundle.host_for(host), host).is_err() {
            return false;
        }
        let counts = |verdict: &authn::Verdict| {
            let trusted = bundle.issuers().iter().any(|issuer| issuer.name == verdict.token.issuer);
            trusted && snapshot.tokens.still_counts(verdict, clock::wall(), clock::now())
        };
        if !open.evidence.as_ref().is_none_or(counts) {
            return false;
        }
        let Ok(identity) = self.agree(login, open.evidence.as_deref(), snapshot) else { return false };
        matches!(policy::decide(bundle, &identity, open.request.clone()), Decision::Allow(_))
    }
}

/// What a response says of the tightest limit.
pub(super) struct RoomFields {
    pub(super) policy: String,
    pub(super) state: String,
}

impl RoomFields {
    fn of(room: &Room<'_>) -> Self {
        Self { policy: room.policy_field(), state: room.state_field() }
    }
}

/// A limit of a policy file as the limits count it.
///
/// # Errors
///
/// When the numbers are too large to be counted with.
pub fn quota(limit: &policy::Limit) -> Result<Quota, BadQuota> {
    // More than 2³² in a unit is beyond what can be counted, and so refused with the largest that can be written.
    let cells = |count: u64| NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
    Quota::new(cells(limit.rate.count), limit.rate.per, cells(limit.burst))
}

/// The one reading of a request.
fn reading(read: Result<CanonicalRequest, Unread>, judging: &mut Judging) -> Result<CanonicalRequest, Refusal> {
    let canonical = read.map_err(|unread| match unread {
        Unread::Framing(refusal) => {
            judging.excerpt = Excerpt {
                method: refusal.method.to_string(),
                host: refusal.host.to_string(),
                path: refusal.target.to_string(),
            };
            Refusal::framing(&refusal)
        }
        Unread::Malformed(malformed, excerpt) => {
            judging.excerpt = excerpt;
            Refusal::malformed(&malformed)
        }
    })?;
    judging.request = Some(canonical.clone());
    Ok(canonical)
}

/// What the APIs of a host call opaque may pass; anything else that has two readings is refused.
///
/// # Errors
///
/// What has two readings.
pub fn admit_oddities(bundle: &Bundle, request: &CanonicalRequest) -> Result<(), Malformed> {
    if request.oddities() == Oddities::default() {
        return Ok(());
    }
    let http = bundle.http_for(request.host());
    let opaque = |handling: fn(&HttpOptions) -> Handling| http.is_some_and(|http| handling(http) == Handling::Opaque);
    request.admit(
        opaque(|http| http.encoded_slash),
        opaque(|http| http.double_encoding),
        opaque(|http| http.matrix_params),
    )
}

/// Upgrades change what the bytes mean after the judgement, so they are refused unless an API allows one.
fn refuse_upgrade(headers: &Section) -> Result<(), Refusal> {
    if headers.contains("upgrade") { Err(Refusal::upgrade()) } else { Ok(()) }
}
