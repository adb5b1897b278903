//! The client's side of MS-CHAPv2 (RFC 2759), its MPPE start keys (RFC 3079) and the SSTP crypto binding
//! (MS-SSTP 3.2.5.2). Pure functions over bytes.

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt};
use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The higher-layer authentication key, 32 bytes; all zero when the method derives none.
#[derive(Clone, PartialEq, Eq)]
pub struct Hlak(pub [u8; 32]);

impl Hlak {
    /// The key of PAP, and of Windows 10 after EAP-MSCHAPv2.
    pub const ZERO: Self = Self([0; 32]);

    /// `MasterSendKey ‖ MasterReceiveKey` as the client names them.
    pub fn from_keys(send: &[u8; 16], receive: &[u8; 16]) -> Self {
        Self(concat(send, receive))
    }
}

/// The hash of the crypto binding, with its HashProto value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingHash {
    Sha1 = 1,
    Sha256 = 2,
}

/// What one MS-CHAPv2 exchange gives a client that knows the password.
#[derive(Clone)]
pub struct MsChapV2 {
    /// Goes to the server.
    pub nt_response: [u8; 24],
    /// What the server must prove: `S=` and 40 upper-case hex digits.
    pub authenticator_response: String,
    /// Client sends, server receives (RFC 3079 Magic2).
    pub send_key: [u8; 16],
    /// Client receives, server sends (RFC 3079 Magic3).
    pub receive_key: [u8; 16],
}

impl MsChapV2 {
    /// `user` may have a `DOMAIN\` prefix; the hash covers the name without it.
    pub fn respond(user: &[u8], password: &str, authenticator: &[u8; 16], peer: &[u8; 16]) -> Self {
        let hash = nt_password_hash(password);
        let hash_hash: [u8; 16] = Md4::digest(hash).into();
        let challenge = challenge_hash(peer, authenticator, user);
        let nt_response = challenge_response(&challenge, &hash);
        let master = master_key(&hash_hash, &nt_response);
        Self {
            nt_response,
            authenticator_response: authenticator_response(&hash_hash, &nt_response, &challenge),
            send_key: start_key(&master, MAGIC2),
            receive_key: start_key(&master, MAGIC3),
        }
    }

    pub fn hlak(&self) -> Hlak {
        Hlak::from_keys(&self.send_key, &self.receive_key)
    }
}

/// RFC 2759 8.3: MD4 over the UTF-16LE password.
pub fn nt_password_hash(password: &str) -> [u8; 16] {
    let utf16: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    Md4::digest(&utf16).into()
}

/// RFC 2759 8.2.
pub fn challenge_hash(peer: &[u8; 16], authenticator: &[u8; 16], user: &[u8]) -> [u8; 8] {
    let name = user.rsplit(|&byte| byte == b'\\').next().unwrap_or(user);
    let digest = Sha1::new().chain_update(peer).chain_update(authenticator).chain_update(name).finalize();
    first(&digest)
}

/// RFC 2759 8.5: three DES blocks under the 21 bytes of the padded hash.
fn challenge_response(challenge: &[u8; 8], hash: &[u8; 16]) -> [u8; 24] {
    let mut padded = [0; 21];
    padded[..16].copy_from_slice(hash);
    let mut response = [0; 24];
    for (key, block) in padded.as_chunks::<7>().0.iter().zip(response.as_chunks_mut::<8>().0) {
        let mut cipher_block = Array::from(*challenge);
        Des::new(&Array::from(des_key(key))).encrypt_block(&mut cipher_block);
        *block = cipher_block.into();
    }
    response
}

/// Spreads 56 bits over eight bytes with odd parity in the lowest bit of each.
fn des_key(raw: &[u8; 7]) -> [u8; 8] {
    let bits = raw.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    std::array::from_fn(|index| {
        let seven = (bits >> (49 - 7 * index) & 0x7F) as u8;
        seven << 1 | (seven.count_ones() as u8 & 1 ^ 1)
    })
}

