use super::*;

const SUFFIX: &str = "api.corp.example";

/// Hosts of one person: two below the suffix, one of them deep, a wildcard, and one elsewhere.
fn hosts() -> Vec<Host> {
    [
        ("orders.api.corp.example", 10),
        ("ledger.eu.api.corp.example", 11),
        ("*.build.api.corp.example", 12),
        ("status.partner.example", 13),
        ("*.cdn.partner.example", 14),
    ]
    .map(|(name, last)| Host { name: name.into(), address: Ipv4Addr::new(198, 18, 0, last) })
    .to_vec()
}

fn ask(message: &[u8]) -> Option<Vec<u8>> {
    ask_of(message, &hosts())
}

fn ask_of(message: &[u8], hosts: &[Host]) -> Option<Vec<u8>> {
    let mut out = [0xA5; LARGEST_ANSWER];
    answer(message, Zone { suffix: SUFFIX, hosts }, &mut out).map(|len| out[..len].to_vec())
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![
        0xBE, 0xEF, // ID
        0x01, 0x00, // RD
        0, 1, 0, 0, 0, 0, 0, 0, // one question
    ];
    message.extend(question(name, kind));
    message
}

/// Adds an additional record with this name, type, class, TTL and data.
fn with_record(mut message: Vec<u8>, name: &[u8], kind: u16, class: u16, ttl: [u8; 4], data: &[u8]) -> Vec<u8> {
    message[11] += 1;
    message.extend(name);
    message.extend(kind.to_be_bytes());
    message.extend(class.to_be_bytes());
    message.extend(ttl);
    message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    message.extend(data);
    message
}

