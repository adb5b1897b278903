//! IP packets to TCP streams: one smoltcp stack for one session.
