//! `bench compare`: Clarion against the baselines, in interleaved rounds.
//!
//! On a shared or virtual machine the same program costs half as much again from one second to the next.
//! So all servers of a group (the small echoes, say) run at once, and a round gives each of them short
//! slices of work in turn, while the others sleep. Every round has fresh servers. What counts is
//! the ratio of the medians over all rounds, with the least and the greatest ratio of a single round
//! beside it; the control rows measure a baseline twice and show what a ratio is worth.

mod contestant;
pub(crate) mod pinning;
mod plan;
pub(crate) mod server;
pub(crate) mod table;

use std::path::PathBuf;

use crate::error::BenchError;
use crate::fanout::Fanout;
use crate::handshake::Target;
use crate::idle::{self, IdleArgs};
use crate::run::{Load, Schedule};
use crate::sequence::Verdict;
use contestant::Contestant;
use pinning::Pinning;
use plan::{Measurement, Row};
use server::{Clarion, Server};
use table::{Figures, Outcome, Samples};

/// Bytes of PSS that an idle session may cost.
const IDLE_GOAL: f64 = 1024.0;
const IDLE_SESSIONS: usize = 10_000;
/// Idle sessions hardly vary; more rounds would only take time.
const IDLE_ROUNDS_MAX: usize = 3;
/// Bytes of a delivery, until one of Clarion's has been seen.
const DELIVERY_SIZE: usize = 300;
/// Seconds that one server works before it is the next one's turn.
const SLICE: f64 = 0.4;

/// The arguments of `bench compare`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompareArgs {
    /// The program `clarion`; without it only the baselines are measured.
    #[arg(long)]
    clarion: Option<PathBuf>,
    /// Rounds [default: 7, or 2 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each measurement in a round [default: 1.2, or 0.4 with --quick].
    #[arg(long)]
    seconds: Option<f64>,
    /// Fewer and shorter rounds: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Only measurements whose title contains this, and what they are held against.
    #[arg(long)]
    only: Option<String>,
    /// A setting of Clarion, such as CLARION_LOG=warn; may be given again.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// An argument for `clarion serve`; may be given again.
    #[arg(long = "clarion-arg", value_name = "ARG", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Let the generator take a whole core, so that no server has to wake it.
    #[arg(long)]
    spin: bool,
    /// Leave the processes to the scheduler.
    #[arg(long)]
    no_pin: bool,
    /// Fail when a goal is missed, and not only when an answer is wrong.
    #[arg(long)]
    check: bool,
}

/// Runs the rounds and prints the table as Markdown; progress goes to standard error.
pub(crate) fn run(args: &CompareArgs) -> Result<(), BenchError> {
    let mut comparison = Comparison::new(args);
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 7 });
    for round in 1..=rounds {
        for group in plan::groups(&comparison.rows) {
            eprintln!("round {round} of {rounds}");
            comparison.measure(&group)?;
        }
    }
    if comparison.is_wanted("idle") && comparison.clarion.is_some() {
        let idle_rounds = rounds.min(if args.quick { 1 } else { IDLE_ROUNDS_MAX });
        for round in 1..=idle_rounds {
            eprintln!("round {round}: idle sessions");
            comparison.measure_idle(args.quick)?;
        }
    }
    comparison.report(rounds);
    comparison.judge(args.check)
}

/// What has been measured so far, and with what.
struct Comparison {
    clarion: Option<Clarion>,
    pinning: Pinning,
    only: Option<String>,
    spin: bool,
    /// Slices of each measurement in a round.
    slices: usize,
    rows: Vec<Row>,
    figures: Figures,
    /// Bytes of PSS a session, and the idle server's share of a core.
    idle: (Samples, Samples),
    delivery_size: usize,
    messages: u64,
    verdict: Verdict,
    /// Slices that were taken although others used the machine.
    disturbed: usize,
}

impl Comparison {
    fn new(args: &CompareArgs) -> Self {
        // Limits exist to hold back what this generator does; without them it is the server that is
        // measured. `--env` comes last and wins.
        // Nor may it end the connections of a measurement that waits for its turn and does not answer.
        let settings = [
            ("CLARION_LIMITS__PUBLISH_PER_S", "0"),
            ("CLARION_LIMITS__COMMANDS_PER_S", "0"),
            ("CLARION_LIMITS__BYTES_PER_S", "0"),
            ("CLARION_HEARTBEAT__TIMEOUT", "1h"),
        ];
        let mut settings: Vec<_> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        settings.extend(args.settings.iter().cloned());
        let clarion = args.clarion.clone().map(|program| Clarion {
            program,
            arguments: args.arguments.clone(),
            settings,
        });
        let seconds = args.seconds.unwrap_or(if args.quick { SLICE } else { 3.0 * SLICE });
        let mut rows = plan::rows();
        if let Some(only) = &args.only {
            rows.retain(|row| row.figure.title().contains(only.as_str()));
        }
        Self {
            clarion,
            pinning: Pinning::take(!args.no_pin),
            only: args.only.clone(),
            spin: args.spin,
            slices: (seconds / SLICE).round().max(1.0) as usize,
            rows,
            figures: Figures::new(),
            idle: Default::default(),
            delivery_size: DELIVERY_SIZE,
            messages: 0,
            verdict: Verdict::default(),
            disturbed: 0,
        }
    }

