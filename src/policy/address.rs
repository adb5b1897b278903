//! Virtual addresses: a stable one for each host.
//!
//! A host's address is SHA-256 of its name modulo the size of the network; what is taken is probed past, host by host
//! in the order of their names, after the pinned ones. Adding a host moves another one only if both want one place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

/// Why hosts cannot have addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("{address} is not an address that a host can have in {services}")]
    Unusable { host: String, address: Ipv4Addr, services: Ipv4Net },
    #[error("{address} is already pinned to `{other}`")]
    Taken { host: String, address: Ipv4Addr, other: String },
    #[error("{hosts} hosts do not fit into {services}, which has room for {room}")]
    Full { hosts: usize, services: Ipv4Net, room: usize },
}

/// The addresses that no host can have.
fn is_usable(address: Ipv4Addr, services: &Ipv4Net, reserved: &[Ipv4Addr]) -> bool {
    let edge = services.prefix_len() < 31 && (address == services.network() || address == services.broadcast());
    services.contains(&address) && !edge && !reserved.contains(&address)
}

/// Gives each host its address. `hosts` are names with pins.
pub(crate) fn assign(
    hosts: &BTreeMap<String, Option<Ipv4Addr>>,
    services: Ipv4Net,
    reserved: &[Ipv4Addr],
) -> Result<BTreeMap<String, Ipv4Addr>, AddressError> {
    let mut given: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
    let mut taken: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    for (host, pin) in hosts {
        let Some(address) = *pin else { continue };
        if !is_usable(address, &services, reserved) {
            return Err(AddressError::Unusable { host: host.clone(), address, services });
        }
        if let Some(other) = taken.insert(address, host) {
            return Err(AddressError::Taken { host: host.clone(), address, other: other.to_owned() });
        }
        given.insert(host.clone(), address);
    }
    let size = 1_u64 << (32 - u32::from(services.prefix_len()));
    let room = room(&services, reserved);
    if u64::try_from(hosts.len()).is_ok_and(|hosts| hosts > room) {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        return Err(AddressError::Full { hosts: hosts.len(), services, room });
    }
    for host in hosts.iter().filter(|(_, pin)| pin.is_none()).map(|(host, _)| host) {
        let first = digest(host) % size;
        let place = |step: u64| nth(&services, (first + step) % size);
        let free = |address: &Ipv4Addr| is_usable(*address, &services, reserved) && !taken.contains_key(address);
        // There is room for all hosts, so a free place exists.
        let Some(address) = (0..size).map(place).find(free) else { continue };
        taken.insert(address, host);
        given.insert(host.clone(), address);
    }
    Ok(given)
}

/// How many hosts the network has addresses for.
fn room(services: &Ipv4Net, reserved: &[Ipv4Addr]) -> u64 {
    let size = 1_u64 << (32 - u32::from(services.prefix_len()));
    let mut lost: BTreeSet<Ipv4Addr> = reserved.iter().copied().filter(|address| services.contains(address)).collect();
    if services.prefix_len() < 31 {
        lost.extend([services.network(), services.broadcast()]);
    }
    size - u64::try_from(lost.len()).unwrap_or(size).min(size)
}

/// The number that SHA-256 of the name is, modulo 2^64: the size of a network divides that, so nothing is lost.
fn digest(host: &str) -> u64 {
    let hash = Sha256::digest(host.as_bytes());
    hash.iter().skip(24).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn nth(services: &Ipv4Net, at: u64) -> Ipv4Addr {
    let offset = u32::try_from(at).unwrap_or(0);
    Ipv4Addr::from(u32::from(services.network()).wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> BTreeMap<String, Option<Ipv4Addr>> {
        names.iter().map(|name| ((*name).to_owned(), None)).collect()
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_the_hash_modulo_the_size() {
        let given = assign(&hosts(&["abc"]), net("198.18.7.128/25"), &[]).unwrap();
        // SHA-256("abc") = ba7816bf … f20015ad (FIPS 180-4, example), and 0xad mod 128 = 45.
        assert_eq!(given["abc"], Ipv4Addr::new(198, 18, 7, 128 + 45));
    }

    #[test]
    fn no_host_gets_an_edge_or_a_reserved_address() {
        let names: Vec<String> = (0..5).map(|at| format!("h{at}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let given = assign(&hosts(&names), net("10.0.0.0/29"), &[gateway]).unwrap();
        let addresses: BTreeSet<u8> = given.values().map(|address| address.octets()[3]).collect();
        assert_eq!(addresses, BTreeSet::from([2, 3, 4, 5, 6]));
    }

    #[test]
    fn more_hosts_than_addresses_are_refused() {
        let names: Vec<String> = (0..6).map(|at| format!("h{at}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let reserved = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 9, 9, 9)];
        let error = assign(&hosts(&names), net("10.0.0.0/29"), &reserved).unwrap_err();
        assert_eq!(error, AddressError::Full { hosts: 6, services: net("10.0.0.0/29"), room: 5 });
    }

    #[test]
    fn a_pin_holds_and_the_others_go_around_it() {
        let free = assign(&hosts(&["abc"]), net("10.0.0.0/24"), &[]).unwrap()["abc"];
        let mut wanted = hosts(&["abc"]);
        wanted.insert("zzz".into(), Some(free));
        let given = assign(&wanted, net("10.0.0.0/24"), &[]).unwrap();
        assert_eq!(given["zzz"], free);
        assert_eq!(u32::from(given["abc"]), u32::from(free) + 1);
    }

    #[test]
    fn a_pin_must_be_usable_and_single() {
        let services = net("10.0.0.0/24");
        for address in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "10.0.0.7"] {
            let address: Ipv4Addr = address.parse().unwrap();
            let wanted = BTreeMap::from([("a".to_owned(), Some(address))]);
            let error = assign(&wanted, services, &[Ipv4Addr::new(10, 0, 0, 7)]).unwrap_err();
            assert_eq!(error, AddressError::Unusable { host: "a".into(), address, services });
        }
        let address = Ipv4Addr::new(10, 0, 0, 9);
        let wanted = BTreeMap::from([("a".to_owned(), Some(address)), ("b".to_owned(), Some(address))]);
        let error = assign(&wanted, services, &[]).unwrap_err();
        assert_eq!(error, AddressError::Taken { host: "b".into(), address, other: "a".into() });
    }

    #[test]
    fn another_host_does_not_move_the_first_ones() {
        let services = net("198.18.7.128/25");
        let before = assign(&hosts(&["orders.example", "billing.example"]), services, &[]).unwrap();
        let after = assign(&hosts(&["orders.example", "billing.example", "zebra.example"]), services, &[]).unwrap();
        for (host, address) in before {
            assert_eq!(after[&host], address);
        }
    }
}
