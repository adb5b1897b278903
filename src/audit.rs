//! Typed audit events and the sink.
