//! `bench recover`: sessions that all come back at once to what they missed, and what that costs.
//!
//! Each session is in one room. All connections are cut, without a Close frame; then all come back
//! with their tickets and positions, twice: first nothing was missed, which is the price of coming
//! back; then so many publications, which have to come in order, each once, and nothing behind them.
//! The difference is the price of reading them.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::churn;
use crate::connection::mask_for;
use crate::cpu::{Usage, UsageWindow};
use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::frame::{self, Frames};
use crate::handshake::{self, Target};
use crate::histogram::Histogram;
use crate::session::{self, Wanted};

/// What comes from the server in one piece at most; it is read until there is no more.
const READ_SIZE: usize = 64 << 10;
/// Without progress for so long, a run ends with an error.
const STALL: Duration = Duration::from_secs(20);

/// The arguments of `bench recover`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RecoverArgs {
    /// The server, as in ws://127.0.0.1:8080/ws, without a rate for publications.
    #[arg(long)]
    pub(crate) url: Target,
    /// Sessions. Two processes need a descriptor for each: see `ulimit -n`.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// Sessions that are coming back at the same time.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) at_once: usize,
    /// Rooms to spread them over, evenly.
    #[arg(long, default_value_t = 100)]
    pub(crate) rooms: usize,
    /// The room's name, before its number.
    #[arg(long, default_value = "bench/recover")]
    pub(crate) prefix: String,
    /// Publications that each session missed.
    #[arg(long, default_value_t = 20)]
    pub(crate) missed: u64,
    /// Bytes of text in a publication.
    #[arg(long, default_value_t = 200)]
    pub(crate) padding: usize,
    /// Seconds without anything, after which nothing more is expected.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) settle: f64,
    /// The server's process.
    #[arg(long)]
    pub(crate) server_pid: u32,
}

/// Runs `bench recover` and prints its report.
pub(crate) fn run(args: &RecoverArgs) -> Result<(), BenchError> {
    if args.connections == 0 || args.rooms == 0 || args.at_once == 0 {
        return Err(BenchError::Usage("a recovery needs connections and rooms".to_owned()));
    }
    let figures = measure(args)?;
    println!(
        "recover: {} sessions of {} rooms, {} at once, each missed {}: none lost, none twice",
        args.connections, args.rooms, args.at_once, args.missed
    );
    let sessions = args.connections as u64;
    for (what, back) in [("nothing", &figures.nothing), ("missed", &figures.missed)] {
        let cpu = back.usage.describe(sessions, "session");
        println!("  {what:8} all back after {:.2} s, each {}", back.took.as_secs_f64(), back.each);
        println!("           {cpu}");
    }
    let reading = figures.reading_micros(sessions);
    println!(
        "  reading  server {reading:.1} us/session, {:.2} us/publication",
        reading / args.missed.max(1) as f64
    );
    Ok(())
}

/// What came of it.
pub(crate) struct Figures {
    nothing: Back,
    missed: Back,
}

impl Figures {
    /// Server CPU that it costs to read what one session missed.
    fn reading_micros(&self, sessions: u64) -> f64 {
        let [with, without] = [&self.missed, &self.nothing]
            .map(|back| back.usage.server_micros_per(sessions).unwrap_or_default());
        with - without
    }
}

/// All sessions came back.
struct Back {
    took: Duration,
    /// From a session's first packet to the last publication that it had missed.
    each: Histogram,
    usage: Usage,
}

fn measure(args: &RecoverArgs) -> Result<Figures, BenchError> {
    let mut sessions: Vec<Member> = (0..args.connections)
        .map(|index| Member::new(format!("{}/{}", args.prefix, index % args.rooms)))
        .collect();
    // A log that is empty is not there yet, and has no position to come back to.
    publish(args, 1)?;
    let mut crowd = Crowd::new(args)?;
    crowd.come(&mut sessions, 0)?;
    let nothing = crowd.come(&mut sessions, 0)?;
    publish(args, args.missed)?;
    let missed = crowd.come(&mut sessions, args.missed)?;
    Ok(Figures { nothing, missed })
}

