//! `clarion serve`: everything started, and ended by a signal.

use crate::api::{self, Answers, Api};
use crate::config::Settings;
use crate::front::origin::{Allowed, Origins};
use crate::front::{self, Front, Gauge, Handshakes};
use crate::worker::{self, Clock};
use crate::{keys, logs};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Threads of the front: handshakes are the only work that it has much of, and after a restart
/// all clients shake hands at once.
const FRONT_THREADS_MAX: usize = 4;

/// Runs the server until a signal ends it.
pub(crate) fn run(settings: Settings) -> ExitCode {
    logs::start(&settings.log);
    let threads = usize::from(settings.workers).min(FRONT_THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("front")
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(settings)),
        Err(error) => Err(failed("the front's threads cannot start", &error)),
    };
    match result {
        // Not by returning: a thread that hangs must not keep the process.
        Ok(()) => logs::exit(0),
        Err(error) => {
            logs::finish();
            eprintln!("clarion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn failed(what: impl Display, error: &io::Error) -> String {
    format!("{what}: {error}")
}

async fn serve(settings: Settings) -> Result<(), String> {
    // First of all, so that a signal during the start is not lost.
    let mut signals = Signals::listen().map_err(|e| failed("signals cannot be caught", &e))?;
    let dir = &settings.data_dir;
    let keys = || {
        keys::prepare(dir)?;
        Ok((keys::api_key(dir, &settings.api_key)?, keys::ticket_key(dir)?))
    };
    let (api_key, ticket_key) =
        keys().map_err(|e: io::Error| failed(format_args!("data_dir: {}", dir.display()), &e))?;
    let listeners = bind_all(&settings.listen)?;

    let clock = Clock::start();
    let config = Arc::new(settings.engine(ticket_key, u64::from_le_bytes(keys::random())));
    let answers = Arc::new(Answers::default());
    let (workers, threads) = worker::start(&config, &answers, clock)
        .map_err(|e| failed("the workers cannot start", &e))?;
    let workers = Arc::new(workers);
    let (handshakes, http_connections) = (Arc::new(Handshakes::default()), Gauge::default());
    let draining = Arc::new(AtomicBool::new(false));
    let api = Arc::new(Api::new(api::Parts {
        node: node_name(&settings.node),
        key: api_key.key.clone(),
        workers: workers.clone(),
        answers,
        handshakes: handshakes.clone(),
        http_connections: http_connections.clone(),
        draining: draining.clone(),
        clock,
        body_bytes: settings.limits.http_body_bytes,
        body_time: settings.limits.handshake.0,
    }));
    let front = Arc::new(Front {
        api: api.clone(),
        workers: workers.clone(),
        handshakes,
        http_connections,
        draining: draining.clone(),
        origins: origins(&settings),
        guests: settings.auth.guests,
        echo: settings.echo,
        connections_max: settings.limits.connections,
        http_connections_max: settings.limits.http_connections,
        handshake_time: settings.limits.handshake.0,
    });
    let (stop, stopped) = watch::channel(false);
    let addresses: Vec<_> = listeners.iter().map(|(addr, _)| *addr).collect();
    for (_, listener) in listeners {
        tokio::spawn(front::run(front.clone(), listener, stopped.clone()));
    }
    tokio::spawn(async move { api.sample().await });
    let shown_key = api_key.fresh.then(|| api_key.key.expose());
    welcome(&addresses, &settings, shown_key);
    tracing::info!(addresses = ?addresses, workers = settings.workers, "started");

    let name = signals.next().await;
    tracing::info!(signal = name, connections = workers.connections(), "stopping");
    draining.store(true, Relaxed);
    stop.send_replace(true);
    workers.drain();
    tokio::select! {
        () = workers.drained() => tracing::info!("stopped; every connection was closed"),
        () = tokio::time::sleep(settings.shutdown.deadline.0) => {
            tracing::warn!(connections = workers.connections(), "stopped at the deadline");
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "stopped by a second signal");
            logs::exit(0);
        }
    }
    workers.stop();
    threads.into_iter().filter(std::thread::JoinHandle::is_finished).for_each(|thread| {
        // One that panicked has ended the process by itself.
        let _ = thread.join();
    });
    Ok(())
}

fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, TcpListener)>, String> {
    let bind = |&addr: &SocketAddr| {
        let listener = front::bind(addr)?;
        // The port that was found, if any would do.
        Ok((listener.local_addr()?, listener))
    };
    let named = |addr: &SocketAddr| {
        bind(addr).map_err(|e: io::Error| failed(format_args!("listen: {addr}"), &e))
    };
    addresses.iter().map(named).collect()
}

fn origins(settings: &Settings) -> Origins {
    let parse = |text: &String| Allowed::parse(text).expect("the settings were checked");
    Origins { allowed: settings.origins.allowed.iter().map(parse).collect() }
}

fn node_name(set: &str) -> String {
    if !set.is_empty() {
        return set.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "clarion".into() } else { host.trim().to_owned() }
}

/// Says on the standard output where to go; the log is beside it, on the standard error.
fn welcome(addresses: &[SocketAddr], settings: &Settings, api_key: Option<&str>) {
    let mut text = format!("Clarion {} is running.\n", env!("CARGO_PKG_VERSION"));
    for addr in addresses {
        text += &format!("  open      http://{addr}/\n");
    }
    if settings.echo {
        text += &format!("  echo      ws://{}/echo\n", addresses[0]);
    }
    text += &format!("  data      {}\n", settings.data_dir.display());
    if let Some(key) = api_key {
        text += &format!("  API key   {key}  (made now, shown once; kept in the file api-key)\n");
    }
    // Whoever started us may have closed it.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
