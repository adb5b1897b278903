//! [MS-SSTP]: TLS bytes to PPP frames and back.
