//! What a client is told before it dials: who it is, whose habits it has, and in which way it cheats.

use std::fmt;
use std::net::Ipv4Addr;

/// How the client authenticates; it takes no other method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 1334.
    Pap,
    /// RFC 2759.
    MsChapV2,
    /// MS-CHAPv2 inside EAP, type 26.
    EapMsChapV2,
}

/// Whose LCP, IPCP and closing habits the client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// Windows 10 and 11: wants MRU 4091, magic number, compressions and callback; starts IPV6CP and CCP; is deaf to
    /// LCP that comes in the same flight as Call Connect Ack.
    Windows,
    /// sstpc with pppd: no MRU, asks for Van Jacobson compression, closes without Call Disconnect.
    Pppd,
    /// Open SSTP Client on Android: MRU only; a Protocol-Reject or an Identification is fatal.
    OpenSstp,
}

/// One way of breaking the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cheat {
    /// An honest client.
    #[default]
    None,
    /// One bit of the compound MAC is wrong.
    WrongMac,
    /// One bit of the nonce is wrong; the MAC covers it.
    WrongNonce,
    /// One bit of the certificate hash is wrong; the MAC covers it.
    WrongCertHash,
    /// The MAC is made with the receive key before the send key.
    SwappedKeys,
    /// Call Connected names SHA-1 whatever was offered.
    Sha1Binding,
    /// Call Connected is sent with the authentication response, before the verdict.
    ConnectedEarly,
    /// Call Connected is sent twice.
    ConnectedTwice,
    /// IPCP is opened and an ICMP echo sent to the gateway before Call Connected.
    DataBeforeConnected,
    /// After LCP the client opens IPCP and sends a zero-keyed Call Connected, and never authenticates.
    IpcpBeforeAuth,
    /// The client Rejects the Authentication-Protocol option.
    RefuseAuth,
    /// Everything but Call Connected; the client believes to be up as soon as IPCP is.
    NeverConnected,
    /// Every inner packet claims this source address.
    SpoofSource(Ipv4Addr),
    /// IPCP insists on this address, whatever the server Naks.
    InsistAddress(Ipv4Addr),
    /// Call Connect Request asks for this protocol instead of PPP (1).
    EncapsulatedProtocol(u16),
    /// Call Connect Request leaves with the HTTP request, before the response. This is legal.
    EagerConnect,
    /// A second Call Connect Request follows the Ack.
    ConnectTwice,
}

impl Cheat {
    /// The source address of every inner packet, when it is not the assigned one.
    pub(crate) fn spoofed_source(self) -> Option<Ipv4Addr> {
        if let Self::SpoofSource(address) = self { Some(address) } else { None }
    }

    /// The address that IPCP asks for; 0.0.0.0 asks for any.
    pub(crate) fn requested_address(self) -> Ipv4Addr {
        if let Self::InsistAddress(address) = self { address } else { Ipv4Addr::UNSPECIFIED }
    }

    /// The protocol of Call Connect Request.
    pub(crate) fn encapsulated_protocol(self) -> u16 {
        if let Self::EncapsulatedProtocol(number) = self { number } else { 1 }
    }
}

/// A connection profile.
#[derive(Clone)]
pub struct Profile {
    pub user: String,
    pub password: String,
    pub method: Method,
    pub client: ClientKind,
    /// Compute the crypto binding with an all-zero key, as Windows 10 does after EAP-MSCHAPv2.
    pub zero_hlak: bool,
    /// The dialled name: SNI, certificate check, `Host`.
    pub server_name: String,
    pub cheat: Cheat,
}

impl Profile {
    /// An honest Windows client.
    pub fn new(
        server_name: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<String>,
        method: Method,
    ) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            method,
            client: ClientKind::Windows,
            zero_hlak: false,
            server_name: server_name.into(),
            cheat: Cheat::None,
        }
    }

    #[must_use]
    pub fn client(mut self, client: ClientKind) -> Self {
        self.client = client;
        self
    }

    #[must_use]
    pub fn cheat(mut self, cheat: Cheat) -> Self {
        self.cheat = cheat;
        self
    }

    #[must_use]
    pub fn zero_hlak(mut self, zero: bool) -> Self {
        self.zero_hlak = zero;
        self
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("user", &self.user)
            .field("method", &self.method)
            .field("client", &self.client)
            .field("zero_hlak", &self.zero_hlak)
            .field("server_name", &self.server_name)
            .field("cheat", &self.cheat)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_tell_the_password() {
        let text = format!("{:?}", Profile::new("vpn.example.test", "alice", "hunter2", Method::Pap));
        assert!(text.contains("alice"));
        assert!(!text.contains("hunter2"));
    }
}