    fn is_wanted(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|only| title.contains(only.as_str()))
    }

    fn start(&self, measurement: Measurement) -> Result<Server, BenchError> {
        match (&self.clarion, measurement) {
            (_, Measurement::BareEcho { .. } | Measurement::EchoControl) => {
                Server::baseline("baseline-echo", &self.pinning)
            }
            (_, Measurement::BareFanout | Measurement::FanoutControl) => {
                Server::baseline("baseline-fanout", &self.pinning)
            }
            (Some(clarion), measurement) => {
                Server::clarion(clarion, measurement.workers(), &self.pinning)
            }
            (None, _) => Err(BenchError::Usage("--clarion is not given".to_owned())),
        }
    }

    /// One round of a group: every server is started, and each works in turn.
    fn measure(&mut self, group: &[Measurement]) -> Result<(), BenchError> {
        let bare = Measurement::BareFanout;
        if group.contains(&bare) && !self.figures.contains_key(&bare) {
            self.learn_delivery_size()?;
        }
        let mut contestants = Vec::new();
        for &measurement in group {
            if measurement.is_bare() || self.clarion.is_some() {
                let server = self.start(measurement)?;
                contestants.push(Contestant::open(
                    measurement,
                    server,
                    self.delivery_size,
                    self.spin,
                )?);
            }
        }
        for _ in 0..self.slices {
            for contestant in &mut contestants {
                contestant.slice(SLICE)?;
            }
            // To and fro: nobody always follows the same neighbour, or pays for a machine that slows
            // down.
            contestants.reverse();
        }
        contestants.sort_by_key(|contestant| contestant.measurement);
        for contestant in &contestants {
            self.note(contestant)?;
        }
        Ok(())
    }

    /// Takes over the figure of a round.
    fn note(&mut self, contestant: &Contestant) -> Result<(), BenchError> {
        let Contestant { measurement, tally, .. } = contestant;
        let title = measurement.title();
        eprintln!("  {title:<55} {}", tally.describe());
        let verdict = contestant.verdict();
        if !verdict.is_clean() {
            eprintln!("    WRONG: {verdict}");
        }
        let micros = tally
            .micros()
            .ok_or_else(|| BenchError::Server(format!("{title}: nothing was answered")))?;
        self.figures.entry(*measurement).or_default().push(micros);
        self.verdict += verdict;
        self.messages += tally.messages;
        self.disturbed += tally.disturbed;
        Ok(())
    }

    /// Asks Clarion how long its deliveries are, so that the bare server's are as long.
    fn learn_delivery_size(&mut self) -> Result<(), BenchError> {
        let Some(clarion) = &self.clarion else { return Ok(()) };
        let server = Server::clarion(clarion, 1, &self.pinning)?;
        let schedule =
            Schedule { seconds: 0.1, messages: None, warmup: 0.0, spin: false, server_pid: None };
        let once = Measurement::Fanout { workers: 1, publishers: 1, in_flight: 1 };
        let mut room = Fanout::open(&once.fanout(&target(&server), &schedule, 0))?;
        room.run(&schedule)?;
        self.delivery_size = room.delivery_size();
        Ok(())
    }

    fn measure_idle(&mut self, is_quick: bool) -> Result<(), BenchError> {
        let Some(clarion) = &self.clarion else { return Ok(()) };
        let server = Server::clarion(clarion, 1, &self.pinning)?;
        let figures = idle::measure(&IdleArgs {
            url: target(&server),
            connections: IDLE_SESSIONS,
            rooms: IDLE_SESSIONS / 100,
            presence: true,
            settle: 3.0,
            seconds: if is_quick { 3.0 } else { 30.0 },
            server_pid: server.pid(),
        })?;
        let cpu = 100.0 * figures.cpu_share();
        eprintln!("{:.0} bytes each, {cpu:.2} % of a core", figures.bytes_per_session);
        self.idle.0.push(figures.bytes_per_session);
        self.idle.1.push(cpu);
        Ok(())
    }

    fn report(&self, rounds: usize) {
        println!(
            "{rounds} rounds of {} slices of {SLICE} s; {}.",
            self.slices,
            self.pinning.describe()
        );
        println!("{}.", machine());
        println!(
            "{} messages checked: {}. A delivery has {} bytes. Others disturbed {} slices.\n",
            self.messages, self.verdict, self.delivery_size, self.disturbed
        );
        println!("{}", table::cpu_table(&self.rows, &self.figures));
        let (bytes, cpu) = &self.idle;
        if let Some(median) = bytes.median() {
            println!("| {} idle sessions, 100 a room, presence | Median | Goal | |", IDLE_SESSIONS);
            println!("|---|---|---|---|");
            let outcome = Outcome::of(Some(median), Some(IDLE_GOAL));
            println!("| bytes of PSS a session | {} | <= 1024 | {outcome} |", bytes.describe(0));
            println!("| CPU, % of a core | {} | stated | |", cpu.describe(2));
        }
    }

    fn judge(&self, is_strict: bool) -> Result<(), BenchError> {
        if !self.verdict.is_clean() {
            return Err(BenchError::Wrong(self.verdict));
        }
        let mut missed: Vec<String> = self
            .rows
            .iter()
            .filter(|row| table::outcome(row, &self.figures) == Outcome::Missed)
            .map(|row| row.figure.title())
            .collect();
        if Outcome::of(self.idle.0.median(), Some(IDLE_GOAL)) == Outcome::Missed {
            missed.push("idle sessions".to_owned());
        }
        if is_strict && !missed.is_empty() {
            return Err(BenchError::Missed(missed.join("; ")));
        }
        Ok(())
    }
}

/// Where its sessions begin.
pub(crate) fn target(server: &Server) -> Target {
    Target {
        authority: server.address.to_string(),
        address: server.address,
        path: "/ws".to_owned(),
    }
}

/// The machine in one line.
fn machine() -> String {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let models: Vec<_> = info.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split_once(": ")).map_or("unknown", |it| it.1);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} CPUs ({model}), Linux {}", models.len(), kernel.trim())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("a setting is NAME=VALUE".to_owned()),
    }
}
