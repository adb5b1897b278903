//! A socket to a TLS stream, and the first bytes on it.
