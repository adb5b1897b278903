//! `[network]`: three addresses that must fit together, and a DNS suffix.
//!
//! `product.md` 4.2 rules: gateway, client and services in one /24, because Windows routes the whole class-based network
//! of its address into the tunnel, so that a profile which is clicked together needs no route.

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;

use super::Network;
use super::complaint::{Complaints, quoted};
use super::raw;
use super::validate::{Place, required};

/// RFC 2544's benchmarking range, which home and office networks do not use.
const RECOMMENDED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);

/// The largest and the smallest `services`: a /16 is more hosts than a bundle can have, a /29 is eight addresses.
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=29;

/// The gateway where none is written.
pub const DEFAULT_GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);
/// The client's address where none is written.
pub const DEFAULT_CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 2);
/// The network of virtual addresses where none is written.
pub const DEFAULT_SERVICES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 7, 128), 25);

/// The longest name of RFC 1035 in its text form, without the final dot.
const MAX_NAME: usize = 253;

pub(super) fn validate(keys: &raw::Network, place: &Place, complaints: &mut Complaints) -> Network {
    let gateway = address("gateway", keys.gateway.written(), complaints);
    let client = address("client", keys.client.written(), complaints);
    let services = services(keys.services.written(), complaints);
    // A default stands where its section stands, so that a fault between a written and a default value has a place.
    let at = |entry: &super::reading::Entry<String>| entry.span().unwrap_or_else(|| place.span.clone());
    let network = Network {
        gateway: gateway.unwrap_or(DEFAULT_GATEWAY),
        client: client.unwrap_or(DEFAULT_CLIENT),
        services: services.unwrap_or(DEFAULT_SERVICES),
        suffix: suffix(keys, place, complaints),
    };
    let readable = (gateway.is_some() || keys.gateway.is_absent())
        && (client.is_some() || keys.client.is_absent())
        && (services.is_some() || keys.services.is_absent());
    if readable {
        fit(&network, &at(&keys.gateway), &at(&keys.client), &at(&keys.services), complaints);
    }
    network
}

fn address(key: &str, written: Option<(&String, Range<usize>)>, complaints: &mut Complaints) -> Option<Ipv4Addr> {
    let (text, span) = written?;
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        complaints.error(
            "not-an-address",
            &span,
            format!("`network.{key}` must be an IPv4 address, not {}", quoted(text)),
            "as in \"198.18.7.1\"; the inside of the tunnel has no IPv6",
        );
        return None;
    };
    if !is_usable(address) || matches!(address.octets()[3], 0 | 255) {
        complaints.error(
            "unusable-address",
            &span,
            format!("{address} cannot be the address of a host"),
            "take one between .1 and .254 of a /24 in 198.18.0.0/15",
        );
        return None;
    }
    Some(address)
}

