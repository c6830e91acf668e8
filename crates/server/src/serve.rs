//! `clarion serve`: everything started, and ended by a signal.

use crate::api::{self, Answers, Api};
use crate::api_keys::ApiKeys;
use crate::audit::Audit;
use crate::auth::{self, Auth};
use crate::config::{Secret, Settings, Span, Store};
use crate::front::origin::{Allowed, Origins};
use crate::front::{self, Addresses, Counts, Front, Gauge, Proxies, Tls};
use crate::worker::{self, Clock, Kept, Workers};
use crate::{keys, logs};
use clarion_engine::revoked::{self, Subject};
use clarion_engine::{Mail, Router, WorkerId};
use clarion_protocol::RoomName;
use clarion_store::{Completion, Request, Revocation};
use clarion_store_sqlite::{Options, SqliteStore};
use hyper::header::HeaderValue;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

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
    let server = Server::start(&settings)?;
    welcome(&server, &settings);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        addresses = ?server.addresses,
        tls_addresses = ?server.tls_addresses,
        workers = settings.workers,
        data_dir = %settings.data_dir.display(),
        settings = settings.changed(),
        "started"
    );

    let name = signals.next().await;
    tracing::info!(signal = name, connections = server.workers.connections(), "stopping");
    tokio::select! {
        () = server.stop(settings.shutdown.deadline.0) => {}
        name = signals.next() => tracing::warn!(signal = name, "stopped by a second signal"),
    }
    Ok(())
}

/// Everything that runs.
struct Server {
    /// Where it listens, with the port that was found if any would do.
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    /// The API key that was made just now, to be shown once.
    api_key: Option<Secret>,
    workers: Arc<Workers>,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    durable: Option<Arc<SqliteStore>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts everything. Call it on a runtime.
    fn start(settings: &Settings) -> Result<Self, String> {
        let dir = &settings.data_dir;
        let ticket_key = keys::prepare(dir)
            .and_then(|()| keys::ticket_key(dir))
            .map_err(|e| failed(format_args!("data_dir: {}", dir.display()), &e))?;
        let clock = Clock::start();
        let auth =
            Arc::new(Auth::new(&settings.auth, auth::keys::load(&settings.auth, dir)?, clock));
        let audit = Audit::open(&settings.audit, clock).map(Arc::new).map_err(|e| {
            failed(format_args!("audit.file: {}", settings.audit.file.display()), &e)
        })?;
        let counts = Arc::new(Counts::new(clock));
        let tls = || Tls::new(&settings.tls, counts.clone()).map(Arc::new);
        let tls = (!settings.tls.listen.is_empty()).then(tls).transpose()?;
        let listeners = bind_all("listen", &settings.listen)?;
        let tls_listeners = bind_all("tls.listen", &settings.tls.listen)?;

        let config = Arc::new(settings.engine(ticket_key, u64::from_le_bytes(keys::random())));
        let answers = Arc::new(Answers::default());
        let post: Arc<OnceLock<Arc<Workers>>> = Arc::default();
        let durable = (settings.store == Store::Sqlite).then(|| open_store(settings, &post));
        let (durable, kept) = durable.transpose()?.unzip();
        let kept = kept.unwrap_or_default();
        let (workers, threads) =
            worker::start(&config, &answers, durable.as_ref(), &auth, &kept, clock)
                .map_err(|e| failed("the workers cannot start", &e))?;
        let workers = Arc::new(workers);
        // Nobody asks the store anything before there are connections.
        let _ = post.set(workers.clone());
        // Last of what can fail: a key that is made here is shown once, when everything runs.
        let rate = settings.limits.requests_per_s_per_key;
        let (api_keys, api_key) = ApiKeys::open(dir, &settings.api_key, rate, clock)?;
        let http_connections = Gauge::default();
        let addresses = Arc::new(Addresses::new(&settings.limits, settings.bans, clock));
        let draining = Arc::new(AtomicBool::new(false));
        let api = Arc::new(Api::new(api::Parts {
            node: node_name(&settings.node),
            keys: Arc::new(api_keys),
            audit: audit.clone(),
            router: Router::new(config.workers, config.hash_seed),
            workers: workers.clone(),
            answers,
            durable: durable.clone(),
            counts: counts.clone(),
            auth: auth.clone(),
            addresses: addresses.clone(),
            http_connections: http_connections.clone(),
            draining: draining.clone(),
            clock,
            body_bytes: settings.limits.http_body_bytes,
            body_time: settings.limits.handshake.0,
            durable_rooms: settings.has_durable_rooms(),
            leeway_ms: settings.auth.leeway.as_ms(),
            session_ttl_ms: settings.session.ttl.as_ms(),
        }));
        let front = Arc::new(Front {
            api: api.clone(),
            workers: workers.clone(),
            counts,
            addresses: addresses.clone(),
            http_connections,
            draining: draining.clone(),
            origins: origins(settings),
            auth: auth.clone(),
            guests: settings.auth.guests(),
            token_sources: front::Sources {
                query: settings.auth.query_token,
                cookie: settings.auth.cookie.clone(),
            },
            proxies: Proxies::new(&settings.proxies),
            hsts: hsts(settings.tls.hsts),
            deflate: settings.deflate.negotiation(),
            echo: settings.echo,
            connections_max: settings.limits.connections,
            watermark: front::Watermark::new(settings.limits.memory_bytes, clock),
            http_connections_max: settings.limits.http_connections,
            handshake_time: settings.limits.handshake.0,
            turns: tokio::sync::Semaphore::new(front::TURNS),
        });
        let (stop, stopped) = watch::channel(false);
        let where_of = |all: &[(SocketAddr, _)]| all.iter().map(|(addr, _)| *addr).collect();
        let (addresses, tls_addresses) = (where_of(&listeners), where_of(&tls_listeners));
        for (_, listener) in listeners {
            tokio::spawn(front::run(front.clone(), listener, None, stopped.clone()));
        }
        for (_, listener) in tls_listeners {
            tokio::spawn(front::run(front.clone(), listener, tls.clone(), stopped.clone()));
        }
        if let Some(tls) = tls {
            tokio::spawn(tls.watch(stopped));
        }
        tokio::spawn(auth.clone().run());
        tokio::spawn(api.keys.clone().watch(audit));
        tokio::spawn(async move { api.sample().await });
        Ok(Self { addresses, tls_addresses, api_key, workers, draining, stop, durable, threads })
    }

