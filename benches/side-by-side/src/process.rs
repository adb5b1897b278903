//! What a process has cost so far, as the kernel tells: CPU of all its threads, and its memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/PID/stat`; the same on every Linux that Rust's standard library supports.
const TICKS: u64 = 100;

/// CPU time of a process so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the threads that live, from their `schedstat`: exact to the nanosecond.
    pub(crate) threads: Duration,
    /// User and system time of the whole process, from its `stat`: in ticks, but with the threads that ended.
    pub(crate) process: Duration,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut nanoseconds = 0_u64;
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("no process {pid}"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += first_number(&text).context("the kernel keeps no schedstat")?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&stat).context("a stat line of proc(5)")?;
        Ok(Self { threads: Duration::from_nanos(nanoseconds), process: Duration::from_millis(ticks * 1000 / TICKS) })
    }

    /// What was spent since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            threads: self.threads.saturating_sub(before.threads),
            process: self.process.saturating_sub(before.process),
        }
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, fields 14 and 15; the name in field 2 may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Proportional set size in bytes.
pub(crate) fn pss(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    Ok(first_number(line).context("a number of kB")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 5 6 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(46));
    }

    #[test]
    fn work_of_this_thread_shows_in_schedstat() {
        let me = std::process::id();
        let before = Cpu::of(me).unwrap();
        let mut sum = 0_u64;
        while Cpu::of(me).unwrap().since(before).threads < Duration::from_millis(20) {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(pss(me).unwrap() > 64 << 10);
    }
}
