//! How much of SQLite's speed the store keeps, and how much of the disk's SQLite does.
//!
//! `cargo run --release -p clarion-store-sqlite --example measure -- [directory] [rounds]`
//!
//! Three contestants append publications of 256 B in batches, in turn, on the same disk: the store
//! through its handle, a bare loop of inserts into a table of the same shape, and a bare
//! file with one `fdatasync` a batch. What counts are the ratios within a round.

use clarion_bench::disk::{Bare, Raw, payload, room_of};
use clarion_protocol::{Epoch, Publication, RoomName};
use clarion_store::{Completion, Key, LogLimits, Range, Request};
use clarion_store_sqlite::{Options, SqliteStore};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The contestants take turns of this, so that what else happens to the disk happens to all.
const SLICE: Duration = Duration::from_millis(50);
/// Turns in a round.
const TURNS: u32 = 14;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "target/measure".into()));
    let rounds = arguments.next().map_or(7, |rounds| rounds.parse().expect("a number"));
    println!(
        "| batch | rooms | store, 1/s | bare SQLite, 1/s | bare file, 1/s | of SQLite | of the file | store writes, B each |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (batch, rooms) in [(64, 1), (64, 1_000), (1_024, 1), (1_024, 1_000)] {
        for (label, keep, keyed) in [
            ("", u32::MAX, false),
            (", trimmed to 1,000", 1_000, false),
            (", with keys", u32::MAX, true),
        ] {
            if !label.is_empty() && batch == 64 {
                continue;
            }
            let dir = dir.join(format!("{batch}-{rooms}-{keep}-{keyed}"));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("a directory to write to");
            let mut store = Subject::new(&dir, batch, rooms, keep, keyed);
            let mut sqlite = Bare::new(&dir, rooms);
            let mut file = Raw::new(&dir);
            let mut rates = [Vec::new(), Vec::new(), Vec::new()];
            let mut each = Vec::new();
            for _ in 0..rounds {
                let mut sums = [(0, Duration::ZERO); 3];
                let mut bytes = 0;
                for _ in 0..TURNS {
                    let before = written();
                    run(&mut sums[0], || store.batch());
                    let begun = Instant::now();
                    store.settle();
                    sums[0].1 += begun.elapsed();
                    bytes += written() - before;
                    run(&mut sums[1], || sqlite.batch(batch));
                    run(&mut sums[2], || file.batch(batch));
                }
                each.push(bytes as f64 / (sums[0].0 * batch) as f64);
                for (rates, (batches, took)) in rates.iter_mut().zip(sums) {
                    rates.push((batches * batch) as f64 / took.as_secs_f64());
                }
            }
            let of = |other: usize| -> Vec<f64> {
                rates[0].iter().zip(&rates[other]).map(|(store, other)| store / other).collect()
            };
            println!(
                "| {batch}{label} | {rooms} | {} | {} | {} | {} | {} | {} |",
                whole(&rates[0]),
                whole(&rates[1]),
                whole(&rates[2]),
                ratio(&of(1)),
                ratio(&of(2)),
                whole(&each),
            );
            if label.is_empty() && batch == 1_024 {
                println!("a page of 100: {} us", store.page_us());
            }
            drop(store);
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// One turn: adds its batches and the time that they took.
fn run(sum: &mut (usize, Duration), mut one: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < SLICE {
        one();
        sum.0 += 1;
    }
    sum.1 += begun.elapsed();
}

/// Bytes that this process gave the disk.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

struct Subject {
    store: SqliteStore,
    completions: Receiver<Vec<Completion>>,
    requests: Vec<RoomName>,
    batch: usize,
    next: usize,
    under_way: usize,
    limits: LogLimits,
    keyed: bool,
}

impl Subject {
    fn new(dir: &Path, batch: usize, rooms: usize, keep: u32, keyed: bool) -> Self {
        let (sender, completions) = channel();
        let sender = Mutex::new(sender);
        let sink = move |_: u32, completions: Vec<Completion>| {
            let _ = sender.lock().expect("nobody panics").send(completions);
        };
        let options = Options { batch_count: batch, ..Options::new(dir) };
        let store = SqliteStore::start(options, sink).expect("a store");
        let room = |n| RoomName::parse(&format!("room/{n}")).expect("a name");
        let limits = LogLimits { size: keep, bytes: 1 << 40, ..LogLimits::default() };
        let requests = (0..rooms).map(room).collect();
        Self { store, completions, requests, batch, next: 0, under_way: 0, limits, keyed }
    }

    /// Keeps one batch waiting while another is committed, as publishers do.
    fn batch(&mut self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let time_ms = now.unwrap_or_default().as_millis() as u64;
        for _ in 0..self.batch {
            self.next += 1;
            let room = self.requests[room_of(self.next as u64, self.requests.len())].clone();
            let publication = Arc::new(Publication {
                kind: "chat_message".into(),
                payload: payload().into(),
                time_ms,
                from: None,
                key: None,
            });
            let key = self.keyed.then(|| Key {
                principal: format!("u:{}", self.next % 64).into(),
                key: format!("{:016x}", self.next).into(),
            });
            let (token, limits) = (self.next as u64, self.limits);
            let fresh = Epoch::new("0123456789abcdef").expect("16 bytes");
            self.store.submit(0, Request::Append { token, room, publication, key, limits, fresh });
        }
        self.under_way += self.batch;
        while self.under_way > self.batch {
            self.receive();
        }
    }

    fn settle(&mut self) {
        while self.under_way > 0 {
            self.receive();
        }
    }

    fn receive(&mut self) {
        let completions = self.completions.recv().expect("the store answers");
        self.under_way -= completions.len();
        assert!(completions.iter().all(|completion| completion.error().is_none()));
    }

    /// Microseconds from asking for 100 publications to having them, the median.
    fn page_us(&mut self) -> u64 {
        let mut took = Vec::new();
        for n in 0..300 {
            let room = self.requests[n * 31 % self.requests.len()].clone();
            let begun = Instant::now();
            let range = Range::Before(u64::MAX);
            let (limit, bytes, age_ms) = (100, usize::MAX, 1 << 40);
            let request =
                Request::Read { token: 0, room, range, limit, bytes, age_ms, fresh: None };
            self.store.submit(0, request);
            let completions = self.completions.recv().expect("the store answers");
            took.push(begun.elapsed().as_micros() as u64);
            assert!(completions[0].error().is_none());
        }
        took.sort_unstable();
        took[took.len() / 2]
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn whole(values: &[f64]) -> String {
    format!("{:.0}", sorted(values)[values.len() / 2])
}

fn ratio(values: &[f64]) -> String {
    let sorted = sorted(values);
    let last = sorted.len() - 1;
    format!("{:.2} ({:.2}..{:.2})", sorted[sorted.len() / 2], sorted[0], sorted[last])
}