    /// Takes nobody new, says goodbye to everybody, and returns when all are gone or it is time.
    async fn stop(self, deadline: Duration) {
        self.draining.store(true, Relaxed);
        self.stop.send_replace(true);
        self.workers.drain();
        match tokio::time::timeout(deadline, self.workers.drained()).await {
            Ok(()) => tracing::info!("stopped; every connection was closed"),
            Err(_) => {
                let connections = self.workers.connections();
                tracing::warn!(connections, "stopped at the deadline");
            }
        }
        // A thread that does not come back must not keep us; one that panicked has ended the
        // process by itself.
        self.workers.stop();
        drop(self.threads);
        if let Some(store) = self.durable {
            close(store).await;
        }
    }
}

/// Has the store's file closed, so that the next start finds nothing to mend.
async fn close(store: Arc<SqliteStore>) {
    let (done, closed) = oneshot::channel();
    // A thread and not a task: the runtime would wait for that, and the disk may hang.
    std::thread::spawn(move || {
        store.close();
        let _ = done.send(());
    });
    if tokio::time::timeout(CLOSING, closed).await.is_err() {
        tracing::warn!(
            "the disk is too slow to close the store; the next start goes on from its log"
        );
    }
}

/// How long the store may take to do what waits and to close its file.
const CLOSING: Duration = Duration::from_secs(10);

/// Whom completions are for that are asked for at the start: no worker has this number.
const AT_START: u32 = u32::MAX;
/// How long the store may take for one of them.
const START_TIME: Duration = Duration::from_secs(60);
/// Users in groups, or revocations, that are read at once.
const PAGE: u32 = 10_000;

