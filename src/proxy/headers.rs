//! Which headers cross the proxy: in go those that the client sent, out come the lines that the upstream reads.
//!
//! Towards the upstream, [`Crossing`] leaves out what belongs to this connection and whatever an upstream might mistake
//! for the proxy's word, and [`Asserted`] is that word. No name of the one passes the other, so no header of the client
//! can remove, double or change one of ours.
//!
//! RFC 9110 section 7.6.1 (hop-by-hop), RFC 7239 (Forwarded).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::audit::DecisionId;
use crate::field::{Line, Section};
use crate::identity::SessionId;

/// The person, percent-encoded.
pub const USER: HeaderName = HeaderName::from_static("wicketgate-user");
/// The person's groups, each percent-encoded, with commas between them.
pub const GROUPS: HeaderName = HeaderName::from_static("wicketgate-groups");
/// The session's id.
pub const SESSION: HeaderName = HeaderName::from_static("wicketgate-session");
/// The id of the decision, as in the audit record.
pub const DECISION: HeaderName = HeaderName::from_static("wicketgate-decision");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest groups header: servers commonly take 8 KiB of one line, and a list that is cut would state another
/// membership than the person has.
const MAX_GROUPS_VALUE: usize = 7 * 1024;

/// Headers of one connection (RFC 9110 section 7.6.1), whether or not `Connection` lists them. `Trailer` announces what is
/// dropped.
static HOP_BY_HOP: Names<11> = Names::of([
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
]);

/// What the proxy says itself of every request, or has answered.
static OURS: Names<2> = Names::of(["host", "expect"]);

/// Names that upstreams take for the word of a proxy: exactly these. `-method` is `_method` folded; `proxy` becomes the
/// environment variable HTTP_PROXY of CGI programs; `client-cert` is RFC 9440.
static RESERVED_NAMES: Names<17> = Names::of([
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "client-ip",
    "cf-connecting-ip",
    "x-host",
    "x-method",
    "x-method-override",
    "-method",
    "client-cert",
    "client-cert-chain",
    "x-client-cert",
    "x-anonymous-consumer",
    "proxy",
]);

/// And these, with whatever follows.
static RESERVED_PREFIXES: Names<17> = Names::of([
    "wicketgate-",
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-envoy-",
    "x-auth-",
    "x-authenticated-",
    "x-user",
    "x-remote-",
    "remote-",
    "x-ssl-",
    "ssl-client-",
    "x-wicketgate-",
    "x-consumer-",
    "x-credential-",
    "x-webauth-",
]);

/// Names, by their first byte: most headers of a client are told apart from all of them by one look.
struct Names<const N: usize> {
    all: [&'static str; N],
    /// Bit n stands for the name n.
    by_first: [u32; 256],
}

impl<const N: usize> Names<N> {
    const fn of(all: [&'static str; N]) -> Self {
        assert!(N < u32::BITS as usize);
        let mut by_first = [0; 256];
        let mut at = 0;
        while at < N {
            by_first[all[at].as_bytes()[0] as usize] |= 1 << at;
            at += 1;
        }
        Self { all, by_first }
    }

    /// Those that may begin as this name does.
    fn like(&self, name: &[u8]) -> impl Iterator<Item = &'static str> {
        let mut left = name.first().map_or(0, |&byte| self.by_first[usize::from(fold(byte))]);
        std::iter::from_fn(move || {
            let next = self.all.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*next)
        })
    }

    /// Whether one of them is this name.
    fn name(&self, name: &[u8]) -> bool {
        self.like(name).any(|known| folds_to(name, known))
    }

    /// Whether this name begins with one of them.
    fn begin(&self, name: &[u8]) -> bool {
        self.like(name).any(|known| begins_with(name, known))
    }
}

/// A header that would be too long to be read by an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list of groups is {got} bytes long, at most {limit} can be sent")]
pub struct TooManyGroups {
    /// The most that is sent.
    pub limit: usize,
    /// What it would have been.
    pub got: usize,
}

/// Why nothing can be said of a person.
#[derive(Debug, thiserror::Error)]
pub enum NotAsserted {
    /// They have more groups than can be told.
    #[error(transparent)]
    TooManyGroups(#[from] TooManyGroups),
    /// Something of it cannot stand in a header.
    #[error(transparent)]
    Value(#[from] InvalidHeaderValue),
}

/// Whether the stream inside the tunnel was TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Port 80
    Http,
    /// Port 443
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who asks, and through which door: what the proxy says to the upstream about all requests of one person to one host on
/// one connection.
#[derive(Clone, Copy, Debug)]
pub struct Assertion<'a, G> {
    /// The person.
    pub user: &'a str,
    /// The person's groups that the evidence states.
    pub groups: &'a [G],
    /// The session.
    pub session: SessionId,
    /// Where the tunnel comes from: the only address of a client that anybody can vouch for.
    pub source: IpAddr,
    /// The canonical host of the request.
    pub host: &'a str,
    /// How the client spoke to the proxy.
    pub scheme: Scheme,
}

/// An [`Assertion`] as header lines, made once for many requests.
#[derive(Clone, Debug)]
pub struct Asserted(Section);

/// Which of a request's headers cross the proxy: not the connection's, those that `Connection` lists, and those that
/// are reserved.
pub struct Crossing<'a, N> {
    listed: BTreeSet<Vec<u8>>,
    reserved: &'a [N],
    authorization: bool,
}

