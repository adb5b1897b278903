//! [RFC 1661]: PPP frames to IP packets and back.
