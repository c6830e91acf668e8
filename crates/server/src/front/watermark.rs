//! Whether the process has more memory than it may: then nobody new comes in.
//!
//! Every other limit bounds one thing; this one bounds all of them together, for whoever set them too
//! high for the machine. Connections that are there live on.

use crate::api::process;
use crate::worker::Clock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long what the kernel said is good, microseconds: asking takes about 30.
const GOOD_US: u64 = 100_000;

/// `limits.memory_bytes`.
#[derive(Debug)]
pub(crate) struct Watermark {
    /// 0: no limit.
    bytes_max: u64,
    clock: Clock,
    /// When the kernel was last asked, microseconds, and in the lowest bit whether it was too much.
    seen: AtomicU64,
}

impl Watermark {
    pub(crate) fn new(bytes_max: u64, clock: Clock) -> Self {
        Self { bytes_max, clock, seen: AtomicU64::new(0) }
    }

    /// Whether the process has more than it may; asks the kernel, but not too often.
    pub(crate) fn is_passed(&self) -> bool {
        self.bytes_max > 0 && self.look(self.clock.mono_us(), process::memory_bytes)
    }

    fn look(&self, now_us: u64, resident: impl FnOnce() -> u64) -> bool {
        let seen = self.seen.load(Relaxed);
        if seen > 0 && now_us < (seen >> 1) + GOOD_US {
            return seen & 1 == 1;
        }
        let passed = resident() > self.bytes_max;
        #[cfg(feature = "mimalloc")]
        if passed {
            crate::allocator::give_back();
        }
        self.seen.store(now_us.max(1) << 1 | u64::from(passed), Relaxed);
        passed
    }
}

/// Four fifths of the memory that this process may have: the machine's, or its control group's if that
/// is less. 0 if neither is known.
pub(crate) fn default_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))
        .and_then(|kib| Some(kib.trim().parse::<u64>().ok()? * 1_024));
    let groups = read("/proc/self/cgroup");
    // cgroup v2, of which a container sees its own as the root.
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let own = [format!("/sys/fs/cgroup{path}/memory.max"), "/sys/fs/cgroup/memory.max".to_owned()];
    let group = own.iter().find_map(|path| read(path).trim().parse().ok());
    machine.into_iter().chain(group).min().unwrap_or(0) / 5 * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_said_is_good_for_a_while() {
        let watermark = Watermark::new(100, Clock::start());
        assert!(!watermark.look(0, || 100));
        assert!(!watermark.look(GOOD_US, || panic!("asked too soon")));
        assert!(watermark.look(GOOD_US + 1, || 101));
        assert!(watermark.look(2 * GOOD_US, || panic!("asked too soon")));
        assert!(!watermark.look(2 * GOOD_US + 1, || 50));
    }

    #[test]
    fn without_a_limit_nobody_is_asked() {
        assert!(!Watermark::new(0, Clock::start()).is_passed());
        assert!(Watermark::new(1, Clock::start()).is_passed());
    }

    #[test]
    fn the_default_is_less_than_the_machine_has() {
        let bytes = default_bytes();
        assert!(bytes > 1 << 26 && bytes < 1 << 50, "{bytes}");
    }
}
