//! Crypto binding: the proof that who logged in is who sits at the other end of this TLS connection.
//!
//! Goes in: what the Ack asked for, the Call Connected of the client, and the keys that the login made. Comes out: a
//! verdict. Without this check a man in the middle could carry the messages of somebody else's login into his own
//! tunnel. Ruled by [MS-SSTP] 3.2.5.2.2 to 3.2.5.2.5 and 3.3.5.2.3.

use super::wire::{AttributeId, CALL_CONNECTED, Control, CryptoBindingRequest, Message, Status, StatusInfo};
use hmac::digest::Output;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The seed of the compound MAC key. [MS-SSTP] 3.2.5.2.2.
const CMK_SEED: &[u8; 29] = b"SSTP inner method derived CMK";
/// Where the compound MAC begins in a Call Connected; it is computed over zeros in its own place.
const COMPOUND_MAC: usize = 80;
/// The higher-layer key of a login that makes none.
const ZERO_KEY: [u8; 32] = [0; 32];

/// The hashes of the certificate that this TLS connection showed: of its leaf, as DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateHashes {
    pub sha1: [u8; 20],
    pub sha256: [u8; 32],
}

/// The hash functions that the Ack offers. A client has to take SHA-256 when it may. [MS-SSTP] 2.2.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    pub sha1: bool,
    pub sha256: bool,
}

impl Hashes {
    pub const SHA256: Self = Self { sha1: false, sha256: true };

    fn bitmask(self) -> u8 {
        (u8::from(self.sha1) * Hash::Sha1 as u8) | (u8::from(self.sha256) * Hash::Sha256 as u8)
    }

    fn offered(self, protocol: u8) -> Option<Hash> {
        match protocol {
            1 if self.sha1 => Some(Hash::Sha1),
            2 if self.sha256 => Some(Hash::Sha256),
            _ => None,
        }
    }
}

/// The hash protocol of a Call Connected; as a bit, the one in the Ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1 = 1,
    Sha256 = 2,
}

/// The higher-layer authentication key (HLAK) that the login made: of which keys the client may prove knowledge.
pub struct HigherLayerKey {
    key: Option<Zeroizing<[u8; 32]>>,
    zero_accepted: bool,
}

impl HigherLayerKey {
    /// A login that makes no key, as PAP: only the all-zero key can be proved, which anybody can.
    pub fn none() -> Self {
        Self { key: None, zero_accepted: true }
    }

    /// The server's receive key, then its send key, 16 bytes each for the MS-CHAPv2 family; else the first 32 bytes of
    /// the MSK. `zero_accepted`: the all-zero key is tried next, for clients that use it with EAP-MSCHAPv2.
    ///
    /// An all-zero `key` is no key: it would let everybody in as if it were one.
    pub fn keys(key: [u8; 32], zero_accepted: bool) -> Self {
        let key = Zeroizing::new(key);
        let is_zero = bool::from(key.ct_eq(&ZERO_KEY));
        Self { key: (!is_zero).then_some(key), zero_accepted }
    }
}

impl fmt::Debug for HigherLayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HigherLayerKey").field("zero_accepted", &self.zero_accepted).finish_non_exhaustive()
    }
}

/// What a binding that holds has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// The client knows the keys of the login.
    Keys,
    /// Nothing but that it saw our certificate: the key was all zero.
    Zero,
}

/// Which check of [MS-SSTP] 3.3.5.2.3 failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindingFailure {
    #[error("Call Connected is not one crypto binding of {CALL_CONNECTED} bytes")]
    Form,
    #[error("hash protocol {got} was not offered")]
    HashProtocol { got: u8 },
    #[error("the nonce is not the one of the Call Connect Ack")]
    Nonce,
    #[error("the hash is not that of the certificate shown on this connection")]
    CertificateHash,
    #[error("the compound MAC is wrong{}", hint(*would_match))]
    CompoundMac {
        /// The wrong key with which it would have been right: for the log, nobody is let in by it.
        would_match: Option<OtherKey>,
    },
}

impl BindingFailure {
    pub(super) fn complaint(self) -> StatusInfo<'static> {
        match self {
            Self::Form => StatusInfo::new(AttributeId::STATUS_INFO, Status::ATTRIB_NOT_SUPPORTED_IN_MSG),
            Self::HashProtocol { .. } | Self::Nonce | Self::CertificateHash | Self::CompoundMac { .. } => {
                StatusInfo::new(AttributeId::CRYPTO_BINDING, Status::VALUE_NOT_SUPPORTED)
            }
        }
    }
}

/// A key with which a compound MAC may have been made by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherKey {
    Zero,
    SwappedHalves,
    ReceiveKeyOnly,
    SendKeyOnly,
}

fn hint(would_match: Option<OtherKey>) -> &'static str {
    match would_match {
        None => "",
        Some(OtherKey::Zero) => ": it was made with an all-zero key",
        Some(OtherKey::SwappedHalves) => ": it was made with send key and receive key swapped",
        Some(OtherKey::ReceiveKeyOnly) => ": it was made with the receive key only",
        Some(OtherKey::SendKeyOnly) => ": it was made with the send key only",
    }
}

/// What is known after a Call Connected or the end of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of the two is still missing.
    Waiting,
    Holds(Strength),
    Fails(BindingFailure),
    /// There was a Call Connected already, waiting for the end of the login.
    Twice,
}

/// The binding of one call, from the Ack to the verdict. Dropping it erases what it knows.
pub(super) struct Binding {
    offered: Hashes,
    certificate: CertificateHashes,
    nonce: Zeroizing<[u8; 32]>,
    key: Option<HigherLayerKey>,
    /// A Call Connected that came before the end of the login. One copy is kept: the spec knows no second.
    parked: Option<Claim>,
}

