//! A client that echoes: what Autobahn judges this crate's client role by.
//!
//! It does what a fuzzing server asks of a client under test: it learns how many cases there are,
//! opens a connection for each and echoes its messages, and at the end has the reports written.
//! `tests/conformance/autobahn/client.py` starts it, with the server's URL and the name for the
//! reports in the environment.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clarion_websocket::deflate::{Config, Pool, Settings};
use clarion_websocket::handshake::Opening;
use clarion_websocket::{Connection, Event, Limits};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Group 9 sends 16 MiB in one message, and 4 MiB in frames of 64 bytes.
const LIMITS: Limits = Limits { message_bytes: 16 << 20, fragments: 1 << 17 };

/// Everything is compressed that was agreed to be: the cases look at small messages, too.
const SETTINGS: Settings = Settings { threshold_bytes: 0, level: 3 };

/// How long a server may be silent in the middle of a case. Longer than any case waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest answer to an opening handshake that is read, in bytes.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

fn main() -> Result<()> {
    let url = env::var("AUTOBAHN_URL")?;
    let agent = env::var("AUTOBAHN_AGENT")?;
    let address = url.strip_prefix("ws://").ok_or("AUTOBAHN_URL has to begin with ws://")?;
    let address = address.trim_end_matches('/');
    let mut pool = Pool::default();

    let count: usize = Case::open(address, "/getCaseCount")?.first_text(&mut pool)?.parse()?;
    for case in 1..=count {
        let target = format!("/runCase?case={case}&agent={agent}");
        // How a case ends is the server's to judge: many of them break the connection.
        if let Err(error) = Case::open(address, &target).and_then(|it| it.echo(&mut pool)) {
            println!("case {case}: {error}");
        }
    }
    Case::open(address, &format!("/updateReports?agent={agent}"))?.echo(&mut pool)
}

/// One connection to the fuzzing server.
struct Case {
    stream: TcpStream,
    connection: Connection,
    /// What came behind the answer to the handshake.
    rest: Vec<u8>,
}

impl Case {
    fn open(address: &str, target: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;

        // As much as can be offered, so that the cases choose: each server asks for less by itself.
        let wanted = Config { server_takeover: true, client_takeover: true, ..Config::default() };
        let opening = Opening::new(entropy()?, &[]).with_deflate(wanted);
        let mut request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in opening.headers() {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;

        let (head, rest) = read_head(&mut stream)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let opened = opening.verify_all(
            status.parse()?,
            headers.map(|(name, value)| (name, value.trim().as_bytes())),
        )?;
        let connection = Connection::client(entropy()?);
        let connection = match opened.deflate {
            Some(agreed) => connection.with_deflate(agreed),
            None => connection,
        };
        Ok(Self { stream, connection, rest })
    }

    /// Returns the server's first text, and ends the connection.
    fn first_text(self, pool: &mut Pool) -> Result<String> {
        let mut first = None;
        self.run(pool, |_, _, message, _| {
            if let Message::Text(text) = message {
                first.get_or_insert(text);
            }
        })?;
        first.ok_or_else(|| "the server sent no text".into())
    }

    /// Sends every message back until the connection has ended.
    fn echo(self, pool: &mut Pool) -> Result<()> {
        self.run(pool, |connection, pool, message, out| {
            // The only error is that the connection is closing, and then nothing is echoed.
            let _ = match message {
                Message::Text(text) => connection.send_text_with(&text, &SETTINGS, pool, out),
                Message::Binary(bytes) => connection.send_binary_with(&bytes, &SETTINGS, pool, out),
            };
        })
    }

    /// Hands every message to `handle`, until the server shuts the socket: it goes first
    /// (RFC 6455 section 7.1.1).
    fn run(
        self,
        pool: &mut Pool,
        mut handle: impl FnMut(&mut Connection, &mut Pool, Message, &mut Vec<u8>),
    ) -> Result<()> {
        let Self { mut stream, mut connection, rest } = self;
        let mut buffer = vec![0; 64 * 1024];
        buffer[..rest.len()].copy_from_slice(&rest);
        let mut size = rest.len();
        let mut out = Vec::new();
        loop {
            let mut input = &mut buffer[..size];
            while let Some(event) = connection.receive_with(&LIMITS, pool, &mut input, &mut out) {
                let message = match event {
                    Event::Text(text) => Message::Text(text.to_owned()),
                    Event::Binary(bytes) => Message::Binary(bytes.to_owned()),
                    Event::Ping(_) | Event::Pong(_) | Event::Closed { .. } => continue,
                    Event::Failed(error) => {
                        println!("failed: {error}");
                        continue;
                    }
                };
                handle(&mut connection, pool, message, &mut out);
            }
            stream.write_all(&out)?;
            out.clear();
            size = match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                // Some cases end in a reset, with the closing handshake done.
                Err(_) if connection.is_closed() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        }
    }
}

/// A message to be sent back.
enum Message {
    Text(String),
    Binary(Vec<u8>),
}

/// Reads the answer to an opening handshake, and what the server sent behind it.
fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Ok((String::from_utf8(bytes)?, rest));
        }
        if bytes.len() > RESPONSE_BYTES_MAX {
            return Err("the answer to the handshake is too long".into());
        }
        match stream.read(&mut buffer)? {
            0 => return Err("the server went away in the handshake".into()),
            size => bytes.extend_from_slice(&buffer[..size]),
        }
    }
}

fn entropy<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
