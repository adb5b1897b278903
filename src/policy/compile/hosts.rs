//! Hosts: which API answers to which name, and at which address.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use crate::policy::Environment;
use crate::policy::address::{self, AddressError};
use crate::policy::api::Api;
use crate::policy::bundle::{Bundle, HostEntry, VirtualHost};
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::value::Flaw;

/// The portal's name inside the tunnel.
pub(crate) fn portal(environment: &Environment) -> String {
    format!("access.{}", environment.suffix)
}

/// Gives each host its address; complains about overlaps, reserved names, and hosts without room.
pub(crate) fn assign(
    apis: &[ApiText],
    environment: &Environment,
    previous: Option<&Bundle>,
    log: &mut Log,
) -> BTreeMap<String, Ipv4Addr> {
    let mut pins: BTreeMap<String, Option<Ipv4Addr>> = BTreeMap::new();
    let mut first: BTreeMap<&str, (&ApiText, Range<usize>)> = BTreeMap::new();
    for api in apis {
        check_pin(api, log);
        for host in &api.hosts {
            check_reserved(&host.value, host.span.clone(), api, environment, log);
            let pin = api.address.as_ref().filter(|_| api.hosts.len() == 1).map(|address| address.value);
            let known = pins.entry(host.value.clone()).or_default();
            if let (Some(known), Some(pin), Some(address)) = (*known, pin, &api.address)
                && known != pin
            {
                let message = format!("`{}` is elsewhere pinned to {known}", host.value);
                let flaw = Flaw::new("bad-address", message, "a host has one address; pin it in one file");
                log.error(&api.source, address.span.clone(), flaw);
            }
            *known = known.or(pin);
            if let Some((other, _)) = first.get(host.value.as_str()) {
                check_overlap(api, other, &host.value, host.span.clone(), log);
            } else {
                first.insert(&host.value, (api, host.span.clone()));
            }
        }
    }
    check_bases(apis, log);
    warn_of_wildcards(&first, log);
    match address::assign(&pins, environment.services, &environment.reserved) {
        Ok(given) => {
            warn_of_moves(&given, &first, previous, log);
            given
        }
        Err(error) => {
            complain(&error, &first, log);
            BTreeMap::new()
        }
    }
}

fn check_pin(api: &ApiText, log: &mut Log) {
    if let Some(address) = api.address.as_ref().filter(|_| api.hosts.len() > 1) {
        let message = format!("one address cannot belong to {} hosts", api.hosts.len());
        let flaw = Flaw::new("bad-address", message, "give the host that needs a pin its own API file");
        log.error(&api.source, address.span.clone(), flaw);
    }
}

fn check_reserved(host: &str, span: Range<usize>, api: &ApiText, environment: &Environment, log: &mut Log) {
    if host == portal(environment) || host == environment.suffix {
        let flaw = Flaw::new("reserved-host", format!("`{host}` is our own name"), "choose another name for the API");
        log.error(&api.source, span, flaw);
    }
}

/// All APIs of one host must read paths alike: which API is asked is only known after the path was read.
fn check_overlap(api: &ApiText, other: &ApiText, host: &str, span: Range<usize>, log: &mut Log) {
    if !api.http.value.reads_like(&other.http.value) {
        let message = format!("`{}` reads the paths of `{host}` in another way", other.source.file);
        let hint = "give both the same encoded_slash, double_encoding and matrix_params, or separate hosts";
        log.error(&api.source, span, Flaw::new("host-reading", message, hint));
    }
}

fn check_bases(apis: &[ApiText], log: &mut Log) {
    let mut claimed: HashMap<(&str, &str), &ApiText> = HashMap::new();
    for api in apis {
        for host in &api.hosts {
            let Some(other) = claimed.insert((&host.value, &api.base.value), api) else { continue };
            let path =
                if api.base.value == "/" { "/example".to_owned() } else { format!("{}/example", api.base.value) };
            let message = format!("`{}` already answers to `{}{path}`", other.source.file, host.value);
            let hint = "give the two APIs different hosts, or different `base` paths";
            log.error(&api.source, host.span.clone(), Flaw::new("host-overlap", message, hint));
        }
    }
}

fn warn_of_wildcards(first: &BTreeMap<&str, (&ApiText, Range<usize>)>, log: &mut Log) {
    for (host, (api, span)) in first {
        let Some((_, parent)) = host.split_once('.').filter(|_| !host.starts_with("*.")) else { continue };
        let wildcard = format!("*.{parent}");
        if let Some((other, _)) = first.get(wildcard.as_str()) {
            let message = format!("`{host}` is taken out of `{wildcard}` of `{}`", other.source.file);
            let flaw = Flaw::new("exact-beats-wildcard", message, "an exact host wins, whatever the path");
            log.warn(&api.source, span.clone(), flaw);
        }
    }
}

fn warn_of_moves(
    given: &BTreeMap<String, Ipv4Addr>,
    first: &BTreeMap<&str, (&ApiText, Range<usize>)>,
    previous: Option<&Bundle>,
    log: &mut Log,
) {
    for before in previous.into_iter().flat_map(Bundle::hosts) {
        let Some((host, now)) = given.get_key_value(&*before.name).filter(|(_, now)| **now != before.address) else {
            continue;
        };
        if let Some((api, span)) = first.get(host.as_str()) {
            let message = format!("`{host}` moves from {} to {now}", before.address);
            let hint = format!("write `address = \"{}\"` to keep it", before.address);
            log.warn(&api.source, span.clone(), Flaw::new("address-moved", message, &hint));
        }
    }
}

fn complain(error: &AddressError, first: &BTreeMap<&str, (&ApiText, Range<usize>)>, log: &mut Log) {
    let (code, host, hint) = match error {
        AddressError::Unusable { host, .. } => ("bad-address", Some(host), "choose one inside `services` that is free"),
        AddressError::Taken { host, .. } => ("bad-address", Some(host), "choose another one"),
        AddressError::Full { .. } => ("too-many-hosts", None, "enlarge `services` in [network] of the configuration"),
    };
    let place = match host {
        Some(host) => first.get(host.as_str()),
        None => first.values().next_back(),
    };
    let Some((api, span)) = place else { return };
    let span = match (&api.address, host) {
        (Some(address), Some(_)) => address.span.clone(),
        (Some(_) | None, _) => span.clone(),
    };
    log.error(&api.source, span, Flaw::new(code, error.to_string(), hint));
}

type Index = (HashMap<Arc<str>, HostEntry>, HashMap<Box<str>, HostEntry>, Vec<VirtualHost>);

/// The lookup tables of a bundle.
pub(crate) fn index(apis: &[Arc<Api>], addresses: &BTreeMap<String, Ipv4Addr>) -> Index {
    let (mut exact, mut wildcard, mut hosts) = (HashMap::new(), HashMap::new(), Vec::new());
    for (name, address) in addresses {
        let host = VirtualHost { name: name.as_str().into(), address: *address };
        let mut answering: Vec<Arc<Api>> = apis.iter().filter(|api| api.hosts.contains(name)).cloned().collect();
        answering.sort_by_key(|api| std::cmp::Reverse(api.prefix().len()));
        let entry = HostEntry { host: host.clone(), apis: answering };
        match name.strip_prefix("*.") {
            Some(parent) => drop(wildcard.insert(parent.into(), entry)),
            None => drop(exact.insert(host.name.clone(), entry)),
        }
        hosts.push(host);
    }
    (exact, wildcard, hosts)
}
