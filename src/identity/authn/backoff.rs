//! Back-off against guessing. Pure: a name, an address and the time in, "judge it" or "not before" out.
//!
//! Three counts of failures: of a user from one source, of a source with any user, and of a user from anywhere.
//!
//! * The first doubles a wait, up to [`LONGEST_WAIT`], once a few failures were forgiven.
//! * The second is a bucket: [`FREE_OF_SOURCE`] failures at once, and from then on one every [`SOURCE_PACE`]. An attempt
//!   needs room in it, and only a failure uses the room up. So a source that guesses is never shut for long, and who
//!   shares it gets in between two guesses, though perhaps not at the first attempt.
//! * The third only takes the forgiveness away. It makes nobody wait for failures of somebody else, so guessing from a
//!   thousand addresses cannot lock a person out: from an address of their own, the first attempt is always judged, and
//!   the wait after it grows with their own failures only.
//! * A user who has logged in from a source before is not judged by the neighbours there, nor they by this user: an office
//!   behind one address keeps working while one machine in it guesses, and on the morning after its passwords expired.
//!   And the wait of such a user ends at [`SOURCE_PACE`]: a machine at the user's own address that guesses without pause
//!   wins most of the turns, but not all.
//!
//! What is left: who guesses without pause from an address takes most of its room from those there who have not logged in
//! before, and most turns of each name. Who has logged in is in memory only, so after a restart nobody has.
//!
//! IPv6 sources count by /64, which is what one subscriber has, and all of a /48, which one can easily get, as
//! [`NETWORK_FACTOR`] sources. Tables are bounded; the oldest half goes first, so a flood of new sources makes us forget
//! failures, and never refuse anybody. Successes have a table of their own, which only successes can fill.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;

/// Failures of one user from one source that cost nothing: typing errors, and a client that tries two methods.
const FREE_OF_USER: u32 = 3;

/// Failures of one source that cost nothing: an office on the morning after a password change.
pub const FREE_OF_SOURCE: u32 = 20;

/// One failure of a source in this time costs nothing in the long run: 20 a minute.
pub const SOURCE_PACE: Duration = Duration::from_secs(3);

/// As many sources as a whole IPv6 /48 counts for.
pub const NETWORK_FACTOR: u32 = 8;

/// From so many failures of one user anywhere, each source has one free failure only.
const SIEGE: u32 = 30;

/// The wait after the first failure that costs something.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait of a user at a source that is new to both: 1440 guesses a day, and bearable for whoever just learnt
/// the right password.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Failures are forgotten after once to twice this time.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// Successes are forgotten after once to twice this time: a person comes back after a weekend, and after holidays.
const MEMORY_OF_SUCCESS: Duration = Duration::from_secs(14 * 24 * 3600);

/// Entries of one table, both halves; about 100 bytes each.
pub const MAX_ENTRIES: usize = 32_768;

/// The attempt is not judged before this time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryIn(pub Duration);

/// The memory of failed logins.
#[derive(Debug)]
pub struct Backoff {
    seed: [u8; 16],
    of_user_and_source: Aging<(UserKey, SourceKey), Failures>,
    of_source: Aging<SourceKey, Bucket>,
    of_network: Aging<SourceKey, Bucket>,
    of_user: Aging<UserKey, Failures>,
    known: Aging<(UserKey, SourceKey), ()>,
}

type UserKey = [u8; 16];
type SourceKey = u128;

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// No attempt is judged before.
    until: Option<Instant>,
}

impl Failures {
    fn wait(self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn add(&mut self, free: u32, longest: Duration, now: Instant) {
        self.count = self.count.saturating_add(1);
        if let Some(doublings) = self.count.checked_sub(free.saturating_add(1)) {
            let wait = FIRST_WAIT.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
            self.until = Some(now + wait.min(longest));
        }
    }
}

/// Failures that drain away at a steady pace.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the last of them will have drained away.
    empty: Option<Instant>,
}

impl Bucket {
    /// How long until there is room for one failure more, among `most` that each take `pace` to drain away.
    fn wait(self, most: u32, pace: Duration, now: Instant) -> Duration {
        let filled = self.empty.map_or(Duration::ZERO, |empty| empty.saturating_duration_since(now));
        (filled + pace).saturating_sub(pace * most)
    }