/// Whether a packet to this address can be routed into a tunnel at all.
fn is_usable(address: Ipv4Addr) -> bool {
    !(address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

fn services(written: Option<(&String, Range<usize>)>, complaints: &mut Complaints) -> Option<Ipv4Net> {
    let (text, span) = written?;
    let Ok(net) = text.parse::<Ipv4Net>() else {
        complaints.error(
            "not-a-network",
            &span,
            format!("`network.services` must be an IPv4 network, not {}", quoted(text)),
            "an address, a slash and the length of its prefix, as in \"198.18.7.128/25\"",
        );
        return None;
    };
    if net.addr() != net.network() {
        complaints.error(
            "host-bits",
            &span,
            format!("{} is not the first address of its network", net.addr()),
            format!("write \"{}\"", net.trunc()),
        );
        return None;
    }
    if !PREFIXES.contains(&net.prefix_len()) {
        complaints.error(
            "services-size",
            &span,
            format!("`network.services` is a /{}", net.prefix_len()),
            format!(
                "every API host needs one address: take a prefix from /{} to /{}",
                PREFIXES.start(),
                PREFIXES.end()
            ),
        );
        return None;
    }
    if !is_usable(net.network()) || !is_usable(net.broadcast()) {
        complaints.error(
            "unusable-address",
            &span,
            format!("{net} has no addresses that hosts can have"),
            "take a part of 198.18.0.0/15, as in \"198.18.7.128/25\"",
        );
        return None;
    }
    Some(net)
}

/// Complains where the three do not fit together.
fn fit(
    network: &Network,
    gateway_at: &Range<usize>,
    client_at: &Range<usize>,
    services_at: &Range<usize>,
    complaints: &mut Complaints,
) {
    let &Network { gateway, client, services, .. } = network;
    let home = Ipv4Net::new_assert(client, 24).trunc();
    if gateway == client {
        complaints.error(
            "same-address",
            client_at,
            format!("gateway and client are both {client}"),
            "each end of the tunnel needs its own address, as in .1 and .2",
        );
    } else if !home.contains(&gateway) {
        complaints.error(
            "different-networks",
            gateway_at,
            format!("the gateway {gateway} is outside the client's network {home}"),
            "take gateway and client from one /24, so that a client needs no route to its DNS server",
        );
    }
    for (name, address) in [("gateway", gateway), ("client", client)] {
        if services.contains(&address) {
            complaints.error(
                "address-in-services",
                services_at,
                format!("the {name} {address} lies inside `services` {services}"),
                "an API would get its address: take the upper half of the /24 for `services`, as in \"198.18.7.128/25\"",
            );
        }
    }
    if !home.contains(&services) {
        complaints.warning(
            "route-needed",
            services_at,
            format!("`services` {services} is not inside the client's network {home}"),
            "Windows reaches the APIs only with a route in the profile; inside the /24 it needs none",
        );
    }
    if !RECOMMENDED.contains(&services) || !RECOMMENDED.contains(&client) {
        complaints.warning(
            "address-range",
            if RECOMMENDED.contains(&services) { client_at } else { services_at },
            format!("addresses outside {RECOMMENDED} may exist in the network that a client sits in"),
            "take a /24 of 198.18.0.0/15, which neither homes nor offices use",
        );
    }
}

fn suffix(keys: &raw::Network, place: &Place, complaints: &mut Complaints) -> String {
    let hint = "the DNS suffix of the API hosts, as in suffix = \"api.corp.example\"";
    let Some((text, span)) = required(&keys.suffix, place, "suffix", hint, complaints) else {
        return String::new();
    };
    if let Some(fault) = name_fault(text) {
        complaints.error(
            "not-a-name",
            &span,
            format!("`network.suffix` must be a DNS name, and {} {fault}", quoted(text)),
            "lower-case letters, digits and hyphens between dots, as in \"api.corp.example\"",
        );
    }
    text.clone()
}

/// What is wrong with a DNS name (RFC 1035 2.3.1, with the leading digits of RFC 1123 2.1).
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > MAX_NAME {
        return Some("is longer than 253 letters");
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("has capital letters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("has an empty label (a dot too many)");
        }
        if label.len() > 63 {
            return Some("has a label longer than 63 letters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("has a hyphen at the edge of a label");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Some("has a letter that names do not have");
        }
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit()).then_some("ends with a number, like an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_hyphens_between_dots() {
        for name in ["api.corp.example", "corp", "1api.x-y.example"] {
            assert_eq!(name_fault(name), None, "{name}");
        }
        let long = "a.".repeat(127);
        for name in
            ["", ".", "a..b", ".a", "a.", "A.b", "a_b", "-a", "a-.b", "10.0.0.1", "ü.example", "a b", long.as_str()]
        {
            assert!(name_fault(name).is_some(), "{name}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_routed_are_not_usable() {
        for address in ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.1.2.3", "240.0.0.1", "255.255.255.255"] {
            assert!(!is_usable(address.parse().unwrap()), "{address}");
        }
        assert!(is_usable("198.18.7.1".parse().unwrap()));
    }
}
