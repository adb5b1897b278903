//! The tests that need more than one module. Tests of one module stand next to its code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod deploy; // what deploy/ shows is true
mod end_to_end; // the whole server, real sockets, real TLS, a real client
#[path = "../fuzz/replay.rs"]
mod fuzz_replay; // the seeds of the fuzz targets, replayed
mod hostile; // the client that cheats, against the machines of a tunnel, in virtual time
mod layering; // who may import whom
mod readme; // what README.md shows is true
mod policy; // the policy files that are shipped
mod proxy; // real HTTP through the proxy, without a tunnel
mod tunnel; // the client's machine against the server's, in virtual time, however the bytes are cut
mod world; // not tests: the server and everything around it, for end_to_end
