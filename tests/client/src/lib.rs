//! An SSTP client for the test suite, the quickstart and the benches.
//!
//! It shares no code with the server, so that both cannot be wrong together, and it is strict: what some real client
//! would fail on ends the call with [`Ended::Broken`].
//!
//! ```text
//! tls bytes ─► sim (wire, crypto) ─► IP packets ─► tap ─► stack ─► Stream ─► http
//! ```
//!
//! [`SimClient`] and [`Stack`] are pure machines; [`Tunnel`] drives both over TCP and rustls with tokio.

mod clock;
pub mod crypto;
pub mod dhcp;
pub mod dns;
mod error;
pub mod http;
pub mod ip;
mod profile;
pub mod sim;
pub mod stack;
mod tap;
pub mod tunnel;
pub mod wire;

pub use dns::Resolved;
pub use error::Error;
pub use http::{Http1, Http2, RawAnswer, Request, Response, raw, request, tls, tls_with};
pub use profile::{Cheat, ClientKind, Method, Profile};
pub use sim::{Ended, Event, SimClient, Up};
pub use stack::{Stack, TcpSettings};
pub use tap::Counters;
pub use tunnel::{Settings, Stream, Tunnel};
