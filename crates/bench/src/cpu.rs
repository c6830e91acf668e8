//! CPU time of processes, from `/proc`.
//!
//! The kernel keeps a thread's time in nanoseconds (`/proc/PID/task/TID/schedstat`, first field:
//! time on a CPU, user and kernel together). It is brought up to date at each scheduler tick
//! and switch, so a reading is at most a tick (1-10 ms) behind for a thread that is running. Where a
//! kernel has no schedstat, `utime + stime` of `/proc/PID/task/TID/stat` stands in, in units of
//! 10 ms. Threads are summed by id: one that was there at the start and ended is not counted.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Doing};

/// What `/proc` counts CPU time in where it does not count nanoseconds: 1/100 s on Linux.
const TICK_MS: u64 = 10;

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `schedstat`: nanoseconds.
    Schedstat,
    /// `stat`: hundredths of a second.
    Stat,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedstat => "schedstat, ns",
            Self::Stat => "utime+stime, 10 ms",
        })
    }
}

/// The CPU time of each thread of a process, at one instant.
struct Threads {
    source: Source,
    by_id: HashMap<u32, Duration>,
}

impl Threads {
    fn of(pid: u32) -> Result<Self, BenchError> {
        let folder = format!("/proc/{pid}/task");
        let entries = std::fs::read_dir(&folder).doing(|| format!("reading {folder}"))?;
        let mut source = Source::Schedstat;
        let mut by_id = HashMap::new();
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may end between the listing and here; its time is gone then.
            let read = |file| std::fs::read_to_string(entry.path().join(file)).ok();
            if let Some(time) = read("schedstat").as_deref().and_then(parse_schedstat) {
                by_id.insert(id, time);
            } else if let Some(time) = read("stat").as_deref().and_then(parse_stat) {
                source = Source::Stat;
                by_id.insert(id, time);
            }
        }
        Ok(Self { source, by_id })
    }

    fn since(&self, before: &Self) -> Duration {
        self.by_id
            .iter()
            .map(|(id, &time)| {
                time.saturating_sub(before.by_id.get(id).copied().unwrap_or_default())
            })
            .sum()
    }
}

/// A window of time over which CPU time is measured.
pub(crate) struct UsageWindow {
    pid: Option<u32>,
    server: Option<Threads>,
    client: Threads,
    machine: Duration,
    opened: Instant,
}

impl UsageWindow {
    /// Begins to measure this process, process `pid` if there is one, and the whole machine.
    pub(crate) fn open(pid: Option<u32>) -> Result<Self, BenchError> {
        Ok(Self {
            pid,
            server: pid.map(Threads::of).transpose()?,
            client: Threads::of(std::process::id())?,
            machine: machine_busy()?,
            opened: Instant::now(),
        })
    }

    /// Ends the measurement.
    pub(crate) fn close(self) -> Result<Usage, BenchError> {
        let wall = self.opened.elapsed();
        let client_now = Threads::of(std::process::id())?;
        let client = client_now.since(&self.client);
        let server = match (self.pid, &self.server) {
            (Some(pid), Some(before)) => Some(Threads::of(pid)?.since(before)),
            _ => None,
        };
        let busy = machine_busy()?.saturating_sub(self.machine);
        let others = busy.saturating_sub(client + server.unwrap_or_default());
        Ok(Usage { wall, server, client, others, source: client_now.source })
    }
}

/// CPU time spent in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// All threads of the server; `None` when its process is not known.
    pub(crate) server: Option<Duration>,
    /// All threads of this process.
    pub(crate) client: Duration,
    /// Everything else on the machine, kernel threads included, in steps of 10 ms. When it is not
    /// small, somebody else shared the caches and the figures are worth less.
    pub(crate) others: Duration,
    pub(crate) source: Source,
}

impl Usage {
    /// Microseconds of server CPU per message; `None` without server or message.
    pub(crate) fn server_micros_per(&self, messages: u64) -> Option<f64> {
        let server = self.server?;
        (messages > 0).then(|| server.as_secs_f64() * 1e6 / messages as f64)
    }

