//! `bench echo`: messages that come straight back, and what one costs the server.
//!
//! Every connection keeps `depth` messages in flight: what came back in a turn is sent anew in
//! one write at its end, so a server that answers in one write as well sees `depth` messages
//! per system call. A message is text: 16 digits of sequence number, then a filler that differs from
//! connection to connection. Both are checked byte by byte in every echo.

use std::time::Instant;

use mio::{Events, Poll};

use crate::connection::{Connection, mask_for};
use crate::error::{BenchError, Doing};
use crate::frame::{self, HEADER_SIZE_MAX};
use crate::handshake::{self, Target};
use crate::histogram::Histogram;
use crate::run::{Load, Measured, Run, Schedule};
use crate::sequence::{Arrival, Sequence, Verdict};

/// Digits of the sequence number; the smallest message.
const DIGITS: usize = 16;

/// The arguments of `bench echo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EchoArgs {
    /// The echo, as in ws://127.0.0.1:8080/echo.
    #[arg(long)]
    pub(crate) url: Target,
    /// Connections, at most what the descriptor limit allows.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Bytes of text in a message, at least 16.
    #[arg(long, default_value_t = 32)]
    pub(crate) size: usize,
    /// The server is `baseline-echo`, which leaves the mask on.
    #[arg(long)]
    pub(crate) bare: bool,
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// Runs `bench echo` and prints its report.
pub(crate) fn run(args: &EchoArgs) -> Result<(), BenchError> {
    let mut echo = Echo::open(args)?;
    let measured = echo.run(&args.schedule)?;
    let Measured { messages, usage } = measured;
    let verdict = echo.verdict();
    println!("echo: {} connections, depth {}, {} bytes", args.connections, args.depth, args.size);
    println!("  rate     {:.0} messages/s, {messages} measured", measured.rate());
    println!("  cpu      {}", usage.describe(messages, "message"));
    println!("  latency  {}", echo.latency);
    println!("  answers  {}", verdict);
    if verdict.is_clean() { Ok(()) } else { Err(BenchError::Wrong(verdict)) }
}

/// Connections to an echo.
pub(crate) struct Echo {
    depth: usize,
    poll: Poll,
    buffer: Vec<u8>,
    echoers: Vec<Echoer>,
    latency: Histogram,
    /// Messages that came back, in all runs.
    done: u64,
}

impl Echo {
    /// Opens the connections; nothing is sent yet.
    pub(crate) fn open(args: &EchoArgs) -> Result<Self, BenchError> {
        if args.size < DIGITS || args.depth == 0 || args.connections == 0 {
            return Err(BenchError::Usage(format!(
                "an echo needs connections, a depth, and at least {DIGITS} bytes a message"
            )));
        }
        let poll = Poll::new().doing(|| "making an epoll".to_owned())?;
        let mut echoers = Vec::with_capacity(args.connections);
        for index in 0..args.connections {
            let opened = handshake::connect(&args.url, None, None)?;
            let connection = Connection::register(opened, poll.registry(), index, mask_for(index))?;
            echoers.push(Echoer::new(connection, index, args));
        }
        Ok(Self {
            depth: args.depth,
            poll,
            buffer: Vec::new(),
            echoers,
            latency: Histogram::new(),
            done: 0,
        })
    }

    fn sent(&self) -> u64 {
        self.echoers.iter().map(|echoer| echoer.sent).sum()
    }
}

impl Load for Echo {
    fn run(&mut self, schedule: &Schedule) -> Result<Measured, BenchError> {
        let mut run = Run::new(schedule.clone(), Instant::now());
        let mut events = Events::with_capacity(1024);
        for echoer in &mut self.echoers {
            echoer.send(self.depth)?;
        }
        loop {
            self.poll
                .poll(&mut events, Some(schedule.patience()))
                .doing(|| "waiting for events".to_owned())?;
            for event in &events {
                let echoer = &mut self.echoers[event.token().0];
                let latency = run.is_measuring().then_some(&mut self.latency);
                let arrived = echoer.receive(&mut self.buffer, latency)?;
                self.done += arrived as u64;
                echoer.send(if run.is_draining() { 0 } else { arrived })?;
            }
            let now = Instant::now();
            run.turn(now, self.done)?;
            if run.is_draining()
                && let Some(measured) = run.result(now, self.sent().saturating_sub(self.done))
            {
                return Ok(measured);
            }
        }
    }

    fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for echoer in &self.echoers {
            verdict += echoer.sequence.verdict(echoer.sent);
            verdict.corrupt += echoer.corrupt;
        }
        verdict
    }
}

