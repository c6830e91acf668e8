//! `bench fanout`: publications to a room of many members, and what one delivery costs the server.
//!
//! The members and the publishers are sessions of their own. Each publication carries a number; the
//! server gives it an offset. Every member checks that offsets are consecutive, each once, and that all
//! members saw the same number under the same offset.
//!
//! With one publisher and one publication in flight, the next goes out when the server has replied and
//! **every member has received the last**: one publish at a time, from end to end. With more in flight,
//! a publisher goes on with the reply alone, as an application would; how many are
//! on their way at once stays bounded (`AHEAD_MAX`).

use std::time::Instant;

use mio::{Events, Poll};

use crate::connection::{Connection, mask_for};
use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::frame;
use crate::handshake::{self, Target};
use crate::histogram::Histogram;
use crate::ledger::{FreeOn, Ledger};
use crate::run::{Load, Measured, Run, Schedule};
use crate::sequence::{Arrival, Sequence, Verdict};
use crate::session::{self, Wanted};

/// Publications on their way, in windows, before publishers wait for the slowest member.
const AHEAD_MAX: usize = 8;

/// The arguments of `bench fanout`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FanoutArgs {
    /// The server, as in ws://127.0.0.1:8080/ws. The path is ignored with --bare.
    #[arg(long)]
    pub(crate) url: Target,
    /// Sessions in the room.
    #[arg(long, default_value_t = 1000)]
    pub(crate) members: usize,
    /// Sessions that publish, beside the members.
    #[arg(long, default_value_t = 1)]
    pub(crate) publishers: usize,
    /// Publications in flight from each publisher.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
    /// Bytes of text in the payload, beside the number.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// The room; nobody else may publish to it meanwhile.
    #[arg(long, default_value = "bench")]
    pub(crate) room: String,
    /// The server is `baseline-fanout`: no sessions, no rooms, no replies.
    #[arg(long)]
    pub(crate) bare: bool,
    /// Bytes of each delivery, with --bare: what Clarion's take.
    #[arg(long, default_value_t = 300)]
    pub(crate) delivery_size: usize,
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// Runs `bench fanout` and prints its report.
pub(crate) fn run(args: &FanoutArgs) -> Result<(), BenchError> {
    let mut room = Fanout::open(args)?;
    let measured = room.run(&args.schedule)?;
    let Measured { messages, usage } = measured;
    let verdict = room.verdict();
    println!(
        "fanout: {} members, {} publishers, {} in flight each, {} bytes a delivery",
        args.members,
        args.publishers,
        args.in_flight,
        room.delivery_size()
    );
    println!("  rate     {:.0} deliveries/s, {messages} measured", measured.rate());
    println!("  cpu      {}", usage.describe(messages, "delivery"));
    println!("  latency  publish to receive: {}", room.tally.latency);
    println!("  answers  {}", verdict);
    if verdict.is_clean() { Ok(()) } else { Err(BenchError::Wrong(verdict)) }
}

struct Member {
    connection: Connection,
    offsets: Sequence,
}

struct Publisher {
    connection: Connection,
    in_flight: usize,
}

/// The room as the generator sees it: who is in it and what is on its way.
pub(crate) struct Fanout {
    args: FanoutArgs,
    poll: Poll,
    /// The offset that the first publication will have.
    first_offset: u64,
    members: Vec<Member>,
    publishers: Vec<Publisher>,
    ledger: Ledger,
    tally: Tally,
}

/// What is counted while messages arrive.
struct Tally {
    delivered: u64,
    corrupt: u64,
    delivery_size: usize,
    latency: Histogram,
    is_measuring: bool,
}

impl Fanout {
    /// Opens all sessions, members first; nothing is published yet.
    pub(crate) fn open(args: &FanoutArgs) -> Result<Self, BenchError> {
        if args.members == 0 || args.publishers == 0 || args.in_flight == 0 {
            let text = "a fan-out needs members, publishers and a window";
            return Err(BenchError::Usage(text.into()));
        }
        if args.bare && args.publishers > 1 {
            // The generator numbers what the bare server delivers, so it must know the order.
            return Err(BenchError::Usage("a bare fan-out has one publisher".into()));
        }
        let poll = Poll::new().doing(|| "making an epoll".to_owned())?;
        let mut first_offset = 0;
        let mut members = Vec::with_capacity(args.members);
        for index in 0..args.members {
            let (connection, offset) = connect(args, &poll, index, true)?;
            members.push(Member { connection, offsets: Sequence::starting_at(offset + 1) });
            first_offset = offset + 1;
        }
        let mut publishers = Vec::with_capacity(args.publishers);
        for index in args.members..args.members + args.publishers {
            let (connection, _) = connect(args, &poll, index, false)?;
            publishers.push(Publisher { connection, in_flight: 0 });
        }
        let free_on = match (args.bare, args.publishers * args.in_flight) {
            (true, _) => FreeOn::Delivery,
            (false, 1) => FreeOn::Both,
            (false, _) => FreeOn::Reply,
        };
        Ok(Self {
            args: args.clone(),
            poll,
            first_offset,
            members,
            publishers,
            ledger: Ledger::new(free_on, args.members),
            tally: Tally {
                delivered: 0,
                corrupt: 0,
                delivery_size: 0,
                latency: Histogram::new(),
                is_measuring: false,
            },
        })
    }

