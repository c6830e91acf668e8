//! `GET /metrics`: everything that is counted, for Prometheus.
//!
//! docs/operations.md says of each metric what it tells and what to do about it; a test holds the
//! two together. A scrape asks every worker once, by mail; one that does not answer is shown as such,
//! and its counters as they were, so that a stuck worker does not take the view from whoever looks
//! for it.

use super::exposition::{Format, Kind, Metric, Page};
use super::{Api, process};
use crate::front::{Answer, log_limit};
use crate::worker::{Measure, Workers};
use bytes::Bytes;
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_engine::{Counters, Mail};
use clarion_store_sqlite::Health;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a worker may take to answer a scrape, which gives up after 10 s by Prometheus' default.
const PATIENCE: Duration = Duration::from_secs(2);
/// A high-water mark is that of the last one to two of these, so that two scrapers see the same.
const PEAK_WINDOW: Duration = Duration::from_secs(60);

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All metrics, in the order of the page.
        #[cfg(test)]
        const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD = Gauge "clarion_build_info", "1", ["version"], "What runs here.";
    UPTIME = Gauge "clarion_uptime_seconds", "seconds", [], "Time since the start.";
    WORKERS = Gauge "clarion_workers", "threads", [], "Threads that serve connections.";
    SILENT = Gauge "clarion_workers_silent", "threads", [],
        "Workers that did not answer this scrape in time.";
    WORKER_CONNECTIONS = Gauge "clarion_worker_connections", "connections", ["worker"],
        "WebSocket connections of each worker, those on their way to it included.";
    WORKER_BUSY = Counter "clarion_worker_busy_seconds_total", "seconds", ["worker"],
        "Time that each worker spent in turns.";
    WORKER_TURN_AGE = Gauge "clarion_worker_turn_age_seconds", "seconds", ["worker"],
        "Age of the turn that each worker is in; 0 while it sleeps.";
    TURNS = Histogram "clarion_turn_seconds", "seconds", [],
        "Length of workers' turns, from waking up to having written everything.";

    CONNECTIONS = Gauge "clarion_connections", "connections", ["state"],
        "WebSocket connections, by state.";
    HTTP_CONNECTIONS = Gauge "clarion_http_connections", "connections", [],
        "HTTP connections, those included that are still shaking hands.";
    HANDSHAKES = Counter "clarion_handshakes_total", "handshakes", ["outcome"],
        "WebSocket handshakes, by what came of them.";
    TOKENS = Counter "clarion_tokens_total", "tokens", ["outcome"],
        "Tokens verified, by what came of them.";
    JWKS_KEYS = Gauge "clarion_jwks_keys", "keys", [], "Keys for tokens that auth.jwks_url gave.";
    JWKS_AGE = Gauge "clarion_jwks_age_seconds", "seconds", [],
        "Time since they were fetched, or since the start; 0 without auth.jwks_url.";
    JWKS_FETCHES = Counter "clarion_jwks_fetches_total", "requests", ["outcome"],
        "Requests to auth.jwks_url.";
    TLS_HANDSHAKES = Counter "clarion_tls_handshakes_total", "handshakes", ["outcome"],
        "TLS handshakes, by what came of them.";
    TLS_RELOADS = Counter "clarion_tls_reloads_total", "reloads", ["outcome"],
        "Changes of the certificate's files, and whether they were taken.";
    TLS_EXPIRY = Gauge "clarion_tls_certificate_expiry_seconds", "seconds", [],
        "When the certificate that is shown expires, since 1970; 0 without one.";
    RESUMED = Counter "clarion_resumed_total", "sessions", [],
        "Sessions that came back with a ticket.";
    CLOSES = Counter "clarion_closes_total", "connections", ["code"],
        "Connections ended, by close code; 1006 for none, other for what peers make up.";
    ERRORS = Counter "clarion_errors_total", "errors", ["name"],
        "Errors that clients were told, by name.";
    LIMITS = Counter "clarion_limits_total", "hits", ["limit"],
        "Limits that were met, by setting.";
    BANS = Counter "clarion_bans_total", "bans", [], "Bans of addresses.";
    BANNED = Gauge "clarion_banned_addresses", "addresses", [], "Addresses that are banned now.";
    ADDRESSES = Gauge "clarion_addresses", "addresses", [],
        "Addresses that are remembered for limits and bans.";
    REQUESTS = Counter "clarion_http_requests_total", "requests", ["route", "status"],
        "HTTP requests answered, but for handshakes that were accepted.";
    KEYS = Gauge "clarion_api_keys", "keys", [], "API keys that are good.";
    KEYS_FAILING = Gauge "clarion_api_keys_failing", "1", [],
        "1 while the file of API keys cannot be read, and those before stay good.";
    KEY_REQUESTS = Counter "clarion_api_key_requests_total", "requests", ["key", "outcome"],
        "HTTP requests with an API key that is good, by its name.";
    AUDIT_FAILURES = Counter "clarion_audit_failures_total", "lines", [],
        "Lines that could not be written to the audit file.";

    MESSAGES = Counter "clarion_messages_total", "messages", ["direction"],
        "WebSocket messages received and queued for sending.";
    BYTES = Counter "clarion_bytes_total", "bytes", ["direction"],
        "Bytes received, and queued for sending, after the handshakes.";
    DEFLATE_MESSAGES = Counter "clarion_deflate_messages_total", "messages", ["direction"],
        "Compressed messages received, and messages compressed; one made once for many is one.";
    DEFLATE_BYTES = Counter "clarion_deflate_bytes_total", "bytes", ["direction", "form"],
        "Bytes of those messages, compressed and not.";
    PUBLICATIONS = Counter "clarion_publications_total", "publications", [],
        "Publications that were accepted.";
    DELIVERIES = Counter "clarion_deliveries_total", "publications", [],
        "Publications that were queued for a member.";
    DELIVERY = Histogram "clarion_delivery_seconds", "seconds", [],
        "From reading the first publication of a batch to having written it; one for each worker.";
    ROOMS = Gauge "clarion_rooms", "rooms", [], "Rooms that somebody uses.";
    MEMBERS = Gauge "clarion_members", "members", [],
        "Sessions in rooms, absent ones in their grace included.";
    BEHIND = Gauge "clarion_members_behind", "members", [],
        "Members that read the log, since they are behind their room.";
    LAG = Gauge "clarion_lag_publications", "publications", [],
        "How far the last of those members is behind.";
    FELL_BEHIND = Counter "clarion_fell_behind_total", "members", [],
        "Members that were too slow and fell back to reading the log.";
    GAPS = Counter "clarion_gaps_total", "gaps", [], "Losses that were announced with $gap.";
    REVOCATIONS = Gauge "clarion_revocations", "revocations", [],
        "Revocations, until a minute or two after they are over.";
    OUTBOX = Gauge "clarion_outbox_bytes", "bytes", [],
        "Bytes queued for all connections, which the kernel has not taken.";
    OUTBOX_PEAK = Gauge "clarion_outbox_peak_bytes", "bytes", [],
        "The most that one connection's socket did not take, in the last 1 to 2 minutes.";
    MAILBOX = Gauge "clarion_mailbox_bytes", "bytes", [],
        "Bytes of mail between workers that was not taken yet.";
    MAILBOX_PEAK = Gauge "clarion_mailbox_peak_bytes", "bytes", [],
        "The most that one mailbox held in the last 1 to 2 minutes.";
    LOG_BYTES = Gauge "clarion_log_bytes", "bytes", [],
        "What the logs in memory take, about.";
    STORE = Histogram "clarion_store_seconds", "seconds", ["operation"],
        "From asking the store to its answer.";
    STORE_FAILING = Gauge "clarion_store_failing", "1", [],
        "1 while the store does not work.";
    STORE_REQUESTS = Counter "clarion_store_requests_total", "requests", ["outcome"],
        "Requests to the store that were committed, and that failed.";
    STORE_COMMITS = Counter "clarion_store_commits_total", "transactions", [],
        "Transactions that the store committed.";
    STORE_COMMIT_TIME = Counter "clarion_store_commit_seconds_total", "seconds", [],
        "Time that those took, the disk's included.";
    STORE_WAITING = Gauge "clarion_store_waiting_bytes", "bytes", [],
        "Bytes of requests that wait for the store.";
    LOG_DROPPED = Counter "clarion_log_lines_dropped_total", "lines", [],
        "Lines that the log lost, since whoever reads it is too slow.";

    RESIDENT = Gauge "process_resident_memory_bytes", "bytes", [], "Memory of this process.";
    ADDRESS_SPACE = Gauge "process_virtual_memory_bytes", "bytes", [],
        "Address space of this process.";
    CPU = Counter "process_cpu_seconds_total", "seconds", [], "CPU time of this process.";
    OPEN_FDS = Gauge "process_open_fds", "descriptors", [], "Descriptors that are open.";
    MAX_FDS = Gauge "process_max_fds", "descriptors", [], "Descriptors that may be open.";
    THREADS = Gauge "process_threads", "threads", [], "Threads of this process.";
    START_TIME = Gauge "process_start_time_seconds", "seconds", [],
        "When this process started, since 1970.";
}