/// Opens the store's file, and reads what workers have to know from the start; what it answers later
/// goes to them by mail.
fn open_store(
    settings: &Settings,
    post: &Arc<OnceLock<Arc<Workers>>>,
) -> Result<(Arc<SqliteStore>, Kept), String> {
    let post = Arc::clone(post);
    let (sender, receiver) = mpsc::channel();
    let sink = move |to: u32, completions: Vec<Completion>| {
        if to == AT_START {
            // Nobody listens any more if it took too long.
            let _ = sender.send(completions);
        } else if let (Some(workers), Ok(to)) = (post.get(), u16::try_from(to)) {
            workers.post_all(WorkerId(to), completions.into_iter().map(Mail::Stored).collect());
        }
    };
    let wal_pages = (settings.limits.wal_bytes / 4_096) as u64;
    let options = Options { wal_pages, ..Options::new(&settings.data_dir) };
    let store = SqliteStore::start(options, sink);
    let store = Arc::new(store.map_err(|error| error.to_string())?);
    let ask = |request| {
        store.submit(AT_START, request);
        receiver.recv_timeout(START_TIME).ok().and_then(|mut all| all.pop())
    };
    let failed =
        |what| format!("the {what} cannot be read; `clarion store check` shows what is wrong");
    let groups = read_groups(ask).ok_or_else(|| failed("groups"))?;
    let revocations = read_revocations(ask).ok_or_else(|| failed("revocations"))?;
    Ok((store, Kept { groups, revocations }))
}

/// Who is in which group; `None` if that cannot be said.
fn read_groups(ask: impl Fn(Request) -> Option<Completion>) -> Option<Vec<(RoomName, Box<str>)>> {
    let (mut groups, mut after) = (Vec::new(), None);
    loop {
        let request = Request::Groups { token: 0, after, limit: PAGE };
        let Some(Completion::Groups { result: Ok(page), .. }) = ask(request) else { return None };
        after = page.members.last().cloned();
        for (group, user) in page.members {
            groups.push((RoomName::group(&group).ok()?, user));
        }
        if !page.more {
            return Some(groups);
        }
    }
}

/// Who must not be let in; `None` if that cannot be said, also of one of them.
fn read_revocations(
    ask: impl Fn(Request) -> Option<Completion>,
) -> Option<Vec<(Subject, revoked::Span)>> {
    let (mut revocations, mut after) = (Vec::new(), None);
    loop {
        let request = Request::Revocations { token: 0, after, limit: PAGE };
        let Some(Completion::Revocations { result: Ok(page), .. }) = ask(request) else {
            return None;
        };
        after = page.revocations.last().map(|last| last.subject.clone());
        for Revocation { subject, at_ms, until_ms } in page.revocations {
            revocations.push((Subject::parse(&subject)?, revoked::Span { at_ms, until_ms }));
        }
        if !page.more {
            return Some(revocations);
        }
    }
}

fn bind_all(
    setting: &str,
    addresses: &[SocketAddr],
) -> Result<Vec<(SocketAddr, TcpListener)>, String> {
    let bind = |&addr: &SocketAddr| {
        let listener = front::bind(addr)?;
        // The port that was found, if any would do.
        Ok((listener.local_addr()?, listener))
    };
    let named = |addr: &SocketAddr| {
        bind(addr).map_err(|e: io::Error| failed(format_args!("{setting}: {addr}"), &e))
    };
    addresses.iter().map(named).collect()
}

fn origins(settings: &Settings) -> Origins {
    let parse = |text: &String| Allowed::parse(text).expect("the settings were checked");
    Origins { allowed: settings.origins.allowed.iter().map(parse).collect() }
}

fn hsts(span: Span) -> Option<HeaderValue> {
    let age_s = span.as_ms() / 1_000;
    let value = HeaderValue::from_str(&format!("max-age={age_s}"));
    (age_s > 0).then(|| value.expect("digits can stand in a header"))
}

fn node_name(set: &str) -> String {
    if !set.is_empty() {
        return set.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "clarion".into() } else { host.trim().to_owned() }
}

