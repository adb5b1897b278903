//! The tests that need more than one module. Tests of one module stand next to its code.

mod layering; // who may import whom
mod readme; // what README.md shows is true
mod policy; // the policy files that are shipped
mod proxy; // real HTTP through the proxy, without a tunnel