    fn add(&mut self, pace: Duration, now: Instant) {
        self.empty = Some(self.empty.map_or(now, |empty| empty.max(now)) + pace);
    }
}

impl Backoff {
    /// An empty memory. The seed is random, so that nobody can choose names that collide.
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            of_user_and_source: Aging::new(MEMORY),
            of_source: Aging::new(MEMORY),
            of_network: Aging::new(MEMORY),
            of_user: Aging::new(MEMORY),
            known: Aging::new(MEMORY_OF_SUCCESS),
        }
    }

    /// Whether an attempt may be judged now. Judge it and tell the result before the next one is checked.
    pub fn check(&mut self, user: &[u8], source: IpAddr, now: Instant) -> Result<(), RetryIn> {
        let network = network_key(source);
        let (user, source) = (self.user_key(user), source_key(source));
        let own = self.of_user_and_source.find((user, source), now).unwrap_or_default().wait(now);
        let neighbours = if self.known.find((user, source), now).is_some() {
            Duration::ZERO
        } else {
            let of_source = self.of_source.find(source, now).unwrap_or_default();
            let of_network = network.and_then(|network| self.of_network.find(network, now)).unwrap_or_default();
            let (most, pace) = (FREE_OF_SOURCE * NETWORK_FACTOR, SOURCE_PACE / NETWORK_FACTOR);
            of_source.wait(FREE_OF_SOURCE, SOURCE_PACE, now).max(of_network.wait(most, pace, now))
        };
        let wait = own.max(neighbours);
        if wait.is_zero() { Ok(()) } else { Err(RetryIn(wait)) }
    }

    /// The attempt was judged, and its proof was wrong.
    pub fn failed(&mut self, user: &[u8], source: IpAddr, now: Instant) {
        let network = network_key(source);
        let (user, source) = (self.user_key(user), source_key(source));
        let known = self.known.find((user, source), now).is_some();
        let everywhere = self.of_user.entry(user, now);
        everywhere.add(u32::MAX, LONGEST_WAIT, now);
        let free = if everywhere.count > SIEGE && !known { 1 } else { FREE_OF_USER };
        let longest = if known { SOURCE_PACE } else { LONGEST_WAIT };
        self.of_user_and_source.entry((user, source), now).add(free, longest, now);
        if known {
            // Not held to the source's count, so they must not fill it either.
            return;
        }
        if let Some(network) = network {
            self.of_network.entry(network, now).add(SOURCE_PACE / NETWORK_FACTOR, now);
        }
        self.of_source.entry(source, now).add(SOURCE_PACE, now);
    }

    /// The attempt was judged, its proof was right, and the login is complete.
    ///
    /// The source's own count stays: with an account of their own, a guesser could otherwise reset it at will.
    pub fn succeeded(&mut self, user: &[u8], source: IpAddr, now: Instant) {
        let (user, source) = (self.user_key(user), source_key(source));
        self.of_user_and_source.remove((user, source));
        self.known.entry((user, source), now);
    }

    fn user_key(&self, user: &[u8]) -> UserKey {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.seed);
        hash.update(user);
        let mut key = UserKey::default();
        key.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        key
    }
}

/// IPv4 addresses lie in `::ffff:0:0/96`, where no /64 of IPv6 meets them.
fn source_key(source: IpAddr) -> SourceKey {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & !u128::from(u64::MAX),
    }
}

/// The /48 around an address of IPv6.
fn network_key(source: IpAddr) -> Option<SourceKey> {
    match source.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6.to_bits() >> 80 << 80),
    }
}

/// A bounded table in two halves. A new entry goes into the young half; when this is full or has its age, it becomes the
/// old half, and what was old is forgotten. Every step takes constant time, under a flood too.
#[derive(Debug)]
struct Aging<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    age: Duration,
    turned: Option<Instant>,
}

