//! One client's session: the machines composed.
