//! The course of a measurement: warm up, measure, drain.
//!
//! A command calls [`Run::turn`] once a turn with the number of messages done so far; this decides
//! when the window of measurement opens and closes. It holds no socket.

use std::time::{Duration, Instant};

use crate::cpu::{Usage, UsageWindow};
use crate::error::BenchError;
use crate::sequence::Verdict;

/// Without any message for so long, a run ends and what is outstanding is lost.
#[cfg(not(test))]
const STALL: Duration = Duration::from_secs(10);
#[cfg(test)]
const STALL: Duration = Duration::from_millis(300);

/// How long to measure, as arguments.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Schedule {
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Messages (deliveries, for a fan-out) to measure, in place of --seconds.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// Seconds before the measurement begins.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
    /// Never sleep: take a whole core, and spare the server the work of waking this process.
    #[arg(long)]
    pub(crate) spin: bool,
    /// Process whose CPU time is the server's.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
}

enum Phase {
    WarmingUp {
        until: Instant,
    },
    Measuring {
        window: UsageWindow,
        done_before: u64,
        end: End,
    },
    Draining {
        measured: Measured,
    },
    /// Left for an instant while the phase changes.
    Between,
}

#[derive(Clone, Copy)]
enum End {
    At(Instant),
    Done(u64),
}

impl Schedule {
    /// How long a turn may wait for events; without spinning, only a stalled server lets it.
    pub(crate) fn patience(&self) -> Duration {
        if self.spin { Duration::ZERO } else { Duration::from_millis(100) }
    }
}

/// What the window held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Messages done inside the window.
    pub(crate) messages: u64,
    pub(crate) usage: Usage,
}

impl Measured {
    /// Messages per second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.usage.wall.as_secs_f64()
    }
}

/// Connections that can be put to work again and again.
pub(crate) trait Load {
    /// Warms up, measures, and waits until nothing is on its way.
    ///
    /// # Errors
    /// The server refused, hung up, or broke its protocol. Wrong answers are no error here.
    fn run(&mut self, schedule: &Schedule) -> Result<Measured, BenchError>;

    /// What was wrong in all runs so far.
    fn verdict(&self) -> Verdict;
}

/// One measurement on its way.
pub(crate) struct Run {
    schedule: Schedule,
    phase: Phase,
    /// When `done` last grew, and what it was.
    progress: (Instant, u64),
}

impl Run {
    /// A run that begins to warm up now.
    pub(crate) fn new(schedule: Schedule, now: Instant) -> Self {
        let until = now + Duration::from_secs_f64(schedule.warmup);
        Self { schedule, phase: Phase::WarmingUp { until }, progress: (now, 0) }
    }

    /// Tells how many messages are done since the beginning.
    pub(crate) fn turn(&mut self, now: Instant, done: u64) -> Result<(), BenchError> {
        if done != self.progress.1 {
            self.progress = (now, done);
        }
        let stalled = now - self.progress.0 >= STALL;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::WarmingUp { until } if now >= until || stalled => Phase::Measuring {
                window: UsageWindow::open(self.schedule.server_pid)?,
                done_before: done,
                end: match self.schedule.messages {
                    Some(messages) => End::Done(done + messages),
                    None => End::At(now + Duration::from_secs_f64(self.schedule.seconds)),
                },
            },
            Phase::Measuring { window, done_before, end } if end.reached(now, done) || stalled => {
                let measured = Measured { messages: done - done_before, usage: window.close()? };
                Phase::Draining { measured }
            }
            other => other,
        };
        Ok(())
    }

    /// Whether latencies count.
    pub(crate) fn is_measuring(&self) -> bool {
        matches!(self.phase, Phase::Measuring { .. })
    }

    /// Whether nothing new is to be sent.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// The result, once the run drains and nothing is outstanding or nothing comes any more.
    pub(crate) fn result(&self, now: Instant, outstanding: u64) -> Option<Measured> {
        match self.phase {
            Phase::Draining { measured } if outstanding == 0 || now - self.progress.0 >= STALL => {
                Some(measured)
            }
            Phase::WarmingUp { .. }
            | Phase::Measuring { .. }
            | Phase::Draining { .. }
            | Phase::Between => None,
        }
    }
}

impl End {
    fn reached(self, now: Instant, done: u64) -> bool {
        match self {
            Self::At(end) => now >= end,
            Self::Done(end) => done >= end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, STALL, Schedule};
    use std::time::{Duration, Instant};

    fn schedule(messages: Option<u64>) -> Schedule {
        Schedule { seconds: 2.0, messages, warmup: 1.0, spin: false, server_pid: None }
    }

    #[test]
    fn only_the_window_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut run = Run::new(schedule(None), start);
        run.turn(at(0), 100).unwrap();
        assert!(!run.is_measuring());
        run.turn(at(1), 300).unwrap();
        assert!(run.is_measuring());
        run.turn(at(2), 500).unwrap();
        run.turn(at(3), 900).unwrap();
        assert!(run.is_draining());
        assert!(run.result(at(3), 5).is_none(), "five are outstanding");
        assert_eq!(run.result(at(3), 0).unwrap().messages, 600);
    }

    #[test]
    fn a_number_of_messages_ends_the_window() {
        let start = Instant::now();
        let mut run = Run::new(schedule(Some(10)), start);
        run.turn(start + Duration::from_secs(1), 7).unwrap();
        run.turn(start + Duration::from_secs(8), 16).unwrap();
        assert!(run.is_measuring());
        run.turn(start + Duration::from_secs(9), 17).unwrap();
        assert!(run.is_draining());
    }

    #[test]
    fn a_silent_server_ends_the_run() {
        let start = Instant::now();
        let mut run = Run::new(schedule(Some(10)), start);
        run.turn(start + STALL, 0).unwrap();
        run.turn(start + STALL, 0).unwrap();
        assert!(run.is_draining());
        assert!(run.result(start + STALL, 64).is_some());
    }
}
