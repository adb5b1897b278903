//! The canonical request: the one reading of method, host, path, query and headers.
//!
//! What is ambiguous is refused, never repaired; what was judged is what is forwarded.
//!
//! In goes what the wire said: method, request target and every header line ([`Raw`], [`Fields`]). Out comes a [`Head`]
//! (the [`CanonicalRequest`], how the body is framed, whether it is the last) or the first [`Malformed`] fact.
//! Nothing here knows a policy: what an API may choose to tolerate is noted as [`Oddities`], and
//! [`CanonicalRequest::admit`] asks that choice.
//!
//! RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 9113 (HTTP/2), RFC 3986 (the grammar of the target).
//!
//! The one thing that is taken out of a target is a query parameter named `_method`: frameworks read it as the method,
//! so that the upstream would execute another method than the one which was judged. A body is not read: an upstream that
//! takes a method from a form in it has to be told not to.

mod chars;
mod fields;
mod host;
mod malformed;
mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::field::is_token;

pub use fields::{Body, Fields, Protocol, bearer, logs_in_connection};
pub use malformed::Malformed;
pub use target::{Oddities, canonical_path, segments_equal};

/// The longest method: the registered ones have at most 17 characters.
pub const MAX_METHOD: usize = 32;
/// The longest request target: twice what browsers and servers commonly allow.
pub const MAX_TARGET: usize = 16 * 1024;
/// The most header lines.
pub const MAX_FIELDS: usize = 100;
/// The most bytes of a head.
pub const MAX_HEAD: usize = 64 * 1024;

/// The request target as the protocol carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The second word of the request line (RFC 9112 section 3.2).
    Http1 {
        /// As on the wire.
        target: &'a [u8],
    },
    /// The pseudo-header fields (RFC 9113 section 8.3.1).
    Http2 {
        /// `:scheme`
        scheme: Option<&'a str>,
        /// `:authority`
        authority: Option<&'a [u8]>,
        /// `:path`
        path: Option<&'a [u8]>,
    },
}

/// A request line, and the port on which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// As on the wire.
    pub method: &'a str,
    /// As on the wire.
    pub target: Target<'a>,
    /// The port that was dialled: 80 without TLS, 443 with it.
    pub port: u16,
}

/// A head in its one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is judged and forwarded.
    pub request: CanonicalRequest,
    /// How the body is framed on HTTP/1.1; HTTP/2 frames it itself.
    pub body: Body,
    /// Whether it is its connection's last on HTTP/1.1 (RFC 9112 section 9.6).
    pub closes: bool,
}

impl Head {
    /// Reads a request line together with the header lines that `fields` has taken.
    pub fn read(raw: &Raw<'_>, fields: &Fields<'_>) -> Result<Self, Malformed> {
        check_method(raw.method)?;
        let (place, authority) = match raw.target {
            Target::Http1 { target } => target::split_http1(target, raw.port)?,
            Target::Http2 { scheme, authority, path } => target::split_http2(scheme, authority, path, raw.port)?,
        };
        let (path, query, oddities) = target::read(place.bytes, place.offset)?;
        let host = match (authority, fields.host(), raw.target) {
            // Absolute form does not stand in for the header (RFC 9112 section 3.2.2).
            (None, None, _) | (Some(_), None, Target::Http1 { .. }) => return Err(Malformed::HostMissing),
            (Some(value), None, Target::Http2 { .. }) | (None, Some(value), _) => host::read(value, raw.port)?,
            (Some(authority), Some(value), _) => {
                let host = host::read(value, raw.port)?;
                if host != host::read(authority, raw.port)? {
                    return Err(Malformed::AuthorityDiffers);
                }
                host
            }
        };
        if fields.carries_token() && query.as_deref().is_some_and(target::has_access_token) {
            return Err(Malformed::TwoTokens);
        }
        let body = fields.body()?;
        fields.check_upgrade(raw.method, body)?;
        let request = CanonicalRequest(Arc::new(Reading { method: raw.method.into(), host, path, query, oddities }));
        Ok(Self { request, body, closes: fields.closes() })
    }
}

/// A method is a token (RFC 9110 section 9.1), compared byte for byte. CONNECT names no resource.
fn check_method(method: &str) -> Result<(), Malformed> {
    if method.len() > MAX_METHOD || !is_token(method.as_bytes()) {
        return Err(Malformed::Method { limit: MAX_METHOD });
    }
    if method == "CONNECT" {
        return Err(Malformed::Connect);
    }
    Ok(())
}

/// A request in its one reading. Only [`CanonicalRequest::read`] and [`Head::read`] make one; a clone is the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalRequest(Arc<Reading>);

#[derive(Debug, PartialEq, Eq)]
struct Reading {
    method: Box<str>,
    host: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    oddities: Oddities,
}

impl CanonicalRequest {
    /// Reads a request; `headers` are name and value of every header line, in order.
    pub fn read<'a>(raw: &Raw<'a>, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, Malformed> {
        let mut fields = Fields::new(match raw.target {
            Target::Http1 { .. } => Protocol::Http1,
            Target::Http2 { .. } => Protocol::Http2,
        });
        for (name, value) in headers {
            fields.push(name.as_bytes(), value)?;
        }
        Ok(Head::read(raw, &fields)?.request)
    }

    /// The method, byte for byte as sent.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// The host: lower case, without port and trailing dot.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The canonical path, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The query without its `?`: as sent, less what the module says is taken out.
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// Whether the query carries an access token (RFC 6750 section 2.3).
    pub fn has_access_token(&self) -> bool {
        self.query().is_some_and(target::has_access_token)
    }

    /// What of the path is legal only where the API says that it is opaque.
    pub fn oddities(&self) -> Oddities {
        self.0.oddities
    }

    /// Refuses the oddities which the API has not declared opaque.
    pub fn admit(
        &self,
        encoded_slash_opaque: bool,
        double_encoding_opaque: bool,
        matrix_params_opaque: bool,
    ) -> Result<(), Malformed> {
        let oddities = self.oddities();
        if oddities.encoded_slash && !encoded_slash_opaque {
            return Err(Malformed::EncodedSlash);
        }
        if oddities.double_encoding && !double_encoding_opaque {
            return Err(Malformed::DoubleEncoding);
        }
        if oddities.matrix_params && !matrix_params_opaque {
            return Err(Malformed::MatrixParams);
        }
        Ok(())
    }

    /// A path of this request with its query, in origin form: what is sent upstream.
    pub fn origin_form(&self, path: &str) -> String {
        let mut target = String::with_capacity(path.len() + self.query().map_or(0, |query| query.len() + 1));
        target.push_str(path);
        if let Some(query) = self.query() {
            target.push('?');
            target.push_str(query);
        }
        target
    }
}

#[cfg(test)]
impl CanonicalRequest {
    /// A request whose parts are taken as they are.
    pub(crate) fn for_test(method: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        let oddities = Oddities::default();
        let query = query.map(Into::into);
        Self(Arc::new(Reading { method: method.into(), host: host.into(), path: path.into(), query, oddities }))
    }
}
