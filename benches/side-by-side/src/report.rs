//! The table: medians over the rounds, ratios to the plain proxy, and a verdict for every bar.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use crate::idle::Memory;
use crate::load::{Door, Round, Work};
use crate::stall::{Stalled, Who};

/// A limit that a merge must hold, and the one that the project wants.
struct Bar {
    floor: f64,
    goal: f64,
}

/// CPU of a tunnel at inner port 80 over CPU of the plain proxy, for the same work.
const fn bar(work: Work) -> Bar {
    match work {
        Work::Small => Bar { floor: 1.3, goal: 1.1 },
        Work::Bulk => Bar { floor: 2.0, goal: 1.25 },
    }
}

/// KiB of PSS for an idle tunnel.
const IDLE: Bar = Bar { floor: 32.0, goal: 14.0 };

/// Text for people, and whether every floor holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) holds: bool,
}

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &greatest) = (sorted.first()?, sorted.last()?);
        let half = sorted.len() / 2;
        let upper = *sorted.get(half)?;
        let median = if sorted.len() % 2 == 1 { upper } else { (sorted.get(half.checked_sub(1)?)? + upper) / 2.0 };
        Some(Self { median, least, greatest })
    }

    fn show(self, digits: usize) -> String {
        format!("{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.least, self.greatest)
    }
}

impl Round {
    /// Both together; quantiles are the means of theirs.
    fn and(self, other: Self) -> Self {
        let requests = self.requests + other.requests;
        let mean = |a: f64, b: f64| (a * self.requests as f64 + b * other.requests as f64) / requests as f64;
        Self {
            door: self.door,
            work: self.work,
            requests,
            bytes: self.bytes + other.bytes,
            wall_s: self.wall_s + other.wall_s,
            cpu_s: self.cpu_s + other.cpu_s,
            cpu_ticks_s: self.cpu_ticks_s + other.cpu_ticks_s,
            client_cpu_s: self.client_cpu_s + other.client_cpu_s,
            p50_us: mean(self.p50_us, other.p50_us),
            p99_us: mean(self.p99_us, other.p99_us),
            packets_down: self.packets_down + other.packets_down,
            packets_up: self.packets_up + other.packets_up,
            duplicate_bytes: self.duplicate_bytes + other.duplicate_bytes,
        }
    }

    /// CPU in the unit of the work: us per request, or ms per GiB.
    fn cost(&self) -> f64 {
        match self.work {
            Work::Small => self.cpu_s * 1e6 / self.requests as f64,
            Work::Bulk => self.cpu_s * 1e3 / (self.bytes as f64 / f64::from(1 << 30)),
        }
    }

    /// Wall time of a unit of the work.
    fn slowness(&self) -> f64 {
        1.0 / self.speed()
    }

    fn speed(&self) -> f64 {
        match self.work {
            Work::Small => self.requests as f64 / self.wall_s,
            Work::Bulk => self.bytes as f64 * 8e-9 / self.wall_s,
        }
    }
}

/// The table of all rounds, each of so many slices, in the order in which they were run.
pub(crate) fn rounds(lines: &str, slices: usize) -> Result<Verdict> {
    let mut by_work: BTreeMap<Work, BTreeMap<Door, Vec<Round>>> = BTreeMap::new();
    for line in lines.lines() {
        let slice: Round = serde_json::from_str(line).context("a line of `load`")?;
        by_work.entry(slice.work).or_default().entry(slice.door).or_default().push(slice);
    }
    for all in by_work.values_mut().flat_map(BTreeMap::values_mut) {
        ensure!(all.len().is_multiple_of(slices), "{} slices are no rounds of {slices}", all.len());
        *all = all.chunks(slices).filter_map(|slices| slices.iter().cloned().reduce(Round::and)).collect();
    }
    let mut verdict = Verdict { text: String::new(), holds: true };
    for (work, doors) in &by_work {
        table(*work, doors, &mut verdict)?;
    }
    Ok(verdict)
}

