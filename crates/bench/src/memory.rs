//! Memory of a process, from `/proc/PID/smaps_rollup`.
//!
//! PSS (proportional set size) counts a page shared by n processes as 1/n of a page, so it is what
//! would be free if the process ended. It does not hold socket buffers: those are the kernel's.

use crate::error::{BenchError, Doing};

/// The PSS of a process in bytes.
///
/// # Errors
/// No such process, or one of another user.
pub(crate) fn pss(pid: u32) -> Result<u64, BenchError> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&file).doing(|| format!("reading {file}"))?;
    parse_pss(&text).ok_or_else(|| BenchError::Usage(format!("{file} has no Pss line")))
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{parse_pss, pss};

    #[test]
    fn pss_is_not_one_of_its_parts() {
        let text = "55d0-7ffc ---p 00000000 00:00 0  [rollup]\n\
                    Rss:               13596 kB\nPss_Anon:           6876 kB\n\
                    Pss:               11757 kB\nPss_Dirty:          6876 kB\n";
        assert_eq!(parse_pss(text), Some(11757 * 1024));
        assert_eq!(parse_pss("Rss: 1 kB\n"), None);
    }

    #[test]
    fn own_memory_grows_by_what_is_touched() {
        let before = pss(std::process::id()).unwrap();
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = pss(std::process::id()).unwrap();
        assert!(after - before > 30 << 20, "{before} to {after}");
        drop(block);
    }
}
