//! Identity, canonical request and facts to a decision.
