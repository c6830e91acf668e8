//! The command line: what can be asked of the binary, and how a flag becomes a setting.

use crate::api_keys::command::KeyCommand;
use crate::auth::command::TokenCommand;
use crate::client::publish::PubArgs;
use crate::client::sub::SubArgs;
use crate::config::{Flag, Sources};
use crate::store::StoreCommand;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Value;

/// A self-hosted real-time messaging server.
#[derive(Debug, Parser)]
#[command(name = "clarion", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server.
    Serve(SettingArgs),
    /// Show or check the settings that `serve` would run with.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make, list, rotate and revoke keys for the HTTP API, also while the server runs.
    #[command(subcommand)]
    Key(KeyCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look after the file of the store: check, export, import, back up.
    #[command(subcommand)]
    Store(StoreCommand),
    Sub(SubArgs),
    Pub(PubArgs),
    /// Generate load and measure what it costs a server; needs no server of its own.
    Bench(clarion_bench::BenchArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its value, as a configuration file. Secrets are left out.
    Print(SettingArgs),
    /// Say nothing and exit with 0 if the settings are good; else name the one that is not.
    Check(SettingArgs),
}

/// Flags that set what a file and the environment can set, too; a flag wins.
#[derive(Debug, Args)]
pub(crate) struct SettingArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "CLARION_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here; can be given several times [default: 127.0.0.1:8080].
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Listen here for TLS; can be given several times. Needs --tls-cert and --tls-key.
    #[arg(long, value_name = "IP:PORT")]
    tls_listen: Vec<SocketAddr>,
    /// The certificate for TLS with its chain (PEM); taken again when it changes.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Keep keys and data here [default: data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What keeps durable rooms, groups and revocations: `sqlite`, a file in the data directory, or `memory`
    /// [default: sqlite].
    #[arg(long, value_name = "KIND")]
    store: Option<String>,
    /// Threads that serve connections [default: one per core].
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
    /// Also serve `/echo`, a bare WebSocket echo for conformance tools.
    #[arg(long)]
    echo: bool,
    /// A key for the HTTP API beside those of `clarion key`, also CLARION_API_KEY, which other users of
    /// this machine cannot see [default: one that the first start makes and prints].
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Listen on public addresses without TLS.
    #[arg(long)]
    insecure: bool,
}

impl SettingArgs {
    /// The layers these flags are the last of, with this process's environment.
    pub(crate) fn into_sources(self) -> Sources {
        let mut flags = Vec::new();
        let mut set = |flag, setting, value| flags.push(Flag { flag, setting, value });
        for (flag, setting, list) in
            [("--listen", "listen", &self.listen), ("--tls-listen", "tls.listen", &self.tls_listen)]
        {
            if !list.is_empty() {
                let list = list.iter().map(|addr| Value::String(addr.to_string())).collect();
                set(flag, setting, Value::Array(list));
            }
        }
        for (flag, setting, path) in [
            ("--data-dir", "data_dir", self.data_dir),
            ("--tls-cert", "tls.cert", self.tls_cert),
            ("--tls-key", "tls.key", self.tls_key),
        ] {
            if let Some(path) = path {
                set(flag, setting, Value::String(path.to_string_lossy().into_owned()));
            }
        }
        if let Some(store) = self.store {
            set("--store", "store", Value::String(store));
        }
        if let Some(workers) = self.workers {
            set("--workers", "workers", Value::Integer(workers.into()));
        }
        if let Some(key) = self.api_key {
            set("--api-key", "api_key", Value::String(key));
        }
        if self.echo {
            set("--echo", "echo", Value::Boolean(true));
        }
        if self.insecure {
            set("--insecure", "insecure", Value::Boolean(true));
        }
        Sources { file: self.config, env: environment(), flags }
    }
}

/// Flags of commands that only look at the settings.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "CLARION_CONFIG")]
    config: Option<PathBuf>,
    /// Where the server keeps its data [default: data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// The layers of the settings, as for `serve`.
    pub(crate) fn into_sources(self) -> Sources {
        let dir = self.data_dir.map(|dir| Value::String(dir.to_string_lossy().into_owned()));
        let flag = |value| Flag { flag: "--data-dir", setting: "data_dir", value };
        Sources {
            file: self.config,
            env: environment(),
            flags: dir.map(flag).into_iter().collect(),
        }
    }
}

/// The variables of this process. One whose name or value is not text cannot be one of ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_addresses_can_be_listened_on() {
        let args = ["clarion", "serve", "--listen", "127.0.0.1:1", "--listen", "[::1]:2"];
        let Command::Serve(args) = Cli::parse_from(args).command else { panic!("not serve") };
        let mut sources = args.into_sources();
        sources.env.clear();
        assert_eq!(crate::config::load(&sources).unwrap().listen.len(), 2);
    }
}
