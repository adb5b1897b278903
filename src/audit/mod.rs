//! The audit: what happened, typed, and the file in which it stands.
//!
//! In goes an [`Event`]; out comes one line of JSON, whole in the file before [`Audit::write`] returns, or before a
//! [`Journal`] gives back what had to wait for it. So a request whose `decision` was written can be forwarded, and one
//! whose `decision` could not be written is refused (`product.md` 4.12). Fields and their names follow `policy-language.md` 3.10. Values of the query, bodies and tokens
//! have no field here, so they cannot get into the file.

mod encode;
mod event;
mod id;
mod journal;
mod line;
mod sink;
mod time;

pub use encode::{CallerText, encode};
pub use event::{
    Alarm, AuditLost, Caller, Certificate, Decision, End, Event, Limit, LoginRefused, LoginsRefused, Outcome,
    PolicyLoadFailed, PolicyLoaded, PreLimited, Reloaded, Request, Token, TunnelDown, TunnelUp, UsersReloaded,
};
pub use id::{DecisionId, DecisionIds};
pub use journal::{Journal, Record, Staged};
pub use sink::{Audit, AuditUnavailable, OnFailure};
pub use time::Rfc3339;

/// The longest line in bytes, its newline included: a reader can be built with a buffer of this size.
pub const MAX_LINE: usize = 8192;
