use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::clock;

const SECOND: Duration = Duration::from_secs(1);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn per_second(cells: u32, burst: u32) -> Quota {
    Quota::new(number(cells), SECOND, number(burst)).unwrap()
}

fn limits(capacity: usize) -> (Limits, Instant) {
    let start = clock::now();
    (Limits::new(capacity, start), start)
}

fn charge<'a>(limits: &Limits, limit: &'a str, key: &str, quota: Quota) -> Charge<'a> {
    Charge { limit, bucket: limits.bucket(limit, key, quota) }
}

fn passes(limits: &Limits, charges: &[Charge<'_>], now: Instant) -> bool {
    limits.take(charges.iter().copied(), now).is_ok()
}

#[test]
fn nt_58_a_burst_then_the_rate_and_no_step_of_time_mints() {
    let (limits, start) = limits(100);
    let alice = [charge(&limits, "orders/per-user", "alice", per_second(10, 20))];
    let passed = |now| (0..21).filter(|_| passes(&limits, &alice, now)).count();
    assert_eq!(passed(start), 20);
    assert_eq!(passed(start + SECOND), 10);
    assert_eq!(passed(start), 0, "a time that was");
    assert_eq!(passed(start + SECOND), 0);
    assert_eq!(passed(start + SECOND + SECOND / 10), 1);
    assert_eq!(passed(start + 1000 * SECOND), 20, "an hour of silence is no more than a full bucket");
    let before = start.checked_sub(SECOND).unwrap_or(start);
    assert_eq!(passed(before), 0, "a time before the start");
}

#[test]
fn nt_58_threads_share_one_bucket() {
    let (limits, start) = limits(100);
    let alice = [charge(&limits, "l", "alice", per_second(1, 50))];
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| passes(&limits, &alice, start)).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 50);
}

#[test]
fn nt_59_a_bucket_is_named_by_limit_and_key_alone() {
    let (limits, start) = limits(100);
    let quota = per_second(1, 1);
    assert!(passes(&limits, &[charge(&limits, "orders/per-user", &String::from("alice"), quota)], start));
    assert!(!passes(&limits, &[charge(&limits, "orders/per-user", "alice", quota)], start));
    assert!(passes(&limits, &[charge(&limits, "orders/per-user", "bob", quota)], start));
    assert!(passes(&limits, &[charge(&limits, "stock/per-user", "alice", quota)], start));
    // Limit and key are not run together.
    assert!(passes(&limits, &[charge(&limits, "a", "bc", quota)], start));
    assert!(passes(&limits, &[charge(&limits, "ab", "c", quota)], start));
    assert_eq!(limits.len(start), 5);
}

#[test]
fn nt_60_a_refused_request_takes_nothing_from_any_bucket() {
    let (limits, start) = limits(100);
    let (wide, narrow) = (per_second(1, 5), per_second(1, 1));
    let both = [
        charge(&limits, "wide", "alice", wide),
        charge(&limits, "narrow", "alice", narrow),
        charge(&limits, "last", "alice", wide),
    ];
    assert!(passes(&limits, &both, start));
    for _ in 0..100 {
        let exceeded = limits.take(both.iter().copied(), start).unwrap_err();
        assert_eq!((exceeded.limit, exceeded.cause, exceeded.retry_after), ("narrow", Cause::Spent, SECOND));
    }
    for limit in ["wide", "last"] {
        let room = limits.peek(std::iter::once(charge(&limits, limit, "alice", wide)), start).unwrap().unwrap();
        assert_eq!(room.remaining, 3, "{limit}: five, one taken, one that a request would take now");
    }
    // New buckets of a refused request are not even begun.
    let refused = [charge(&limits, "narrow", "alice", narrow), charge(&limits, "new", "alice", wide)];
    assert!(!passes(&limits, &refused, start));
    assert_eq!(limits.len(start), 3);
}

#[test]
fn nt_60_peeking_takes_nothing() {
    let (limits, start) = limits(100);
    let alice = charge(&limits, "l", "alice", per_second(1, 2));
    for _ in 0..10 {
        assert_eq!(limits.peek(std::iter::once(alice), start).unwrap().unwrap().remaining, 1);
    }
    assert!(limits.is_empty(start));
}

#[test]
fn a_bucket_that_is_charged_twice_by_one_request_counts_twice() {
    let (limits, start) = limits(100);
    let alice = charge(&limits, "l", "alice", per_second(1, 5));
    let room = limits.take([alice, alice].into_iter(), start).unwrap().unwrap();
    assert_eq!(room.remaining, 3);
    assert!(passes(&limits, &[alice, alice], start));
    assert!(!passes(&limits, &[alice, alice], start), "one is left");
    assert!(passes(&limits, &[alice], start), "and was put back");
    assert!(!passes(&limits, &[alice], start));
}

