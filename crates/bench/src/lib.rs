//! Load generator, baselines and comparisons: what is behind `clarion bench`.
//!
//! The question these commands answer is not "how many messages a second" but **how much server CPU
//! does one message cost, and how far is that from a program that does nothing else**. So each
//! measurement reads the server's CPU time from `/proc` (see `cpu`), and `baseline` holds
//! the programs that do nothing else: the same client code drives them, in a process of their own,
//! so both figures are taken in the same way. `compare` interleaves the two and prints the table.
//!
//! | Command | File |
//! |---|---|
//! | `echo`, `fanout`, `churn`, `idle`, `join`, `recover` | files of these names: drive a server, check every answer |
//! | `baseline-echo`, `baseline-fanout` | `baseline`: the servers to compare with |
//! | `durable` | `durable`: starts a server, and compares it with what the disk does alone |
//! | `compare` | `compare`: starts servers itself, interleaved rounds, medians and spread |
//!
//! Everything is one thread on one epoll, because on a small machine the generator must leave the
//! other core to the server. The generator reads in big pieces and looks for three numbers
//! in the text (`envelope`) where a client would parse JSON. It speaks `ws://` only, offers
//! no compression, and is no conformance test: what it does not expect ends the run with an error.
//!
//! Linux only: without `/proc` there is nothing to report.

mod baseline;
mod churn;
mod compare;
mod connection;
mod cpu;
mod durable;
mod echo;
mod envelope;
mod error;
mod fanout;
#[cfg(test)]
mod faulty;
mod frame;
mod handshake;
mod histogram;
mod idle;
mod join;
mod ledger;
mod memory;
mod recover;
mod run;
mod sequence;
mod session;

use std::process::ExitCode;

pub use durable::disk;
pub use error::BenchError;
pub use sequence::Verdict;

/// The arguments of `clarion bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send text messages and check that each comes back.
    Echo(echo::EchoArgs),
    /// Publish to a room of many members and check every delivery.
    Fanout(fanout::FanoutArgs),
    /// Connect, say one thing and close, again and again.
    Churn(churn::ChurnArgs),
    /// Open many sessions that do nothing, and report what each costs.
    Idle(idle::IdleArgs),
    /// Join one room with many sessions at once, and count what it costs and how much is told.
    Join(join::JoinArgs),
    /// Cut all connections, let all sessions come back at once, and check what they missed.
    Recover(recover::RecoverArgs),
    /// Publish to durable rooms, in turn with a bare loop of inserts and a bare file.
    Durable(durable::DurableArgs),
    /// Serve the least that an echo can cost: one recv and one send a message.
    BaselineEcho(baseline::BaselineArgs),
    /// Serve the least that a fan-out can cost: one send a member and message.
    BaselineFanout(baseline::BaselineArgs),
    /// Measure Clarion against the baselines in interleaved rounds and print a table.
    Compare(compare::CompareArgs),
}

/// Runs one command and prints its report to standard output.
///
/// The exit code is 0 when the command ran and every answer was right, else 1 with the reason on
/// standard error.
pub fn run(args: BenchArgs) -> ExitCode {
    let outcome = match args.command {
        Command::Echo(args) => echo::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Churn(args) => churn::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Durable(args) => durable::run(&args),
        Command::BaselineEcho(args) => baseline::echo::serve(&args),
        Command::BaselineFanout(args) => baseline::fanout::serve(&args),
        Command::Compare(args) => compare::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