/// What scrapes leave for later ones.
#[derive(Debug, Default)]
pub(super) struct Scrapes(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// The last that each worker said.
    counters: BTreeMap<usize, Counters>,
    outbox: Peak,
    mailbox: Peak,
    /// What the log knows of limits that were met in the engine.
    limits: BTreeMap<&'static str, u64>,
}

/// The greatest value of the last one to two windows.
#[derive(Debug, Default)]
struct Peak {
    now: u64,
    before: u64,
    since: Option<Instant>,
}

/// What the workers said.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) counters: Counters,
    silent: usize,
}

impl Peak {
    fn see(&mut self, value: u64, at: Instant) -> u64 {
        let since = *self.since.get_or_insert(at);
        let windows = at.saturating_duration_since(since).as_secs() / PEAK_WINDOW.as_secs();
        if windows > 0 {
            self.before = if windows == 1 { self.now } else { 0 };
            (self.now, self.since) = (0, Some(at));
        }
        self.now = self.now.max(value);
        self.now.max(self.before)
    }
}

impl Scrapes {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The high-water marks of an outbox and of a mailbox. Workers forget theirs when they are
    /// looked at; here they are remembered.
    fn peaks(&self, workers: &Workers) -> (u64, u64) {
        let (mut memory, now) = (self.lock(), Instant::now());
        let outbox = memory.outbox.see(workers.take_outbox_bytes_max(), now);
        (outbox, memory.mailbox.see(workers.take_mailbox_bytes_max(), now))
    }

