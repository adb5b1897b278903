use super::super::wire::{CryptoBinding, Packet};
use super::*;

const VECTORS: &str = include_str!("../../../tests/transcripts/sstp/crypto-binding.txt");

/// The whole Call Connected of vector C, and of vector F.
const CALL_CONNECTED_C: &str = "10010070 00040001 00030068 00000002
    404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F
    11B0F06405F333C768FC97B9F30753D81528DC4604F6C87E095BDAC8877AFDB7
    C4E459E3DC958464F772F9CA6941631B060675EF04893D1D0999D7539AEBFE7C";
const CALL_CONNECTED_F: &str = "10010070 00040001 00030068 00000001
    404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F
    8700D57F1CB4EAFEAD17ABD4EAE29C88909B57CA 000000000000000000000000
    D5986A515048BDF7EEF9B1C670843E8A5EBF8176 000000000000000000000000";

const BOTH: Hashes = Hashes { sha1: true, sha256: true };
const NONCE: [u8; 32] = [0x40; 32];
const CERTIFICATE: CertificateHashes = CertificateHashes { sha1: [0xC1; 20], sha256: [0xC2; 32] };
const KEY: [u8; 32] = *b"the receive key.and the send key";

#[derive(Debug)]
struct Vector {
    name: String,
    hash: u8,
    key: [u8; 32],
    cmk: Vec<u8>,
    nonce: [u8; 32],
    certificate: Vec<u8>,
    mac: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let sections = VECTORS.split("\n[").skip(1).map(|section| section.split_once("]\n").unwrap());
    let vector = |(name, lines): (&str, &str)| {
        let field = |name: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            bytes(line.unwrap_or_else(|| panic!("no {name}")))
        };
        Vector {
            name: name.into(),
            hash: lines.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().parse().unwrap(),
            key: field("key").try_into().unwrap(),
            cmk: field("cmk"),
            nonce: field("nonce").try_into().unwrap(),
            certificate: field("certificate"),
            mac: field("mac"),
        }
    };
    sections.map(vector).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn widened<const N: usize>(start: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    field[..start.len()].copy_from_slice(start);
    field
}

impl Vector {
    fn call_connected(&self) -> Vec<u8> {
        emitted(CryptoBinding {
            hash_protocol: self.hash,
            nonce: self.nonce,
            certificate_hash: widened(&self.certificate),
            compound_mac: widened(&self.mac),
        })
    }

    fn binding(&self) -> Binding {
        let mut certificate = CERTIFICATE;
        match self.hash {
            1 => certificate.sha1 = self.certificate.clone().try_into().unwrap(),
            _ => certificate.sha256 = self.certificate.clone().try_into().unwrap(),
        }
        Binding::new(BOTH, certificate, self.nonce)
    }
}

fn emitted(binding: CryptoBinding) -> Vec<u8> {
    let mut packet = Vec::new();
    Message::CallConnected(binding).emit(&mut packet);
    packet
}

fn control(packet: &[u8]) -> Control<'_> {
    match Packet::split(packet) {
        Ok(Some((_, Packet::Control(control)))) => control,
        other => panic!("{other:?}"),
    }
}

/// A Call Connected for [`NONCE`] and [`CERTIFICATE`], made with this key.
fn call_connected(hash: Hash, key: &[u8; 32]) -> Vec<u8> {
    let certificate_hash = match hash {
        Hash::Sha1 => widened(&CERTIFICATE.sha1),
        Hash::Sha256 => CERTIFICATE.sha256,
    };
    let unsigned = CryptoBinding { hash_protocol: hash as u8, nonce: NONCE, certificate_hash, compound_mac: [0; 32] };
    let head = emitted(unsigned)[..COMPOUND_MAC].to_vec();
    let compound_mac = match hash {
        Hash::Sha1 => widened(&compound_mac::<Hmac<Sha1>>(key, &head)),
        Hash::Sha256 => widened(&compound_mac::<Hmac<Sha256>>(key, &head)),
    };
    emitted(CryptoBinding { compound_mac, ..unsigned })
}

fn judged(offered: Hashes, key: HigherLayerKey, packet: &[u8]) -> Verdict {
    let mut binding = Binding::new(offered, CERTIFICATE, NONCE);
    assert_eq!(binding.resolve_authentication(key), Verdict::Waiting);
    binding.handle_call_connected(control(packet))
}

fn mac_failure(would_match: Option<OtherKey>) -> Verdict {
    Verdict::Fails(BindingFailure::CompoundMac { would_match })
}

