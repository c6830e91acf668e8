//! `clarion sub` and `clarion pub`: the Rust client from a shell.
//!
//! [`sub`] and [`publish`] are the commands; here is what both need: a first connection that says
//! why it cannot be had, and a clean end.

pub(crate) mod publish;
pub(crate) mod sub;

use clap::Args;
use clarion_client::{Builder, Client, ClientEvent, ClientState, Events, Session};
use std::path::PathBuf;
use std::process::ExitCode;

/// Whatever was wrong was said on standard error.
pub(crate) struct Failed;

/// Where to connect, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The server: ws://host:port/ws or wss://host/ws
    url: String,
    /// File with certificates, in PEM, of authorities to trust with wss:// beside those that this
    /// machine trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Token to show; without one you are a guest. Better given as CLARION_TOKEN, which other
    /// users of this machine cannot see.
    #[arg(long, env = "CLARION_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

impl Connect {
    fn builder(self) -> Result<Builder, Failed> {
        let mut builder = Client::builder(self.url)
            .sdk(concat!("clarion-cli/", env!("CARGO_PKG_VERSION")))
            // Whoever looks into somebody's inbox has not handled it for them.
            .auto_ack(false);
        if let Some(token) = self.token {
            builder = builder.token(token);
        }
        if let Some(file) = self.ca {
            let pem = std::fs::read(&file).map_err(|error| {
                eprintln!("clarion: --ca: {}: {error}", file.display());
                Failed
            })?;
            builder = builder.trust(pem);
        }
        Ok(builder)
    }
}

/// Runs `command` on a runtime of its own: there is one connection, so one thread.
fn run(command: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("clarion: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(command);
    // A thread that waits for a terminal or a pipe is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed) => ExitCode::FAILURE,
    }
}

/// Connects. The first connection has to succeed: an address with a typing error is told at once.
/// Later the client comes back by itself.
async fn connect(builder: Builder) -> Result<(Client, Events<ClientEvent>, Session), Failed> {
    let client = match builder.build() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("clarion: {error}");
            return Err(Failed);
        }
    };
    let mut events = client.events();
    client.connect();
    let mut why = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(ClientEvent::Error(error)) => why = Some(error.to_string()),
            Ok(ClientEvent::State(event)) => {
                let status = event.status;
                if let (ClientState::Connected, Some(session)) = (status.state, client.session()) {
                    return Ok((client, events, session));
                }
                if status.state == ClientState::Closed || status.retry_in.is_some() {
                    let why = why.unwrap_or_else(|| format!("no connection: {}", status.reason));
                    eprintln!("clarion: {why}");
                    break;
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(Failed)
}

/// Ends the session in order, so that nobody sees this member linger.
async fn close(client: &Client) {
    client.close();
    client.closed().await;
}

/// Says what happens to the client until it is closed for good, and then why.
async fn watch(events: &mut Events<ClientEvent>) -> String {
    while let Some(event) = events.next().await {
        match event {
            Ok(ClientEvent::State(event)) => {
                let status = event.status;
                match (status.state, status.retry_in) {
                    (ClientState::Closed, _) => return status.reason,
                    (ClientState::Connected, _) => eprintln!("clarion: connected again"),
                    (_, Some(wait)) => {
                        let wait_s = wait.as_secs_f64();
                        eprintln!("clarion: {}, trying again in {wait_s:.1} s", status.reason);
                    }
                    (_, None) => {}
                }
            }
            Ok(ClientEvent::Error(error)) => eprintln!("clarion: {error}"),
            Ok(_) | Err(_) => {}
        }
    }
    "closed".to_owned()
}
