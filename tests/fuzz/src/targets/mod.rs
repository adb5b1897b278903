//! What is fuzzed: one function for each target, bytes in, nothing out, a panic when a property does not hold.
//!
//! libFuzzer calls them with what it makes up; the test suite calls them with the seeds. They use no clock and no
//! chance, so that an input fails always or never.

mod dhcp;
mod dns;
mod endpoint;
mod framing;
mod input;
mod link;
mod packets;
mod policy;
mod ppp_wire;
mod request;
mod response;
mod sstp_call;
mod sstp_http;
mod sstp_wire;
mod tokens;
mod tunnel;

/// One target.
pub(crate) type Target = fn(&[u8]);

/// All targets; each has a directory of this name among the seeds.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("sstp_http", sstp_http::head),
    ("sstp_wire", sstp_wire::packets),
    ("sstp_call", sstp_call::operations),
    ("ppp_wire", ppp_wire::frames),
    ("ppp_link", link::operations),
    ("eap", link::eap),
    ("tunnel", tunnel::operations),
    ("dns", dns::query),
    ("dhcp", dhcp::message),
    ("request_target", request::target),
    ("h1_framing", framing::stream),
    ("h1_response", response::bytes),
    ("policy", policy::files),
    ("jwt", tokens::token),
    ("jwks", tokens::key_set),
];
