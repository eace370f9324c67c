//! What processes use, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::Context;

/// The kernel shows processor time to programs in this unit on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// Where user and system time stand in `/proc/<pid>/stat`, counted from behind the program's name.
const USER_TICKS_FIELD: usize = 11;
const SYSTEM_TICKS_FIELD: usize = 12;

/// Processor time that a process has used, all its threads together.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    ticks(&stat).map(|ticks| TICK * ticks).context("/proc/<pid>/stat cannot be read")
}

fn ticks(stat: &str) -> Option<u32> {
    // The name may hold spaces and parentheses.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u32>().ok();
    Some(field(USER_TICKS_FIELD)? + field(SYSTEM_TICKS_FIELD)?)
}

/// Memory of a process that is in RAM, in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")
}

/// The three load averages; empty where the kernel has none.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_name_with_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 9 20 0 4 0 12345 1000 50 184467";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn the_bench_itself_uses_memory_and_some_processor_time_at_most() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 100);
        assert!(cpu_time(pid).unwrap() < Duration::from_hours(1));
    }
}
