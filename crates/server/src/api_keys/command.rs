//! `clarion key`: the keys of a data directory, also while a server runs on it.

use super::{Digest, Entry, KEYS_MAX, Previous, Scope, check_name, file, fresh, now_ms};
use crate::api::rfc3339;
use crate::config::Span;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes and withdraws keys for the HTTP API. A running server takes it within a second.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print it: it is kept as a digest and cannot be shown again.
    Create(CreateArgs),
    /// Print every key's name, scopes, and when its secret was made.
    List(DirArgs),
    /// Make a key worthless.
    Revoke(NameArgs),
    /// Give a key another secret, and print it. Name, scopes and idempotency keys stay.
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// Where the server keeps its data.
    #[arg(long, value_name = "DIR", default_value = "data", env = "CLARION_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What it is called in metrics and in the audit log: 1 to 64 of A-Z a-z 0-9 _ . -
    #[arg(long)]
    name: String,
    /// What it may do; `admin` is everything.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The key's name.
    name: String,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    key: NameArgs,
    /// For how long the secret before is good as well, as in `24h`.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    overlap: Span,
}

/// Runs the command.
pub(crate) fn main(command: KeyCommand) -> ExitCode {
    let done = match command {
        KeyCommand::Create(args) => create(&args.dir.data_dir, &args.name, args.scopes),
        KeyCommand::List(args) => list(&args.data_dir),
        KeyCommand::Revoke(args) => revoke(&args.dir.data_dir, &args.name),
        KeyCommand::Rotate(args) => rotate(&args.key.dir.data_dir, &args.key.name, args.overlap),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("clarion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(dir: &Path, name: &str, mut scopes: Vec<Scope>) -> Result<String, String> {
    check_name(name)?;
    scopes.sort_by_key(|scope| *scope as u8);
    scopes.dedup();
    let secret = fresh();
    file::edit(dir, |keys| {
        let mut keys = keys.unwrap_or_default();
        if keys.iter().any(|key| key.name == name) {
            return Err(format!("there is a key `{name}` already; see `clarion key rotate`"));
        }
        if keys.len() == KEYS_MAX {
            return Err(format!("there are {KEYS_MAX} keys already"));
        }
        keys.push(Entry::new(name, scopes, &secret));
        Ok((keys, ()))
    })?;
    Ok(format!("{}\n", secret.expose()))
}

fn list(dir: &Path) -> Result<String, String> {
    let keys = file::read(dir)?.unwrap_or_default();
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or_default();
    let row = |key: &Entry| {
        let scopes = key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
        let previous = key.previous.as_ref().filter(|previous| now_ms() < previous.until);
        let previous = previous.map(|it| format!("  the one before until {}", rfc3339(it.until)));
        let (name, created_at) = (&key.name, &key.created_at);
        format!("{name:width$}  {scopes:18}  {created_at}{}\n", previous.unwrap_or_default())
    };
    Ok(keys.iter().map(row).collect())
}

fn revoke(dir: &Path, name: &str) -> Result<String, String> {
    change(dir, name, |keys, index| drop(keys.remove(index)))?;
    Ok(String::new())
}

fn rotate(dir: &Path, name: &str, overlap: Span) -> Result<String, String> {
    let secret = fresh();
    change(dir, name, |keys, index| {
        let key = &mut keys[index];
        let until = now_ms() + overlap.as_ms();
        let previous = Previous { sha256: key.sha256.clone(), until };
        key.previous = (overlap.as_ms() > 0).then_some(previous);
        key.sha256 = Digest::of(secret.expose());
        key.created_at = rfc3339(now_ms());
    })?;
    Ok(format!("{}\n", secret.expose()))
}

fn change(
    dir: &Path,
    name: &str,
    change: impl FnOnce(&mut Vec<Entry>, usize),
) -> Result<(), String> {
    file::edit(dir, |keys| {
        let mut keys = keys.unwrap_or_default();
        let index = keys.iter().position(|key| key.name == name);
        change(&mut keys, index.ok_or_else(|| format!("there is no key `{name}`"))?);
        Ok((keys, ()))
    })
}
