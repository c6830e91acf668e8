//! One server with its connections, ready to be measured in turn with others.

use std::time::Duration;

use super::plan::Measurement;
use super::server::Server;
use crate::echo::Echo;
use crate::error::BenchError;
use crate::fanout::Fanout;
use crate::handshake::Target;
use crate::run::{Load, Measured, Schedule};
use crate::sequence::Verdict;

/// A share of a core for others above which a slice is taken again.
const DISTURBED: f64 = 0.10;
const ATTEMPTS_MAX: usize = 4;
/// Seconds of work before the first slice: buffers grow, caches fill.
const WARMUP: f64 = 0.25;
/// Seconds of work at the start of each slice that are not measured.
const SLICE_WARMUP: f64 = 0.05;

/// A server under load, and what has been measured of it in this round.
pub(crate) struct Contestant {
    pub(crate) measurement: Measurement,
    load: Box<dyn Load>,
    server: Server,
    spin: bool,
    pub(crate) tally: Tally,
}

/// The sum of a round's slices.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    wall: Duration,
    server: Duration,
    client: Duration,
    /// Slices that others disturbed every time.
    pub(crate) disturbed: usize,
}

impl Contestant {
    /// Opens every connection to the server and sends the first messages.
    pub(crate) fn open(
        measurement: Measurement,
        server: Server,
        delivery_size: usize,
        spin: bool,
    ) -> Result<Self, BenchError> {
        let url = Target {
            authority: server.address.to_string(),
            address: server.address,
            path: "/".to_owned(),
        };
        let schedule = Self::schedule(&server, spin, WARMUP, 0.0);
        let load: Box<dyn Load> = match measurement.echo(&url, &schedule) {
            Some(args) => Box::new(Echo::open(&args)?),
            None => Box::new(Fanout::open(&measurement.fanout(&url, &schedule, delivery_size))?),
        };
        let mut contestant = Self { measurement, load, server, spin, tally: Tally::default() };
        contestant.load.run(&schedule)?;
        Ok(contestant)
    }

    /// Measures for so many seconds, again when others disturb it.
    pub(crate) fn slice(&mut self, seconds: f64) -> Result<(), BenchError> {
        let schedule = Self::schedule(&self.server, self.spin, SLICE_WARMUP, seconds);
        for attempt in 1..=ATTEMPTS_MAX {
            let measured = self.load.run(&schedule)?;
            let is_disturbed = measured.usage.share(measured.usage.others) > DISTURBED;
            if !is_disturbed || attempt == ATTEMPTS_MAX {
                self.tally.add(measured, is_disturbed);
                break;
            }
        }
        Ok(())
    }

    /// What was wrong in any slice.
    pub(crate) fn verdict(&self) -> Verdict {
        self.load.verdict()
    }

    fn schedule(server: &Server, spin: bool, warmup: f64, seconds: f64) -> Schedule {
        Schedule { seconds, messages: None, warmup, spin, server_pid: Some(server.pid()) }
    }
}

impl Tally {
    fn add(&mut self, measured: Measured, is_disturbed: bool) {
        self.messages += measured.messages;
        self.wall += measured.usage.wall;
        self.server += measured.usage.server.unwrap_or_default();
        self.client += measured.usage.client;
        self.disturbed += usize::from(is_disturbed);
    }

    /// Microseconds of server CPU per message; `None` when nothing was answered.
    pub(crate) fn micros(&self) -> Option<f64> {
        (self.messages > 0).then(|| self.per_message(self.server))
    }

    /// One line for the progress of the comparison.
    pub(crate) fn describe(&self) -> String {
        let share = |time: Duration| 100.0 * time.as_secs_f64() / self.wall.as_secs_f64();
        format!(
            "server {:>7.3} us ({:.0} %)  client {:>7.3} us ({:.0} %)  {:>8.0} messages/s",
            self.per_message(self.server),
            share(self.server),
            self.per_message(self.client),
            share(self.client),
            self.messages as f64 / self.wall.as_secs_f64()
        )
    }

    fn per_message(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.messages.max(1) as f64
    }
}
