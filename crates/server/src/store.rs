//! `clarion store`: looking after the file of the store, and moving what is in it.

use clap::{Args, Subcommand};
use clarion_protocol::Epoch;
use clarion_store_sqlite::{
    Epochs, TransferError, Transferred, backup, check, export, import, repair,
};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Looks after the file of the store, and moves what is in it.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of it and say what is wrong. Exits with 1 if anything is.
    Check(CheckArgs),
    /// Write all of it as lines of JSON, also while the server runs.
    Export(ExportArgs),
    /// Make a store of such lines, in a directory that has none.
    Import(ImportArgs),
    /// Copy the file as it is now, also while the server runs.
    Backup(BackupArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// Where the server keeps its data.
    #[arg(long, value_name = "DIR", default_value = "data", env = "CLARION_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Write a new file with everything that can be read, and put the old one aside. The server must
    /// not run.
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to; a file that is not there yet, or `-` for the standard output.
    file: PathBuf,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Where from; `-` for the standard input.
    file: PathBuf,
    #[command(flatten)]
    dir: DirArgs,
    /// Let clients go on as if nothing had happened. Only if the server that was exported had been
    /// stopped before, and will not run again on what it has: else one place in a log is two messages.
    #[arg(long)]
    keep_epochs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where to; a file that is not there yet.
    file: PathBuf,
    #[command(flatten)]
    dir: DirArgs,
}

/// Runs the command.
pub(crate) fn main(command: &StoreCommand) -> ExitCode {
    let done = match command {
        StoreCommand::Check(args) => return look(args),
        StoreCommand::Export(args) => write_lines(&args.dir.data_dir, &args.file),
        StoreCommand::Import(args) => read_lines(args),
        StoreCommand::Backup(args) => {
            backup(&args.dir.data_dir, &args.file).map_err(|error| match error {
                TransferError::Io(error) => format!("{}: {error}", args.file.display()),
                error => error.to_string(),
            })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why),
    }
}

fn look(CheckArgs { dir: DirArgs { data_dir }, repair: mend }: &CheckArgs) -> ExitCode {
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

fn write_lines(dir: &Path, file: &Path) -> Result<(), String> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = wall.as_millis() as u64;
    if file == Path::new("-") {
        let done = export(dir, BufWriter::new(io::stdout().lock()), now_ms);
        return done.map(|done| tell(&done)).map_err(|error| error.to_string());
    }
    let named = |error: io::Error| format!("{}: {error}", file.display());
    let mut open = OpenOptions::new();
    let mut out = open.write(true).create_new(true).mode(0o600).open(file).map_err(named)?;
    let done = export(dir, BufWriter::new(&mut out), now_ms).map_err(|error| error.to_string());
    let done = done.and_then(|done| out.sync_all().map(|()| done).map_err(named));
    match done {
        Ok(done) => tell(&done),
        Err(why) => {
            // It is worth nothing, and in the way of the next attempt.
            let _ = std::fs::remove_file(file);
            return Err(why);
        }
    }
    Ok(())
}

fn read_lines(ImportArgs { file, dir, keep_epochs }: &ImportArgs) -> Result<(), String> {
    let dir = &dir.data_dir;
    crate::keys::prepare(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut make = fresh_epoch;
    let epochs = if *keep_epochs { Epochs::Kept } else { Epochs::Fresh(&mut make) };
    let done = if file == Path::new("-") {
        import(dir, io::stdin().lock(), epochs)
    } else {
        let open = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        import(dir, BufReader::new(open), epochs)
    };
    tell(&done.map_err(|error| error.to_string())?);
    Ok(())
}

/// On the standard error, since the standard output may be what was exported.
fn tell(done: &Transferred) {
    let Transferred { rooms, publications, keys, revocations, groups } = done;
    let text = format!(
        "{rooms} rooms, {publications} publications, {keys} keys, {revocations} revocations, \
         {groups} users in groups\n"
    );
    // Whoever started us may have closed it.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn failed(why: &str) -> ExitCode {
    eprintln!("clarion: {why}");
    ExitCode::FAILURE
}

fn fresh_epoch() -> Epoch {
    let text = format!("{:016x}", u64::from_le_bytes(crate::keys::random()));
    Epoch::new(&text).expect("16 bytes")
}
