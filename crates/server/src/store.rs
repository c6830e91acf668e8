//! `clarion store check`: what is in the file of durable rooms, and a new one from what is good of it.

use clap::{Args, Subcommand};
use clarion_protocol::Epoch;
use clarion_store_sqlite::{check, repair};
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks after the file of durable rooms.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of it and say what is wrong. Exits with 1 if anything is.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Where the server keeps its data.
    #[arg(long, value_name = "DIR", default_value = "data", env = "CLARION_DATA_DIR")]
    data_dir: PathBuf,
    /// Write a new file with everything that can be read, and put the old one aside. The server must
    /// not run.
    #[arg(long)]
    repair: bool,
}

/// Runs the command.
pub(crate) fn main(command: &StoreCommand) -> ExitCode {
    let StoreCommand::Check(CheckArgs { data_dir, repair: mend }) = command;
    let (aside, checked) = if *mend {
        match repair(data_dir, fresh_epoch) {
            Ok((aside, checked)) => (Some(aside), checked),
            Err(error) => return failed(&error.to_string()),
        }
    } else {
        match check(data_dir) {
            Ok(checked) => (None, checked),
            Err(error) => return failed(&error.to_string()),
        }
    };
    for finding in &checked.findings {
        println!("{finding}");
    }
    println!("{} rooms, {} publications", checked.rooms, checked.publications);
    match aside {
        Some(aside) => {
            println!("repaired; the old file is {}", aside.display());
            ExitCode::SUCCESS
        }
        None if checked.findings.is_empty() => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("clarion: {why}");
    ExitCode::FAILURE
}

fn fresh_epoch() -> Epoch {
    let text = format!("{:016x}", u64::from_le_bytes(crate::keys::random()));
    Epoch::new(&text).expect("16 bytes")
}