    /// Bytes of text in the last delivery.
    pub(crate) fn delivery_size(&self) -> usize {
        self.tally.delivery_size
    }

    /// Fills the window of every publisher, in one write each.
    fn publish(&mut self, now: Instant) -> Result<(), BenchError> {
        let ahead_max = AHEAD_MAX * self.args.in_flight * self.publishers.len();
        for (index, publisher) in self.publishers.iter_mut().enumerate() {
            let before = publisher.in_flight;
            while publisher.in_flight < self.args.in_flight
                && self.ledger.on_their_way() < ahead_max
            {
                let n = self.ledger.publish(index, now);
                let text = if self.args.bare {
                    envelope::delivery(&self.args.room, n, self.args.delivery_size)
                } else {
                    envelope::publish(&self.args.room, n, self.args.size)
                };
                publisher.connection.queue(frame::TEXT, text.as_bytes());
                publisher.in_flight += 1;
            }
            if publisher.in_flight > before {
                publisher.connection.flush()?;
            }
        }
        Ok(())
    }

    fn member_ready(&mut self, index: usize, buffer: &mut Vec<u8>) -> Result<(), BenchError> {
        let Member { connection, offsets } = &mut self.members[index];
        let (ledger, tally, publishers) = (&mut self.ledger, &mut self.tally, &mut self.publishers);
        let mut now = None;
        connection.receive(buffer, |text| {
            match envelope::kind(text) {
                Kind::Publication => {}
                Kind::Error => return Err(session::refused(text)),
                Kind::Answer | Kind::Push => return Ok(()),
                Kind::Unknown => {
                    tally.corrupt += 1;
                    return Ok(());
                }
            }
            let now = *now.get_or_insert_with(Instant::now);
            tally.delivered += 1;
            tally.delivery_size = text.len();
            let (Some(n), Some(offset)) = (envelope::sequence_number(text), envelope::offset(text))
            else {
                tally.corrupt += 1;
                return Ok(());
            };
            if offsets.arrive(offset) == Arrival::Duplicate {
                return Ok(());
            }
            match ledger.delivered(n, offset, now) {
                Ok((latency, freed)) => {
                    if tally.is_measuring {
                        tally.latency.record(latency);
                    }
                    if let Some(publisher) = freed {
                        publishers[publisher].in_flight -= 1;
                    }
                }
                Err(_) => tally.corrupt += 1,
            }
            Ok(())
        })?;
        connection.flush()
    }

    fn publisher_ready(&mut self, index: usize, buffer: &mut Vec<u8>) -> Result<(), BenchError> {
        let Publisher { connection, in_flight } = &mut self.publishers[index];
        let (ledger, tally) = (&mut self.ledger, &mut self.tally);
        connection.receive(buffer, |text| {
            match envelope::kind(text) {
                Kind::Answer => {}
                Kind::Error => return Err(session::refused(text)),
                Kind::Push => return Ok(()),
                Kind::Publication | Kind::Unknown => {
                    tally.corrupt += 1;
                    return Ok(());
                }
            }
            let numbers = envelope::reply_id(text).zip(envelope::offset(text));
            match numbers.map(|(n, offset)| ledger.replied(n, offset)) {
                Some(Ok(freed)) => *in_flight -= usize::from(freed == Some(index)),
                Some(Err(_)) | None => tally.corrupt += 1,
            }
            Ok(())
        })?;
        connection.flush()
    }
}

impl Load for Fanout {
    fn run(&mut self, schedule: &Schedule) -> Result<Measured, BenchError> {
        let mut run = Run::new(schedule.clone(), Instant::now());
        let mut buffer = Vec::new();
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            run.turn(now, self.tally.delivered)?;
            self.tally.is_measuring = run.is_measuring();
            if let Some(measured) = run.result(now, self.ledger.on_their_way() as u64) {
                return Ok(measured);
            }
            if !run.is_draining() {
                self.publish(now)?;
            }
            self.poll
                .poll(&mut events, Some(schedule.patience()))
                .doing(|| "waiting for events".to_owned())?;
            for event in &events {
                let index = event.token().0;
                match index.checked_sub(self.members.len()) {
                    None => self.member_ready(index, &mut buffer)?,
                    Some(index) => self.publisher_ready(index, &mut buffer)?,
                }
            }
        }
    }

    fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { corrupt: self.tally.corrupt, ..Verdict::default() };
        let end = self.first_offset + self.ledger.published();
        for member in &self.members {
            verdict += member.offsets.verdict(end);
        }
        verdict
    }
}

/// Opens one session, bare or whole; returns it with the room's last offset.
fn connect(
    args: &FanoutArgs,
    poll: &Poll,
    index: usize,
    is_member: bool,
) -> Result<(Connection, u64), BenchError> {
    let mask = mask_for(index);
    let (opened, offset) = if args.bare {
        let path = if is_member { "/member" } else { "/publisher" };
        let target = Target { path: path.to_owned(), ..args.url.clone() };
        (handshake::connect(&target, None, None)?, 0)
    } else {
        let room = is_member.then_some(&args.room[..]);
        let session =
            session::open(&args.url, Wanted { room, members: false, source: None }, mask)?;
        (session.opened, session.offset)
    };
    Ok((Connection::register(opened, poll.registry(), index, mask)?, offset))
}
