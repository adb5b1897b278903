//! The Internet Protocol Control Protocol: which address the client has, which one we have, and its DNS server.
//!
//! [RFC 1332] rules, RFC 1877 the DNS option. We request the gateway's address for ourselves; the client gets the
//! configured address and one DNS server, and every other option is rejected.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::Config;
use super::automaton::{Event, State};
use super::end::End;
use super::layer::{Judgement, Layer, OptionSet, Signal};
use super::outbox::Outbox;
use super::wire::{ConfigureOption, Malformed, Packet, Protocol};

/// IP-Address
const ADDRESS: u8 = 3;
/// Primary DNS Server Address
const PRIMARY_DNS: u8 = 129;

/// Both sides' IPCP options.
#[derive(Debug)]
pub(super) struct IpcpOptions {
    /// `None` once the peer rejected it.
    gateway: Option<Ipv4Addr>,
    client: Ipv4Addr,
    dns: Ipv4Addr,
}

impl OptionSet for IpcpOptions {
    const PROTOCOL: Protocol = Protocol::Ipcp;
    const NAME: &'static str = "IPCP";

    fn request(&self) -> Vec<u8> {
        let mut data = Vec::new();
        if let Some(gateway) = self.gateway {
            ConfigureOption { kind: ADDRESS, value: &gateway.octets() }.emit_to(&mut data);
        }
        data
    }

    /// A client that does not ask for an address is told to, as long as Naks are allowed.
    fn judge(&mut self, options: &[ConfigureOption<'_>], may_nak: bool) -> Judgement {
        let (mut naks, mut rejects) = (Vec::new(), Vec::new());
        for (at, option) in options.iter().enumerate() {
            let repeated = options.iter().take(at).any(|earlier| earlier.kind == option.kind);
            let ours = match (option.kind, option.value) {
                (ADDRESS | PRIMARY_DNS, _) if repeated => None,
                (ADDRESS, [_, _, _, _]) => Some(self.client),
                (PRIMARY_DNS, [_, _, _, _]) => Some(self.dns),
                _ => None,
            };
            match ours {
                Some(address) if address.octets() == option.value => {}
                Some(address) if may_nak => {
                    ConfigureOption { kind: option.kind, value: &address.octets() }.emit_to(&mut naks);
                }
                Some(_) | None => option.emit_to(&mut rejects),
            }
        }
        if may_nak && !options.iter().any(|option| option.kind == ADDRESS) {
            ConfigureOption { kind: ADDRESS, value: &self.client.octets() }.emit_to(&mut naks);
        }
        match (rejects.is_empty(), naks.is_empty()) {
            (false, _) => Judgement::Reject(rejects),
            (true, false) => Judgement::Nak(naks),
            (true, true) => Judgement::Ack,
        }
    }

    /// Nothing depends on the acknowledged values: they are ours.
    fn adopt(&mut self) {}

    /// Our own address is not the client's to choose; it is requested again, until the rounds are used up.
    fn take_nak(&mut self, _options: &[ConfigureOption<'_>]) -> Result<(), End> {
        Ok(())
    }

    fn take_reject(&mut self, options: &[ConfigureOption<'_>]) -> Result<(), End> {
        if options.iter().any(|option| option.kind == ADDRESS) {
            self.gateway = None;
        }
        Ok(())
    }
}

/// IPCP of one link.
#[derive(Debug)]
pub(super) struct Ipcp {
    layer: Layer<IpcpOptions>,
}

impl Ipcp {
    /// Begins at once: the link is authenticated.
    pub(super) fn open(config: &Config, first_id: u8, now: Instant, out: &mut Outbox) -> Self {
        let options = IpcpOptions { gateway: Some(config.gateway), client: config.client, dns: config.dns };
        let mut layer = Layer::new(State::Starting, options, first_id);
        layer.step(Event::Up, now, out);
        Self { layer }
    }

    pub(super) fn is_opened(&self) -> bool {
        self.layer.is_opened()
    }

    /// Whether the peer has ended it.
    pub(super) fn is_stopping(&self) -> bool {
        self.layer.state() == State::Stopping
    }

    pub(super) fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<Signal>, Malformed> {
        self.layer.handle_packet(packet, now, out)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Signal> {
        self.layer.handle_timeout(now, out)
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.layer.deadline().map(|deadline| (deadline, "IPCP: restart timer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(data: &[u8], may_nak: bool) -> Judgement {
        let mut set = IpcpOptions {
            gateway: Some(Ipv4Addr::new(198, 18, 7, 1)),
            client: Ipv4Addr::new(198, 18, 7, 2),
            dns: Ipv4Addr::new(198, 18, 7, 1),
        };
        set.judge(&ConfigureOption::parse_all(data).unwrap(), may_nak)
    }

    #[test]
    fn a_foreign_or_missing_address_is_nakked_and_ours_acknowledged() {
        let ours = [0x03, 0x06, 198, 18, 7, 2];
        assert_eq!(judge(&ours, true), Judgement::Ack);
        for other in [&[0x03, 0x06, 0, 0, 0, 0][..], &[0x03, 0x06, 10, 0, 0, 1], &[]] {
            assert_eq!(judge(other, true), Judgement::Nak(ours.to_vec()));
        }
    }

    #[test]
    fn a_foreign_address_is_never_acknowledged() {
        let foreign = [0x03, 0x06, 10, 0, 0, 1];
        assert_eq!(judge(&foreign, false), Judgement::Reject(foreign.to_vec()));
    }

    #[test]
    fn what_is_not_served_is_rejected_before_anything_is_nakked() {
        let request = [
            0x03, 0x06, 0, 0, 0, 0, // IP-Address
            0x81, 0x06, 0, 0, 0, 0, // Primary DNS
            0x01, 0x0A, 1, 2, 3, 4, 5, 6, 7, 8, // IP-Addresses
            0x02, 0x06, 0x00, 0x2D, 0x0F, 0x01, // IP-Compression-Protocol
            0x04, 0x06, 0, 0, 0, 0, // Mobile-IPv4
            0x82, 0x06, 0, 0, 0, 0, // Primary NBNS
            0x83, 0x06, 0, 0, 0, 0, // Secondary DNS
            0x84, 0x06, 0, 0, 0, 0, // Secondary NBNS
        ];
        assert_eq!(judge(&request, true), Judgement::Reject(request[12..].to_vec()));
        let wanted = [0x03, 0x06, 198, 18, 7, 2, 0x81, 0x06, 198, 18, 7, 1];
        assert_eq!(judge(&request[..12], true), Judgement::Nak(wanted.to_vec()));
    }
}
