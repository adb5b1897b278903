//! Drain: signal, watchers, deadline.
