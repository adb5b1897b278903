//! The answer to a DHCPINFORM: how Windows learns the DNS server, the suffix and the route into the tunnel.
//!
//! In comes the payload of a datagram to port 67, out goes the payload of the answer, or nothing: the address was given
//! by IPCP, so every message but an INFORM of that very address is ignored (RFC 2131, sections 3.4 and 4.3.5).
//! The options are those of RFC 2132 and RFC 3442.

use std::net::Ipv4Addr;

use super::Config;

/// The port of a DHCP client (RFC 2131, section 4.1), where every answer goes.
pub(super) const CLIENT_PORT: u16 = 68;
/// The fixed part (236), the cookie (4), all options with a suffix of 253 bytes (299 with End): 539.
pub(super) const LARGEST_ANSWER: usize = 576;

/// A BOOTP message without options (RFC 951): clients have dropped shorter answers.
const SHORTEST_ANSWER: usize = 300;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const INFORM: u8 = 8;
const ACK: u8 = 5;

const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const DNS_SERVER: u8 = 6;
const DOMAIN_NAME: u8 = 15;
const MESSAGE_TYPE: u8 = 53;
const SERVER_IDENTIFIER: u8 = 54;
const PARAMETER_REQUEST_LIST: u8 = 55;
const CLASSLESS_ROUTES: u8 = 121;
/// What Windows asked for before RFC 3442 (MS-DHCPE, section 2.2.8); same body as 121.
const MS_CLASSLESS_ROUTES: u8 = 249;
const END: u8 = 255;

/// Answers `request` into `out`; the length of the answer, or `None` if there is none.
pub(super) fn answer(request: &[u8], config: &Config, out: &mut [u8; LARGEST_ANSWER]) -> Option<usize> {
    let request = Inform::parse(request, config.client)?;
    let mut answer = Answer { bytes: out, len: 0 };
    answer.put(&[BOOTREPLY, request.hardware_type, request.hardware_len, 0])?;
    answer.put(&request.transaction)?;
    // secs, flags
    answer.put(&[0; 4])?;
    answer.put(&config.client.octets())?;
    // yiaddr, siaddr, giaddr
    answer.put(&[0; 12])?;
    answer.put(&request.hardware_address)?;
    // sname, file
    answer.put(&[0; 192])?;
    answer.put(&COOKIE)?;
    answer.option(MESSAGE_TYPE, &[ACK])?;
    answer.option(SERVER_IDENTIFIER, &config.gateway.octets())?;
    if request.asks_for(SUBNET_MASK) {
        answer.option(SUBNET_MASK, &Ipv4Addr::BROADCAST.octets())?;
    }
    if request.asks_for(DNS_SERVER) {
        answer.option(DNS_SERVER, &config.gateway.octets())?;
    }
    if request.asks_for(DOMAIN_NAME) && !config.suffix.is_empty() {
        answer.option(DOMAIN_NAME, config.suffix.as_bytes())?;
    }
    let (route, len) = route(config);
    for code in [CLASSLESS_ROUTES, MS_CLASSLESS_ROUTES] {
        if request.asks_for(code) {
            answer.option(code, route.get(..len)?)?;
        }
    }
    answer.put(&[END])?;
    let padding = SHORTEST_ANSWER.saturating_sub(answer.len);
    answer.put([0; SHORTEST_ANSWER].get(..padding)?)?;
    Some(answer.len)
}

/// The route to `services`: prefix length, its significant octets, the router (RFC 3442).
fn route(config: &Config) -> ([u8; 9], usize) {
    let significant = usize::from(config.services.prefix_len().div_ceil(8));
    let network = config.services.network().octets();
    let octets = [config.services.prefix_len()]
        .into_iter()
        .chain(network.into_iter().take(significant))
        .chain(config.gateway.octets());
    let mut route = [0; 9];
    route.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
    (route, 1 + significant + 4)
}

/// What matters of the request.
struct Inform<'a> {
    hardware_type: u8,
    hardware_len: u8,
    transaction: [u8; 4],
    hardware_address: [u8; 16],
    asked: &'a [u8],
}