impl<'a, N: AsRef<str>> Crossing<'a, N> {
    /// `reserved` are the names in the `[assert]` tables of all APIs; `authorization` says whether the API wants to see
    /// the client's credentials.
    pub fn new(headers: &Section, reserved: &'a [N], authorization: bool) -> Self {
        Self { listed: listed(headers), reserved, authorization }
    }

    /// Whether this header crosses.
    pub fn lets(&self, line: Line<'_>) -> bool {
        let name = line.name();
        if line.is("authorization") && !self.authorization {
            return false;
        }
        let is_reserved =
            HOP_BY_HOP.name(name) || OURS.name(name) || RESERVED_NAMES.name(name) || RESERVED_PREFIXES.begin(name);
        !is_reserved
            && !is_listed(name, &self.listed)
            && !self.reserved.iter().any(|reserved| folds_to(name, reserved.as_ref()))
    }
}

/// Removes from a response what belongs to the upstream's connection. Nothing is reserved in this direction.
///
/// Transfer-Encoding says how long the body is (RFC 9112 section 6.3); a Content-Length beside it is removed, so that
/// it does not cut the body on its way down.
pub fn strip_response(headers: &mut Section) {
    let is_framed = headers.contains("transfer-encoding");
    let listed = listed(headers);
    headers.retain(|line| {
        !(HOP_BY_HOP.name(line.name()) || is_listed(line.name(), &listed) || is_framed && line.is("content-length"))
    });
}

impl Asserted {
    /// # Errors
    ///
    /// [`TooManyGroups`], or a host that is none.
    pub fn new(assertion: &Assertion<'_, impl AsRef<str>>) -> Result<Self, NotAsserted> {
        let groups = groups_value(assertion.groups)?;
        let (host, proto) = (assertion.host, assertion.scheme.as_str());
        let source = assertion.source.to_canonical();
        let forwarded = match source {
            IpAddr::V4(source) => format!("for={source};host={host};proto={proto}"),
            IpAddr::V6(source) => format!("for=\"[{source}]\";host={host};proto={proto}"),
        };
        let mut lines = Section::default();
        // HTTP/2 has no Host of its own, and an upstream must see the one that was judged.
        let host = HeaderValue::try_from(host)?;
        for (name, value) in [
            (header::HOST, &host),
            (USER, &HeaderValue::try_from(encode(assertion.user))?),
            (GROUPS, &HeaderValue::try_from(groups)?),
            (SESSION, &HeaderValue::from_bytes(&assertion.session.text())?),
            (X_FORWARDED_FOR, &HeaderValue::try_from(source.to_string())?),
            (X_FORWARDED_HOST, &host),
            (X_FORWARDED_PROTO, &HeaderValue::from_static(proto)),
            (header::FORWARDED, &HeaderValue::try_from(forwarded)?),
        ] {
            lines.push((&name, value).into());
        }
        Ok(Self(lines))
    }

    /// The lines.
    pub fn lines(&self) -> &Section {
        &self.0
    }
}

/// Says which decision let the request pass.
pub fn say_decision(decision: DecisionId, lines: &mut Section) {
    let decision = decision.text();
    lines.push(Line::of(&DECISION, &decision).expect("its alphabet is letters and digits"));
}

fn groups_value(groups: &[impl AsRef<str>]) -> Result<String, TooManyGroups> {
    let mut value = String::new();
    for (at, group) in groups.iter().enumerate() {
        if at > 0 {
            value.push(',');
        }
        push_encoded(&mut value, group.as_ref());
    }
    let got = value.len();
    if got > MAX_GROUPS_VALUE { Err(TooManyGroups { limit: MAX_GROUPS_VALUE, got }) } else { Ok(value) }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, text);
    encoded
}

/// Visible ASCII without the comma of lists and the percent sign of this very encoding.
fn push_encoded(value: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b',' && byte != b'%' {
            value.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
}

/// The names that `Connection` lists (RFC 9110 section 7.6.1), in lower case.
fn listed(headers: &Section) -> BTreeSet<Vec<u8>> {
    let values = headers.get_all("connection");
    let names = values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase).collect()
}

