//! MS-CHAPv2: the messages and derivations that CHAP and EAP share.
//!
//! [RFC 2759] rules the messages, the NT-Response and the authenticator response; RFC 3079 section 3 the keys, from
//! which SSTP's crypto binding is made. Everything here is a pure function of its arguments.

use std::fmt;

use des::Des;
use des::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use md4::Md4;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::{DENIED, MAX_NAME, Method, Proof};
use crate::ppp::wire::{Malformed, hex};

/// Value-Size of a Challenge.
const CHALLENGE_SIZE: u8 = 16;

/// Value-Size of a Response: peer challenge, eight reserved bytes, NT-Response, flags.
const RESPONSE_SIZE: u8 = 49;

/// "Error changing password": we never ask for a change, so no change can succeed.
const ERROR_CHANGING_PASSWORD: u16 = 709;

/// RFC 2759 section 8.7, Magic1.
const AUTHENTICATOR_MAGIC_1: &[u8] = b"Magic server to client signing constant";

/// RFC 2759 section 8.7, Magic2.
const AUTHENTICATOR_MAGIC_2: &[u8] = b"Pad to make it do more than one iteration";

/// RFC 3079 section 3.4, Magic1.
const MASTER_KEY_MAGIC: &[u8] = b"This is the MPPE Master Key";

/// RFC 3079 section 3.4, Magic2.
const CLIENT_SENDS_MAGIC: &[u8] =
    b"On the client side, this is the send key; on the server side, it is the receive key.";

/// RFC 3079 section 3.4, Magic3.
const CLIENT_RECEIVES_MAGIC: &[u8] =
    b"On the client side, this is the receive key; on the server side, it is the send key.";

/// The password as MS-CHAPv2 uses it: MD4 of its UTF-16LE form. As good as the password itself, hence wiped.
#[derive(Clone)]
pub struct NtHash([u8; 16]);

impl NtHash {
    /// NtPasswordHash, RFC 2759 section 8.3.
    pub fn of_password(password: &str) -> Self {
        let mut utf16: Vec<u8> = Vec::with_capacity(password.len().saturating_mul(2));
        utf16.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
        let hash = Md4::digest(&utf16).into();
        utf16.zeroize();
        Self(hash)
    }

    /// A hash that was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The hash, for storing.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// HashNtPasswordHash, RFC 2759 section 8.4.
    fn hashed(&self) -> [u8; 16] {
        Md4::digest(self.0).into()
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NtHash")
    }
}

impl PartialEq for NtHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for NtHash {}

impl Drop for NtHash {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a verified response yields.
#[derive(Clone)]
pub struct Success {
    /// Proves to the client that we know its password.
    pub authenticator_response: [u8; 20],
    /// The key that the client sends with, then the one it receives with; SSTP's HLAK (MS-SSTP 3.2.5.2).
    pub binding_key: [u8; 32],
}

impl fmt::Debug for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Success")
    }
}

impl PartialEq for Success {
    fn eq(&self, other: &Self) -> bool {
        (self.authenticator_response.ct_eq(&other.authenticator_response) & self.binding_key.ct_eq(&other.binding_key))
            .into()
    }
}

impl Eq for Success {}

impl Drop for Success {
    fn drop(&mut self) {
        self.authenticator_response.zeroize();
        self.binding_key.zeroize();
    }
}

/// Whether `nt_response` answers the challenges with the password of `hash`, and what follows from it. `name` is the
/// one of the Response, as sent. Takes the same time for every wrong response.
pub fn verify(
    hash: &NtHash,
    name: &[u8],
    challenge: &[u8; 16],
    peer_challenge: &[u8; 16],
    nt_response: &[u8; 24],
) -> Option<Success> {
    let challenge_hash = challenge_hash(peer_challenge, challenge, name);
    let expected = self::nt_response(hash, &challenge_hash);
    bool::from(expected.ct_eq(nt_response)).then(|| Success {
        authenticator_response: authenticator_response(hash, nt_response, &challenge_hash),
        binding_key: binding_key(hash, nt_response),
    })
}

/// The name without the `DOMAIN\` that Windows may put in front, which takes no part in the hash.
pub fn without_domain(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'\\').next().unwrap_or(name)
}

/// ChallengeHash, RFC 2759 section 8.2. A domain in front of the name is left out.
pub fn challenge_hash(peer_challenge: &[u8; 16], challenge: &[u8; 16], name: &[u8]) -> [u8; 8] {
    let digest =
        Sha1::new().chain_update(peer_challenge).chain_update(challenge).chain_update(without_domain(name)).finalize();
    let [a, b, c, d, e, f, g, h, ..]: [u8; 20] = digest.into();
    [a, b, c, d, e, f, g, h]
}

/// ChallengeResponse, RFC 2759 section 8.5: DES of the challenge hash under three keys cut from the padded hash.
pub fn nt_response(hash: &NtHash, challenge_hash: &[u8; 8]) -> [u8; 24] {
    let mut keys = [0; 21];
    let (used, _) = keys.split_at_mut(hash.0.len());
    used.copy_from_slice(&hash.0);
    let mut response = [0; 24];
    for (key, block) in keys.as_chunks::<7>().0.iter().zip(response.as_chunks_mut::<8>().0) {
        let mut encrypted = (*challenge_hash).into();
        Des::new(&des_key(key).into()).encrypt_block(&mut encrypted);
        *block = encrypted.into();
    }
    keys.zeroize();
    response
}