impl<'a> Inform<'a> {
    /// `None` unless this is a well-formed DHCPINFORM whose `ciaddr` is the session's address.
    fn parse(message: &'a [u8], client: Ipv4Addr) -> Option<Self> {
        let (fixed, rest) = message.split_first_chunk::<236>()?;
        let &[op, hardware_type, hardware_len, _hops, t0, t1, t2, t3, _, _, _, _, c0, c1, c2, c3, ..] = fixed;
        let hardware_address = fixed.get(28..44)?.try_into().ok()?;
        let (cookie, mut options) = rest.split_first_chunk::<4>()?;
        if op != BOOTREQUEST || *cookie != COOKIE || [c0, c1, c2, c3] != client.octets() {
            return None;
        }
        let (mut message_type, mut asked) = (None, &[][..]);
        while let Some((&code, rest)) = options.split_first() {
            match code {
                PAD => options = rest,
                END => break,
                _ => {
                    let (&len, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(len))?;
                    match code {
                        MESSAGE_TYPE => message_type = Some(value),
                        PARAMETER_REQUEST_LIST => asked = value,
                        _ => {}
                    }
                    options = rest;
                }
            }
        }
        let transaction = [t0, t1, t2, t3];
        (message_type == Some(&[INFORM])).then_some(Self {
            hardware_type,
            hardware_len,
            transaction,
            hardware_address,
            asked,
        })
    }

    fn asks_for(&self, code: u8) -> bool {
        self.asked.contains(&code)
    }
}