/// One connection, what it sent and what it expects back.
struct Echoer {
    connection: Connection,
    /// The next message as it goes out: header, mask, masked text. Only the digits change.
    outgoing: Vec<u8>,
    /// The text as it must come back, behind its digits.
    filler: Vec<u8>,
    /// What is laid over the digits on their way back: the mask from a bare server, else zeros.
    digits_mask: [u8; 4],
    sent: u64,
    /// When each message in flight was sent, by its number modulo the depth.
    sent_at: Vec<Instant>,
    sequence: Sequence,
    corrupt: u64,
}

impl Echoer {
    fn new(connection: Connection, index: usize, args: &EchoArgs) -> Self {
        let mask = connection.mask();
        let mut text = vec![b'0'; args.size];
        for (at, byte) in text[DIGITS..].iter_mut().enumerate() {
            *byte = b'a' + ((at * 7 + at / 26 + index) % 26) as u8;
        }
        let mut outgoing = Vec::with_capacity(HEADER_SIZE_MAX + args.size);
        frame::encode_masked(&mut outgoing, frame::TEXT, &text, mask);
        let returned = if args.bare { &outgoing[outgoing.len() - args.size..] } else { &text[..] };
        Self {
            connection,
            filler: returned[DIGITS..].to_vec(),
            outgoing,
            digits_mask: if args.bare { mask } else { [0; 4] },
            sent: 0,
            sent_at: vec![Instant::now(); args.depth],
            sequence: Sequence::starting_at(0),
            corrupt: 0,
        }
    }

    /// Sends `count` more messages in one write, and what else is queued.
    fn send(&mut self, count: usize) -> Result<(), BenchError> {
        let now = Instant::now();
        let text_at = self.outgoing.len() - self.filler.len() - DIGITS;
        for _ in 0..count {
            let digits = masked_digits(self.sent, self.connection.mask());
            self.outgoing[text_at..text_at + DIGITS].copy_from_slice(&digits);
            if count == 1 {
                self.connection.send_encoded(&self.outgoing)?;
            } else {
                self.connection.queue_encoded(&self.outgoing);
            }
            let slot = self.sent as usize % self.sent_at.len();
            self.sent_at[slot] = now;
            self.sent += 1;
        }
        self.connection.flush()
    }

    /// Checks what came back and returns how many messages that were.
    fn receive(
        &mut self,
        buffer: &mut Vec<u8>,
        mut latency: Option<&mut Histogram>,
    ) -> Result<usize, BenchError> {
        let mut arrived = 0;
        let mut now = None;
        let Self { connection, filler, digits_mask, sent, sent_at, sequence, corrupt, .. } = self;
        connection.receive(buffer, |text| {
            arrived += 1;
            let number = text
                .split_first_chunk()
                .filter(|(_, rest)| *rest == &filler[..])
                .and_then(|(digits, _)| unmasked_number(digits, *digits_mask))
                .filter(|number| number < sent);
            let Some(number) = number else {
                *corrupt += 1;
                return Ok(());
            };
            let arrival = sequence.arrive(number);
            if let (Some(latency), Arrival::Next) = (latency.as_deref_mut(), arrival) {
                let now = *now.get_or_insert_with(Instant::now);
                latency.record(now - sent_at[number as usize % sent_at.len()]);
            }
            Ok(())
        })?;
        Ok(arrived)
    }
}

fn masked_digits(mut number: u64, mask: [u8; 4]) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    frame::apply_mask(&mut digits, mask);
    digits
}

fn unmasked_number(digits: &[u8; DIGITS], mask: [u8; 4]) -> Option<u64> {
    let mut digits = *digits;
    frame::apply_mask(&mut digits, mask);
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::{masked_digits, unmasked_number};

    #[test]
    fn numbers_survive_the_mask() {
        for number in [0, 9, 1_234_567_890, 9_999_999_999_999_999] {
            for mask in [[0; 4], [1, 2, 3, 4], [0xff; 4]] {
                assert_eq!(unmasked_number(&masked_digits(number, mask), mask), Some(number));
            }
        }
        assert_eq!(&masked_digits(42, [0; 4]), b"0000000000000042");
    }

    #[test]
    fn other_text_is_no_number() {
        assert_eq!(unmasked_number(b"00000000000000x2", [0; 4]), None);
        assert_eq!(unmasked_number(&masked_digits(42, [0x40; 4]), [0; 4]), None);
    }
}