/// Publishes so many to each room and waits until they are acknowledged.
fn publish(args: &RecoverArgs, count: u64) -> Result<(), BenchError> {
    let wanted = Wanted { room: None, members: false, source: None };
    let mask = mask_for(0);
    let mut opened = session::open(&args.url, wanted, mask)?.opened;
    let mut bytes = std::mem::take(&mut opened.unread);
    for room in 0..args.rooms {
        let room = format!("{}/{room}", args.prefix);
        let mut commands = Vec::new();
        for n in 0..count {
            let text = envelope::publish(&room, n, args.padding);
            frame::encode_masked(&mut commands, frame::TEXT, text.as_bytes(), mask);
        }
        opened.stream.write_all(&commands).doing(|| "publishing".to_owned())?;
        let mut answered = 0;
        while answered < count {
            let mut piece = [0; 16 << 10];
            let size = opened.stream.read(&mut piece).doing(|| "publishing".to_owned())?;
            if size == 0 {
                return Err(BenchError::Server("the server hung up on a publisher".to_owned()));
            }
            bytes.extend_from_slice(&piece[..size]);
            let mut frames = Frames::new(&bytes);
            while let Some(frame) = frames.next()? {
                match envelope::kind(frame.payload) {
                    Kind::Error => return Err(session::refused(frame.payload)),
                    Kind::Answer => answered += 1,
                    Kind::Push | Kind::Publication | Kind::Unknown => {}
                }
            }
            bytes = frames.rest().to_vec();
        }
    }
    Ok(())
}

/// What a session is between its connections.
struct Member {
    room: String,
    ticket: Option<String>,
    /// Epoch and offset.
    position: Option<(String, u64)>,
}

impl Member {
    fn new(room: String) -> Self {
        Self { room, ticket: None, position: None }
    }

