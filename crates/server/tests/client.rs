//! The Rust client as an application uses it, against the real binary, which is killed at will.
//! `tests/blackbox/node/client.test.js` is the same for the TypeScript client.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clarion_client::{Builder, Client, CommandError, Events, OutboxLimits, Publication, RoomEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(20);
const BINARY: &str = env!("CARGO_BIN_EXE_clarion");
const INBOX: &str = "$user/ada";

async fn soon<F: IntoFuture>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this hangs")
}

/// A server whose port and data outlive its process. People may write to one another.
struct Server {
    port: u16,
    data: PathBuf,
    process: Option<Child>,
}

impl Server {
    fn start(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = std::env::temp_dir().join(format!("clarion-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        let settings = "[[rooms]]\nmatch = '$user/*'\npublish = 'everyone'\nlog = 'durable'\n\
                        [[rooms]]\nmatch = '**'\nlog = 'durable'\nsize = 10000\n\
                        [limits]\npublish_per_s = 0\ncommands_per_s = 0\npage = 1000\n";
        std::fs::write(data.join("clarion.toml"), settings).unwrap();
        let mut server = Self { port, data, process: None };
        server.restart();
        server
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        let data = ["--data-dir", self.data.to_str().unwrap()];
        // What begins with CLARION_ in the environment would be settings.
        command.args(args).args(data).env_clear().stdin(Stdio::null());
        command
    }

    fn restart(&mut self) {
        let config = self.data.join("clarion.toml");
        let listen = format!("127.0.0.1:{}", self.port);
        let said = std::fs::File::create(self.data.join("log")).unwrap();
        let args = ["serve", "--listen", &listen, "--config", config.to_str().unwrap()];
        let child = self.command(&args).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        let process = self.process.insert(child);
        let begun = Instant::now();
        while !is_ready(self.port) {
            let ended = process.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > PATIENCE {
                panic!("no server: {}", std::fs::read_to_string(self.data.join("log")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As a crash: no goodbye to anybody.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn client(&self) -> Builder {
        client_at(self.port)
    }

    /// A device of ada's, and what comes to her.
    fn device(&self) -> (Client, Events<RoomEvent>) {
        let made = self.command(&["token", "create", "--user", "ada"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let token = String::from_utf8(made.stdout).unwrap();
        let client = self.client().token(token.trim()).build().unwrap();
        let inbox = client.room(INBOX).events();
        client.connect();
        (client, inbox)
    }

    /// Until a new device begins at this offset: what came before is acknowledged.
    async fn new_device_begins_at(&self, wanted: u64) -> (Client, Events<RoomEvent>) {
        soon(async {
            loop {
                let (client, mut inbox) = self.device();
                let (from, _) = recovered(&mut inbox).await;
                assert!(from <= wanted, "{from} was acknowledged");
                if from == wanted {
                    break (client, inbox);
                }
            }
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn client_at(port: u16) -> Builder {
    Client::builder(format!("ws://127.0.0.1:{port}/ws"))
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
}

async fn recovered(events: &mut Events<RoomEvent>) -> (u64, u64) {
    loop {
        if let RoomEvent::Recovered { from, to } = soon(events.next()).await.unwrap().unwrap() {
            return (from, to);
        }
    }
}

/// The next publication; what came before it is handled now.
async fn publication(events: &mut Events<RoomEvent>) -> (u64, String) {
    loop {
        if let RoomEvent::Publication(it) = soon(events.next()).await.unwrap().unwrap() {
            return (offset(&it), it.payload.text().to_owned());
        }
    }
}

fn offset(publication: &Publication) -> u64 {
    publication.position.as_ref().unwrap().offset
}

/// Somebody else writes to ada.
async fn write(server: &Server, payloads: std::ops::RangeInclusive<u64>) {
    let sender = server.client().connect().unwrap();
    for n in payloads {
        soon(sender.room(INBOX).publish("m", &n)).await.unwrap();
    }
}

// [5.7.ack] [5.7.start]
#[tokio::test]
async fn what_a_handler_failed_on_is_given_to_the_next_device() {
    let server = Server::start("handler");
    write(&server, 1..=3).await;
    let (client, mut inbox) = server.device();
    let handler = tokio::spawn(async move {
        loop {
            let (offset, _) = publication(&mut inbox).await;
            assert_ne!(offset, 2, "this handler fails");
        }
    });
    assert!(soon(handler).await.unwrap_err().is_panic());
    // The device is still there, and what comes now is behind what it did not handle.
    write(&server, 4..=4).await;
    soon(client.ping()).await.unwrap();
    let (_client, mut next) = server.new_device_begins_at(2).await;
    for n in 2..=4 {
        assert_eq!(publication(&mut next).await, (n, n.to_string()));
    }
    // The last of them is not handled as long as nobody asks for more.
    drop(server.new_device_begins_at(4).await);
    let rest = tokio::spawn(async move { publication(&mut next).await });
    drop(server.new_device_begins_at(5).await);
    // And whoever listens goes on listening.
    write(&server, 5..=5).await;
    assert_eq!(soon(rest).await.unwrap(), (5, "5".into()));
}

// [5.7.ack]
#[tokio::test]
async fn what_was_handled_while_the_server_was_dead_is_acknowledged_to_its_successor() {
    let mut server = Server::start("acks");
    write(&server, 1..=3).await;
    let (_client, mut inbox) = server.device();
    for n in 1..=3 {
        assert_eq!(publication(&mut inbox).await.0, n);
    }
    server.kill();
    let reader = tokio::spawn(async move { publication(&mut inbox).await });
    server.restart();
    drop(server.new_device_begins_at(4).await);
    // The device itself is given nothing twice.
    write(&server, 4..=4).await;
    assert_eq!(soon(reader).await.unwrap().0, 4);
}

/// The way to a server, on which answers can be lost.
struct Wire {
    port: u16,
    is_mute: Arc<AtomicBool>,
}

impl Wire {
    async fn to(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_mute = Arc::new(AtomicBool::new(false));
        let mute = Arc::clone(&is_mute);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&mute)));
            }
        });
        Self { port, is_mute }
    }

    fn mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, server: u16, is_mute: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut said, mut hear) = client.split();
    let (mut answers, mut ask) = server.split();
    let answer = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(size @ 1..) = answers.read(&mut buffer).await {
            if !is_mute.load(Ordering::SeqCst) && hear.write_all(&buffer[..size]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut said, &mut ask) => {}
        () = answer => {}
    }
}

// [3.publish] [5.4.key]
#[tokio::test]
async fn publications_around_a_crash_are_there_once_and_every_call_settles() {
    // Up to here they are answered, or stored and not answered, or sent when there is nobody.
    const ANSWERED: u64 = 50;
    const STORED: u64 = 250;
    const OFFLINE: u64 = 300;
    let mut server = Server::start("outbox");
    let wire = Wire::to(server.port).await;
    let outbox =
        OutboxLimits { messages: (OFFLINE - ANSWERED) as usize, ..OutboxLimits::default() };
    let client = client_at(wire.port).outbox(outbox).connect().unwrap();
    let (room, there) =
        (client.room("general"), server.client().connect().unwrap().room("general"));
    let publish = |n: u64| room.publish("m", &n).send();
    for call in (0..ANSWERED).map(publish).collect::<Vec<_>>() {
        soon(call).await.unwrap();
    }
    soon(room.join()).await.unwrap();
    wire.mute(true);
    let mut calls: Vec<_> = (ANSWERED..STORED).map(publish).collect();
    while soon(there.history().limit(0)).await.unwrap().position.offset < STORED {}
    let (ping, history) = (client.ping(), room.history().send());
    let ephemeral = room.publish("m", &"gone").ephemeral().send();
    server.kill();
    let lost = [
        soon(ping).await.err(),
        soon(history).await.err(),
        soon(ephemeral).await.err().map(|it| it.error),
    ];
    assert!(lost.iter().all(|it| matches!(it, Some(CommandError::ConnectionLost))), "{lost:?}");
    // Those that are to be sent again wait, too, and there is room for so many.
    calls.extend((STORED..OFFLINE).map(publish));
    let error = soon(room.publish("m", &"too many")).await.unwrap_err();
    assert!(matches!(error.error, CommandError::QueueFull));
    let error = soon(room.publish("m", &"gone").ephemeral()).await.unwrap_err();
    assert!(matches!(error.error, CommandError::NotConnected));
    wire.mute(false);
    server.restart();
    for (n, call) in (ANSWERED..).zip(calls) {
        let ack = soon(call).await.unwrap();
        assert_eq!((ack.position.unwrap().offset, ack.duplicate), (n + 1, n < STORED));
    }
    // Each is in the log at its place, once, in the order in which they were sent.
    let log = soon(there.history().limit(1_000)).await.unwrap().publications;
    let found = log.iter().map(|it| it.payload.text().parse::<u64>().unwrap());
    assert!(found.eq(0..OFFLINE), "there are {}", log.len());
    assert_eq!(client.queued(), 0);
}