#[test]
fn the_tightest_bucket_and_the_longest_wait_are_reported() {
    let (limits, start) = limits(100);
    let charges = [
        charge(&limits, "a", "x", per_second(10, 20)),
        charge(&limits, "b", "x", per_second(1, 2)),
        charge(&limits, "c", "x", per_second(2, 2)),
    ];
    let room = limits.take(charges.into_iter(), start).unwrap().unwrap();
    assert_eq!((room.limit, room.remaining, room.reset), ("b", 1, SECOND));
    assert!(passes(&limits, &charges, start));
    assert_eq!(limits.take(charges.into_iter(), start).unwrap_err().limit, "b");
    assert_eq!(limits.take(std::iter::empty(), start), Ok(None));
}

#[test]
fn nt_61_a_flood_of_keys_is_bounded_and_resets_nobody() {
    let (limits, start) = limits(1000);
    let quota = per_second(1, 10);
    let alice = [charge(&limits, "l", "alice", quota)];
    assert_eq!((0..11).filter(|_| passes(&limits, &alice, start)).count(), 10);
    let places = limits.lock().store.places();
    let mut admitted = 0;
    for key in 0..1_000_000u32 {
        let key = key.to_string();
        match limits.take(std::iter::once(charge(&limits, "l", &key, quota)), start) {
            Ok(_) => admitted += 1,
            Err(exceeded) => assert_eq!((exceeded.cause, exceeded.retry_after), (Cause::Full, SECOND)),
        }
        if key.ends_with("000") {
            assert!(!passes(&limits, &alice, start), "an active bucket was forgotten");
        }
    }
    assert_eq!(admitted + 1, places / SHARE);
    assert_eq!(limits.len(start), admitted + 1);
    assert_eq!(limits.lock().store.places(), places);
    assert!(!passes(&limits, &alice, start));

    let later = start + SECOND;
    assert_eq!(limits.len(later), 1, "the flood is full again, alice is not");
    assert!(passes(&limits, &[charge(&limits, "l", "bob", quota)], later));
    assert_eq!((0..11).filter(|_| passes(&limits, &alice, later)).count(), 1);
}

#[test]
fn a_flood_of_one_limit_leaves_places_to_the_others() {
    let (limits, start) = limits(10_000);
    let (items, users) = (per_second(1, 1), per_second(10, 20));
    let share = limits.lock().store.places() / SHARE;
    let limits = &limits;
    let flood =
        |now| (0..20_000u32).filter(move |key| passes(limits, &[charge(limits, "item", &key.to_string(), items)], now));
    assert_eq!(flood(start).count(), share);
    for user in 0..1000u32 {
        let user = user.to_string();
        let item = format!("new {user}");
        assert!(passes(limits, &[charge(limits, "user", &user, users)], start), "{user}");
        let both = [charge(limits, "user", &user, users), charge(limits, "item", &item, items)];
        assert!(!passes(limits, &both, start), "{user}");
    }
    assert_eq!(limits.len(start), share + 1000);
    let later = start + SECOND;
    assert!((0..1000).all(|key| passes(limits, &[charge(limits, "item", &format!("later {key}"), items)], later)));
    assert_eq!(flood(later).count(), share - 1000, "the places of the full buckets are given back");
}

#[test]
fn a_refused_request_keeps_no_place() {
    let (limits, start) = limits(100);
    let quota = per_second(1, 1);
    assert!(passes(&limits, &[charge(&limits, "narrow", "alice", quota)], start));
    for key in 0..1000 {
        let key = key.to_string();
        assert!(!passes(
            &limits,
            &[charge(&limits, "item", &key, quota), charge(&limits, "narrow", "alice", quota)],
            start
        ));
        assert!(limits.peek(std::iter::once(charge(&limits, "item", &key, quota)), start).is_ok());
    }
    let address = limits.bucket("item", "", quota).address;
    assert_eq!(limits.lock().store.held(address.limit), 0);
}