    fn hello(&self) -> String {
        let ticket = self.ticket.as_ref();
        let ticket = ticket.map(|ticket| format!(r#""ticket":"{ticket}","#)).unwrap_or_default();
        let after = self
            .position
            .as_ref()
            .map(|(epoch, offset)| format!(r#""after":{{"epoch":"{epoch}","offset":{offset}}}"#));
        let (room, after) = (&self.room, after.unwrap_or_default());
        format!(
            r#"{{"type":"$hello","payload":{{{ticket}"rooms":{{"{room}":{{{after}}}}}}},"metadata":{{"id":"hello"}}}}"#
        )
    }
}

struct Crowd<'a> {
    args: &'a RecoverArgs,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    request: Vec<u8>,
    /// Connections made so far: says from which address the next one comes.
    dialled: usize,
}

impl<'a> Crowd<'a> {
    fn new(args: &'a RecoverArgs) -> Result<Self, BenchError> {
        let request = handshake::request(&args.url, Some(envelope::SUBPROTOCOL));
        Ok(Self {
            args,
            poll: Poll::new().doing(|| "making an epoll".to_owned())?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_SIZE],
            request: request.into_bytes(),
            dialled: 0,
        })
    }

    /// Connects all sessions, waits until each has the `missed`, looks that no more comes, and cuts
    /// their connections.
    fn come(&mut self, sessions: &mut [Member], missed: u64) -> Result<Back, BenchError> {
        let window = UsageWindow::open(Some(self.args.server_pid))?;
        let begun = Instant::now();
        let mut links: Vec<Link> = Vec::with_capacity(sessions.len());
        let (mut back, mut each) = (0, Histogram::new());
        let mut progress = Instant::now();
        while back < sessions.len() {
            while links.len() < sessions.len() && links.len() - back < self.args.at_once {
                links.push(self.dial(links.len(), missed)?);
            }
            for index in self.look(&mut links, sessions, Duration::from_millis(100))? {
                each.record(links[index].since.elapsed());
                back += 1;
                progress = Instant::now();
            }
            if progress.elapsed() > STALL {
                let text = format!("{back} of {} sessions have all they missed", sessions.len());
                return Err(BenchError::Server(text));
            }
        }
        let took = begun.elapsed();
        let usage = window.close()?;
        // Whatever comes now was not asked for: a session that has all takes no publication.
        let quiet = Instant::now();
        while quiet.elapsed().as_secs_f64() < self.args.settle {
            self.look(&mut links, sessions, Duration::from_millis(100))?;
        }
        Ok(Back { took, each, usage })
    }

    fn dial(&mut self, index: usize, missed: u64) -> Result<Link, BenchError> {
        let source = churn::source(&self.args.url, self.dialled);
        self.dialled += 1;
        let stream = churn::dial(&self.args.url, source, self.poll.registry(), index)
            .doing(|| format!("connecting to {}", self.args.url.address))?;
        let waiting = Waiting { step: Step::Connection, missed };
        Ok(Link { stream, waiting, unread: Vec::new(), since: Instant::now() })
    }

    /// Takes what comes within `patience`: which sessions have all that they missed since.
    fn look(
        &mut self,
        links: &mut [Link],
        sessions: &mut [Member],
        patience: Duration,
    ) -> Result<Vec<usize>, BenchError> {
        self.poll
            .poll(&mut self.events, Some(patience))
            .doing(|| "waiting for events".to_owned())?;
        let mut done = Vec::new();
        for event in &self.events {
            let index = event.token().0;
            // An event of a connection that was cut in the round before.
            let Some(link) = links.get_mut(index) else { continue };
            let was_done = link.waiting.step == Step::Done;
            link.proceed(&mut sessions[index], &self.request, &mut self.buffer)?;
            if link.waiting.step == Step::Done && !was_done {
                done.push(index);
            }
        }
        Ok(done)
    }
}

/// One connection of a session.
struct Link {
    stream: TcpStream,
    waiting: Waiting,
    /// What came and is not yet a whole head or frame.
    unread: Vec<u8>,
    since: Instant,
}

/// What a connection has still to hear.
#[derive(Debug)]
struct Waiting {
    step: Step,
    /// Publications that have to come.
    missed: u64,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connection,
    Handshake,
    Welcome,
    Joined,
    Publications,
    /// Nothing.
    Done,
}

impl Link {
    fn proceed(
        &mut self,
        member: &mut Member,
        request: &[u8],
        buffer: &mut [u8],
    ) -> Result<(), BenchError> {
        if self.waiting.step == Step::Connection {
            if !churn::is_connected(&self.stream)? {
                return Ok(());
            }
            self.send(request)?;
            self.waiting.step = Step::Handshake;
        }
        loop {
            let size = match self.stream.read(buffer) {
                Ok(0) => {
                    let text = format!("the server hung up on one in {:?}", self.waiting.step);
                    return Err(BenchError::Server(text));
                }
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(error).doing(|| format!("reading in {:?}", self.waiting.step));
                }
            };
            self.unread.extend_from_slice(&buffer[..size]);
            self.take(member)?;
        }
    }

    /// Takes what came.
    fn take(&mut self, member: &mut Member) -> Result<(), BenchError> {
        if self.waiting.step == Step::Handshake {
            let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") else { return Ok(()) };
            let behind = self.unread.split_off(end + 4);
            let head = std::mem::replace(&mut self.unread, behind);
            let head = String::from_utf8_lossy(&head);
            handshake::check_response(&head, Some(envelope::SUBPROTOCOL))?;
            let mut hello = Vec::new();
            let mask = mask_for(member.room.len());
            frame::encode_masked(&mut hello, frame::TEXT, member.hello().as_bytes(), mask);
            self.send(&hello)?;
            self.waiting.step = Step::Welcome;
        }
        let bytes = std::mem::take(&mut self.unread);
        let mut frames = Frames::new(&bytes);
        while let Some(frame) = frames.next()? {
            match frame.header.opcode {
                frame::TEXT => self.waiting.hear(member, frame.payload)?,
                // A ping; nobody stays for long enough to have to answer it.
                frame::PING => {}
                opcode => {
                    let text = format!("a frame with opcode {opcode} in {:?}", self.waiting.step);
                    return Err(BenchError::Server(text));
                }
            }
        }
        self.unread.extend_from_slice(frames.rest());
        Ok(())
    }

    /// What is said here fits into an empty socket at once.
    fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(bytes).doing(|| format!("writing in {:?}", self.waiting.step))
    }
}

