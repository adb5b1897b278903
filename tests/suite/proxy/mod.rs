//! The proxy as a client and as an upstream see it: real HTTP in between, no tunnel around.
//!
//! `bench` is the proxy with its policies, `door` a client's stream into it, `backend` the API behind it, which keeps
//! every byte that it was sent.

mod backend; // an API that keeps what it saw and answers what it is told
mod bench; // a proxy, its policies, its people
mod door; // a client that sends any bytes
pub(crate) mod h2; // HTTP/2 frame by frame
mod issuer; // keys, and tokens that say anything

mod flood; // too much, too slow, too many
mod framing; // one message, one length
mod headers; // what crosses, and what does not
mod hosts; // address, server name and Host
mod http2; // the same rules over HTTP/2
mod limits; // rate limits as a client meets them
mod methods; // what may be asked for
mod rejudge; // a new generation meets open requests
mod replies; // what a refused client is told
mod privacy; // what a client must not learn, or get from the one before
mod responses; // what comes back
mod stalls; // clients that do not read, and what is taken from them
mod targets; // one reading of the path
mod tokens; // bearer tokens
mod upstreams; // failures, pools, TLS and sockets behind us
