//! Where no connection of ours may go: to the services that give machines their credentials, and to no host at all.
//!
//! Loopback and private networks are not among them: gateways and issuers live there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services that are not at a link-local address.
const METADATA: [IpAddr; 4] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Amazon.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    // Google.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
];

/// The names under which clouds serve metadata.
const METADATA_NAMES: [&str; 3] = ["metadata", "metadata.google.internal", "instance-data"];

/// What is at an address that is never connected to.
pub fn at_address(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let (link_local, broadcast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    if link_local {
        return Some("link-local, where metadata services live");
    }
    if METADATA.contains(&address) {
        return Some("a metadata service");
    }
    (broadcast || address.is_unspecified() || address.is_multicast()).then_some("no host")
}

/// What is at a host that is never connected to, as far as its name or literal address tells.
pub fn at_host(host: &str) -> Option<&'static str> {
    match host.parse() {
        Ok(address) => at_address(address),
        Err(_) => METADATA_NAMES.contains(&host).then_some("a metadata service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nt_33_nt_50_metadata_services_and_no_hosts_are_off_limits() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "metadata.google.internal",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(at_host(host).is_some(), "{host}");
        }
        for host in ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "fd00::1", "localhost", "login.corp.example"] {
            assert_eq!(at_host(host), None, "{host}");
        }
    }
}
