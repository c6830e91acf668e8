//! The binary `clarion`: the only part that knows all the others.
//!
//! | module | noun |
//! |---|---|
//! | [`cli`], [`config`], [`keys`] | what the operator said, and what is kept for them |
//! | [`api_keys`], [`audit`] | who may use the HTTP API, and what they did with it |
//! | [`front`] | sockets until they are WebSocket connections: accept, HTTP, handshake |
//! | [`api`], [`ui`] | what is answered over HTTP |
//! | [`worker`] | threads that own the connections and drive a `Shard` each |
//! | [`auth`] | who somebody is |
//! | [`serve`] | everything started, and ended by a signal |
//! | [`logs`] | the log |
//! | [`client`] | `sub` and `pub`, which need no server of this process |
//!
//! A socket starts in the front (tokio, hyper) and is handed to a worker (mio) when its handshake
//! is done; it never comes back.

#[cfg(feature = "mimalloc")]
mod allocator;
mod api;
mod api_keys;
mod audit;
mod auth;
mod cli;
mod client;
mod config;
mod front;
mod keys;
mod logs;
mod serve;
mod store;
mod ui;
mod worker;

use clap::Parser;
use cli::{Cli, Command, ConfigCommand};
use std::process::ExitCode;

/// What a shell and a service manager are told about a bad command line or bad settings.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => with_settings(args, serve::run),
        Command::Config(ConfigCommand::Check(args)) => with_settings(args, |it| check(&it)),
        Command::Config(ConfigCommand::Print(args)) => with_settings(args, |settings| {
            print!("{}", toml::to_string(&settings).expect("settings can be written"));
            ExitCode::SUCCESS
        }),
        Command::Sub(args) => client::sub::main(args),
        Command::Pub(args) => client::publish::main(args),
        Command::Key(command) => api_keys::command::main(command),
        Command::Token(command) => auth::command::main(command),
        Command::Store(command) => store::main(&command),
        Command::Bench(args) => clarion_bench::run(args),
    }
}

/// The settings are good; what they point to has to be, too.
fn check(settings: &config::Settings) -> ExitCode {
    match auth::keys::check(&settings.auth) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clarion: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn with_settings(
    args: cli::SettingArgs,
    run: impl FnOnce(config::Settings) -> ExitCode,
) -> ExitCode {
    match config::load(&args.into_sources()) {
        Ok(settings) => run(settings),
        Err(error) => {
            eprintln!("clarion: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
