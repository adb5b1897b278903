//! `[tunnel]`: login methods, crypto binding, and how much of everything one person may have.

use std::num::NonZeroU32;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::complaint::{Complaints, quoted, suggestion};
use super::raw::{self, Texts};
use super::reading::Entry;
use super::validate::{MAX_CONNECTIONS, number};
use super::{BindingHash, Rate, Tunnel, units};
use crate::identity::Method;

/// Above these, a number is more likely a slip than a wish: nobody has so many laptops, and no laptop so many streams.
const MAX_PER_USER: i64 = 10_000;
const MAX_STREAMS: i64 = 10_000;

/// Requests in a second: far above what one person sends, and far below what tires a server.
const MAX_REQUESTS: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");

/// A tunnel shorter than a minute only logs in again and again; one longer than a month outlives every review.
const SESSION_LENGTH: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

pub(super) fn validate(keys: &raw::Tunnel, complaints: &mut Complaints) -> Tunnel {
    let methods = methods(&keys.methods, complaints);
    Tunnel {
        zero_binding: zero_binding(&keys.zero_binding, &methods, complaints),
        methods,
        binding_hash: binding_hash(&keys.binding_hash, complaints),
        max_sessions: number(&keys.max_sessions, "tunnel.max_sessions", 10_000, 1..=MAX_CONNECTIONS, complaints),
        max_sessions_per_user: number(
            &keys.max_sessions_per_user,
            "tunnel.max_sessions_per_user",
            4,
            1..=MAX_PER_USER,
            complaints,
        ),
        max_session: max_session(&keys.max_session, complaints),
        max_streams: number(&keys.max_streams, "tunnel.max_streams", 100, 1..=MAX_STREAMS, complaints),
        max_requests: max_requests(&keys.max_requests, complaints),
    }
}

fn methods(entry: &Entry<Texts>, complaints: &mut Complaints) -> Vec<Method> {
    let known = [Method::EapMsChapV2, Method::MsChapV2, Method::Pap];
    let default = || vec![Method::EapMsChapV2, Method::MsChapV2];
    let Some((list, span)) = entry.written() else { return default() };
    if let Some(pap) = list.iter().filter_map(Entry::written).find(|(word, _)| word.as_str() == "pap") {
        complaints.warning(
            "weak-method",
            &pap.1,
            "with `pap` the server sees passwords, and no login is bound to its TLS connection",
            "remove it unless a client cannot do better: only the client's check of our certificate protects it",
        );
    }
    words(list, &span, "tunnel.methods", &known.map(|method| (method.as_str(), method)), complaints)
}

fn zero_binding(entry: &Entry<Texts>, methods: &[Method], complaints: &mut Complaints) -> Vec<Method> {
    let Some((list, _)) = entry.written() else {
        return methods.iter().copied().filter(|method| *method == Method::EapMsChapV2).collect();
    };
    let mut accepted = Vec::new();
    for (word, span) in list.iter().filter_map(Entry::written) {
        let complaint = match word.as_str() {
            "eap-mschapv2" if !methods.contains(&Method::EapMsChapV2) => {
                Some(("`eap-mschapv2` is not among `methods`", "add it there, or remove it here"))
            }
            "eap-mschapv2" => None,
            "mschapv2" => Some((
                "`mschapv2` always makes a binding key, so a zero key is an attack",
                "remove it; only `eap-mschapv2` may stand here, because some clients leave its key out",
            )),
            "pap" => Some((
                "`pap` never makes a binding key, so it need not be allowed one",
                "remove it; `pap` among `methods` says enough",
            )),
            _ => Some(("is no method for which a zero key can be accepted", "only `eap-mschapv2` may stand here")),
        };
        match complaint {
            None => accepted.push(Method::EapMsChapV2),
            Some((message, hint)) => {
                let message =
                    if message.starts_with('`') { message.to_owned() } else { format!("{} {message}", quoted(word)) };
                complaints.error("zero-binding", &span, message, hint);
            }
        }
    }
    accepted.dedup();
    accepted
}

fn binding_hash(entry: &Entry<Texts>, complaints: &mut Complaints) -> Vec<BindingHash> {
    let Some((list, span)) = entry.written() else { return vec![BindingHash::Sha256] };
    let known = [("sha256", BindingHash::Sha256), ("sha1", BindingHash::Sha1)];
    words(list, &span, "tunnel.binding_hash", &known, complaints)
}

/// A list of known words: not empty, none twice.
fn words<T: Copy + PartialEq>(
    list: &Texts,
    list_at: &Range<usize>,
    name: &str,
    known: &[(&str, T)],
    complaints: &mut Complaints,
) -> Vec<T> {
    let names: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let mut meant = Vec::new();
    for (word, span) in list.iter().filter_map(Entry::written) {
        match known.iter().find(|(known, _)| known == word) {
            Some((_, value)) if meant.contains(value) => complaints.error(
                "duplicate",
                &span,
                format!("{} stands twice in `{name}`", quoted(word)),
                "remove one of the two",
            ),
            Some((_, value)) => meant.push(*value),
            None => complaints.error(
                "unknown-word",
                &span,
                format!("unknown word {} in `{name}`", quoted(word)),
                suggestion(word, &names),
            ),
        }
    }
    if list.is_empty() {
        complaints.error(
            "empty-list",
            list_at,
            format!("`{name}` is empty, so that nobody could connect"),
            suggestion("", &names),
        );
    }
    meant
}

fn max_session(entry: &Entry<String>, complaints: &mut Complaints) -> Duration {
    let default = Duration::from_secs(12 * 3600);
    let Some((text, span)) = entry.written() else { return default };
    match units::duration(text) {
        Some(length) if SESSION_LENGTH.contains(&length) => return length,
        Some(_) => complaints.error(
            "out-of-range",
            &span,
            format!("`tunnel.max_session` cannot be {}", quoted(text)),
            "take a length from \"1m\" to \"30d\"",
        ),
        None => complaints.error(
            "not-a-duration",
            &span,
            format!("`tunnel.max_session` must be a duration, not {}", quoted(text)),
            "one integer and one of ms, s, m, h, d, as in \"12h\"",
        ),
    }
    default
}

fn max_requests(entry: &Entry<String>, complaints: &mut Complaints) -> Rate {
    let default = Rate { count: MAX_REQUESTS, per: Duration::from_secs(1) };
    let Some((text, span)) = entry.written() else { return default };
    let Some(rate) = units::rate(text) else {
        complaints.error(
            "not-a-rate",
            &span,
            format!("`tunnel.max_requests` must be a rate, not {}", quoted(text)),
            "a number above zero, a slash and one of s, m, h, as in \"1000/s\"",
        );
        return default;
    };
    if let Err(error) = rate.quota() {
        complaints.error(
            "out-of-range",
            &span,
            format!("`tunnel.max_requests` cannot be {}: {error}", quoted(text)),
            "take a rate that one person can need, as in \"1000/s\"",
        );
    }
    rate
}