fn is_listed(name: &[u8], listed: &BTreeSet<Vec<u8>>) -> bool {
    !listed.is_empty() && listed.contains(&name.to_ascii_lowercase())
}

/// How the weakest reader of headers, a CGI environment, tells names apart: no case, and one sign for all that are
/// neither letters nor digits.
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn folds_to(name: &[u8], reserved: &str) -> bool {
    name.len() == reserved.len() && begins_with(name, reserved)
}

fn begins_with(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && name.iter().zip(prefix.as_bytes()).all(|(&a, &b)| a == b || fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const NO_NAMES: &[&str] = &[];

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn assertion<'a>(groups: &'a [&'a str]) -> Assertion<'a, &'a str> {
        Assertion {
            user: "alice",
            groups,
            session: SessionId::from_random(1),
            source: IpAddr::from([192, 0, 2, 60]),
            host: "orders.api.corp.example",
            scheme: Scheme::Https,
        }
    }

    /// What an upstream reads: what crosses of a client's headers, and what is said of the client.
    fn sent(
        client: &HeaderMap,
        reserved: &[&str],
        assertion: Option<&Assertion<'_, &str>>,
    ) -> Result<HeaderMap, NotAsserted> {
        let mut lines = section(client);
        let crossing = Crossing::new(&lines, reserved, true);
        lines.retain(|line| crossing.lets(line));
        if let Some(assertion) = assertion {
            say_decision(crate::audit::DecisionIds::new(1).next(std::time::UNIX_EPOCH), &mut lines);
            Asserted::new(assertion)?.lines().iter().for_each(|line| lines.push(line));
        }
        let mut headers = HeaderMap::new();
        for line in lines.iter() {
            let name = HeaderName::from_bytes(line.name()).unwrap();
            headers.append(name, HeaderValue::from_bytes(line.value()).unwrap());
        }
        Ok(headers)
    }

    fn section(headers: &HeaderMap) -> Section {
        let mut section = Section::default();
        headers.iter().for_each(|line| section.push(line.into()));
        section
    }

    fn crossed(client: &HeaderMap, reserved: &[&str]) -> HeaderMap {
        sent(client, reserved, None).unwrap()
    }

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        let mut all = headers.get_all(name).iter();
        let value = all.next().unwrap_or_else(|| panic!("{name} is missing")).to_str().unwrap();
        assert!(all.next().is_none(), "{name} stands twice");
        value
    }

    /// All bytes that an upstream would see, to search for what the client sent.
    fn seen(headers: &HeaderMap) -> String {
        headers.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
    }

    #[test]
    fn nt_16_forwarding_headers_of_the_client_change_nothing() {
        let names = [
            "X-Forwarded-Host",
            "Forwarded",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Forwarded-Uri",
            "X-Forwarded-Prefix",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Real-IP",
            "Client-Cert",
        ];
        for name in names {
            let with = map(&[(name, "host=evil"), ("accept", "a/b"), (name, "host=evil")]);
            let without = map(&[("accept", "a/b")]);
            let [with, without] =
                [with, without].map(|client| sent(&client, NO_NAMES, Some(&assertion(&["dev"]))).unwrap());
            assert_eq!(with, without, "{name}");
            assert!(!seen(&with).contains("evil"));
            assert_eq!(value(&with, "x-forwarded-host"), "orders.api.corp.example");
        }
    }

    #[test]
    fn nt_17_no_spelling_of_a_reserved_name_carries_a_clients_value() {
        let reserved = ["X-Employee", "x_cost_centre"];
        let examples =
            RESERVED_NAMES.all.into_iter().chain(HOP_BY_HOP.all).chain(OURS.all).chain(reserved).map(str::to_owned);
        let names = examples.chain(RESERVED_PREFIXES.all.map(|prefix| format!("{prefix}id")));
        for name in names {
            let mixed: String = name
                .char_indices()
                .map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter })
                .collect();
            let spellings: [&[(&str, &str)]; 6] = [
                &[(&name.to_ascii_uppercase(), "evil")],
                &[(&name.replace('-', "_"), "evil")],
                &[(&mixed, "evil"), ("x-ok", "1")],
                &[(&mixed.replacen('-', "_", 1), "evil ")],
                &[(&name, "evil"), (&name, "evil"), (&name.replace('-', "_"), "evil")],
                &[(&name, "good, evil")],
            ];
            for lines in spellings {
                let headers = sent(&map(lines), &reserved, Some(&assertion(&["dev"]))).unwrap();
                assert!(!seen(&headers).contains("evil"), "{lines:?}");
            }
            for sign in "!#$%&'*+.^`|~".chars() {
                let spelling = name.replace('-', &sign.to_string());
                let headers = crossed(&map(&[(&spelling, "evil")]), &reserved);
                assert!(headers.is_empty(), "a CGI environment reads {spelling} as {name}");
            }
            assert!(HeaderName::from_bytes(format!("{name} ").as_bytes()).is_err(), "a trailing space is no name");
        }
    }

    #[test]
    fn nt_17_what_is_not_reserved_passes() {
        let lines = [
            ("accept", "a/b"),
            ("x-request-id", "1"),
            ("x-api-key", "2"),
            ("x-orders-user", "3"),
            ("forwarded-by", "4"),
            ("x-author", "5"),
            ("cookie", "a=1"),
            ("authorization", "Bearer x"),
        ];
        let headers = map(&lines);
        assert_eq!(crossed(&headers, &["x-employee"]), headers);
        let lines = section(&headers);
        let without_login = Crossing::new(&lines, NO_NAMES, false);
        let left_out: Vec<_> = lines.iter().filter(|line| !without_login.lets(*line)).map(|line| line.name()).collect();
        assert_eq!(left_out, [b"authorization"]);
    }

    #[test]
    fn nt_18_connection_cannot_name_our_headers_away() {
        let client = map(&[
            ("connection", "x-user, authorization, Wicketgate-User,forwarded"),
            ("connection", "close, X-Hop, bad name"),
            ("x-user", "root"),
            ("x-hop", "1"),
            ("x-stays", "2"),
        ]);
        assert_eq!(crossed(&client, &["x-user"]), map(&[("x-stays", "2")]));
        let headers = sent(&client, &["x-user"], Some(&assertion(&["dev", "ops"]))).unwrap();
        assert_eq!(value(&headers, "wicketgate-user"), "alice");
        assert_eq!(value(&headers, "wicketgate-groups"), "dev,ops");
        assert_eq!(value(&headers, "forwarded"), "for=192.0.2.60;host=orders.api.corp.example;proto=https");
        assert!(!headers.contains_key("connection"));
    }

    #[test]
    fn nt_24_method_overrides_are_stripped() {
        for name in
            ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "_method", "X_HTTP_METHOD"]
        {
            assert!(crossed(&map(&[(name, "DELETE")]), NO_NAMES).is_empty(), "{name}");
        }
    }

    #[test]
    fn hop_by_hop_headers_cross_in_neither_direction() {
        let lines =
            [("keep-alive", "1"), ("connection", ", x-A,x-a"), ("x-a", "1"), ("upgrade", "b"), ("te", "trailers")];
        assert!(crossed(&map(&lines), NO_NAMES).is_empty());
        let passes = [("x-user", "1"), ("forwarded", "2"), ("set-cookie", "3")];
        let mut response = section(&map(&[&lines[..], &passes].concat()));
        strip_response(&mut response);
        assert_eq!(response, section(&map(&passes)));
    }

    #[test]
    fn names_are_encoded_so_that_a_list_stays_a_list() {
        let nobody = HeaderMap::new();
        let say = |assertion: &Assertion<'_, &str>| sent(&nobody, NO_NAMES, Some(assertion));
        let groups = ["a,b", "Domain Users", "50%", "b\u{fc}ro\r\nX: y"];
        let named =
            Assertion { user: "al\u{ef}ce\n", source: "::ffff:192.0.2.1".parse().unwrap(), ..assertion(&groups) };
        let headers = say(&named).unwrap();
        assert_eq!(value(&headers, "wicketgate-groups"), "a%2Cb,Domain%20Users,50%25,b%C3%BCro%0D%0AX:%20y");
        assert_eq!(value(&headers, "wicketgate-user"), "al%C3%AFce%0A");
        assert_eq!(value(&headers, "x-forwarded-for"), "192.0.2.1");
        let six = Assertion { source: "2001:db8::1".parse().unwrap(), ..assertion(&["a"]) };
        let headers = say(&six).unwrap();
        assert_eq!(value(&headers, "forwarded"), "for=\"[2001:db8::1]\";host=orders.api.corp.example;proto=https");
        let many = vec!["group"; 2000];
        let got = 2000 * 6 - 1;
        let Err(NotAsserted::TooManyGroups(error)) = say(&assertion(&many)) else { panic!("they fit") };
        assert_eq!(error, TooManyGroups { limit: MAX_GROUPS_VALUE, got });
    }

    #[test]
    fn nothing_that_is_said_of_a_client_crosses_from_it() {
        let said = sent(&HeaderMap::new(), NO_NAMES, Some(&assertion(&["dev"]))).unwrap();
        assert_eq!(said.len(), 9);
        assert!(crossed(&said, NO_NAMES).is_empty());
    }
}
