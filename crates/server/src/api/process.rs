//! What the kernel says about this process: memory and CPU time.

use std::time::Duration;

/// Ticks a second in `/proc`; Linux has shown user space no other number since 2.6.
const TICKS_PER_S: u64 = 100;

/// What of this process is in memory, bytes; 0 where `/proc` is not to be had.
pub(crate) fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

/// CPU time of all threads since the start.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Duration::from_millis(ticks(&stat).unwrap_or(0) * 1_000 / TICKS_PER_S)
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
        assert!(memory_bytes() > 100_000);
        let stat = "7 (a) b) R 1 1 1 0 -1 0 9 0 0 0 150 50 0 0 20 0 1 0 100";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("nonsense"), None);
    }
}