/// The answer in words: the address, or the code.
fn verdict(answer: &[u8]) -> String {
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    match (answer[3] & 0x0F, answers) {
        (0, 0) => "nodata".into(),
        (0, 1) => {
            let [.., a, b, c, d] = answer else { unreachable!() };
            Ipv4Addr::new(*a, *b, *c, *d).to_string()
        }
        (1, 0) => "formerr".into(),
        (3, 0) => "nxdomain".into(),
        (4, 0) => "notimp".into(),
        (5, 0) => "refused".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_answer_is_what_resolvers_expect_byte_for_byte() {
    let answer = ask(&query("Orders.API.corp.example", TYPE_A)).unwrap();
    let mut expected = vec![
        0xBE, 0xEF, // ID
        0x85, // QR, opcode 0, AA, RD
        0x80, // RA, rcode 0
        0, 1, 0, 1, 0, 0, 0, 0, // one question, one answer
    ];
    expected.extend(b"\x06Orders\x03API\x04corp\x07example\x00\x00\x01\x00\x01");
    expected.extend([
        0xC0, 0x0C, // the name in the question
        0x00, 0x01, // A
        0x00, 0x01, // IN
        0x00, 0x00, 0x00, 0x1E, // 30 s
        0x00, 0x04, 198, 18, 0, 10,
    ]);
    assert_eq!(answer, expected);
}

#[test]
fn nt_48_every_name_gets_the_answer_that_its_visibility_allows() {
    const AAAA: u16 = 28;
    const HTTPS: u16 = 65;
    for (name, kind, expected) in [
        // Visible.
        ("orders.api.corp.example", TYPE_A, "198.18.0.10"),
        ("ORDERS.Api.CoRp.eXample", TYPE_A, "198.18.0.10"),
        ("ledger.eu.api.corp.example", TYPE_A, "198.18.0.11"),
        ("orders.api.corp.example", AAAA, "nodata"),
        ("orders.api.corp.example", HTTPS, "nodata"),
        ("orders.api.corp.example", 255, "nodata"),
        ("orders.api.corp.example", 5, "nodata"),
        ("orders.api.corp.example", 16, "nodata"),
        // A wildcard is one label.
        ("job7.build.api.corp.example", TYPE_A, "198.18.0.12"),
        ("*.build.api.corp.example", TYPE_A, "198.18.0.12"),
        ("a.job7.build.api.corp.example", TYPE_A, "nxdomain"),
        ("job7.build.api.corp.example", AAAA, "nodata"),
        // Parents of something visible, the suffix among them.
        ("api.corp.example", TYPE_A, "nodata"),
        ("eu.api.corp.example", TYPE_A, "nodata"),
        ("build.api.corp.example", TYPE_A, "nodata"),
        // Hidden or not there.
        ("salaries.api.corp.example", TYPE_A, "nxdomain"),
        ("salaries.api.corp.example", AAAA, "nxdomain"),
        ("salaries.api.corp.example", 255, "nxdomain"),
        ("salaries.api.corp.example", 12, "nxdomain"),
        ("salaries.api.corp.example", 5, "nxdomain"),
        ("us.api.corp.example", TYPE_A, "nxdomain"),
        ("below.orders.api.corp.example", TYPE_A, "nxdomain"),
        ("access.api.corp.example", TYPE_A, "nxdomain"),
        ("ACCESS.api.corp.example", AAAA, "nxdomain"),
        ("xapi.corp.example", TYPE_A, "refused"),
        ("orders-api.corp.example", TYPE_A, "refused"),
        // Elsewhere.
        ("status.partner.example", TYPE_A, "198.18.0.13"),
        ("status.partner.example", AAAA, "nodata"),
        ("img.cdn.partner.example", TYPE_A, "198.18.0.14"),
        ("cdn.partner.example", TYPE_A, "refused"),
        ("partner.example", TYPE_A, "refused"),
        ("hidden.partner.example", TYPE_A, "refused"),
        ("www.example.com", TYPE_A, "refused"),
        ("corp.example", TYPE_A, "refused"),
        ("example", TYPE_A, "refused"),
        ("", TYPE_A, "refused"),
        ("10.0.18.198.in-addr.arpa", 12, "refused"),
        // Transfers are refused wherever they are asked for.
        ("api.corp.example", TYPE_AXFR, "refused"),
        ("orders.api.corp.example", TYPE_AXFR, "refused"),
        ("salaries.api.corp.example", TYPE_IXFR, "refused"),
    ] {
        let answer = ask(&query(name, kind)).unwrap();
        assert_eq!(verdict(&answer), expected, "{name} type {kind}");
        assert_eq!(answer[..2], [0xBE, 0xEF], "the ID comes back");
        assert_eq!(answer[12..][..question(name, kind).len()], question(name, kind), "the question comes back");
    }
}

#[test]
fn nt_48_a_hidden_name_and_a_missing_one_give_the_same_bytes() {
    let without = |hosts: &[Host], name: &str| -> Vec<Host> {
        hosts.iter().filter(|host| &*host.name != name).cloned().collect()
    };
    let hosts = hosts();
    for (hidden, missing) in [
        ("orders.api.corp.example", "zzzzzz.api.corp.example"),
        ("status.partner.example", "zzzzzz.partner.example"),
        ("eu.api.corp.example", "zz.api.corp.example"),
    ] {
        let seen = without(&without(&hosts, hidden), "ledger.eu.api.corp.example");
        for kind in 0..=260 {
            let mut of_hidden = ask_of(&query(hidden, kind), &seen).unwrap();
            let of_missing = ask_of(&query(missing, kind), &seen).unwrap();
            let asked = question(missing, kind);
            of_hidden[12..12 + asked.len()].copy_from_slice(&asked);
            assert_eq!(of_hidden, of_missing, "{hidden} type {kind}");
        }
    }
}

#[test]
fn a_portal_below_a_wildcard_of_the_suffix_does_not_exist_yet() {
    let wildcard = [Host { name: "*.api.corp.example".into(), address: Ipv4Addr::new(198, 18, 0, 9) }];
    assert_eq!(verdict(&ask_of(&query("any.api.corp.example", TYPE_A), &wildcard).unwrap()), "198.18.0.9");
    assert_eq!(verdict(&ask_of(&query("access.api.corp.example", TYPE_A), &wildcard).unwrap()), "nxdomain");
}

#[test]
fn an_exact_host_goes_before_a_wildcard() {
    let hosts = ["*.api.corp.example", "orders.api.corp.example"]
        .map(|name| Host { name: name.into(), address: Ipv4Addr::new(198, 18, 0, name.as_bytes()[0]) });
    assert_eq!(verdict(&ask_of(&query("orders.api.corp.example", TYPE_A), &hosts).unwrap()), "198.18.0.111");
}

#[test]
fn to_a_person_without_apis_not_even_the_suffix_exists() {
    assert_eq!(verdict(&ask_of(&query(SUFFIX, TYPE_A), &[]).unwrap()), "nxdomain");
}

#[test]
fn a_dot_inside_a_label_does_not_make_two_labels() {
    let mut message = query("", TYPE_A);
    message.truncate(12);
    message.extend(b"\x0Aorders.api\x04corp\x07example\x00\x00\x01\x00\x01");
    assert_eq!(verdict(&ask(&message).unwrap()), "refused");
    let mut message = query("", TYPE_A);
    message.truncate(12);
    message.extend(b"\x09ledger.eu\x03api\x04corp\x07example\x00\x00\x01\x00\x01");
    assert_eq!(verdict(&ask(&message).unwrap()), "nxdomain");
}

#[test]
fn a_name_is_never_a_host_by_its_end_alone() {
    let hosts = [
        Host { name: "orders.api.corp.example".into(), address: Ipv4Addr::new(198, 18, 0, 1) },
        Host { name: "*.build.api.corp.example".into(), address: Ipv4Addr::new(198, 18, 0, 2) },
    ];
    for (name, expected) in [
        ("reorders.api.corp.example", "nxdomain"),
        ("rders.api.corp.example", "nxdomain"),
        ("uild.api.corp.example", "nxdomain"),
        ("x.rebuild.api.corp.example", "nxdomain"),
        ("pi.corp.example", "refused"),
    ] {
        assert_eq!(verdict(&ask_of(&query(name, TYPE_A), &hosts).unwrap()), expected, "{name}");
    }
    let mut zero = query("", TYPE_A);
    zero.truncate(12);
    zero.extend(b"\x0Aorders\x00api\x04corp\x07example\x00\x00\x01\x00\x01");
    assert_eq!(verdict(&ask_of(&zero, &hosts).unwrap()), "refused");
}

#[test]
fn the_longest_name_with_the_most_labels_is_read_whole() {
    let labels = "a.".repeat((LONGEST_NAME - 1 - "api.corp.example.".len() - 1) / 2);
    let name = format!("{labels}api.corp.example");
    let host = [Host { name: name.as_str().into(), address: Ipv4Addr::new(198, 18, 0, 1) }];
    assert_eq!(verdict(&ask_of(&query(&name, TYPE_A), &host).unwrap()), "198.18.0.1");
    assert_eq!(verdict(&ask(&query(&name, TYPE_A)).unwrap()), "nxdomain");
}

#[test]
fn other_classes_are_refused() {
    for class in [0_u16, 3, 4, 254, 255] {
        let mut message = query("orders.api.corp.example", TYPE_A);
        let at = message.len() - 2;
        message[at..].copy_from_slice(&class.to_be_bytes());
        assert_eq!(verdict(&ask(&message).unwrap()), "refused", "class {class}");
    }
}

#[test]
fn other_opcodes_are_not_implemented() {
    for opcode in 1..16_u8 {
        let mut message = query("orders.api.corp.example", TYPE_A);
        message[2] = opcode << 3 | 1;
        let answer = ask(&message).unwrap();
        assert_eq!(answer, [0xBE, 0xEF, 0x81 | opcode << 3, 0x84, 0, 0, 0, 0, 0, 0, 0, 0], "opcode {opcode}");
    }
}

#[test]
fn answers_and_stumps_are_ignored() {
    let mut message = query("orders.api.corp.example", TYPE_A);
    message[2] |= 0x80;
    assert_eq!(ask(&message), None);
    for end in 0..12 {
        assert_eq!(ask(&query("orders.api.corp.example", TYPE_A)[..end]), None);
    }
}

#[test]
fn malformed_queries_are_format_errors() {
    let good = query("orders.api.corp.example", TYPE_A);
    let with_counts = |counts: [u8; 4]| {
        let mut message = good.clone();
        for (at, count) in [5, 7, 9, 11].into_iter().zip(counts) {
            message[at] = count;
        }
        message
    };
    let name_of = |name: &[u8]| [&good[..12], name, &[0, 1, 0, 1]].concat();
    let label = |len: u8| [&[len][..], &vec![b'a'; usize::from(len)]].concat();
    let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
    let too_long = [label(63), label(63), label(63), label(62), vec![0]].concat();
    for (what, message) in [
        ("no question", with_counts([0, 0, 0, 0])),
        ("two questions", with_counts([2, 0, 0, 0])),
        ("an answer", with_counts([1, 1, 0, 0])),
        ("an authority", with_counts([1, 0, 1, 0])),
        ("a record that is not there", with_counts([1, 0, 0, 1])),
        ("a pointer", name_of(&[0xC0, 0x0C])),
        ("a pointer behind a label", name_of(b"\x06orders\xC0\x0C")),
        ("the label type 01", name_of(&[0x41, 0])),
        ("a name of 256 bytes", name_of(&too_long)),
        ("a label that runs over the end", [&good[..12], &[63, b'a']].concat()),
        ("a name without end", good[..20].to_vec()),
        ("no class", good[..good.len() - 2].to_vec()),
        ("a pointer in a record", with_record(good.clone(), &[0xC0, 0x0C], TYPE_A, 1, [0; 4], &[])),
        ("OPT with a name", with_record(good.clone(), &[1, b'a', 0], TYPE_OPT, 4096, [0; 4], &[])),
        (
            "two OPT",
            with_record(
                with_record(good.clone(), &[0], TYPE_OPT, 4096, [0; 4], &[]),
                &[0],
                TYPE_OPT,
                4096,
                [0; 4],
                &[],
            ),
        ),
    ] {
        let answer = ask(&message).unwrap();
        assert_eq!(answer, [0xBE, 0xEF, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0], "{what}");
    }
    assert_eq!(verdict(&ask(&name_of(&longest)).unwrap()), "refused", "a name of 255 bytes is a name");
}

#[test]
fn edns_is_answered_with_edns() {
    const COOKIE_OPTION: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let dnssec_ok = [0, 0, 0x80, 0];
    let message = with_record(query("salaries.api.corp.example", 1), &[0], TYPE_OPT, 4096, dnssec_ok, &COOKIE_OPTION);
    let answer = ask(&message).unwrap();
    assert_eq!(verdict(&answer), "nxdomain");
    assert_eq!(answer[10..12], [0, 1]);
    let opt = [0, 0, 41, 0x04, 0xD0, 0, 0, 0x80, 0, 0, 0];
    assert!(answer.ends_with(&opt), "{answer:02X?}");

    let version_1 = with_record(query("orders.api.corp.example", 1), &[0], TYPE_OPT, 512, [0, 1, 0, 0], &[]);
    let answer = ask(&version_1).unwrap();
    assert_eq!(answer[3] & 0x0F, 0, "BADVERS is 16; its lower bits are 0");
    assert!(answer.ends_with(&[0, 0, 41, 0x04, 0xD0, 1, 0, 0, 0, 0, 0]), "{answer:02X?}");
}

#[test]
fn other_additional_records_are_skipped() {
    let message = with_record(query("orders.api.corp.example", TYPE_A), b"\x03key\x00", 250, 255, [0; 4], &[9; 40]);
    let message = with_record(message, &[0], TYPE_OPT, 1232, [0; 4], &[]);
    let answer = ask(&message).unwrap();
    assert_eq!(answer[6..12], [0, 1, 0, 0, 0, 1]);
}

proptest::proptest! {
    #[test]
    fn no_message_makes_the_resolver_panic_or_talk_too_much(message: Vec<u8>) {
        let mut framed = query("orders.api.corp.example", TYPE_A);
        framed.extend(&message);
        for message in [&message, &framed, &framed[5..].to_vec()] {
            if let Some(answer) = ask(message) {
                proptest::prop_assert!(answer.len() <= 298 && answer[2] & 0x80 != 0);
            }
        }
    }

    #[test]
    fn flipping_bits_of_a_query_never_shows_another_host(
        at in 0_usize..41, bit in 0_u8..8, name in "[a-z]{1,9}(\\.[a-z]{1,3})?\\.api\\.corp\\.example"
    ) {
        let mut message = query(&name, TYPE_A);
        if let Some(byte) = message.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let only = [Host { name: "orders.api.corp.example".into(), address: Ipv4Addr::new(198, 18, 0, 10) }];
        if let Some(answer) = ask_of(&message, &only)
            && answer[7] == 1
        {
            let asked = question("orders.api.corp.example", TYPE_A);
            proptest::prop_assert!(answer[12..12 + asked.len()].eq_ignore_ascii_case(&asked));
        }
    }
}
