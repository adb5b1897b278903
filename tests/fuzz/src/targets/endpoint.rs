//! The server's end of a tunnel as its operations find it: the configuration, the chance, and the one account.

use std::sync::Arc;
use std::time::Instant;

use wicket_client::crypto::{BindingHash, certificate_hash};
use wicketgate::identity::Method;
use wicketgate::ppp;
use wicketgate::ppp::auth::mschapv2::{NtHash, verify, without_domain};
use wicketgate::ppp::auth::{Proof, Refusal, Verdict};
use wicketgate::sstp::{CertificateHashes, Hashes};
use wicketgate::tunnel::{Config, Seeds, Tunnel};

use super::packets::{self, CLIENT, GATEWAY};

pub(crate) const CERTIFICATE: &[u8] = b"a certificate";
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "correct horse";

/// `method` is offered first.
pub(crate) fn config(method: Method) -> Config {
    let mut methods = vec![Method::EapMsChapV2, Method::MsChapV2, Method::Pap];
    methods.retain(|other| *other != method);
    methods.insert(0, method);
    let ppp = ppp::Config {
        methods,
        gateway: GATEWAY,
        client: CLIENT,
        dns: GATEWAY,
        server_name: "vpn.corp.example".to_owned(),
    };
    Config {
        ppp: Arc::new(ppp),
        network: packets::config(),
        hashes: Hashes::SHA256,
        zero_binding: vec![Method::EapMsChapV2],
    }
}

/// Two of these are the same.
pub(crate) fn tunnel(config: &Arc<Config>, now: Instant) -> Tunnel {
    let mut sha1 = [0; 20];
    sha1.copy_from_slice(&certificate_hash(BindingHash::Sha1, CERTIFICATE)[..20]);
    let certificate = CertificateHashes { sha1, sha256: certificate_hash(BindingHash::Sha256, CERTIFICATE) };
    let link = ppp::Seed(std::array::from_fn(|at| at as u8 + 1));
    Tunnel::new(Arc::clone(config), certificate, Seeds { nonce: [0x40; 32], link, stack: 7 }, now)
}

/// As `identity::authn` does for a user file with one account.
pub(crate) fn judge(proof: &Proof) -> Verdict {
    let success = match proof {
        Proof::Password { name, password } => {
            let right = name == USER.as_bytes() && password.as_bytes() == PASSWORD.as_bytes();
            return if right { Verdict::Accepted(None) } else { Verdict::Refused(Refusal::Credentials) };
        }
        Proof::MsChapV2 { name, challenge, peer_challenge, nt_response, .. } => {
            let hash = NtHash::of_password(PASSWORD);
            verify(&hash, name, challenge, peer_challenge, nt_response)
                .filter(|_| without_domain(name) == USER.as_bytes())
        }
    };
    success.map_or(Verdict::Refused(Refusal::Credentials), |success| Verdict::Accepted(Some(success)))
}
