//! Proof to identity: the only place that makes an identity.