    /// Microseconds of this process' CPU per message.
    pub(crate) fn client_micros_per(&self, messages: u64) -> f64 {
        self.client.as_secs_f64() * 1e6 / messages.max(1) as f64
    }

    /// `part` as a share of one core over the window.
    pub(crate) fn share(&self, part: Duration) -> f64 {
        part.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// One line: CPU per message and how busy each side was.
    pub(crate) fn describe(&self, messages: u64, unit: &str) -> String {
        let server = match (self.server, self.server_micros_per(messages)) {
            (Some(time), Some(micros)) => {
                format!(
                    "server {micros:.3} us/{unit} ({:.0} % of a core), ",
                    100.0 * self.share(time)
                )
            }
            _ => "server unknown (no --server-pid), ".to_owned(),
        };
        format!(
            "{server}client {:.3} us/{unit} ({:.0} %), others {:.0} % [{}]",
            self.client_micros_per(messages),
            100.0 * self.share(self.client),
            100.0 * self.share(self.others),
            self.source
        )
    }
}

fn machine_busy() -> Result<Duration, BenchError> {
    let stat = std::fs::read_to_string("/proc/stat").doing(|| "reading /proc/stat".to_owned())?;
    parse_machine(&stat)
        .ok_or_else(|| BenchError::Usage("/proc/stat is not that of Linux".to_owned()))
}

/// First field of `schedstat`. A kernel without accounting writes three zeros.
fn parse_schedstat(text: &str) -> Option<Duration> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let (run, wait, slices) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    ((run, wait, slices) != (0, 0, 0)).then(|| Duration::from_nanos(run))
}

/// `utime + stime` of `stat`: fields 14 and 15, counted behind the name, which may hold anything.
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, behind_name) = text.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    Some(Duration::from_millis(TICK_MS * ticks))
}

/// All but idle and waiting for disks (fields 4 and 5) of the line `cpu`; guests are in user time.
fn parse_machine(text: &str) -> Option<Duration> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: u64 = fields
        .take(8)
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .map(|(_, field)| field.parse::<u64>().unwrap_or(0))
        .sum();
    Some(Duration::from_millis(TICK_MS * ticks))
}

#[cfg(test)]
mod tests {
    use super::{Threads, UsageWindow, parse_machine, parse_schedstat, parse_stat};
    use std::time::{Duration, Instant};

    #[test]
    fn schedstat_is_nanoseconds() {
        assert_eq!(
            parse_schedstat("583749265 8105051 148\n"),
            Some(Duration::from_nanos(583_749_265))
        );
        assert_eq!(parse_schedstat("0 0 0\n"), None);
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn stat_is_read_behind_any_name() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        assert_eq!(parse_stat(line), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("7 (short) S 1"), None);
    }

    #[test]
    fn machine_is_busy_without_idle_and_disk() {
        let text = "cpu  10 20 30 4000 500 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(parse_machine(text), Some(Duration::from_millis(810)));
    }

    #[test]
    fn a_busy_loop_is_seen() {
        let window = UsageWindow::open(Some(std::process::id())).unwrap();
        let (begun, before) = (Instant::now(), Threads::of(std::process::id()).unwrap());
        // On a machine that others use, 60 ms on the wall can be far less of CPU.
        let enough = |spun: Duration| spun >= Duration::from_millis(30);
        while begun.elapsed() < Duration::from_millis(60)
            || !enough(Threads::of(std::process::id()).unwrap().since(&before))
        {
            assert!(begun.elapsed() < Duration::from_secs(30), "no CPU time is counted");
            std::hint::spin_loop();
        }
        let usage = window.close().unwrap();
        assert!(usage.client >= Duration::from_millis(15), "{usage:?}");
        assert!(usage.wall >= Duration::from_millis(60));
    }
}