/// Spreads 56 bits over eight bytes, each with an unused parity bit at its end (RFC 2759 section 8.6).
fn des_key(key: &[u8; 7]) -> [u8; 8] {
    let [a, b, c, d, e, f, g] = *key;
    let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    let mut spread = [0; 8];
    for (byte, shift) in spread.iter_mut().zip([49_u32, 42, 35, 28, 21, 14, 7, 0]) {
        let [.., seven] = ((bits >> shift) & 0x7F).to_be_bytes();
        *byte = seven << 1;
    }
    spread
}

/// GenerateAuthenticatorResponse, RFC 2759 section 8.7, before it is printed.
pub fn authenticator_response(hash: &NtHash, nt_response: &[u8; 24], challenge_hash: &[u8; 8]) -> [u8; 20] {
    let mut hashed = hash.hashed();
    let digest =
        Sha1::new().chain_update(hashed).chain_update(nt_response).chain_update(AUTHENTICATOR_MAGIC_1).finalize();
    hashed.zeroize();
    Sha1::new().chain_update(digest).chain_update(challenge_hash).chain_update(AUTHENTICATOR_MAGIC_2).finalize().into()
}

/// GetMasterKey and GetAsymmetricStartKey, RFC 3079 section 3.4: the client's send key, then its receive key.
pub fn binding_key(hash: &NtHash, nt_response: &[u8; 24]) -> [u8; 32] {
    let mut hashed = hash.hashed();
    let digest = Sha1::new().chain_update(hashed).chain_update(nt_response).chain_update(MASTER_KEY_MAGIC).finalize();
    hashed.zeroize();
    let mut master_key = first_16(digest.into());
    let mut keys = [0; 32];
    for (key, magic) in keys.as_chunks_mut::<16>().0.iter_mut().zip([CLIENT_SENDS_MAGIC, CLIENT_RECEIVES_MAGIC]) {
        let digest = Sha1::new()
            .chain_update(master_key)
            .chain_update([0x00; 40])
            .chain_update(magic)
            .chain_update([0xF2; 40])
            .finalize();
        *key = first_16(digest.into());
    }
    master_key.zeroize();
    keys
}

fn first_16(digest: [u8; 20]) -> [u8; 16] {
    let [first @ .., _, _, _, _] = digest;
    first
}

/// The fields of a Response (RFC 2759 section 4) that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    peer_challenge: [u8; 16],
    nt_response: [u8; 24],
    name: &'a [u8],
}

impl<'a> Response<'a> {
    /// Value-Size and value; the shortest Response has an empty name.
    pub(super) const MIN: usize = 1 + RESPONSE_SIZE as usize;

