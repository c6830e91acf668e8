//! `GET /stats`: what this node does, and how much of it.

use super::{Api, process};
use crate::front::{Answer, Problem};
use clarion_engine::Counters;
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_store_sqlite::Health;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// The figures that rates are made of, at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    messages_in: u64,
    messages_out: u64,
    cpu: Duration,
}

/// The last few samples: rates are taken over 1 to about [`SAMPLE_EVERY`] seconds.
#[derive(Debug)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

/// How often a sample is taken when nobody asks.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// A rate over less says little.
const RATE_OVER: Duration = Duration::from_secs(1);
/// With more than one question a second the oldest ones go.
const SAMPLES_COUNT: usize = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    in_per_s: f64,
    out_per_s: f64,
    /// Cores in use.
    cpu: f64,
}

impl Samples {
    /// Starts with the process, when everything was 0.
    pub(crate) fn new() -> Self {
        let zero =
            Sample { at: Instant::now(), messages_in: 0, messages_out: 0, cpu: Duration::ZERO };
        Self(Mutex::new(VecDeque::from([zero])))
    }

    /// The rates up to `now`, which is kept for later ones.
    fn add(&self, now: Sample) -> Rates {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |sample: &Sample| now.at.saturating_duration_since(sample.at);
        let base = samples.iter().rev().find(|sample| age(sample) >= RATE_OVER).copied();
        let rates = base.map_or_else(Rates::default, |base| {
            let seconds = age(&base).as_secs_f64();
            let rate = |now: u64, then: u64| round(now.saturating_sub(then) as f64 / seconds);
            Rates {
                in_per_s: rate(now.messages_in, base.messages_in),
                out_per_s: rate(now.messages_out, base.messages_out),
                cpu: round(now.cpu.saturating_sub(base.cpu).as_secs_f64() / seconds),
            }
        });
        // One a second is enough, and the one that the next rate is taken from must stay.
        let crowded = samples.iter().nth_back(1).is_some_and(|sample| age(sample) < RATE_OVER);
        if crowded {
            samples.pop_back();
        }
        samples.push_back(now);
        if samples.len() > SAMPLES_COUNT {
            samples.pop_front();
        }
        rates
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

impl Api {
    /// The sum of all workers' counters; all of them have to answer.
    pub(super) async fn counters(&self) -> Result<Counters, Problem> {
        let mut sum = Counters::default();
        for answer in self.ask_all(&ApiRequest::Stats).await? {
            if let ApiAnswer::Stats(counters) = answer {
                sum.add(&counters);
            }
        }
        Ok(sum)
    }

    fn rates(&self, counters: &Counters) -> Rates {
        self.samples.add(Sample {
            at: Instant::now(),
            messages_in: counters.messages_in,
            messages_out: counters.messages_out,
            cpu: process::cpu_time(),
        })
    }

    /// Takes a sample now and then, so that a rate is never one over an hour.
    pub(crate) async fn sample(&self) {
        let mut failing = None;
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            #[cfg(feature = "mimalloc")]
            crate::allocator::give_back();
            let scrape = self.scrape().await;
            self.rates(&scrape.counters);
            self.scrapes.log_limits(&scrape.counters);
            self.counts.log_rest();
            self.addresses.sweep();
            self.log_store(&mut failing);
        }
    }
}

impl Api {
    /// A line when the store stops working, when that is for another reason, and when
    /// it works again.
    fn log_store(&self, before: &mut Option<String>) {
        let health = self.durable.as_ref().map(|store| store.health());
        let now = match health {
            Some(Health::Failing(why)) => Some(why),
            Some(Health::Ok) | None => None,
        };
        if now == *before {
            return;
        }
        match &now {
            Some(why) => tracing::error!(why, "the store does not work"),
            None => tracing::info!("the store works again"),
        }
        *before = now;
    }
}

/// What this node does, and how much of it.
#[utoipa::path(
    get, path = "/stats", tag = "node",
    responses((status = 200, description = "Since the start, but for the rates.", body = Stats)),
)]
pub(super) async fn stats(api: &Api) -> Result<Answer, Problem> {
    let counters = api.counters().await?;
    let rates = api.rates(&counters);
    let node = Node {
        node: api.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: api.started.elapsed().as_secs(),
        connections: counters.connections,
        rooms: counters.rooms,
        members: counters.members,
        messages: Messages {
            received: counters.messages_in,
            sent: counters.messages_out,
            in_per_s: rates.in_per_s,
            out_per_s: rates.out_per_s,
        },
        bytes: Amount { received: counters.bytes_in, sent: counters.bytes_out },
        errors: counters.errors,
        memory_bytes: process::memory_bytes(),
        cpu: rates.cpu,
    };
    Ok(super::json(&Stats { nodes: vec![node.clone()], all: node }))
}

/// What all nodes do together, and each.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    #[serde(flatten)]
    all: Node,
    /// Each node by itself; there is one.
    nodes: Vec<Node>,
}

/// What a node does.
#[derive(Clone, Serialize, ToSchema)]
struct Node {
    /// What the process calls itself.
    node: String,
    /// Of Clarion.
    version: &'static str,
    /// Since the start, seconds.
    uptime_s: u64,
    /// WebSocket connections.
    connections: u64,
    /// Rooms that somebody uses.
    rooms: u64,
    /// Memberships of sessions in rooms.
    members: u64,
    messages: Messages,
    bytes: Amount,
    /// How many errors were sent to clients, by name.
    #[schema(value_type = HashMap<String, u64>)]
    errors: BTreeMap<&'static str, u64>,
    /// Memory of the process.
    memory_bytes: u64,
    /// Cores in use, over the last second or more.
    cpu: f64,
}

/// WebSocket messages.
#[derive(Clone, Serialize, ToSchema)]
struct Messages {
    /// Received.
    #[serde(rename = "in")]
    received: u64,
    /// Sent.
    #[serde(rename = "out")]
    sent: u64,
    /// Received a second, over the last second or more.
    in_per_s: f64,
    /// Sent a second.
    out_per_s: f64,
}

/// Bytes after the handshakes.
#[derive(Clone, Serialize, ToSchema)]
struct Amount {
    /// Received.
    #[serde(rename = "in")]
    received: u64,
    /// Sent.
    #[serde(rename = "out")]
    sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64, messages: u64) -> Sample {
        let at = start + Duration::from_millis(ms);
        let cpu = Duration::from_millis(messages);
        Sample { at, messages_in: messages, messages_out: 2 * messages, cpu }
    }

    #[test]
    fn rates_are_over_the_last_second_or_more() {
        let samples = Samples::new();
        let start = samples.0.lock().unwrap()[0].at;
        let rates = samples.add(at(start, 2_000, 100));
        assert_eq!((rates.in_per_s, rates.out_per_s, rates.cpu), (50.0, 100.0, 0.05));
        // Whoever asks all the time gets the rate since the last one that is old enough.
        for ms in (2_100..=2_900).step_by(100) {
            assert!(samples.add(at(start, ms, 100)).in_per_s <= 50.0);
        }
        assert_eq!(samples.add(at(start, 4_900, 300)).in_per_s, 100.0);
        assert_eq!(samples.add(at(start, 14_000, 300)).in_per_s, 0.0);
        assert!(samples.0.lock().unwrap().len() <= SAMPLES_COUNT);
    }
}
