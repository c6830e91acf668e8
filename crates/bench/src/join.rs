//! `bench join`: many sessions that join one room at once, and what that costs the server.
//!
//! The sessions are open before. Then all join, half of them with `members: true`, so that the server
//! has to tell those who is there and who comes. Measured is from the first join until every one was
//! answered and nothing more has come for a while.

use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::connection::{Connection, mask_for};
use crate::cpu::{Usage, UsageWindow};
use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::frame;
use crate::handshake::Target;
use crate::idle::source_for;
use crate::session::{self, Wanted};

/// Joins that are sent between two looks at what came.
const JOINED_A_TURN: usize = 50;
/// How news of others begins.
const PRESENCE: &[u8] = br#"{"type":"$members""#;
/// Without an answer for so long, a run ends with an error.
const STALL: Duration = Duration::from_secs(20);

/// The arguments of `bench join`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct JoinArgs {
    /// The server, as in ws://127.0.0.1:8080/ws.
    #[arg(long)]
    pub(crate) url: Target,
    /// Sessions. Two processes need a descriptor for each: see `ulimit -n`.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// How many of a hundred join with `members: true`.
    #[arg(long, default_value_t = 50)]
    pub(crate) watching: usize,
    /// Seconds without anything, after which the room counts as told.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) settle: f64,
    /// The server's process.
    #[arg(long)]
    pub(crate) server_pid: u32,
}

/// What came of it.
#[derive(Debug)]
struct Figures {
    joining: Duration,
    usage: Usage,
    pushes: u64,
    bytes: u64,
}

/// Runs `bench join` and prints its report.
pub(crate) fn run(args: &JoinArgs) -> Result<(), BenchError> {
    if args.connections == 0 {
        return Err(BenchError::Usage("a join needs connections".to_owned()));
    }
    let mut crowd = Crowd::open(args)?;
    let figures = crowd.join(args)?;
    let joins = args.connections as u64;
    println!(
        "join: {} sessions, {} % with members, all answered after {:.2} s",
        args.connections,
        args.watching,
        figures.joining.as_secs_f64()
    );
    println!("  cpu      {}", figures.usage.describe(joins, "join"));
    println!(
        "  told     {} presence messages, {:.2} a join; {} KiB of text, replies included",
        figures.pushes,
        figures.pushes as f64 / joins as f64,
        figures.bytes / 1024
    );
    Ok(())
}

struct Crowd {
    poll: Poll,
    events: Events,
    sessions: Vec<Connection>,
    buffer: Vec<u8>,
    /// Answers to joins.
    answers: u64,
    pushes: u64,
    bytes: u64,
}

impl Crowd {
    fn open(args: &JoinArgs) -> Result<Self, BenchError> {
        let mut crowd = Self {
            poll: Poll::new().doing(|| "making an epoll".to_owned())?,
            events: Events::with_capacity(1024),
            sessions: Vec::with_capacity(args.connections),
            buffer: Vec::new(),
            answers: 0,
            pushes: 0,
            bytes: 0,
        };
        for index in 0..args.connections {
            let source = source_for(&args.url, index);
            let wanted = Wanted { room: None, members: false, source };
            let mask = mask_for(index);
            let session = session::open(&args.url, wanted, mask)?;
            let registry = crowd.poll.registry();
            crowd.sessions.push(Connection::register(session.opened, registry, index, mask)?);
        }
        crowd.look(Duration::ZERO)?;
        (crowd.answers, crowd.pushes, crowd.bytes) = (0, 0, 0);
        Ok(crowd)
    }

    fn join(&mut self, args: &JoinArgs) -> Result<Figures, BenchError> {
        let window = UsageWindow::open(Some(args.server_pid))?;
        let begun = Instant::now();
        for index in 0..args.connections {
            let members = index % 100 < args.watching;
            let text = envelope::join("bench/join", members, "join");
            let session = &mut self.sessions[index];
            session.queue(frame::TEXT, text.as_bytes());
            session.flush()?;
            if index % JOINED_A_TURN == 0 {
                self.look(Duration::ZERO)?;
            }
        }
        let mut progress = (Instant::now(), 0);
        while self.answers < args.connections as u64 {
            self.look(Duration::from_millis(100))?;
            if self.answers > progress.1 {
                progress = (Instant::now(), self.answers);
            } else if progress.0.elapsed() > STALL {
                let text = format!("{} of {} joins were answered", self.answers, args.connections);
                return Err(BenchError::Server(text));
            }
        }
        let joining = begun.elapsed();
        let settle = Duration::from_secs_f64(args.settle);
        while self.look(settle)? {}
        let usage = window.close()?;
        Ok(Figures { joining, usage, pushes: self.pushes, bytes: self.bytes })
    }

    /// Takes what comes within `patience`; whether anything did.
    fn look(&mut self, patience: Duration) -> Result<bool, BenchError> {
        self.poll
            .poll(&mut self.events, Some(patience))
            .doing(|| "waiting for events".to_owned())?;
        let mut came = false;
        for event in &self.events {
            let session = &mut self.sessions[event.token().0];
            let (answers, pushes, bytes) = (&mut self.answers, &mut self.pushes, &mut self.bytes);
            session.receive(&mut self.buffer, |text| {
                came = true;
                *bytes += text.len() as u64;
                match envelope::kind(text) {
                    Kind::Error => return Err(session::refused(text)),
                    Kind::Answer => *answers += 1,
                    // A guest's `$joined` is no news of others.
                    Kind::Push if text.starts_with(PRESENCE) => *pushes += 1,
                    Kind::Push | Kind::Publication | Kind::Unknown => {}
                }
                Ok(())
            })?;
            session.flush()?;
        }
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::{Crowd, JoinArgs};
    use crate::frame::{self, TEXT};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Serves one session, which is told of one other before its join is answered.
    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let head = "HTTP/1.1 101 Switching Protocols\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                Sec-WebSocket-Protocol: clarion.v1.json\r\n\r\n";
            let welcome = r#"{"type":"$welcome","payload":{},"metadata":{"id":"hello"}}"#;
            let news = r#"{"type":"$members","payload":{},"metadata":{"room":"bench/join"}}"#;
            let joined = r#"{"type":"$reply","payload":{},"metadata":{"id":"join"}}"#;
            for texts in [&[][..], &[welcome], &[news, joined]] {
                // The request, `$hello` and `$join`: each waits for what is answered to the last.
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                let mut bytes = if texts.is_empty() { head.as_bytes().to_vec() } else { vec![] };
                for text in texts {
                    frame::encode_header(&mut bytes, TEXT, text.len(), None);
                    bytes.extend_from_slice(text.as_bytes());
                }
                stream.write_all(&bytes).unwrap();
            }
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        url
    }

    #[test]
    fn a_join_is_measured_with_what_is_told_of_others() {
        let args = JoinArgs {
            url: server().parse().unwrap(),
            connections: 1,
            watching: 100,
            settle: 0.05,
            server_pid: std::process::id(),
        };
        let figures = Crowd::open(&args).unwrap().join(&args).unwrap();
        assert_eq!(figures.pushes, 1);
        assert!(figures.bytes > 100);
    }
}
