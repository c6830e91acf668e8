//! What the kernel says about this process: memory, CPU time, descriptors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ticks a second in `/proc`; Linux has shown user space no other number since 2.6.
const TICKS_PER_S: u64 = 100;

/// Bytes of memory; 0 where `/proc` is not to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What is in memory now.
    pub(crate) resident: u64,
    /// What is addressed, in memory or not.
    pub(crate) address_space: u64,
}

/// The memory of this process.
pub(crate) fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1_024
    };
    Memory { resident: field("VmRSS:"), address_space: field("VmSize:") }
}

/// What of this process is in memory, bytes; 0 where `/proc` is not to be had.
pub(crate) fn memory_bytes() -> u64 {
    memory().resident
}

/// CPU time of all threads since the start.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Duration::from_millis(ticks(&stat).unwrap_or(0) * 1_000 / TICKS_PER_S)
}

/// Descriptors that are open, and how many may be.
pub(crate) fn descriptors() -> (u64, Option<u64>) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    (descriptors_open(), descriptors_max(&limits))
}

/// Since 6.2, Linux tells the number as the directory's size; before, they have to be listed, which
/// takes a microsecond for each.
fn descriptors_open() -> u64 {
    const DIR: &str = "/proc/self/fd";
    match std::fs::metadata(DIR).map_or(0, |dir| dir.len()) {
        // One of the listed ones is the directory's own.
        0 => std::fs::read_dir(DIR).map_or(0, |dir| dir.count().saturating_sub(1) as u64),
        open => open,
    }
}

/// The soft limit; `None` if there is none, or it is not told.
fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Threads of this process.
pub(crate) fn threads() -> u64 {
    std::fs::read_dir("/proc/self/task").map_or(0, |dir| dir.count() as u64)
}

/// When a process that has run for `uptime` was started, seconds since 1970.
pub(crate) fn start_time(uptime: Duration) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(uptime).as_secs_f64()
}

/// User and system time out of `/proc/self/stat`: proc(5), fields 14 and 15.
fn ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name, which may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        assert!(memory_bytes() > 100_000 && memory().address_space >= memory_bytes());
        assert!(descriptors().0 >= 3 && threads() >= 1);
        let stat = "7 (a) b) R 1 1 1 0 -1 0 9 0 0 0 150 50 0 0 20 0 1 0 100";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("nonsense"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(descriptors_max(limits), Some(1_024));
        assert_eq!(descriptors_max("Max open files   unlimited   unlimited   files\n"), None);
    }
}