#[test]
fn all_vectors_give_their_keys_and_macs() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let packet = vector.call_connected();
        let head = &packet[..COMPOUND_MAC];
        let (cmk, mac) = match vector.hash {
            1 => (compound_mac_key::<Hmac<Sha1>>(&vector.key), compound_mac::<Hmac<Sha1>>(&vector.key, head).to_vec()),
            _ => (
                compound_mac_key::<Hmac<Sha256>>(&vector.key),
                compound_mac::<Hmac<Sha256>>(&vector.key, head).to_vec(),
            ),
        };
        assert_eq!(*cmk, vector.cmk, "{}", vector.name);
        assert_eq!(mac, vector.mac, "{}", vector.name);
    }
}

#[test]
fn all_vectors_are_accepted_whichever_comes_first_login_or_call_connected() {
    for vector in vectors() {
        let packet = vector.call_connected();
        let is_zero = vector.key == ZERO_KEY;
        let key = || if is_zero { HigherLayerKey::none() } else { HigherLayerKey::keys(vector.key, false) };
        let expected = Verdict::Holds(if is_zero { Strength::Zero } else { Strength::Keys });

        let mut login_first = vector.binding();
        assert_eq!(login_first.resolve_authentication(key()), Verdict::Waiting);
        assert_eq!(login_first.handle_call_connected(control(&packet)), expected, "{}", vector.name);

        let mut packet_first = vector.binding();
        assert_eq!(packet_first.handle_call_connected(control(&packet)), Verdict::Waiting);
        assert_eq!(packet_first.resolve_authentication(key()), expected, "{}", vector.name);
    }
}

#[test]
fn the_complete_messages_are_those_of_the_vectors() {
    let vectors = vectors();
    let packet = |name: &str| vectors.iter().find(|vector| vector.name.starts_with(name)).unwrap().call_connected();
    assert_eq!(packet("C:"), bytes(CALL_CONNECTED_C));
    assert_eq!(packet("F:"), bytes(CALL_CONNECTED_F));
}

#[test]
fn every_bit_of_the_message_counts() {
    for hash in [Hash::Sha1, Hash::Sha256] {
        let good = call_connected(hash, &KEY);
        assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, false), &good), Verdict::Holds(Strength::Keys));
        let mac_end = COMPOUND_MAC + if hash == Hash::Sha1 { 20 } else { 32 };
        for place in 1..mac_end {
            // A changed length is another packet.
            if (2..4).contains(&place) {
                continue;
            }
            let mut bad = good.clone();
            // Bit 1 is a reserved one in the second byte.
            bad[place] ^= 2;
            let verdict = judged(BOTH, HigherLayerKey::keys(KEY, true), &bad);
            assert!(matches!(verdict, Verdict::Fails(_)), "{hash:?} {place}: {verdict:?}");
        }
    }
}

#[test]
fn the_mac_is_over_the_bytes_as_received_reserved_ones_too() {
    let mut packet = call_connected(Hash::Sha256, &KEY);
    packet[1] |= 0xF0;
    packet[12] = 0x77;
    let mac = compound_mac::<Hmac<Sha256>>(&KEY, &packet[..COMPOUND_MAC]);
    packet[COMPOUND_MAC..].copy_from_slice(&mac);
    assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, false), &packet), Verdict::Holds(Strength::Keys));
}

#[test]
fn padding_behind_a_sha1_mac_does_not_count() {
    let mut packet = call_connected(Hash::Sha1, &KEY);
    packet[CALL_CONNECTED - 12..].fill(0xEE);
    assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, false), &packet), Verdict::Holds(Strength::Keys));
}

#[test]
fn a_hash_protocol_that_was_not_offered_fails() {
    let sha1 = Hashes { sha1: true, sha256: false };
    let key = || HigherLayerKey::keys(KEY, false);
    let not_offered = |got| Verdict::Fails(BindingFailure::HashProtocol { got });
    assert_eq!(judged(Hashes::SHA256, key(), &call_connected(Hash::Sha1, &KEY)), not_offered(1));
    assert_eq!(judged(sha1, key(), &call_connected(Hash::Sha256, &KEY)), not_offered(2));
    assert_eq!(judged(sha1, key(), &call_connected(Hash::Sha1, &KEY)), Verdict::Holds(Strength::Keys));
    for got in [0, 3, 4, 255] {
        let mut packet = call_connected(Hash::Sha256, &KEY);
        packet[15] = got;
        assert_eq!(judged(BOTH, key(), &packet), not_offered(got));
    }
}

#[test]
fn a_wrong_nonce_and_a_wrong_certificate_are_told_apart() {
    let packet = call_connected(Hash::Sha256, &KEY);
    let judged = |certificate, nonce| {
        let mut binding = Binding::new(BOTH, certificate, nonce);
        binding.resolve_authentication(HigherLayerKey::keys(KEY, false));
        binding.handle_call_connected(control(&packet))
    };
    let other = CertificateHashes { sha256: [0; 32], ..CERTIFICATE };
    assert_eq!(judged(CERTIFICATE, [0x41; 32]), Verdict::Fails(BindingFailure::Nonce));
    assert_eq!(judged(other, NONCE), Verdict::Fails(BindingFailure::CertificateHash));
    assert_eq!(judged(CERTIFICATE, NONCE), Verdict::Holds(Strength::Keys));
}

