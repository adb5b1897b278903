//! Health, metrics and sessions, on a listener of their own.
