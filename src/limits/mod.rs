//! Person, API, tunnel to room or not.