impl Waiting {
    /// Takes a message; a wrong one is an error.
    fn hear(&mut self, member: &mut Member, text: &[u8]) -> Result<(), BenchError> {
        let wrong = |what: &str| {
            Err(BenchError::Server(format!("{what}: {}", String::from_utf8_lossy(text))))
        };
        match (self.step, envelope::kind(text)) {
            (_, Kind::Error) => return Err(session::refused(text)),
            (Step::Welcome, Kind::Answer) => {
                member.ticket = envelope::text_of(text, "ticket");
                self.step = Step::Joined;
            }
            // A guest is told of a room of its own, too.
            (Step::Joined, Kind::Push) if envelope::is_of(text, &member.room) => {
                let (Some(epoch), Some(head)) =
                    (envelope::text_of(text, "epoch"), envelope::offset(text))
                else {
                    return wrong("joined without a position");
                };
                match &member.position {
                    None => member.position = Some((epoch, head)),
                    Some((known, offset)) => {
                        let recovered = envelope::has(text, r#""recovered":true"#);
                        if !recovered || *known != epoch || head != offset + self.missed {
                            return wrong("not recovered");
                        }
                    }
                }
                self.step = if self.missed > 0 { Step::Publications } else { Step::Done };
            }
            (Step::Publications, Kind::Publication) => {
                let Some((epoch, offset)) = &mut member.position else { unreachable!() };
                if envelope::offset(text) != Some(*offset + 1) || !envelope::has(text, epoch) {
                    return wrong("lost, repeated or out of order");
                }
                *offset += 1;
                self.missed -= 1;
                if self.missed == 0 {
                    self.step = Step::Done;
                }
            }
            (_, Kind::Publication) => return wrong("repeated"),
            (_, Kind::Push | Kind::Answer) => {}
            (_, Kind::Unknown) => return wrong("no envelope"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Member, Step, Waiting};

    const WELCOME: &str = r#"{"type":"$welcome","payload":{"ticket":"t"},"metadata":{}}"#;
    const OWN: &str = r#"{"type":"$joined","payload":{},"metadata":{"room":"$user/guest:c"}}"#;

    fn joined(offset: u64, from: u64, recovered: bool) -> String {
        format!(
            r#"{{"type":"$joined","payload":{{"epoch":"e","offset":{offset},"from":{from},"recovered":{recovered}}},"metadata":{{"room":"r/0"}}}}"#
        )
    }

    fn publication(offset: u64) -> String {
        format!(r#"{{"type":"bench","payload":{{}},"metadata":{{"offset":{offset},"epoch":"e"}}}}"#)
    }

    /// A session that saw up to 5 and comes back to two more, is told this, and nothing else.
    fn hear(texts: &[String]) -> Result<Waiting, String> {
        let mut member = Member::new("r/0".to_owned());
        member.position = Some(("e".to_owned(), 5));
        let mut waiting = Waiting { step: Step::Welcome, missed: 2 };
        for text in [WELCOME.to_owned(), OWN.to_owned()].iter().chain(texts) {
            waiting.hear(&mut member, text.as_bytes()).map_err(|error| error.to_string())?;
        }
        assert_eq!(member.ticket.as_deref(), Some("t"));
        Ok(waiting)
    }

    #[test]
    fn what_was_missed_comes_in_order() {
        let waiting = hear(&[joined(7, 6, true), publication(6), publication(7)]).unwrap();
        assert_eq!((waiting.step, waiting.missed), (Step::Done, 0));
        let waiting = hear(&[joined(7, 6, true), publication(6)]).unwrap();
        assert_eq!((waiting.step, waiting.missed), (Step::Publications, 1));
    }

    #[test]
    fn anything_else_is_an_error() {
        for (texts, why) in [
            (vec![joined(7, 8, false)], "not recovered"),
            (vec![joined(6, 6, true)], "not recovered"),
            (vec![joined(7, 6, true), publication(7)], "lost"),
            (vec![joined(7, 6, true), publication(6), publication(6)], "lost, repeated"),
            (vec![joined(7, 6, true), publication(6), publication(7), publication(7)], "repeated"),
        ] {
            let error = hear(&texts).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_session_comes_back_with_its_ticket_and_position() {
        let mut member = Member::new("r/0".to_owned());
        assert!(member.hello().contains(r#""payload":{"rooms":{"r/0":{}}}"#));
        member.ticket = Some("t".to_owned());
        member.position = Some(("e".to_owned(), 5));
        let rooms =
            r#""payload":{"ticket":"t","rooms":{"r/0":{"after":{"epoch":"e","offset":5}}}}"#;
        assert!(member.hello().contains(rooms));
    }
}
