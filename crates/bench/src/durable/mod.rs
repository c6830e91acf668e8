//! `bench durable`: what publishing to durable rooms costs, beside what the disk does alone.
//!
//! It starts a server, and lets it take turns with a bare loop of SQLite inserts and with a bare file
//! (see [`disk`]), which write batches of the size that the server's commits had in the turn before.
//! A disk's `fsync` varies by a factor of ten within minutes, so only the ratios of a round count.
//!
//! All of it, the server and this generator too, share the CPUs; `TMPDIR` says which disk.

pub mod disk;
mod publishers;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::disk::{Bare, Raw};
use self::publishers::{Publishers, Shape};
use crate::compare::pinning::Pinning;
use crate::compare::server::{Clarion, Server, new_folder};
use crate::compare::table::Samples;
use crate::compare::target;
use crate::error::{BenchError, Doing};
use crate::run::{Load, Schedule};

/// What each contestant does before it is another's turn.
const SLICE: Duration = Duration::from_millis(400);
/// Seconds of work at the start of a server's turn that are not measured.
const WARMUP: f64 = 0.1;
/// Turns in a round.
const TURNS: usize = 6;
/// Everything is kept, as the bare loops keep it.
const ROOMS: &str = "[[rooms]]\nmatch = \"bench/*\"\nlog = \"durable\"\nsize = 100_000_000\nbytes = 68_719_476_736\n";

/// It is asked for its metrics, and listens for nobody else.
const API_KEY: &str = "a-key-for-a-measurement-on-loopback";

/// The arguments of `bench durable`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DurableArgs {
    /// The server's program; this one, if it is not given.
    #[arg(long)]
    clarion: Option<PathBuf>,
    /// Rounds of each row; odd, so that the median is one of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Workers of the server.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Give each publication an idempotency key, which the bare loop has not.
    #[arg(long)]
    keys: bool,
}

/// Runs the rows and prints the table as Markdown.
pub(crate) fn run(args: &DurableArgs) -> Result<(), BenchError> {
    println!(
        "| publishers, in flight each | rooms | Clarion, 1/s | a commit | server CPU, us each | bare SQLite, 1/s | bare file, 1/s | of SQLite | of the file | acknowledged after, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let shape =
        |publishers, in_flight, rooms| Shape { publishers, in_flight, rooms, keys: args.keys };
    for shape in [shape(64, 16, 1), shape(64, 16, 1_000), shape(1, 1, 1)] {
        measure(args, shape)?;
    }
    Ok(())
}

/// The figures of a row, one of each round.
#[derive(Default)]
struct Figures {
    /// Publications a second: the server's, those of the loop, and those of the file.
    rates: [Samples; 3],
    commit: Samples,
    cpu: Samples,
}

fn measure(args: &DurableArgs, shape: Shape) -> Result<(), BenchError> {
    let folder = Folder(new_folder()?);
    let server = start(args, &folder.0)?;
    let mut publishers = Publishers::open(&target(&server), shape)?;
    let mut bare = Bare::new(&folder.0, shape.rooms);
    let mut raw = Raw::new(&folder.0);
    let schedule = Schedule {
        seconds: SLICE.as_secs_f64(),
        messages: None,
        warmup: WARMUP,
        spin: false,
        server_pid: Some(server.pid()),
    };
    publishers.run(&schedule)?;
    let mut figures = Figures::default();
    for _ in 0..args.rounds {
        let mut sums = [(0, Duration::ZERO); 3];
        let mut cpu = Duration::ZERO;
        let before = Commits::of(&server)?;
        let mut last = before;
        for _ in 0..TURNS {
            let measured = publishers.run(&schedule)?;
            sums[0].0 += measured.messages as usize;
            sums[0].1 += measured.usage.wall;
            cpu += measured.usage.server.unwrap_or_default();
            let now = Commits::of(&server)?;
            let batch = now.since(last).round().max(1.0) as usize;
            last = now;
            run_slice(&mut sums[1], batch, |count| bare.batch(count));
            run_slice(&mut sums[2], batch, |count| raw.batch(count));
        }
        for (rates, (count, took)) in figures.rates.iter_mut().zip(sums) {
            rates.push(count as f64 / took.as_secs_f64());
        }
        figures.commit.push(last.since(before));
        figures.cpu.push(cpu.as_secs_f64() * 1e6 / sums[0].0.max(1) as f64);
    }
    let [clarion, sqlite, file] = &figures.rates;
    println!(
        "| {}, {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        shape.publishers,
        shape.in_flight,
        shape.rooms,
        clarion.describe(0),
        figures.commit.describe(0),
        figures.cpu.describe(1),
        sqlite.describe(0),
        file.describe(0),
        clarion.ratios(sqlite).describe(2),
        clarion.ratios(file).describe(2),
        publishers.latency,
    );
    let verdict = publishers.verdict();
    if verdict.is_clean() { Ok(()) } else { Err(BenchError::Wrong(verdict)) }
}

/// One turn: adds what was written and the time that it took.
fn run_slice(sum: &mut (usize, Duration), batch: usize, mut write: impl FnMut(usize)) {
    let begun = Instant::now();
    while begun.elapsed() < SLICE {
        write(batch);
        sum.0 += batch;
    }
    sum.1 += begun.elapsed();
}

fn start(args: &DurableArgs, folder: &Path) -> Result<Server, BenchError> {
    let config = folder.join("rooms.toml");
    std::fs::write(&config, ROOMS).doing(|| format!("writing {}", config.display()))?;
    let program = match &args.clarion {
        Some(program) => program.clone(),
        None => std::env::current_exe().doing(|| "finding this program".to_owned())?,
    };
    // Limits exist to hold back what this generator does.
    let limits = ["PUBLISH_PER_S", "COMMANDS_PER_S", "BYTES_PER_S"];
    let mut settings: Vec<_> =
        limits.map(|name| (format!("CLARION_LIMITS__{name}"), "0".into())).into();
    settings.push(("CLARION_API_KEY".into(), API_KEY.into()));
    let clarion = Clarion {
        program,
        arguments: ["--config".to_owned(), config.display().to_string()].into(),
        settings,
    };
    Server::clarion(&clarion, args.workers, &Pinning::Free)
}

/// What the server's store has done since its start.
#[derive(Clone, Copy)]
struct Commits {
    commits: f64,
    requests: f64,
}

impl Commits {
    fn of(server: &Server) -> Result<Self, BenchError> {
        let text = metrics(server.address).doing(|| "reading metrics".to_owned())?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .ok_or_else(|| BenchError::Server(format!("the server has no metric {name}")))
        };
        Ok(Self {
            commits: value("clarion_store_commits_total ")?,
            requests: value("clarion_store_requests_total{outcome=\"committed\"} ")?,
        })
    }

    /// Requests a commit.
    fn since(self, before: Self) -> f64 {
        (self.requests - before.requests) / (self.commits - before.commits).max(1.0)
    }
}

fn metrics(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {API_KEY}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