fn table(work: Work, doors: &BTreeMap<Door, Vec<Round>>, verdict: &mut Verdict) -> Result<()> {
    let plain = doors.get(&Door::Plain).context("no round of the plain proxy")?;
    let (title, cpu, speed) = match work {
        Work::Small => ("small requests (64 bytes)", "CPU us/request", "requests/s"),
        Work::Bulk => ("bulk (1 MiB bodies)", "CPU ms/GiB", "Gbit/s"),
    };
    let text = &mut verdict.text;
    writeln!(text, "{title}: median [least..greatest] of {} rounds", plain.len())?;
    let heads = ["", cpu, "CPU to plain", "wall to plain", speed, "p50 us", "p99 us", "client CPU", "inner up/down"];
    row(text, heads.map(str::to_owned))?;
    let mut doubtful = Vec::new();
    for (door, rounds) in doors {
        let spread = |value: fn(&Round) -> f64| Spread::of(rounds.iter().map(value)).context("a round");
        let own = spread(Round::cost)?;
        let client = spread(|round| round.client_cpu_s / round.cpu_s)?;
        let packets = spread(|round| round.packets_up as f64 / (round.packets_down as f64).max(1.0))?;
        let to_plain = |value| match door {
            Door::Plain => Ok("1".to_owned()),
            Door::Tunnel80 | Door::Tunnel443 => ratio(rounds, plain, value).map(|ratio| ratio.show(2)),
        };
        row(
            text,
            [
                name(*door).to_owned(),
                own.show(1),
                to_plain(Round::cost)?,
                to_plain(Round::slowness)?,
                format!("{:.*}", if work == Work::Bulk { 2 } else { 0 }, spread(Round::speed)?.median),
                format!("{:.0}", spread(|round| round.p50_us)?.median),
                format!("{:.0}", spread(|round| round.p99_us)?.median),
                format!("{:.2}x", client.median),
                if *door == Door::Plain { "-".to_owned() } else { format!("{:.2}", packets.median) },
            ],
        )?;
        doubtful.extend(rounds.iter().filter_map(doubt));
    }
    if let Some(rounds) = doors.get(&Door::Tunnel80) {
        let ratio = ratio(rounds, plain, Round::cost)?;
        let Bar { floor, goal } = bar(work);
        verdict.holds &= judge(text, "CPU of tunnel, port 80, to plain", ratio.median, floor, goal, "x")?;
        if (ratio.least..=ratio.greatest).contains(&floor) {
            writeln!(text, "  the rounds disagree about the floor: {}", ratio.show(2))?;
        }
    }
    // Figures that contradict each other prove nothing, so no floor holds by them.
    verdict.holds &= doubtful.is_empty();
    for line in doubtful {
        writeln!(text, "  {line}")?;
    }
    writeln!(text)?;
    Ok(())
}

/// The ratios of the rounds: a machine that is faster for a while is so for both.
fn ratio(rounds: &[Round], plain: &[Round], value: fn(&Round) -> f64) -> Result<Spread> {
    Spread::of(rounds.iter().zip(plain).map(|(own, peer)| value(own) / value(peer))).context("a pair of rounds")
}

/// Threads that ended took their schedstat with them; and an inner retransmission never happens.
fn doubt(round: &Round) -> Option<String> {
    let name = name(round.door);
    if round.duplicate_bytes > 0 {
        return Some(format!("DOUBT {name}: {} inner bytes were sent twice", round.duplicate_bytes));
    }
    let apart = (round.cpu_s - round.cpu_ticks_s).abs();
    let (schedstat, ticks) = (round.cpu_s, round.cpu_ticks_s);
    (apart > 0.05 + 0.10 * schedstat)
        .then(|| format!("DOUBT {name}: schedstat says {schedstat:.2} s, the process's ticks {ticks:.2} s"))
}

fn name(door: Door) -> &'static str {
    match door {
        Door::Plain => "plain HTTPS proxy",
        Door::Tunnel80 => "tunnel, port 80",
        Door::Tunnel443 => "tunnel, port 443",
    }
}

fn row(text: &mut String, cells: [String; 9]) -> Result<()> {
    let [name, cpu, ratio, wall, speed, p50, p99, client, packets] = cells;
    writeln!(
        text,
        "  {name:<18} {cpu:>26} {ratio:>19} {wall:>19} {speed:>11} {p50:>8} {p99:>8} {client:>11} {packets:>14}"
    )?;
    Ok(())
}

/// One line; whether the floor holds.
fn judge(text: &mut String, what: &str, value: f64, floor: f64, goal: f64, unit: &str) -> Result<bool> {
    let word = |holds| if holds { "PASS" } else { "FAIL" };
    let (holds, reaches) = (value <= floor, value <= goal);
    writeln!(
        text,
        "  {what}: {value:.2}{unit}   floor {floor}{unit} {}   goal {goal}{unit} {}",
        word(holds),
        if reaches { "PASS" } else { "not yet" },
    )?;
    Ok(holds)
}

/// The line of the idle tunnels.
pub(crate) fn memory(memory: &Memory) -> Result<Verdict> {
    let mut text = format!("idle tunnels: PSS of the server over {} tunnels\n ", memory.tunnels);
    for (tunnels, bytes) in &memory.samples {
        write!(text, "  {tunnels}: {} KiB", bytes >> 10)?;
    }
    writeln!(text)?;
    let holds = judge(&mut text, "PSS per idle tunnel", memory.per_tunnel / 1024.0, IDLE.floor, IDLE.goal, " KiB")?;
    writeln!(text, "  after one request in each: {:.2} KiB (no bar)\n", memory.per_used_tunnel / 1024.0)?;
    Ok(Verdict { text, holds })
}

