//! A TCP stream to HTTP requests and responses.

pub mod framing;
pub mod headers;