#[test]
fn a_zero_key_is_accepted_only_where_it_may_be() {
    for hash in [Hash::Sha1, Hash::Sha256] {
        let zero = call_connected(hash, &ZERO_KEY);
        assert_eq!(judged(BOTH, HigherLayerKey::none(), &zero), Verdict::Holds(Strength::Zero));
        assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, true), &zero), Verdict::Holds(Strength::Zero));
        assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, false), &zero), mac_failure(Some(OtherKey::Zero)));
    }
}

#[test]
fn who_knows_the_keys_counts_as_such_though_zero_is_accepted() {
    let packet = call_connected(Hash::Sha256, &KEY);
    assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, true), &packet), Verdict::Holds(Strength::Keys));
    assert_eq!(judged(BOTH, HigherLayerKey::none(), &packet), mac_failure(None));
}

#[test]
fn keys_that_are_all_zero_are_no_keys() {
    let zero = call_connected(Hash::Sha256, &ZERO_KEY);
    assert_eq!(judged(BOTH, HigherLayerKey::keys(ZERO_KEY, false), &zero), mac_failure(Some(OtherKey::Zero)));
    assert_eq!(judged(BOTH, HigherLayerKey::keys(ZERO_KEY, true), &zero), Verdict::Holds(Strength::Zero));
}

#[test]
fn the_usual_mistakes_are_named_and_refused() {
    let (receive, send) = KEY.split_at(16);
    for (made_with, name) in [
        (ZERO_KEY, OtherKey::Zero),
        ([send, receive].concat().try_into().unwrap(), OtherKey::SwappedHalves),
        (widened(receive), OtherKey::ReceiveKeyOnly),
        (widened(send), OtherKey::SendKeyOnly),
    ] {
        for hash in [Hash::Sha1, Hash::Sha256] {
            let packet = call_connected(hash, &made_with);
            assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, false), &packet), mac_failure(Some(name)));
        }
    }
    let stranger = call_connected(Hash::Sha256, &[0x99; 32]);
    assert_eq!(judged(BOTH, HigherLayerKey::keys(KEY, true), &stranger), mac_failure(None));
}

#[test]
fn the_second_call_connected_before_the_login_is_one_too_many() {
    let packet = call_connected(Hash::Sha256, &KEY);
    let mut binding = Binding::new(BOTH, CERTIFICATE, NONCE);
    assert_eq!(binding.handle_call_connected(control(&packet)), Verdict::Waiting);
    assert_eq!(binding.handle_call_connected(control(&packet)), Verdict::Twice);
}

#[test]
fn what_can_be_seen_to_be_wrong_is_not_parked() {
    let mut binding = Binding::new(BOTH, CERTIFICATE, [0x41; 32]);
    let packet = call_connected(Hash::Sha256, &KEY);
    assert_eq!(binding.handle_call_connected(control(&packet)), Verdict::Fails(BindingFailure::Nonce));
}

#[test]
fn the_first_answer_of_the_login_stands() {
    let packet = call_connected(Hash::Sha256, &KEY);
    let mut binding = Binding::new(BOTH, CERTIFICATE, NONCE);
    binding.resolve_authentication(HigherLayerKey::keys([0x99; 32], false));
    binding.resolve_authentication(HigherLayerKey::keys(KEY, false));
    assert_eq!(binding.handle_call_connected(control(&packet)), mac_failure(None));
}

#[test]
fn the_ack_offers_what_is_configured() {
    for (sha1, sha256, hash_bitmask) in [(false, true, 2), (true, false, 1), (true, true, 3)] {
        let request = Binding::new(Hashes { sha1, sha256 }, CERTIFICATE, NONCE).request();
        assert_eq!(request, CryptoBindingRequest { hash_bitmask, nonce: NONCE });
    }
}

#[test]
fn nothing_of_the_key_is_printed() {
    let printed = format!("{:?}", HigherLayerKey::keys([0xAB; 32], true));
    assert_eq!(printed, "HigherLayerKey { zero_accepted: true, .. }");
}

#[test]
fn a_failure_reads_as_a_sentence_with_the_likely_cause() {
    let failure = BindingFailure::CompoundMac { would_match: Some(OtherKey::SwappedHalves) };
    assert_eq!(failure.to_string(), "the compound MAC is wrong: it was made with send key and receive key swapped");
    assert_eq!(BindingFailure::CompoundMac { would_match: None }.to_string(), "the compound MAC is wrong");
}