/// The lines of a stalled download; one that broke off is no trouble of the run but a failure of the server.
pub(crate) fn stalled(who: Who, ended: &Result<Stalled>) -> Verdict {
    let stalled = match ended {
        Ok(stalled) => stalled,
        Err(error) => return Verdict { text: format!("stall of the {who:?}: FAIL: {error:#}\n"), holds: false },
    };
    let Stalled { bytes, wall_s, pss_before, pss_peak, complaints, .. } = stalled;
    let word = if complaints.is_empty() { "PASS" } else { "FAIL" };
    let growth = pss_peak.saturating_sub(*pss_before) >> 10;
    let mut text =
        format!("stall of the {who:?}: {word}: {bytes} bytes in {wall_s:.1} s, server grew by {growth} KiB (< 8192)\n");
    for complaint in complaints {
        text.push_str("  ");
        text.push_str(complaint);
        text.push('\n');
    }
    Verdict { text, holds: complaints.is_empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(door: Door, work: Work, cpu_s: f64) -> Round {
        Round {
            door,
            work,
            requests: 1000,
            bytes: 1 << 30,
            wall_s: 1.0,
            cpu_s,
            cpu_ticks_s: cpu_s,
            client_cpu_s: cpu_s,
            p50_us: 1.0,
            p99_us: 2.0,
            packets_down: 10,
            packets_up: 5,
            duplicate_bytes: 0,
        }
    }

    fn lines(rounds: &[Round]) -> String {
        rounds.iter().map(|round| serde_json::to_string(round).unwrap() + "\n").collect()
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0, 10.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap(), Spread { median: 2.0, least: 1.0, greatest: 3.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_above_the_floor_fails_and_one_at_the_floor_holds() {
        let run = |cost| {
            let plain = round(Door::Plain, Work::Bulk, 1.0);
            rounds(&lines(&[plain, round(Door::Tunnel80, Work::Bulk, cost)]), 1).unwrap()
        };
        assert!(run(2.0).holds);
        assert!(!run(2.01).holds);
        assert!(run(1.25).text.contains("goal 1.25x PASS"), "{}", run(1.25).text);
        assert!(run(1.26).text.contains("goal 1.25x not yet"));
    }

    #[test]
    fn a_round_is_the_sum_of_its_slices_and_has_one_ratio() {
        // The machine is twice as fast in the second round.
        let costs = [(4.0, 5.0), (6.0, 7.0), (2.0, 2.0), (3.0, 3.5)];
        let slices = costs
            .map(|(plain, tunnel)| [round(Door::Plain, Work::Bulk, plain), round(Door::Tunnel80, Work::Bulk, tunnel)]);
        let text = rounds(&lines(&slices.concat()), 2).unwrap().text;
        assert!(text.contains("of 2 rounds") && text.contains("1.15 [1.10..1.20]"), "{text}");
        assert!(rounds(&lines(&slices.concat()), 3).is_err(), "a slice is missing");
    }

    #[test]
    fn port_443_is_reported_and_not_judged() {
        let all = [(Door::Plain, 1.0), (Door::Tunnel80, 1.1), (Door::Tunnel443, 9.0)];
        let verdict = rounds(&lines(&all.map(|(door, cost)| round(door, Work::Small, cost))), 1).unwrap();
        assert!(verdict.holds);
        assert!(verdict.text.contains("9.00"), "{}", verdict.text);
    }

    #[test]
    fn ended_threads_and_retransmissions_are_told_and_fail() {
        let plain = round(Door::Plain, Work::Bulk, 1.0);
        let ended = Round { cpu_ticks_s: 1.5, ..round(Door::Tunnel80, Work::Bulk, 1.0) };
        let twice = Round { duplicate_bytes: 1, ..round(Door::Tunnel80, Work::Bulk, 1.0) };
        for (tunnel, told) in [(ended, "DOUBT"), (twice, "sent twice")] {
            let verdict = rounds(&lines(&[plain.clone(), tunnel]), 1).unwrap();
            assert!(verdict.text.contains(told) && !verdict.holds, "{}", verdict.text);
        }
    }

    #[test]
    fn wall_time_stands_beside_cpu() {
        let plain = round(Door::Plain, Work::Bulk, 1.0);
        let tunnel = Round { wall_s: 3.0, ..round(Door::Tunnel80, Work::Bulk, 1.5) };
        let text = rounds(&lines(&[plain, tunnel]), 1).unwrap().text;
        assert!(text.contains("1.50 [1.50..1.50]") && text.contains("3.00 [3.00..3.00]"), "{text}");
    }

    #[test]
    fn a_download_that_broke_off_fails() {
        let verdict = stalled(Who::Socket, &Err(anyhow::anyhow!("no end")));
        assert_eq!(verdict, Verdict { text: "stall of the Socket: FAIL: no end\n".to_owned(), holds: false });
    }

    #[test]
    fn a_tunnel_may_cost_32_kib() {
        let memory_of = |per_tunnel| {
            memory(&Memory { tunnels: 500, samples: vec![(0, 0)], per_tunnel, per_used_tunnel: 0.0 }).unwrap().holds
        };
        assert!(memory_of(32.0 * 1024.0));
        assert!(!memory_of(32.1 * 1024.0));
    }
}
