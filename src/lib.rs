//! Wicketgate: a zero-trust API access proxy built on SSTP tunnels.
//!
//! A developer connects with the VPN client that Windows already has. The tunnel ends in a userspace TCP/IP stack
//! inside this process, where nothing exists but the APIs which the policy files give to this person. Every request
//! is judged, then forwarded.
//!
//! ```text
//!  client ──TLS──► listener ─bytes─► sstp ─frames─► ppp ─packets─► netstack ─stream─► proxy ─permit─► upstream ──► API
//!                                                    │ proof                            │ facts
//!                                                    ▼                                  ▼
//!                                         identity::authn ──Identity──► session ──────► policy ──► decision ──► audit
//! ```
//!
//! The modules below are declared in the order in which a packet meets them. A folder is a station on that path or one
//! of the two deciders (`identity`, `policy`); a file at the root is vocabulary or plumbing that every station may use.
//!
//! # What is deliberately absent
//!
//! * No code in `sstp`, `ppp`, `netstack`, `request` and `policy` is async, reads a clock or draws a random number:
//!   bytes and time go in, bytes and events come out.
//! * `sstp`, `ppp` and `netstack` do not know each other; only `tunnel` joins them.
//! * `policy` never sees an HTTP library's types, and no station sees `config`.
//! * There is no table from an inner address to a user, and no route between two tunnels.
//! * Only `identity::authn` makes an [`identity::Identity`]; only `policy` makes a permit; only a permit reaches an
//!   upstream.
//!
//! A test (`tests/suite/layering.rs`) keeps the table of who may import whom.

// Words that every station may use.
pub mod clock;
pub mod complaint;
pub mod entropy;
pub mod field;
pub mod identity;
pub mod off_limits;
pub mod shutdown;
pub mod telemetry;

// The path of a request.
pub mod listener;
pub mod sstp;
pub mod ppp;
pub mod netstack;
pub mod tunnel;
pub mod proxy;
pub mod request;
pub mod limits;
pub mod policy;
pub mod audit;
pub mod upstream;

// The operator's words, and the wiring of it all.
pub mod config;
pub mod snapshot;
pub mod admin;
pub mod server;
