//! What the real clients ask for and accept in LCP and IPCP (sections 6.3, 6.4 and 8.1 of the wire reference).

use std::net::Ipv4Addr;

use super::negotiation::Answer;
use crate::wire::ppp::{ConfigOption, protocol};
use crate::{Cheat, ClientKind, Method, Profile};

pub(crate) mod lcp {
    pub(crate) const MRU: u8 = 1;
    pub(crate) const ACCM: u8 = 2;
    pub(crate) const AUTHENTICATION: u8 = 3;
    pub(crate) const MAGIC: u8 = 5;
    pub(crate) const PFC: u8 = 7;
    pub(crate) const ACFC: u8 = 8;
    pub(crate) const CALLBACK: u8 = 13;
}

pub(crate) mod ipcp {
    pub(crate) const COMPRESSION: u8 = 2;
    pub(crate) const ADDRESS: u8 = 3;
    pub(crate) const DNS: u8 = 129;
    pub(crate) const NBNS: u8 = 130;
    pub(crate) const SECOND_DNS: u8 = 131;
    pub(crate) const SECOND_NBNS: u8 = 132;
}

/// What Open SSTP Client insists on receiving.
const OPEN_SSTP_MRU: u16 = 1500;

/// The options of the first LCP Configure-Request.
pub(crate) fn lcp_request(client: ClientKind, magic: [u8; 4]) -> Vec<ConfigOption> {
    let option = ConfigOption::new;
    match client {
        ClientKind::Windows => vec![
            ConfigOption::new(lcp::MRU, 4091u16.to_be_bytes()),
            option(lcp::MAGIC, magic.to_vec()),
            option(lcp::PFC, vec![]),
            option(lcp::ACFC, vec![]),
            option(lcp::CALLBACK, vec![6]),
        ],
        ClientKind::Pppd => vec![
            option(lcp::ACCM, vec![0; 4]),
            option(lcp::MAGIC, magic.to_vec()),
            option(lcp::PFC, vec![]),
            option(lcp::ACFC, vec![]),
        ],
        ClientKind::OpenSstp => vec![option(lcp::MRU, OPEN_SSTP_MRU.to_be_bytes().to_vec())],
    }
}

/// The identifier of the first LCP Configure-Request.
pub(crate) fn first_id(client: ClientKind) -> u8 {
    match client {
        ClientKind::Windows => 0,
        ClientKind::Pppd | ClientKind::OpenSstp => 1,
    }
}

/// The IP MTU of the client's interface, before the server's MRU bounds it.
pub(crate) fn mtu(client: ClientKind) -> u16 {
    match client {
        ClientKind::Windows => 1400,
        ClientKind::Pppd | ClientKind::OpenSstp => 1500,
    }
}

/// The value of the Authentication-Protocol option.
pub(crate) fn authentication(method: Method) -> Vec<u8> {
    let (number, rest): (u16, &[u8]) = match method {
        Method::Pap => (protocol::PAP, &[]),
        Method::MsChapV2 => (protocol::CHAP, &[0x81]),
        Method::EapMsChapV2 => (protocol::EAP, &[]),
    };
    [&number.to_be_bytes(), rest].concat()
}

/// The answer to the server's LCP options.
pub(crate) fn answer_lcp(profile: &Profile, our_magic: [u8; 4], options: &[ConfigOption]) -> Answer {
    let (mut rejected, mut naked) = (Vec::new(), Vec::new());
    for option in options {
        match judge_lcp(profile, our_magic, option) {
            Verdict::Fine => {}
            Verdict::Rather(value) => naked.push(ConfigOption::new(option.kind, value)),
            Verdict::Never => rejected.push(option.clone()),
        }
    }
    answer(rejected, naked)
}

enum Verdict {
    Fine,
    Rather(Vec<u8>),
    Never,
}

fn judge_lcp(profile: &Profile, our_magic: [u8; 4], option: &ConfigOption) -> Verdict {
    match (option.kind, option.value.as_slice()) {
        (lcp::AUTHENTICATION, _) if profile.cheat == Cheat::RefuseAuth => Verdict::Never,
        (lcp::AUTHENTICATION, value) if value == authentication(profile.method) => Verdict::Fine,
        (lcp::AUTHENTICATION, _) => Verdict::Rather(authentication(profile.method)),
        (lcp::MRU, &[high, low]) => match profile.client {
            ClientKind::OpenSstp if u16::from_be_bytes([high, low]) < OPEN_SSTP_MRU => {
                Verdict::Rather(OPEN_SSTP_MRU.to_be_bytes().to_vec())
            }
            ClientKind::OpenSstp | ClientKind::Windows | ClientKind::Pppd => Verdict::Fine,
        },
        _ if profile.client == ClientKind::OpenSstp => Verdict::Never,
        (lcp::MAGIC, &[_, _, _, _]) if option.value == our_magic || option.value == [0; 4] => {
            Verdict::Rather(our_magic.map(|byte| !byte).to_vec())
        }
        (lcp::MAGIC, &[_, _, _, _]) | (lcp::PFC | lcp::ACFC, &[]) => Verdict::Fine,
        (lcp::ACCM, &[_, _, _, _]) if profile.client == ClientKind::Pppd => Verdict::Fine,
        _ => Verdict::Never,
    }
}

fn answer(rejected: Vec<ConfigOption>, naked: Vec<ConfigOption>) -> Answer {
    if !rejected.is_empty() {
        Answer::Reject(rejected)
    } else if !naked.is_empty() {
        Answer::Nak(naked)
    } else {
        Answer::Ack
    }
}

/// The options of the first IPCP Configure-Request.
pub(crate) fn ipcp_request(client: ClientKind, address: Ipv4Addr) -> Vec<ConfigOption> {
    let zero = |kind| ConfigOption::new(kind, [0; 4]);
    let address = ConfigOption::new(ipcp::ADDRESS, address.octets());
    match client {
        ClientKind::Windows => {
            vec![address, zero(ipcp::DNS), zero(ipcp::NBNS), zero(ipcp::SECOND_DNS), zero(ipcp::SECOND_NBNS)]
        }
        ClientKind::Pppd => vec![
            ConfigOption::new(ipcp::COMPRESSION, [0x00, 0x2D, 0x0F, 0x01]),
            address,
            zero(ipcp::DNS),
            zero(ipcp::SECOND_DNS),
        ],
        ClientKind::OpenSstp => vec![address, zero(ipcp::DNS)],
    }
}

/// The answer to the server's IPCP options: its address is welcome, nothing else.
pub(crate) fn answer_ipcp(options: &[ConfigOption]) -> Answer {
    let rejected = options.iter().filter(|option| option.kind != ipcp::ADDRESS || address(&option.value).is_none());
    answer(rejected.cloned().collect(), Vec::new())
}

/// An address that is not 0.0.0.0.
pub(crate) fn address(value: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = value.try_into().ok()?;
    Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
}