impl<K: Copy + Eq + Hash, V: Copy + Default> Aging<K, V> {
    fn new(age: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), age, turned: None }
    }

    fn find(&mut self, key: K, now: Instant) -> Option<V> {
        self.turn_by_age(now);
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn entry(&mut self, key: K, now: Instant) -> &mut V {
        self.turn_by_age(now);
        if self.young.len() >= MAX_ENTRIES / 2 && !self.young.contains_key(&key) {
            self.turn(now);
        }
        let before = self.old.remove(&key).unwrap_or_default();
        self.young.entry(key).or_insert(before)
    }

    fn remove(&mut self, key: K) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    fn turn_by_age(&mut self, now: Instant) {
        let since = now.saturating_duration_since(*self.turned.get_or_insert(now));
        if since >= self.age {
            self.turn(now);
            // After a long silence the other half is too old as well.
            if since >= self.age.saturating_mul(2) {
                self.old.clear();
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.turned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    struct Bench {
        backoff: Backoff,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { backoff: Backoff::new([1; 16]), now: crate::clock::now() }
        }

        fn check(&mut self, user: &str, source: IpAddr) -> Result<(), RetryIn> {
            self.backoff.check(user.as_bytes(), source, self.now)
        }

        /// An attempt with a wrong password, if it is judged.
        fn guess(&mut self, user: &str, source: IpAddr) -> Result<(), RetryIn> {
            self.check(user, source)?;
            self.backoff.failed(user.as_bytes(), source, self.now);
            Ok(())
        }

        fn success(&mut self, user: &str, source: IpAddr) {
            self.check(user, source).unwrap();
            self.backoff.succeeded(user.as_bytes(), source, self.now);
        }
    }

    #[test]
    fn a_few_failures_are_free_and_then_the_wait_doubles_to_a_minute() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            assert_eq!(bench.guess("alice", OFFICE), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(bench.guess("alice", OFFICE), Err(RetryIn(seconds(wait))));
            bench.now += seconds(wait) - Duration::from_millis(1);
            assert_eq!(bench.guess("alice", OFFICE), Err(RetryIn(Duration::from_millis(1))));
            bench.now += Duration::from_millis(1);
            assert_eq!(bench.guess("alice", OFFICE), Ok(()));
        }
    }

    #[test]
    fn a_success_ends_the_wait_of_this_user_at_this_source() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            bench.guess("alice", OFFICE).unwrap();
        }
        bench.now += seconds(1);
        bench.success("alice", OFFICE);
        for _ in 0..4 {
            assert_eq!(bench.guess("alice", OFFICE), Ok(()), "forgiven again");
        }
        assert!(bench.check("alice", OFFICE).is_err());
    }

    #[test]
    fn one_source_that_tries_many_names_waits_with_all_of_them() {
        let mut bench = Bench::new();
        for n in 0..20 {
            assert_eq!(bench.guess(&format!("user-{n}"), HOME), Ok(()));
        }
        assert_eq!(bench.check("somebody-else", HOME), Err(RetryIn(SOURCE_PACE)));
        assert_eq!(bench.check("somebody-else", OFFICE), Ok(()));
    }

    #[test]
    fn a_source_that_guesses_for_an_hour_is_never_shut_longer_than_for_one_guess() {
        let mut bench = Bench::new();
        let (mut judged, start) = (0, bench.now);
        while bench.now - start < seconds(3600) {
            match bench.guess(&format!("user-{judged}"), HOME) {
                Ok(()) => judged += 1,
                Err(RetryIn(wait)) => {
                    assert!(wait <= SOURCE_PACE, "{wait:?}");
                    bench.now += wait;
                }
            }
        }
        assert_eq!(judged, 20 + 1200 - 1);
        bench.now += SOURCE_PACE;
        bench.success("alice", HOME);
    }

    #[test]
    fn a_whole_network_of_ipv6_guesses_like_eight_sources() {
        let mut bench = Bench::new();
        let host = |n: u128| IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + (n << 64)));
        let judged = (0..10_000).filter(|n| bench.guess(&format!("user-{n}"), host(*n)).is_ok()).count();
        assert_eq!(judged, 160);
        assert_eq!(bench.check("somebody", host(1 << 16)), Ok(()), "another /48");
    }

    #[test]
    fn a_known_person_is_not_judged_by_the_neighbours() {
        let mut bench = Bench::new();
        bench.success("alice", OFFICE);
        for n in 0..20 {
            bench.guess(&format!("user-{n}"), OFFICE).unwrap();
        }
        assert!(bench.check("bob", OFFICE).is_err(), "not known here");
        assert_eq!(bench.check("alice", OFFICE), Ok(()));
        bench.success("alice", OFFICE);
        assert!(bench.check("bob", OFFICE).is_err(), "her success does not free the guesser");
    }

    #[test]
    fn guessing_from_a_thousand_addresses_locks_nobody_out() {
        let mut bench = Bench::new();
        for n in 0..1_000 {
            bench.guess("alice", address(n)).unwrap();
        }
        assert_eq!(bench.guess("alice", HOME), Ok(()), "her first attempt from a new address is judged");
        assert_eq!(bench.guess("alice", HOME), Ok(()), "one failure is free under siege");
        assert_eq!(bench.check("alice", HOME), Err(RetryIn(seconds(1))), "and then she waits a second, not a minute");
        bench.now += seconds(1);
        bench.success("alice", HOME);
    }

    #[test]
    fn a_guesser_at_a_known_persons_own_address_does_not_lock_them_out() {
        let mut bench = Bench::new();
        bench.success("alice", OFFICE);
        let (start, mut judged) = (bench.now, 0);
        while bench.now - start < seconds(3600) {
            match bench.guess("alice", OFFICE) {
                Ok(()) => judged += 1,
                Err(RetryIn(wait)) => {
                    assert!(wait <= SOURCE_PACE, "{wait:?}");
                    bench.now += wait;
                }
            }
        }
        assert!(judged <= 1205, "{judged} guesses an hour");
        bench.now += SOURCE_PACE;
        bench.success("alice", OFFICE);
    }

    #[test]
    fn failures_of_known_people_do_not_shut_the_source_to_others() {
        let mut bench = Bench::new();
        let names: Vec<_> = (0..100).map(|n| format!("user-{n}")).collect();
        names.iter().for_each(|name| bench.success(name, OFFICE));
        for name in names.iter().flat_map(|name| [name; 4]) {
            bench.guess(name, OFFICE).unwrap();
        }
        assert_eq!(bench.check("newcomer", OFFICE), Ok(()));
    }

    #[test]
    fn a_siege_leaves_a_known_source_its_forgiveness() {
        let mut bench = Bench::new();
        bench.success("alice", HOME);
        for n in 0..1_000 {
            bench.guess("alice", address(n)).unwrap();
        }
        for _ in 0..4 {
            assert_eq!(bench.guess("alice", HOME), Ok(()));
        }
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_source() {
        let mut bench = Bench::new();
        let host = |n: u128| IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8_0000_0001_u128 << 64) + n));
        for n in 0..4 {
            bench.guess("alice", host(n)).unwrap();
        }
        assert!(bench.check("alice", host(999)).is_err());
        assert_eq!(bench.check("alice", host(1 << 64)), Ok(()), "another /64");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(source_key(mapped), source_key(OFFICE));
        assert_ne!(source_key(OFFICE), source_key(HOME));
    }

    #[test]
    fn failures_are_forgotten_with_time() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            bench.guess("alice", OFFICE).unwrap();
        }
        bench.now += MEMORY * 2;
        for _ in 0..4 {
            assert_eq!(bench.guess("alice", OFFICE), Ok(()));
        }
        assert!(bench.check("alice", OFFICE).is_err());
    }

    #[test]
    fn a_flood_of_names_and_sources_is_bounded_and_forgets_no_success() {
        let mut bench = Bench::new();
        bench.success("alice", OFFICE);
        for n in 0..100_000 {
            bench.now += Duration::from_micros(10);
            bench.backoff.failed(format!("user-{n}").as_bytes(), address(n), bench.now);
        }
        let sizes = |table: &Aging<_, Failures>| table.young.len() + table.old.len();
        assert!(sizes(&bench.backoff.of_user_and_source) <= MAX_ENTRIES);
        assert!(bench.backoff.of_source.young.len() + bench.backoff.of_source.old.len() <= MAX_ENTRIES);
        assert!(bench.backoff.of_network.young.is_empty(), "IPv4 has none");
        assert!(bench.backoff.of_user.young.len() + bench.backoff.of_user.old.len() <= MAX_ENTRIES);
        assert!(bench.backoff.known.find((bench.backoff.user_key(b"alice"), source_key(OFFICE)), bench.now).is_some());
        assert_eq!(bench.check("somebody-new", HOME), Ok(()), "a flood refuses nobody");
    }
}