    /// Reads what follows the header of CHAP. The reserved bytes and the flags are not looked at: clients differ.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::TooShort { expected: Self::MIN, got: data.len() };
        let (size, rest) = data.split_first().ok_or(short)?;
        if *size != RESPONSE_SIZE {
            let expected = usize::from(RESPONSE_SIZE);
            return Err(Malformed::BadLength { least: expected, most: expected, got: usize::from(*size) });
        }
        let (peer_challenge, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
        let (_reserved, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let (nt_response, rest) = rest.split_first_chunk::<24>().ok_or(short)?;
        let (_flags, name) = rest.split_first().ok_or(short)?;
        if name.len() > MAX_NAME {
            return Err(Malformed::NameTooLong { got: name.len(), limit: MAX_NAME });
        }
        Ok(Self { peer_challenge: *peer_challenge, nt_response: *nt_response, name })
    }

    /// The question to ask.
    pub(super) fn proof(&self, method: Method, challenge: [u8; 16]) -> Proof {
        Proof::MsChapV2 {
            method,
            name: self.name.to_vec(),
            challenge,
            peer_challenge: self.peer_challenge,
            nt_response: self.nt_response,
        }
    }
}

/// What follows the header of a Challenge.
pub(super) fn challenge_message(challenge: &[u8; 16], server_name: &str) -> Vec<u8> {
    let mut data = vec![CHALLENGE_SIZE];
    data.extend_from_slice(challenge);
    data.extend_from_slice(server_name.as_bytes());
    data
}

/// What follows the header of a Success. The client compares the digits, which must be in upper case.
pub(super) fn success_message(success: &Success) -> Vec<u8> {
    format!("S={} M=ok", hex(&success.authenticator_response)).into_bytes()
}

/// What follows the header of a Failure. No retry: the client shows its dialog and comes back with a new call, so
/// that whoever counts failures sees one per connection.
pub(super) fn failure_message(error: u16, challenge: &[u8; 16]) -> Vec<u8> {
    format!("E={error} R=0 C={} V=3 M={DENIED}", hex(challenge)).into_bytes()
}

/// The Failure that answers a Change-Password packet.
pub(super) fn change_refused_message(challenge: &[u8; 16]) -> Vec<u8> {
    failure_message(ERROR_CHANGING_PASSWORD, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; 16] = 0x5B5D_7C7D_7B3F_2F3E_3C2C_6021_3226_2628_u128.to_be_bytes();
    const PEER_CHALLENGE: [u8; 16] = 0x2140_2324_255E_262A_2829_5F2B_3A33_7C7E_u128.to_be_bytes();

    fn bytes<const N: usize>(digits: &str) -> [u8; N] {
        assert_eq!(digits.len(), 2 * N);
        std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
    }

    /// RFC 2759 section 9.2 and RFC 3079 section 3.5.3.
    #[test]
    fn the_vectors_of_the_rfcs_come_out() {
        let hash = NtHash::of_password("clientPass");
        assert_eq!(hash.as_bytes(), &bytes("44EBBA8D5312B8D611474411F56989AE"));
        assert_eq!(hash.hashed(), bytes("41C00C584BD2D91C4017A2A12FA59F3F"));
        let challenge_hash = challenge_hash(&PEER_CHALLENGE, &CHALLENGE, b"User");
        assert_eq!(challenge_hash, bytes("D02E4386BCE91226"));
        let response = nt_response(&hash, &challenge_hash);
        assert_eq!(response, bytes("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"));
        let success = verify(&hash, b"User", &CHALLENGE, &PEER_CHALLENGE, &response).unwrap();
        assert_eq!(success_message(&success), b"S=407A5589115FD0D6209F510FE9C04566932CDA56 M=ok");
        assert_eq!(success.binding_key, bytes("D5F0E9521E3EA9589645E86051C822268B7CDC149B993A1BA118CB153F56DCCB"));
    }

    /// The keys that sstpc's plugin got from pppd, and the exchange that they come from.
    #[test]
    fn the_keys_of_a_real_pppd_come_out() {
        let success = verify(
            &NtHash::of_password("vpnpass"),
            b"vpnuser",
            &bytes("AD690E2042C7A584DAAFE2FF92716DDB"),
            &bytes("BF9C6C85D7E2E810E9211A19B93567C3"),
            &bytes("3D46F21FC81F1FF15F2F9A052D5B60A74D83C4E90197B5BE"),
        )
        .unwrap();
        assert_eq!(success.authenticator_response, bytes("EB02F265702903DEE46362B0562B927CD2C2E757"));
        assert_eq!(success.binding_key, bytes("649468D79073B72EF7D610ED0CB6F8A6C44469E4D9E0444187CB3B8EB725A634"));
    }

    #[test]
    fn the_domain_takes_no_part_and_the_realm_does() {
        let hash = NtHash::of_password("clientPass");
        let response = nt_response(&hash, &challenge_hash(&PEER_CHALLENGE, &CHALLENGE, b"User"));
        let verifies = |name: &[u8]| verify(&hash, name, &CHALLENGE, &PEER_CHALLENGE, &response).is_some();
        assert!(verifies(b"CORP\\User"));
        assert!(verifies(b"A\\B\\User"));
        assert!(!verifies(b"User@corp.example"));
        assert!(!verifies(b"user"));
    }

    #[test]
    fn another_password_challenge_or_response_does_not_verify() {
        let hash = NtHash::of_password("clientPass");
        let response = nt_response(&hash, &challenge_hash(&PEER_CHALLENGE, &CHALLENGE, b"User"));
        let mut bent = response;
        bent[23] ^= 1;
        let other = NtHash::of_password("clientpass");
        assert_eq!(verify(&other, b"User", &CHALLENGE, &PEER_CHALLENGE, &response), None);
        assert_eq!(verify(&hash, b"User", &PEER_CHALLENGE, &CHALLENGE, &response), None);
        assert_eq!(verify(&hash, b"User", &CHALLENGE, &PEER_CHALLENGE, &bent), None);
    }

    #[test]
    fn keys_and_hashes_are_not_printed() {
        assert_eq!(format!("{:?}", NtHash::of_password("clientPass")), "NtHash");
        let success = Success { authenticator_response: [1; 20], binding_key: [2; 32] };
        assert_eq!(format!("{success:?}"), "Success");
    }

    #[test]
    fn a_response_is_49_bytes_and_a_name_of_at_most_256() {
        let mut data = vec![RESPONSE_SIZE];
        data.extend([0; 49]);
        assert_eq!(Response::parse(&data).map(|response| response.name), Ok(&b""[..]));
        assert_eq!(Response::parse(&data[..49]), Err(Malformed::TooShort { expected: 50, got: 49 }));
        data.extend([b'a'; MAX_NAME]);
        assert_eq!(Response::parse(&data).map(|response| response.name.len()), Ok(MAX_NAME));
        data.push(b'a');
        assert_eq!(Response::parse(&data), Err(Malformed::NameTooLong { got: MAX_NAME + 1, limit: MAX_NAME }));
        data[0] = 48;
        assert_eq!(Response::parse(&data), Err(Malformed::BadLength { least: 49, most: 49, got: 48 }));
    }
}