/// Says on the standard output where to go; the log is beside it, on the standard error.
fn welcome(server: &Server, settings: &Settings) {
    let mut text = format!("Clarion {} is running.\n", env!("CARGO_PKG_VERSION"));
    let plain = server.addresses.iter().map(|addr| ("", addr));
    for (s, addr) in plain.chain(server.tls_addresses.iter().map(|addr| ("s", addr))) {
        text += &format!("  open      http{s}://{addr}/\n");
        if settings.echo {
            text += &format!("  echo      ws{s}://{addr}/echo\n");
        }
    }
    text += &format!("  data      {}\n", settings.data_dir.display());
    if let Some(key) = &server.api_key {
        text += &format!("  API key   {}  (made now, shown this once)\n", key.expose());
    }
    if !settings.auth.has_keys() {
        let path = settings.data_dir.join(keys::TOKEN_KEY_FILE);
        text += &format!("  token key {}  (see clarion token create)\n", path.display());
    }
    // Whoever started us may have closed it.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The signals that end the server, and the other commands that run until they are told.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clarion_websocket::frame;
    use std::io::Read;
    use std::net::TcpStream;

    const OPENING: &[u8] = b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    /// A masked Close frame with code 1000, and what the server answers.
    const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    const CLOSED: &[u8] = &[0x88, 0x02, 0x03, 0xe8];

    fn server(test: &str) -> (tokio::runtime::Runtime, Server, std::path::PathBuf) {
        let data_dir = keys::tests::directory(test);
        let settings = Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            data_dir: data_dir.clone(),
            workers: 2,
            echo: true,
            ..Settings::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(async { Server::start(&settings) }).unwrap();
        (runtime, server, data_dir)
    }

    fn masked(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let len = u16::try_from(text.len()).unwrap();
        out.extend([0x81, 0xfe]);
        out.extend(len.to_be_bytes());
        out.extend([0; 4]);
        out.extend(text);
        out
    }

    /// What comes behind the answer to the handshake, up to the end.
    fn converse(addr: SocketAddr, sent: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(addr).unwrap();
        let mut writer = socket.try_clone().unwrap();
        let sent = sent.to_vec();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        let mut got = Vec::new();
        socket.read_to_end(&mut got).unwrap();
        writing.join().unwrap().unwrap();
        assert!(got.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&got));
        let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        got.split_off(head + 4)
    }

    fn echoed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::encode(clarion_websocket::Opcode::Text, text, &mut out);
        out
    }

    /// With `pipeline_flush` of hyper, 300 of 300 answers to such requests were lost.
    #[test]
    fn frames_glued_to_the_handshake_are_answered_behind_it() {
        let (runtime, server, data_dir) = server("glued");
        for round in 0..300_u16 {
            let texts: Vec<_> = (0..=round % 30).map(|n| vec![b'a' + n as u8; 126]).collect();
            let frames = texts.iter().map(|text| masked(text)).collect::<Vec<_>>().concat();
            let got = converse(server.addresses[0], &[OPENING, &frames, CLOSE].concat());
            let echoes = texts.iter().map(|text| echoed(text)).collect::<Vec<_>>().concat();
            assert_eq!(got, [&echoes, CLOSED].concat(), "round {round}");
        }
        runtime.block_on(server.stop(Duration::from_secs(10)));
        std::fs::remove_dir_all(data_dir).unwrap();
    }

    /// Far more than the socket's buffers hold, read by a peer that first only sends.
    #[test]
    fn a_full_send_buffer_loses_nothing() {
        let (runtime, server, data_dir) = server("full");
        let text = vec![b'x'; 60_000];
        let frames = masked(&text).repeat(200);
        let got = converse(server.addresses[0], &[OPENING, &frames, CLOSE].concat());
        assert!(got == [&echoed(&text).repeat(200), CLOSED].concat(), "{} bytes", got.len());
        runtime.block_on(server.stop(Duration::from_secs(10)));
        std::fs::remove_dir_all(data_dir).unwrap();
    }

    #[test]
    fn everybody_is_told_when_the_server_stops() {
        let (runtime, server, data_dir) = server("stops");
        let sockets: Vec<_> = (0..20)
            .map(|_| {
                let mut socket = TcpStream::connect(server.addresses[0]).unwrap();
                socket.write_all(OPENING).unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                socket
            })
            .collect();
        let stopping = runtime.spawn(server.stop(Duration::from_secs(30)));
        for mut socket in sockets {
            let mut close = [0; 4];
            socket.read_exact(&mut close).unwrap();
            // 1001, with a reason behind it.
            assert_eq!((close[0], &close[2..]), (0x88, [0x03, 0xe9].as_slice()));
            socket.write_all(CLOSE).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap();
        }
        runtime.block_on(stopping).unwrap();
        std::fs::remove_dir_all(data_dir).unwrap();
    }
}
