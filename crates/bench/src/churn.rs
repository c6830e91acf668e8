//! `bench churn`: connections that come, say one thing and go, and what one costs the server.
//!
//! Each connects, shakes hands, sends one text message, waits for its answer, sends a Close frame,
//! and waits for the server's and for the end of the stream; then the next takes its place. Every
//! step is awaited, so a connection costs the server four round trips, as it would with people.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::connection::mask_for;
use crate::error::{BenchError, Doing};
use crate::frame::{self, Frames};
use crate::handshake::{self, Target};
use crate::histogram::Histogram;
use crate::run::{Measured, Run, Schedule};

/// Addresses of this machine that connections come from in turn: each has about 28,000 ports, and a
/// port rests for a minute after its connection.
const SOURCES: usize = 64;
/// What comes from the server in one piece at most, far above what it does.
const READ_SIZE: usize = 16 << 10;
/// What is said on the echo.
const TEXT: &[u8] = b"what goes up must come down again";
/// What is said to a session, and how its answer begins.
const PING: &[u8] = br#"{"type":"$ping"}"#;
const PONG: &[u8] = br#"{"type":"$pong""#;
/// A Close frame with code 1000, its payload.
const NORMAL: &[u8] = &1000_u16.to_be_bytes();

/// The arguments of `bench churn`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ChurnArgs {
    /// The echo, as in ws://127.0.0.1:8080/echo.
    #[arg(long)]
    pub(crate) url: Target,
    /// The URL is that of sessions, as in ws://127.0.0.1:8080/ws: a guest comes and sends `$ping`.
    #[arg(long)]
    pub(crate) session: bool,
    /// Connections at the same time.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// Runs `bench churn` and prints its report.
pub(crate) fn run(args: &ChurnArgs) -> Result<(), BenchError> {
    if args.connections == 0 {
        return Err(BenchError::Usage("a churn needs connections".to_owned()));
    }
    let mut churn = Churn::new(args)?;
    let Measured { messages, usage } = churn.run()?;
    println!("churn: {} connections at a time", args.connections);
    let rate = messages as f64 / usage.wall.as_secs_f64();
    println!("  rate     {rate:.0} connections/s, {messages} measured");
    println!("  cpu      {}", usage.describe(messages, "connection"));
    println!("  lives    {}", churn.lives);
    Ok(())
}

struct Churn<'a> {
    args: &'a ChurnArgs,
    poll: Poll,
    request: Vec<u8>,
    places: Vec<Option<Visitor>>,
    buffer: Vec<u8>,
    /// Connections opened so far.
    opened: usize,
    done: u64,
    lives: Histogram,
}

/// One connection.
struct Visitor {
    stream: TcpStream,
    step: Step,
    /// What came and is not yet a whole head or frame.
    unread: Vec<u8>,
    since: Instant,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// To be connected.
    Connection,
    /// The answer to its handshake.
    Handshake,
    /// The answer to its message.
    Answer,
    /// The server's Close frame.
    Close,
    /// The end of the stream.
    End,
}

impl<'a> Churn<'a> {
    fn new(args: &'a ChurnArgs) -> Result<Self, BenchError> {
        Ok(Self {
            args,
            poll: Poll::new().doing(|| "making an epoll".to_owned())?,
            request: handshake::request(&args.url, None).into_bytes(),
            places: (0..args.connections).map(|_| None).collect(),
            buffer: vec![0; READ_SIZE],
            opened: 0,
            done: 0,
            lives: Histogram::new(),
        })
    }

    fn run(&mut self) -> Result<Measured, BenchError> {
        let mut run = Run::new(self.args.schedule.clone(), Instant::now());
        let mut events = Events::with_capacity(1024);
        for place in 0..self.places.len() {
            self.open(place)?;
        }
        loop {
            self.poll
                .poll(&mut events, Some(self.args.schedule.patience()))
                .doing(|| "waiting for events".to_owned())?;
            for event in &events {
                let place = event.token().0;
                let Some(visitor) = &mut self.places[place] else { continue };
                let session = self.args.session;
                if !visitor.proceed(&self.request, &mut self.buffer, session)? {
                    continue;
                }
                if run.is_measuring() {
                    self.lives.record(visitor.since.elapsed());
                }
                self.done += 1;
                self.places[place] = None;
                if !run.is_draining() {
                    self.open(place)?;
                }
            }
            let now = Instant::now();
            run.turn(now, self.done)?;
            let open = self.places.iter().flatten().count() as u64;
            if run.is_draining()
                && let Some(measured) = run.result(now, open)
            {
                if open > 0 {
                    let text = format!("{open} connections did not come to their end");
                    return Err(BenchError::Server(text));
                }
                return Ok(measured);
            }
        }
    }

    fn open(&mut self, place: usize) -> Result<(), BenchError> {
        let source = source(&self.args.url, self.opened);
        self.opened += 1;
        let stream = dial(&self.args.url, source, self.poll.registry(), place)
            .doing(|| format!("connecting to {}", self.args.url.address))?;
        self.places[place] = Some(Visitor {
            stream,
            step: Step::Connection,
            unread: Vec::new(),
            since: Instant::now(),
        });
        Ok(())
    }
}

