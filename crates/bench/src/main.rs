//! The load generator as a program of its own, so that it works without the server's binary.
//!
//! `clarion bench ...` is the same code; see the library for what the commands do.

use std::process::ExitCode;

use clap::Parser;
use clarion_bench::BenchArgs;

/// Load generator, baselines and comparisons for Clarion.
#[derive(Parser)]
#[command(name = "clarion-bench", version)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

fn main() -> ExitCode {
    clarion_bench::run(Cli::parse().bench)
}
