//! The canonical request: the one reading of method, host, path, query and headers.
//!
//! What is ambiguous is refused, never repaired; what was judged is what is forwarded.

/// A request in its one reading. Only [`CanonicalRequest::read`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalRequest {
    method: Box<str>,
    host: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
}

impl CanonicalRequest {
    /// The method, byte for byte as sent.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The host: lower case, without port and trailing dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The canonical path, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The segments of the path: `/` has one, which is empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path[1..].split('/')
    }

    /// The query without its `?`, as sent.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
}

#[cfg(test)]
impl CanonicalRequest {
    /// A request whose parts are taken as they are.
    pub(crate) fn for_test(method: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        Self { method: method.into(), host: host.into(), path: path.into(), query: query.map(Into::into) }
    }
}