impl Visitor {
    /// Goes on as far as it can; whether it is at its end.
    fn proceed(
        &mut self,
        request: &[u8],
        buffer: &mut [u8],
        session: bool,
    ) -> Result<bool, BenchError> {
        if self.step == Step::Connection {
            if !is_connected(&self.stream)? {
                return Ok(false);
            }
            self.send(request)?;
            self.step = Step::Handshake;
        }
        loop {
            let size = match self.stream.read(buffer) {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).doing(|| format!("reading in {:?}", self.step)),
            };
            if size == 0 {
                if self.step == Step::End {
                    return Ok(true);
                }
                let text = format!("the server hung up on one that waits for {:?}", self.step);
                return Err(BenchError::Server(text));
            }
            self.unread.extend_from_slice(&buffer[..size]);
            self.take(session)?;
            // A short read has emptied the socket; the end behind it is reported.
            if size < buffer.len() && self.step != Step::End {
                return Ok(false);
            }
        }
    }

    /// Takes what came.
    fn take(&mut self, session: bool) -> Result<(), BenchError> {
        let mask = mask_for(self.unread.len());
        if self.step == Step::Handshake {
            let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") else { return Ok(()) };
            let behind = self.unread.split_off(end + 4);
            let head = std::mem::replace(&mut self.unread, behind);
            handshake::check_response(&String::from_utf8_lossy(&head), None)?;
            let mut frame = Vec::new();
            frame::encode_masked(&mut frame, frame::TEXT, if session { PING } else { TEXT }, mask);
            self.send(&frame)?;
            self.step = Step::Answer;
        }
        let bytes = std::mem::take(&mut self.unread);
        let mut frames = Frames::new(&bytes);
        while let Some(frame) = frames.next()? {
            match (self.step, frame.header.opcode) {
                // Before its answer a session is told more.
                (Step::Answer, frame::TEXT) if session && !frame.payload.starts_with(PONG) => {}
                (Step::Answer, frame::TEXT) if session || frame.payload == TEXT => {
                    let mut close = Vec::new();
                    frame::encode_masked(&mut close, frame::CLOSE, NORMAL, mask);
                    self.send(&close)?;
                    self.step = Step::Close;
                }
                (Step::Close, frame::CLOSE) if frame.payload == NORMAL => self.step = Step::End,
                (step, opcode) => {
                    let text = format!("a frame with opcode {opcode} for one in {step:?}");
                    return Err(BenchError::Server(text));
                }
            }
        }
        self.unread.extend_from_slice(frames.rest());
        Ok(())
    }

    /// What is said here fits into an empty socket at once.
    fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(bytes).doing(|| format!("writing in {:?}", self.step))
    }
}

/// Begins to connect; the poll tells when it is done.
pub(crate) fn dial(
    target: &Target,
    source: Option<Ipv4Addr>,
    registry: &Registry,
    place: usize,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(target.address)) {
        // EINPROGRESS, which has no kind of its own here.
        Err(error) if error.raw_os_error() == Some(115) => {}
        other => other?,
    }
    let mut stream = TcpStream::from_std(socket.into());
    registry.register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// Whether what [`dial`] began is done.
pub(crate) fn is_connected(stream: &TcpStream) -> Result<bool, BenchError> {
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => {
            let error = stream.take_error().ok().flatten();
            error.map_or(Ok(false), |error| Err(error).doing(|| "connecting".to_owned()))
        }
        Err(error) => Err(error).doing(|| "connecting".to_owned()),
    }
}

/// 127.0.0.2 and up, when the server is on loopback.
pub(crate) fn source(target: &Target, index: usize) -> Option<Ipv4Addr> {
    let is_loopback = target.address.is_ipv4() && target.address.ip().is_loopback();
    is_loopback.then(|| Ipv4Addr::new(127, 0, 0, (index % SOURCES) as u8 + 2))
}

#[cfg(test)]
mod tests {
    use super::{Churn, ChurnArgs};
    use crate::error::BenchError;
    use crate::frame::{self, Frames, Header};
    use crate::handshake;
    use crate::run::Schedule;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Serves one connection after the other: an echo that answers a Close with `code`.
    fn server(code: u16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/echo", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut opened, _) = handshake::accept(stream.unwrap()).unwrap();
                let mut bytes = opened.unread;
                loop {
                    while Header::parse(&bytes)
                        .unwrap()
                        .is_none_or(|h| h.frame_size() > bytes.len())
                    {
                        let mut piece = [0; 512];
                        let size = opened.stream.read(&mut piece).unwrap();
                        if size == 0 {
                            return;
                        }
                        bytes.extend_from_slice(&piece[..size]);
                    }
                    let mut frames = Frames::new(&bytes);
                    let frame = frames.next().unwrap().unwrap();
                    let mut payload = frame.payload.to_vec();
                    frame::apply_mask(&mut payload, frame.header.mask.unwrap());
                    let closes = frame.header.opcode == frame::CLOSE;
                    if closes {
                        payload = code.to_be_bytes().to_vec();
                    }
                    let mut answer = Vec::new();
                    frame::encode_header(&mut answer, frame.header.opcode, payload.len(), None);
                    answer.extend_from_slice(&payload);
                    opened.stream.write_all(&answer).unwrap();
                    bytes = frames.rest().to_vec();
                    if closes {
                        break;
                    }
                }
            }
        });
        url
    }

    fn args(url: &str) -> ChurnArgs {
        let schedule = Schedule {
            seconds: 0.0,
            messages: Some(5),
            warmup: 0.0,
            spin: false,
            server_pid: None,
        };
        ChurnArgs { url: url.parse().unwrap(), session: false, connections: 1, schedule }
    }

    #[test]
    fn connections_come_and_go_one_after_the_other() {
        let args = args(&server(1000));
        let mut churn = Churn::new(&args).unwrap();
        assert!(churn.run().unwrap().messages >= 5);
        assert!(churn.lives.count() >= 5);
    }

    #[test]
    fn an_end_that_is_not_clean_is_an_error() {
        let args = args(&server(1011));
        let Err(BenchError::Server(text)) = Churn::new(&args).unwrap().run() else {
            panic!("1011 is no clean end");
        };
        assert!(text.contains("Close"), "{text}");
    }
}
