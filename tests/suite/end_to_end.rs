//! The whole server, on real sockets, with real TLS and a real client; everything on loopback.

mod road; // what works: every client, every method, every protocol
mod hostile; // the client that cheats at its login
mod login; // passwords, back-off, how many sessions there may be
mod network; // what exists inside a tunnel, and what does not
mod flood; // one tunnel floods, and another is served meanwhile
mod tokens; // bearer tokens: whose, from whom, until when
mod listener; // the outer port, for those who want no tunnel, or not properly
mod operator; // start, health, sessions, drain
mod reload; // new files under load, bad ones, half ones
mod revoke; // people, groups and rules that end while something runs
mod audit; // the record stands before the request leaves
mod command; // the program itself