    /// Writes a line for each limit that was met in the engine since the last time.
    pub(super) fn log_limits(&self, counters: &Counters) {
        let mut memory = self.lock();
        for (limit, count) in &counters.limits {
            let told = memory.limits.insert(limit, *count).unwrap_or(0);
            if *count > told {
                log_limit(limit, count - told, None);
            }
        }
    }
}

impl Api {
    /// The sum of all workers' counters; of one that does not answer, what it last said.
    pub(super) async fn scrape(&self) -> Scrape {
        let pending: Vec<_> = self
            .workers
            .ids()
            .map(|worker| {
                let pending = self.answers.expect();
                let mail = Mail::Api { api: pending.id(), request: ApiRequest::Stats };
                self.workers.post(worker, mail);
                pending
            })
            .collect();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut scrape = Scrape { counters: Counters::default(), silent: 0 };
        for (worker, mut pending) in pending.into_iter().enumerate() {
            let answer = tokio::time::timeout_at(deadline, pending.wait()).await;
            let mut memory = self.scrapes.lock();
            match answer {
                Ok(Some(ApiAnswer::Stats(counters))) => {
                    scrape.counters.add(&counters);
                    memory.counters.insert(worker, *counters);
                }
                _ => {
                    scrape.silent += 1;
                    if let Some(counters) = memory.counters.get(&worker) {
                        scrape.counters.add(counters);
                    }
                }
            }
        }
        if scrape.silent > 0 {
            tracing::error!(workers = scrape.silent, "workers do not answer");
        }
        self.scrapes.peaks(&self.workers);
        scrape
    }

    pub(super) async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let format = Format::wanted(accept);
        let scrape = self.scrape().await;
        let mut page = Page::new(format);
        self.write(&mut page, &scrape);
        let mut response = Response::new(Full::new(Bytes::from(page.end())));
        let kind = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn write(&self, page: &mut Page, scrape: &Scrape) {
        let (uptime, workers) = (self.started.elapsed(), &self.workers);
        page.many(&BUILD, [([env!("CARGO_PKG_VERSION").to_owned()], 1)]);
        page.one(&UPTIME, uptime.as_secs_f64());
        page.one(&WORKERS, workers.count());
        page.one(&SILENT, scrape.silent);
        let loads: Vec<_> = (0..workers.count()).map(|worker| workers.load(worker)).collect();
        let each = || loads.iter().enumerate().map(|(worker, load)| ([worker.to_string()], load));
        page.many(&WORKER_CONNECTIONS, each().map(|(label, load)| (label, load.connections)));
        page.many(&WORKER_BUSY, each().map(|(label, load)| (label, load.busy.as_secs_f64())));
        let ages = each().map(|(label, load)| (label, load.turn_age.as_secs_f64()));
        page.many(&WORKER_TURN_AGE, ages);
        page.histogram(&TURNS, &[("", workers.measured(Measure::Turn))]);
        self.write_connections(page, &scrape.counters);
        self.write_messages(page, &scrape.counters);
        self.write_store(page);
        page.one(&LOG_DROPPED, crate::logs::dropped());
        write_process(page, uptime);
    }

