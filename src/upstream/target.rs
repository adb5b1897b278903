//! Where an API's requests go: what the policy file says of `[upstream]`, resolved to keys and certificates.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::policy;

/// Requests in flight to one target, over all shards.
const IN_FLIGHT: usize = 4096;

/// A certificate that we show to upstreams.
pub struct ClientCertificate {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// The names that policies use for trust and for our own certificates.
#[derive(Debug)]
pub struct Authorities {
    /// `[authorities]`.
    pub named: BTreeMap<String, Arc<RootCertStore>>,
    /// What is trusted where a policy names no authority.
    pub system: Arc<RootCertStore>,
    /// `[client_certificates]`.
    pub certificates: BTreeMap<String, ClientCertificate>,
    /// Our own listeners: an upstream that resolves to one of them is refused.
    pub own_listeners: Vec<SocketAddr>,
    /// The admin socket: an upstream that turns out to be it is refused.
    pub own_socket: Option<PathBuf>,
}

/// Why a target cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The policy names an authority that the configuration does not have.
    #[error("no authority `{0}` in [authorities]")]
    Authority(String),
    /// The policy names a certificate that the configuration does not have.
    #[error("no certificate `{0}` in [client_certificates]")]
    Certificate(String),
    /// Certificate and key do not work together.
    #[error("client certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The host is not a name that TLS can check.
    #[error("`{0}` is not a server name")]
    ServerName(String),
}

/// One API's upstream.
pub struct Target {
    id: u64,
    name: String,
    spec: policy::Upstream,
    tls: Option<Tls>,
    own_listeners: Vec<SocketAddr>,
    own_socket: Option<PathBuf>,
    in_flight: Arc<Semaphore>,
}

/// How TLS to the upstream is made.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Target {
    /// Resolves the names in an API's `[upstream]`.
    ///
    /// # Errors
    ///
    /// A [`TargetError`] that names what is missing.
    pub fn new(api: &policy::Api, authorities: &Authorities) -> Result<Self, TargetError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let spec = api.upstream.clone();
        let tls = match &spec.url {
            policy::UpstreamUrl::Https { host, .. } => {
                let name = spec.server_name.as_ref().unwrap_or(host);
                Some(Tls {
                    config: Arc::new(client_config(&spec, authorities)?),
                    server_name: ServerName::try_from(name.clone())
                        .map_err(|_| TargetError::ServerName(name.clone()))?,
                })
            }
            policy::UpstreamUrl::Http { .. } | policy::UpstreamUrl::Unix { .. } => None,
        };
        Ok(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: api.name.to_string(),
            spec,
            tls,
            own_listeners: authorities.own_listeners.clone(),
            own_socket: authorities.own_socket.clone(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        })
    }

    /// The targets of a whole bundle, by API. One of `previous` that says the same is kept, with its connections;
    /// `previous` must have been resolved with the same authorities.
    ///
    /// # Errors
    ///
    /// The first target that cannot be built, with the API's name.
    pub fn all(
        bundle: &policy::Bundle,
        authorities: &Authorities,
        previous: Option<&HashMap<String, Arc<Self>>>,
    ) -> Result<HashMap<String, Arc<Self>>, (String, TargetError)> {
        let build = |api: &Arc<policy::Api>| {
            let kept = previous.and_then(|previous| previous.get(&api.name));
            if let Some(kept) = kept.filter(|kept| kept.spec == api.upstream) {
                return Ok((api.name.clone(), Arc::clone(kept)));
            }
            match Self::new(api, authorities) {
                Ok(target) => Ok((api.name.clone(), Arc::new(target))),
                Err(error) => Err((api.name.clone(), error)),
            }
        };
        bundle.apis().iter().map(build).collect()
    }

    /// Names this target for pools.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The API's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long a response's head may take.
    pub fn timeout(&self) -> Duration {
        self.spec.timeout
    }

    /// The longest request body, in bytes.
    pub fn max_body(&self) -> u64 {
        self.spec.max_body
    }

    pub(super) fn max_response_header(&self) -> usize {
        usize::try_from(self.spec.max_response_header).unwrap_or(usize::MAX)
    }

    pub(super) fn spec(&self) -> &policy::Upstream {
        &self.spec
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn own_listeners(&self) -> &[SocketAddr] {
        &self.own_listeners
    }

    pub(super) fn own_socket(&self) -> Option<&Path> {
        self.own_socket.as_deref()
    }

    pub(super) fn in_flight_limit(&self) -> usize {
        IN_FLIGHT
    }

    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }
}

fn client_config(spec: &policy::Upstream, authorities: &Authorities) -> Result<ClientConfig, TargetError> {
    let roots = match &spec.ca {
        None => &authorities.system,
        Some(name) => authorities.named.get(name).ok_or_else(|| TargetError::Authority(name.clone()))?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots));
    match &spec.client_cert {
        None => Ok(builder.with_no_client_auth()),
        Some(name) => {
            let certificate =
                authorities.certificates.get(name).ok_or_else(|| TargetError::Certificate(name.clone()))?;
            Ok(builder.with_client_auth_cert(certificate.chain.clone(), certificate.key.clone_key())?)
        }
    }
}