/// RFC 2759 8.7.
fn authenticator_response(hash_hash: &[u8; 16], nt_response: &[u8; 24], challenge: &[u8; 8]) -> String {
    let inner = Sha1::new()
        .chain_update(hash_hash)
        .chain_update(nt_response)
        .chain_update(b"Magic server to client signing constant")
        .finalize();
    let outer = Sha1::new()
        .chain_update(inner)
        .chain_update(challenge)
        .chain_update(b"Pad to make it do more than one iteration")
        .finalize();
    outer.iter().fold(String::from("S="), |text, byte| text + &format!("{byte:02X}"))
}

const MAGIC2: &[u8; 84] = b"On the client side, this is the send key; on the server side, it is the receive key.";
const MAGIC3: &[u8; 84] = b"On the client side, this is the receive key; on the server side, it is the send key.";

/// RFC 3079 3.4, GetMasterKey.
fn master_key(hash_hash: &[u8; 16], nt_response: &[u8; 24]) -> [u8; 16] {
    let digest = Sha1::new()
        .chain_update(hash_hash)
        .chain_update(nt_response)
        .chain_update(b"This is the MPPE Master Key")
        .finalize();
    first(&digest)
}

/// RFC 3079 3.4, GetAsymmetricStartKey for 128 bits.
fn start_key(master: &[u8; 16], magic: &[u8]) -> [u8; 16] {
    let digest =
        Sha1::new().chain_update(master).chain_update([0; 40]).chain_update(magic).chain_update([0xF2; 40]).finalize();
    first(&digest)
}

/// The hash of the server's certificate as Call Connected carries it: SHA-1 is padded with zero bytes.
pub fn certificate_hash(hash: BindingHash, der: &[u8]) -> [u8; 32] {
    match hash {
        BindingHash::Sha256 => Sha256::digest(der).into(),
        BindingHash::Sha1 => padded(&Sha1::digest(der)),
    }
}

/// MS-SSTP 3.2.5.2.2: the compound MAC key, one round of PRF+.
pub fn compound_mac_key(hash: BindingHash, hlak: &Hlak) -> Vec<u8> {
    let length: u16 = match hash {
        BindingHash::Sha1 => 20,
        BindingHash::Sha256 => 32,
    };
    let mut seed = b"SSTP inner method derived CMK".to_vec();
    seed.extend(length.to_le_bytes());
    seed.push(1);
    hmac(hash, &hlak.0, &seed)
}

/// MS-SSTP 3.2.5.2.3: the compound MAC over Call Connected, whose MAC field must be zero; padded with zero bytes.
pub fn compound_mac(hash: BindingHash, hlak: &Hlak, call_connected: &[u8; 112]) -> [u8; 32] {
    padded(&hmac(hash, &compound_mac_key(hash, hlak), call_connected))
}

fn hmac(hash: BindingHash, key: &[u8], message: &[u8]) -> Vec<u8> {
    const ANY_LENGTH: &str = "HMAC takes a key of any length";
    match hash {
        BindingHash::Sha1 => {
            let mac = Hmac::<Sha1>::new_from_slice(key).expect(ANY_LENGTH);
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        BindingHash::Sha256 => {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH);
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
    }
}

fn concat(head: &[u8; 16], tail: &[u8; 16]) -> [u8; 32] {
    let mut both = [0; 32];
    both[..16].copy_from_slice(head);
    both[16..].copy_from_slice(tail);
    both
}

/// The first `N` bytes of a digest that has more.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    std::array::from_fn(|index| digest[index])
}

fn padded(digest: &[u8]) -> [u8; 32] {
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0))
}

/// Bytes that only a holder of the seed can foretell: SHA-256 in counter mode.
#[derive(Clone)]
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// At most 32 bytes at a time.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.counter += 1;
        first(&Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize())
    }
}

#[cfg(test)]
mod tests;