#[test]
fn the_capacity_that_was_asked_for_is_there() {
    let quota = per_second(1, 1);
    for capacity in [1, 8, 1000, 10_000] {
        let (limits, start) = limits(capacity);
        let limit = |key: usize| format!("l{}", key % (2 * SHARE));
        let admitted = (0..capacity)
            .filter(|key| passes(&limits, &[charge(&limits, &limit(*key), &key.to_string(), quota)], start))
            .count();
        assert!(admitted * 1000 >= capacity * 995, "{admitted} of {capacity}");
    }
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_gives_up_the_rest() {
    let (limits, start) = limits(64);
    let (old, new) = (per_second(1, 2), per_second(1, 3));
    let spend = |limit, quota| {
        let alice = [charge(&limits, limit, "alice", quota)];
        (0..9).filter(|_| passes(&limits, &alice, start)).count()
    };
    assert_eq!((spend("kept", old), spend("changed", old), spend("gone", old)), (2, 2, 2));
    for (limit, key) in (0..2 * SHARE).flat_map(|limit| (0..1000).map(move |key| (limit, key))) {
        passes(&limits, &[charge(&limits, &format!("gone {limit}"), &key.to_string(), old)], start);
    }
    let full = |key: &str| limits.peek(std::iter::once(charge(&limits, "kept", key, old)), start).is_err();
    assert!((0..100).any(|key| full(&format!("before {key}"))));
    limits.reload([("kept", old), ("changed", new)].into_iter());
    assert_eq!((spend("kept", old), spend("changed", new)), (0, 3));
    assert!((0..8).all(|key| !full(&format!("after {key}"))), "the buckets of `gone` give up their places");
    assert_eq!(spend("kept", old), 0);
}

#[test]
fn the_prelimit_is_one_bucket() {
    let start = clock::now();
    let mut limit = PreLimit::new(per_second(1000, 1000), start);
    assert_eq!((0..2000).filter(|_| limit.take(start)).count(), 1000);
    assert!(limit.take(start + SECOND / 1000));
    assert!(!limit.take(start + SECOND / 1000));
}

#[test]
fn quotas_beyond_the_arithmetic_are_refused() {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    assert_eq!(Quota::new(number(u32::MAX), SECOND, number(1)), Err(BadQuota::TooFast));
    assert_eq!(Quota::new(number(1), Duration::ZERO, number(1)), Err(BadQuota::TooFast));
    let slow =
        |cells, per, burst| matches!(Quota::new(number(cells), per, number(burst)), Err(BadQuota::TooSlow { .. }));
    assert!(slow(1, 2 * year, 1));
    assert!(slow(1, SECOND, u32::MAX));
    assert!(slow(1, Duration::MAX, u32::MAX));
    assert!(!slow(1, year, 1));
    let (limits, start) = limits(8);
    let yearly = [charge(&limits, "l", "k", Quota::new(number(1), year, number(1)).unwrap())];
    assert!(passes(&limits, &yearly, start));
    assert!(!passes(&limits, &yearly, start + year / 2));
    assert!(passes(&limits, &yearly, start + year));
}

#[test]
fn the_fields_say_what_the_draft_says() {
    let (limits, start) = limits(8);
    let alice = charge(&limits, "orders/per-user", "alice", per_second(10, 20));
    let room = (0..16).map(|_| limits.take(std::iter::once(alice), start).unwrap().unwrap()).last().unwrap();
    assert_eq!(room.policy_field(), r#""orders/per-user";q=20;w=2"#);
    assert_eq!(room.state_field(), r#""orders/per-user";r=4;t=2"#);
    let exceeded = (0..5).find_map(|_| limits.take(std::iter::once(alice), start).err()).unwrap();
    assert_eq!(exceeded.state_field(), r#""orders/per-user";r=0;t=1"#);
    assert_eq!(exceeded.retry_after_field(), "1");
    assert_eq!(exceeded.to_string(), "limit orders/per-user has no room for 1 s");
    let odd = Room { limit: "a\"\\\n", ..room };
    assert!(odd.state_field().starts_with(r#""a\"\\";"#));
}

/// A bucket as a child would build it: a level that rises with time and falls with every cell, in nanoseconds.
struct Model {
    interval: u64,
    most: u64,
    level: u64,
    at: u64,
}

impl Model {
    fn rise(&mut self, now: u64) {
        self.level = self.most.min(self.level + (now - self.at));
        self.at = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_limits_admit_what_two_plain_buckets_admit(
        quotas in prop::array::uniform2((1u32..20, 1u32..20)),
        steps in prop::collection::vec((0u64..300_000_000, 0usize..4), 1..100),
    ) {
        let (limits, start) = limits(64);
        let mut models = quotas.map(|(cells, burst)| {
            let interval = 1_000_000_000 / u64::from(cells);
            let most = interval * u64::from(burst);
            Model { interval, most, level: most, at: 0 }
        });
        let mut now = 0;
        for (step, which) in steps {
            now += step;
            let indices: &[usize] = [&[0][..], &[1], &[0, 1], &[0, 1, 0]][which];
            for model in &mut models {
                model.rise(now);
            }
            let need = |at: usize| indices.iter().filter(|&&index| index == at).count() as u64;
            let expected = (0..2).all(|at| models[at].level >= need(at) * models[at].interval);
            let charges = indices.iter().map(|&at| {
                charge(&limits, ["a", "b"][at], "k", per_second(quotas[at].0, quotas[at].1))
            });
            let got = limits.take(charges, start + Duration::from_nanos(now));
            prop_assert_eq!(got.is_ok(), expected);
            if expected {
                for (at, model) in models.iter_mut().enumerate() {
                    model.level -= need(at) * model.interval;
                }
                let least = indices.iter().map(|&at| models[at].level / models[at].interval).min().unwrap();
                prop_assert_eq!(u64::from(got.unwrap().unwrap().remaining), least);
            }
        }
    }
}