/// The answer while it is written.
struct Answer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Answer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn option(&mut self, code: u8, value: &[u8]) -> Option<()> {
        self.put(&[code, u8::try_from(value.len()).ok()?])?;
        self.put(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netstack::tests::config;

    /// A request as Windows sends it, with this message type, `ciaddr` and list of parameters.
    fn request(message_type: u8, ciaddr: [u8; 4], asked: &[u8]) -> Vec<u8> {
        let mut message = vec![
            0x01, // op: BOOTREQUEST
            0x08, // htype, as the RAS adapter sends it
            0x06, // hlen
            0x00, // hops
            0xDE, 0xAD, 0xBE, 0xEF, // xid
            0x00, 0x05, // secs
            0x00, 0x00, // flags
        ];
        message.extend(ciaddr);
        message.extend([0; 12]); // yiaddr, siaddr, giaddr
        message.extend([0x00, 0x53, 0x45, 0x00, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // chaddr
        message.extend([0; 192]); // sname, file
        message.extend(COOKIE);
        message.extend([53, 1, message_type]);
        message.extend([61, 7, 0x08, 0x00, 0x53, 0x45, 0x00, 0x00, 0x00]); // client identifier
        message.extend(b"\x3C\x08MSFT 5.0"); // vendor class
        message.extend(b"\x4D\x0ERRAS.Microsoft"); // user class, without the inner length of RFC 3004
        message.push(55);
        message.push(u8::try_from(asked.len()).unwrap());
        message.extend(asked);
        message.push(255);
        message.resize(300, 0);
        message
    }

    fn answered(message: &[u8], config: &Config) -> Option<Vec<u8>> {
        let mut out = [0; LARGEST_ANSWER];
        answer(message, config, &mut out).map(|len| out[..len].to_vec())
    }

    const CIADDR: [u8; 4] = [198, 18, 0, 2];

    #[test]
    fn an_inform_of_windows_is_answered_byte_for_byte() {
        let answer = answered(&request(8, CIADDR, &[6, 44, 43, 1, 249, 121, 15]), &config()).unwrap();
        let mut expected = vec![
            0x02, // op: BOOTREPLY
            0x08, // htype, copied
            0x06, // hlen, copied
            0x00, // hops
            0xDE, 0xAD, 0xBE, 0xEF, // xid, copied
            0x00, 0x00, // secs
            0x00, 0x00, // flags
            0xC6, 0x12, 0x00, 0x02, // ciaddr
            0x00, 0x00, 0x00, 0x00, // yiaddr
            0x00, 0x00, 0x00, 0x00, // siaddr
            0x00, 0x00, 0x00, 0x00, // giaddr
            0x00, 0x53, 0x45, 0x00, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // chaddr, copied
        ];
        expected.extend([0; 192]); // sname, file
        expected.extend([
            0x63, 0x82, 0x53, 0x63, // cookie
            0x35, 0x01, 0x05, // message type: ACK
            0x36, 0x04, 0xC6, 0x12, 0x00, 0x01, // server identifier
            0x01, 0x04, 0xFF, 0xFF, 0xFF, 0xFF, // subnet mask
            0x06, 0x04, 0xC6, 0x12, 0x00, 0x01, // DNS server
        ]);
        expected.extend(b"\x0F\x10api.corp.example"); // domain name
        expected.extend([
            0x79, 0x07, 0x10, 0xC6, 0x12, 0xC6, 0x12, 0x00, 0x01, // 198.18.0.0/16 via the gateway
            0xF9, 0x07, 0x10, 0xC6, 0x12, 0xC6, 0x12, 0x00, 0x01, // the same for Windows
            0xFF,
        ]);
        expected.resize(300, 0);
        assert_eq!(answer, expected);
    }

    #[test]
    fn routes_are_written_as_in_the_reference() {
        for (prefix, expected) in [
            ("10.0.0.0/8", &[0x08, 0x0A, 0x0A, 0x63, 0x00, 0x01][..]),
            ("172.16.0.0/12", &[0x0C, 0xAC, 0x10, 0x0A, 0x63, 0x00, 0x01]),
            ("192.168.5.0/24", &[0x18, 0xC0, 0xA8, 0x05, 0x0A, 0x63, 0x00, 0x01]),
            ("0.0.0.0/0", &[0x00, 0x0A, 0x63, 0x00, 0x01]),
            ("10.1.2.3/32", &[0x20, 0x0A, 0x01, 0x02, 0x03, 0x0A, 0x63, 0x00, 0x01]),
        ] {
            let config = Config { gateway: Ipv4Addr::new(10, 99, 0, 1), services: prefix.parse().unwrap(), ..config() };
            let (route, len) = route(&config);
            assert_eq!(&route[..len], expected, "{prefix}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_told() {
        let answer = answered(&request(8, CIADDR, &[44]), &config()).unwrap();
        assert_eq!(answer.len(), 300);
        assert_eq!(answer[240..250], [53, 1, 5, 54, 4, 198, 18, 0, 1, 255]);
    }

    #[test]
    fn everything_but_an_inform_of_the_sessions_address_is_ignored() {
        for message_type in [0, 1, 2, 3, 4, 5, 6, 7, 9, 255] {
            assert_eq!(answered(&request(message_type, CIADDR, &[6]), &config()), None, "type {message_type}");
        }
        for ciaddr in [[0, 0, 0, 0], [198, 18, 0, 3], [198, 18, 0, 1]] {
            assert_eq!(answered(&request(8, ciaddr, &[6]), &config()), None, "{ciaddr:?}");
        }
        let mut reply = request(8, CIADDR, &[6]);
        reply[0] = 2;
        assert_eq!(answered(&reply, &config()), None);
        let mut cookie = request(8, CIADDR, &[6]);
        cookie[236] = 0;
        assert_eq!(answered(&cookie, &config()), None);
    }

    #[test]
    fn an_option_that_runs_over_the_end_is_ignored_as_a_whole() {
        let whole = request(8, CIADDR, &[6]);
        for end in 0..=whole.len() {
            // Cut behind the message type the options are still a list without End, cut inside one they are not.
            let _ = answered(&whole[..end], &config());
        }
        let mut overrun = whole[..243].to_vec();
        overrun.extend([55, 200, 6]);
        assert_eq!(answered(&overrun, &config()), None);
    }

    #[test]
    fn the_longest_suffix_fits() {
        let suffix: Box<str> = format!("{}.example", vec!["a".repeat(60); 4].join(".")).into();
        let long = Config { suffix, ..config() };
        let answer = answered(&request(8, CIADDR, &[1, 6, 15, 121, 249]), &long).unwrap();
        assert!(answer.len() > SHORTEST_ANSWER && answer.ends_with(&[END]));
    }
}