/// A Call Connected whose nonce and certificate hash are right.
struct Claim {
    hash: Hash,
    packet: Zeroizing<[u8; CALL_CONNECTED]>,
}

impl Binding {
    pub(super) fn new(offered: Hashes, certificate: CertificateHashes, nonce: [u8; 32]) -> Self {
        Self { offered, certificate, nonce: Zeroizing::new(nonce), key: None, parked: None }
    }

    pub(super) fn request(&self) -> CryptoBindingRequest {
        CryptoBindingRequest { hash_bitmask: self.offered.bitmask(), nonce: *self.nonce }
    }

    pub(super) fn handle_call_connected(&mut self, control: Control<'_>) -> Verdict {
        if self.parked.is_some() {
            return Verdict::Twice;
        }
        match (self.check(control), &self.key) {
            (Err(failure), _) => Verdict::Fails(failure),
            (Ok(claim), Some(key)) => claim.judge(key),
            (Ok(claim), None) => {
                self.parked = Some(claim);
                Verdict::Waiting
            }
        }
    }

    /// The first answer stands.
    pub(super) fn resolve_authentication(&mut self, key: HigherLayerKey) -> Verdict {
        let key = self.key.get_or_insert(key);
        self.parked.take().map_or(Verdict::Waiting, |claim| claim.judge(key))
    }

    /// All but the compound MAC.
    fn check(&self, control: Control<'_>) -> Result<Claim, BindingFailure> {
        let Ok(packet) = <[u8; CALL_CONNECTED]>::try_from(control.as_bytes()) else {
            return Err(BindingFailure::Form);
        };
        let packet = Zeroizing::new(packet);
        let Ok(Message::CallConnected(binding)) = Message::parse(control) else {
            return Err(BindingFailure::Form);
        };
        let got = binding.hash_protocol;
        let hash = self.offered.offered(got).ok_or(BindingFailure::HashProtocol { got })?;
        if !equal(&binding.nonce, &*self.nonce) {
            return Err(BindingFailure::Nonce);
        }
        let same_certificate = match hash {
            Hash::Sha1 => starts_with(&binding.certificate_hash, &self.certificate.sha1),
            Hash::Sha256 => equal(&binding.certificate_hash, &self.certificate.sha256),
        };
        if !same_certificate {
            return Err(BindingFailure::CertificateHash);
        }
        Ok(Claim { hash, packet })
    }
}

impl Claim {
    /// The keys of the login are tried first, so that a client that knows them is never counted as one that does not.
    fn judge(&self, key: &HigherLayerKey) -> Verdict {
        if key.key.as_ref().is_some_and(|key| self.proves(key)) {
            return Verdict::Holds(Strength::Keys);
        }
        if key.zero_accepted && self.proves(&ZERO_KEY) {
            return Verdict::Holds(Strength::Zero);
        }
        let would_match = other_keys(key).into_iter().find(|(_, other)| self.proves(other)).map(|(name, _)| name);
        Verdict::Fails(BindingFailure::CompoundMac { would_match })
    }

    fn proves(&self, key: &[u8; 32]) -> bool {
        let (head, received) = self.packet.split_at(COMPOUND_MAC);
        match self.hash {
            Hash::Sha1 => starts_with(received, &compound_mac::<Hmac<Sha1>>(key, head)),
            Hash::Sha256 => equal(received, &compound_mac::<Hmac<Sha256>>(key, head)),
        }
    }
}

/// The compound MAC that `key` makes. `head` is the Call Connected as received, up to the compound MAC, whose place
/// counts as zeros. [MS-SSTP] 3.2.5.2.4.
fn compound_mac<M: Mac + KeyInit>(key: &[u8; 32], head: &[u8]) -> Output<M> {
    let cmk = compound_mac_key::<M>(key);
    keyed::<M>(&cmk).chain_update(head).chain_update([0; CALL_CONNECTED - COMPOUND_MAC]).finalize().into_bytes()
}

/// The compound MAC key (CMK). One round of PRF+ gives the whole of it for either hash. [MS-SSTP] 3.2.5.2.2.
fn compound_mac_key<M: Mac + KeyInit>(key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let length = M::output_size() as u16;
    let round = keyed::<M>(key).chain_update(CMK_SEED).chain_update(length.to_le_bytes()).chain_update([1]);
    Zeroizing::new(round.finalize().into_bytes().to_vec())
}

fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The usual mistakes, as far as `key` can tell.
fn other_keys(key: &HigherLayerKey) -> Vec<(OtherKey, Zeroizing<[u8; 32]>)> {
    let mut others = vec![(OtherKey::Zero, Zeroizing::new(ZERO_KEY))];
    if let Some(key) = &key.key {
        let (receive, send) = key.split_at(16);
        others.push((OtherKey::SwappedHalves, padded(send, receive)));
        others.push((OtherKey::ReceiveKeyOnly, padded(receive, &[])));
        others.push((OtherKey::SendKeyOnly, padded(send, &[])));
    }
    others
}

fn padded(first: &[u8], second: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new(ZERO_KEY);
    for (to, from) in key.iter_mut().zip(first.iter().chain(second)) {
        *to = *from;
    }
    key
}

fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// `field` is padded behind a hash that is shorter; the padding does not count.
fn starts_with(field: &[u8], hash: &[u8]) -> bool {
    field.get(..hash.len()).is_some_and(|start| equal(start, hash))
}

#[cfg(test)]
mod tests;
