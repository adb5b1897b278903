//! HTTP/1.1 as the client of an upstream speaks it (RFC 9112): a request's head and framing out, a response in.
//!
//! Pure: [`Writer`] appends to a buffer, [`Reader`] is given what came and says what it means. Whoever owns them moves
//! the bytes.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Event, Head, Reader, Unreadable};
pub use writer::{Unwritable, Writer, write_headers};