    /// All zero without a store.
    fn write_store(&self, page: &mut Page) {
        let store = self.durable.as_ref();
        let counters = store.map(|store| store.counters()).unwrap_or_default();
        let failing = store.is_some_and(|store| store.health() != Health::Ok);
        page.one(&STORE_FAILING, u64::from(failing));
        let outcome = |name: &str, count| ([name.to_owned()], count);
        let outcomes = [outcome("committed", counters.batched), outcome("failed", counters.failed)];
        page.many(&STORE_REQUESTS, outcomes);
        page.one(&STORE_COMMITS, counters.batches);
        page.one(&STORE_COMMIT_TIME, Duration::from_nanos(counters.commit_ns).as_secs_f64());
        page.one(&STORE_WAITING, counters.waiting_bytes);
    }

    fn write_connections(&self, page: &mut Page, counters: &Counters) {
        let states = [
            ("greeting", counters.greeting),
            ("open", counters.sessions),
            ("echo", counters.echoes),
            ("closing", counters.closing),
        ];
        page.many(&CONNECTIONS, states.map(|(state, count)| ([state.to_owned()], count)));
        page.one(&HTTP_CONNECTIONS, self.http_connections.count());
        let named = |(name, count): (&'static str, u64)| ([name.to_owned()], count);
        page.many(&HANDSHAKES, self.counts.handshakes().map(named));
        page.many(&TOKENS, self.auth.outcomes().map(named));
        let jwks = self.auth.remote();
        page.one(&JWKS_KEYS, jwks.keys);
        page.one(&JWKS_AGE, jwks.age.as_secs_f64());
        let fetches = [("ok", jwks.fetched), ("failed", jwks.failed)];
        page.many(&JWKS_FETCHES, fetches.into_iter().map(named));
        let tls = &self.counts.tls;
        page.many(&TLS_HANDSHAKES, tls.handshakes().map(named));
        page.many(&TLS_RELOADS, tls.reloads().map(named));
        page.one(&TLS_EXPIRY, tls.not_after_s());
        page.one(&RESUMED, counters.resumed);
        let code = |code: u16| if code == 0 { "other".to_owned() } else { code.to_string() };
        page.many(&CLOSES, counters.closes.iter().map(|(at, count)| ([code(*at)], count)));
        let named = |(name, count): (&&'static str, &u64)| ([(*name).to_owned()], *count);
        page.many(&ERRORS, counters.errors.iter().map(named));
        let mut limits = counters.limits.clone();
        let squeezed = [("log_bytes", self.workers.memory_logs().1)];
        for (name, count) in self.counts.limits().chain(squeezed) {
            *limits.entry(name).or_default() += count;
        }
        page.many(&LIMITS, limits.iter().map(named));
        let (bans, banned, remembered) = self.addresses.counts();
        page.one(&BANS, bans);
        page.one(&BANNED, banned);
        page.one(&ADDRESSES, remembered);
        let requests = self.counts.requests();
        let request = |((route, status), count): (&(&'static str, u16), &u64)| {
            ([(*route).to_owned(), status.to_string()], *count)
        };
        page.many(&REQUESTS, requests.iter().map(request));
        let (keys, failing) = self.keys.state();
        page.one(&KEYS, keys);
        page.one(&KEYS_FAILING, u64::from(failing));
        page.many(&KEY_REQUESTS, self.keys.uses());
        page.one(&AUDIT_FAILURES, self.audit.failures());
    }

    fn write_messages(&self, page: &mut Page, counters: &Counters) {
        let workers = &self.workers;
        let both = |received, sent| [(["in".to_owned()], received), (["out".to_owned()], sent)];
        page.many(&MESSAGES, both(counters.messages_in, counters.messages_out));
        page.many(&BYTES, both(counters.bytes_in, counters.bytes_out));
        let deflated = both(counters.inflated_messages, counters.deflated_messages);
        page.many(&DEFLATE_MESSAGES, deflated);
        let deflated = [
            ("in", "compressed", counters.inflated_bytes),
            ("in", "plain", counters.inflated_plain_bytes),
            ("out", "compressed", counters.deflated_bytes),
            ("out", "plain", counters.deflated_plain_bytes),
        ];
        let labelled = |(direction, form, bytes): (&str, &str, u64)| {
            ([direction.to_owned(), form.to_owned()], bytes)
        };
        page.many(&DEFLATE_BYTES, deflated.map(labelled));
        page.one(&PUBLICATIONS, counters.publications);
        page.one(&DELIVERIES, counters.deliveries);
        page.histogram(&DELIVERY, &[("", workers.measured(Measure::Delivery))]);
        page.one(&ROOMS, counters.rooms);
        page.one(&MEMBERS, counters.members);
        page.one(&BEHIND, counters.behind);
        page.one(&LAG, counters.lag);
        page.one(&FELL_BEHIND, counters.fell_behind);
        page.one(&GAPS, counters.gaps);
        page.one(&REVOCATIONS, counters.revocations);
        page.one(&OUTBOX, workers.outbox_bytes());
        let (outbox, mailbox) = self.scrapes.peaks(workers);
        page.one(&OUTBOX_PEAK, outbox);
        page.one(&MAILBOX, workers.mailbox_bytes());
        page.one(&MAILBOX_PEAK, mailbox);
        page.one(&LOG_BYTES, workers.memory_logs().0);
        let operations = [
            ("append", workers.measured(Measure::Append)),
            ("read", workers.measured(Measure::Read)),
        ];
        page.histogram(&STORE, &operations);
    }
}

fn write_process(page: &mut Page, uptime: Duration) {
    let memory = process::memory();
    page.one(&RESIDENT, memory.resident);
    page.one(&ADDRESS_SPACE, memory.address_space);
    page.one(&CPU, process::cpu_time().as_secs_f64());
    let (open, max) = process::descriptors();
    page.one(&OPEN_FDS, open);
    page.one(&MAX_FDS, max.map_or("+Inf".to_owned(), |max| max.to_string()));
    page.one(&THREADS, process::threads());
    page.one(&START_TIME, process::start_time(uptime));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_metric_is_and_are_used_once() {
        for (index, metric) in ALL.iter().enumerate() {
            let Metric { name, kind, unit, help, .. } = metric;
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(name.starts_with("clarion_") || name.starts_with("process_"), "{name}");
            assert!(!unit.is_empty() && help.ends_with('.'), "{name}");
            if matches!(*unit, "seconds" | "bytes") {
                let base = name.strip_suffix("_total").unwrap_or(name);
                assert!(base.ends_with(unit), "{name}");
            }
            assert!(ALL[..index].iter().all(|other| other.name != *name), "{name}");
        }
    }

    /// A row: name, type, unit, labels, what it tells, what to do when it is high.
    #[test]
    fn every_metric_is_in_the_documentation_and_nothing_else() {
        let text = include_str!("../../../../docs/operations.md");
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter(|row| row.starts_with("clarion_") || row.starts_with("process_"));
        let documented: Vec<String> = rows
            .map(|row| {
                let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
                assert_eq!(cells.len(), 6, "{row}");
                assert!(cells[4..].iter().all(|cell| !cell.is_empty()), "{row}");
                cells[..4].join(" ").replace('`', "")
            })
            .collect();
        let exposed: Vec<String> = ALL
            .iter()
            .map(|Metric { name, kind, unit, labels, .. }| {
                let kind = format!("{kind:?}").to_lowercase();
                format!("{name} {kind} {unit} {}", labels.join(", ")).trim_end().to_owned()
            })
            .collect();
        let documented: Vec<_> = documented.iter().map(|row| row.trim_end()).collect();
        assert_eq!(documented, exposed);
    }

    #[test]
    fn a_peak_is_that_of_the_last_two_windows() {
        let (mut peak, start) = (Peak::default(), Instant::now());
        let at = |windows: f64| start + PEAK_WINDOW.mul_f64(windows);
        assert_eq!(peak.see(5, at(0.0)), 5);
        assert_eq!(peak.see(9, at(0.5)), 9);
        assert_eq!(peak.see(3, at(1.1)), 9, "two scrapers see the same");
        assert_eq!(peak.see(0, at(2.2)), 3);
        assert_eq!(peak.see(0, at(9.0)), 0);
    }
}
