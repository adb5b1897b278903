//! How many connections may be open that have not logged in: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Config;

/// As many sources as a whole IPv6 /48 counts for.
const NETWORK_FACTOR: usize = 8;

/// The places of one listener.
pub struct Admissions {
    places: Arc<Semaphore>,
    per_source: usize,
    /// Only those with a connection that has not logged in: at most two for each place.
    sources: Mutex<HashMap<Source, usize>>,
}

/// A connection's place until it logs in or ends.
pub struct Admission {
    admissions: Arc<Admissions>,
    sources: [Option<Source>; 2],
    _place: OwnedSemaphorePermit,
}

impl Admissions {
    /// As many places as the configuration says.
    pub fn new(config: Config) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.max_unauthenticated)),
            per_source: config.max_unauthenticated_per_source,
            sources: Mutex::default(),
        }
    }

    /// A place, if one is free now.
    pub fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Gives the place to a connection from `source`, unless it has too many.
    pub fn admit(self: &Arc<Self>, place: OwnedSemaphorePermit, source: IpAddr) -> Option<Admission> {
        let of = Source::of(source);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |source: &Source| {
            sources.get(source).is_some_and(|count| *count >= self.per_source.saturating_mul(source.factor()))
        };
        if of.iter().flatten().any(full) {
            return None;
        }
        for source in of.into_iter().flatten() {
            *sources.entry(source).or_insert(0) += 1;
        }
        Some(Admission { admissions: Arc::clone(self), sources: of, _place: place })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut sources = self.admissions.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for source in self.sources.into_iter().flatten() {
            if let Some(count) = sources.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    sources.remove(&source);
                }
            }
        }
    }
}

/// What counts as one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// An IPv4 address.
    Address(Ipv4Addr),
    /// An IPv6 /64, of which one customer has all.
    Subscriber(u64),
    /// An IPv6 /48, of which one can easily get all.
    Network(u64),
}

impl Source {
    fn of(address: IpAddr) -> [Option<Self>; 2] {
        match address.to_canonical() {
            IpAddr::V4(v4) => [Some(Self::Address(v4)), None],
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments().map(u64::from);
                let network = a << 32 | b << 16 | c;
                [Some(Self::Subscriber(network << 16 | d)), Some(Self::Network(network))]
            }
        }
    }

    fn factor(self) -> usize {
        match self {
            Self::Address(_) | Self::Subscriber(_) => 1,
            Self::Network(_) => NETWORK_FACTOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions() -> Arc<Admissions> {
        Arc::new(Admissions::new(Config { max_unauthenticated: 3, max_unauthenticated_per_source: 2 }))
    }

    async fn admit(admissions: &Arc<Admissions>, source: &str) -> Option<Admission> {
        let place = admissions.place().await;
        admissions.admit(place, source.parse().expect("an address"))
    }

    #[tokio::test]
    async fn a_source_has_only_so_many_places_and_gets_them_back() {
        let admissions = admissions();
        let first = admit(&admissions, "192.0.2.1").await.expect("the first");
        let _second = admit(&admissions, "::ffff:192.0.2.1").await.expect("the second, written as IPv6");
        assert!(admit(&admissions, "192.0.2.1").await.is_none());
        assert!(admit(&admissions, "192.0.2.2").await.is_some());
        drop(first);
        assert!(admit(&admissions, "192.0.2.1").await.is_some());
    }

    #[tokio::test]
    async fn an_ipv6_customer_is_one_source() {
        let admissions = admissions();
        let _first = admit(&admissions, "2001:db8::1").await.expect("the first");
        let _second = admit(&admissions, "2001:db8::2").await.expect("the second");
        assert!(admit(&admissions, "2001:db8::3").await.is_none());
        assert!(admit(&admissions, "2001:db8:0:1::1").await.is_some());
    }

    #[tokio::test]
    async fn a_whole_network_of_ipv6_has_the_places_of_eight_sources() {
        let admissions =
            Arc::new(Admissions::new(Config { max_unauthenticated: 99, max_unauthenticated_per_source: 2 }));
        let mut held = Vec::new();
        for number in 0..40 {
            held.extend(admit(&admissions, &format!("2001:db8:0:{number}::1")).await);
        }
        assert_eq!(held.len(), 16);
        assert!(admit(&admissions, "2001:db8:1::1").await.is_some(), "another /48");
        held.pop();
        assert!(admit(&admissions, "2001:db8:0:77::1").await.is_some());
        drop(held);
        assert!(admissions.sources.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn without_a_place_nothing_is_accepted() {
        let admissions = admissions();
        let mut held = Vec::new();
        for source in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            held.push(admit(&admissions, source).await.expect("a place"));
        }
        assert!(tokio::time::timeout(std::time::Duration::ZERO, admissions.place()).await.is_err());
        held.pop();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, admissions.place()).await.is_ok());
    }
}
