//! How many connections may be open that have not logged in: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Config;

/// The places of one listener.
pub struct Admissions {
    places: Arc<Semaphore>,
    per_source: usize,
    /// Only sources with a connection that has not logged in: at most as many as there are places.
    sources: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place until it logs in or ends.
pub struct Admission {
    admissions: Arc<Admissions>,
    source: IpAddr,
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

    /// Waits for a place.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Gives the place to a connection from `source`, unless it has too many.
    pub fn admit(self: &Arc<Self>, place: OwnedSemaphorePermit, source: IpAddr) -> Option<Admission> {
        let source = network(source);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_insert(0);
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        Some(Admission { admissions: Arc::clone(self), source, _place: place })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut sources = self.admissions.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, of which one customer has all.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
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
