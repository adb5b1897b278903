//! What a reload replaces, in one `Arc`: a request sees one generation of everything, never a mixture.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::identity::authn::{Tokens, Users};
use crate::listener::tls::Certificate;
use crate::policy::Bundle;
use crate::upstream::Target;

/// One generation.
pub struct Snapshot {
    /// Counts up with every reload.
    pub generation: u64,
    /// The policies; `None` until a valid bundle was loaded: nothing is allowed.
    pub bundle: Option<Arc<Bundle>>,
    /// The user file.
    pub users: Arc<Users>,
    /// The issuers of tokens and their keys.
    pub tokens: Arc<Tokens>,
    /// What SSTP clients see.
    pub certificate: Arc<Certificate>,
    /// TLS of the inner network, by virtual address.
    pub services: HashMap<Ipv4Addr, Arc<ServerConfig>>,
    /// Where requests go, by API.
    pub targets: HashMap<String, Arc<Target>>,
}

/// The current generation, and who wants to know when there is a new one.
pub struct Snapshots {
    current: ArcSwap<Snapshot>,
    generations: watch::Sender<u64>,
}

impl Snapshots {
    /// Begins with a first generation.
    pub fn new(first: Snapshot) -> Self {
        Self { generations: watch::Sender::new(first.generation), current: ArcSwap::from_pointee(first) }
    }

    /// The current generation, for a short look.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current generation, to keep for one request.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the generation; requests that run keep theirs until they are judged again.
    pub fn store(&self, next: Snapshot) {
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.generations.send_replace(generation);
    }

    /// Tells of new generations.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }
}
