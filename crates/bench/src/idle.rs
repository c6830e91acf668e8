//! `bench idle`: sessions that do nothing, and what each costs the server.
//!
//! The sessions are spread evenly over the rooms and stay. After they have settled, the server's
//! memory is compared with what it was before the first, and its CPU time is measured over a window in
//! which the generator only answers pings. At the end every session must still be open.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::connection::{Connection, mask_for};
use crate::cpu::{Usage, UsageWindow};
use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::handshake::Target;
use crate::memory;
use crate::session::{self, Wanted};

/// Sessions opened between two turns of answering.
const OPENED_A_TURN: usize = 100;
/// Sessions from one source address; an address has about 28,000 ports, some of them still in use by
/// connections of the round before.
const SESSIONS_PER_SOURCE: usize = 8000;

/// The arguments of `bench idle`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IdleArgs {
    /// The server, as in ws://127.0.0.1:8080/ws.
    #[arg(long)]
    pub(crate) url: Target,
    /// Sessions to open. Two processes need a descriptor for each: see `ulimit -n`.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// Rooms to spread them over, evenly.
    #[arg(long, default_value_t = 100)]
    pub(crate) rooms: usize,
    /// Join with `members: true`, so that presence is kept and told.
    #[arg(long)]
    pub(crate) presence: bool,
    /// Seconds to wait before memory is read, so that joins have been told to everyone.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) settle: f64,
    /// Seconds over which CPU time is measured; 30 hold a heartbeat of every session.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) seconds: f64,
    /// The server's process.
    #[arg(long)]
    pub(crate) server_pid: u32,
}

/// What an idle run found.
pub(crate) struct IdleFigures {
    /// PSS of the server without a session, in bytes.
    pub(crate) pss_before: u64,
    /// PSS of the server with all of them, in bytes.
    pub(crate) pss_after: u64,
    pub(crate) bytes_per_session: f64,
    pub(crate) usage: Usage,
    /// How long it took to open them all.
    pub(crate) opening: Duration,
    /// Presence pushes received while opening and settling.
    pub(crate) pushes: u64,
}

impl IdleFigures {
    /// The server's CPU time as a share of one core.
    pub(crate) fn cpu_share(&self) -> f64 {
        self.usage.share(self.usage.server.unwrap_or_default())
    }
}

/// Runs `bench idle` and prints its report.
pub(crate) fn run(args: &IdleArgs) -> Result<(), BenchError> {
    let figures = measure(args)?;
    let presence = if args.presence { "with" } else { "without" };
    println!(
        "idle: {} sessions in {} rooms, {presence} presence, opened in {:.1} s, {} pushes",
        args.connections,
        args.rooms,
        figures.opening.as_secs_f64(),
        figures.pushes
    );
    println!(
        "  memory   {:.0} bytes of PSS a session ({} KiB empty, {} KiB now)",
        figures.bytes_per_session,
        figures.pss_before / 1024,
        figures.pss_after / 1024
    );
    println!(
        "  cpu      {:.2} % of a core over {:.0} s [{}]",
        100.0 * figures.cpu_share(),
        figures.usage.wall.as_secs_f64(),
        figures.usage.source
    );
    Ok(())
}

/// Opens the sessions, lets them settle and measures.
///
/// # Errors
/// A session was refused, or did not live to the end.
pub(crate) fn measure(args: &IdleArgs) -> Result<IdleFigures, BenchError> {
    if args.connections == 0 || args.rooms == 0 {
        return Err(BenchError::Usage("an idle run needs connections and rooms".into()));
    }
    let pss_before = memory::pss(args.server_pid)?;
    let begun = Instant::now();
    let mut crowd = Crowd::new()?;
    for index in 0..args.connections {
        crowd.open(args, index)?;
        if index % OPENED_A_TURN == 0 {
            crowd.answer_for(Duration::ZERO)?;
        }
    }
    let opening = begun.elapsed();
    crowd.answer_for(Duration::from_secs_f64(args.settle))?;
    let pss_after = memory::pss(args.server_pid)?;
    let pushes = crowd.pushes;
    let window = UsageWindow::open(Some(args.server_pid))?;
    crowd.answer_for(Duration::from_secs_f64(args.seconds))?;
    let usage = window.close()?;
    Ok(IdleFigures {
        pss_before,
        pss_after,
        bytes_per_session: pss_after.saturating_sub(pss_before) as f64 / args.connections as f64,
        usage,
        opening,
        pushes,
    })
}

/// The sessions, and one epoll for all.
struct Crowd {
    poll: Poll,
    events: Events,
    sessions: Vec<Connection>,
    buffer: Vec<u8>,
    pushes: u64,
}

impl Crowd {
    fn new() -> Result<Self, BenchError> {
        Ok(Self {
            poll: Poll::new().doing(|| "making an epoll".to_owned())?,
            events: Events::with_capacity(1024),
            sessions: Vec::new(),
            buffer: Vec::new(),
            pushes: 0,
        })
    }

    fn open(&mut self, args: &IdleArgs, index: usize) -> Result<(), BenchError> {
        let room = format!("bench/{}", index % args.rooms);
        let wanted = Wanted {
            room: Some(&room),
            members: args.presence,
            source: source_for(&args.url, index),
        };
        let mask = mask_for(index);
        let session = session::open(&args.url, wanted, mask)?;
        let registry = self.poll.registry();
        self.sessions.push(Connection::register(session.opened, registry, index, mask)?);
        Ok(())
    }

    /// Answers pings and counts pushes for at least so long. A session that ends is an error.
    fn answer_for(&mut self, time: Duration) -> Result<(), BenchError> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.poll
                .poll(&mut self.events, Some(left))
                .doing(|| "waiting for events".to_owned())?;
            for event in &self.events {
                let session = &mut self.sessions[event.token().0];
                let pushes = &mut self.pushes;
                session.receive(&mut self.buffer, |text| match envelope::kind(text) {
                    Kind::Error => Err(session::refused(text)),
                    Kind::Push => {
                        *pushes += 1;
                        Ok(())
                    }
                    Kind::Publication | Kind::Answer | Kind::Unknown => Ok(()),
                })?;
                session.flush()?;
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

/// 127.0.0.2 and up, when the server is on loopback.
pub(crate) fn source_for(target: &Target, index: usize) -> Option<Ipv4Addr> {
    let last = u8::try_from(index / SESSIONS_PER_SOURCE + 2).ok()?;
    let is_loopback = target.address.is_ipv4() && target.address.ip().is_loopback();
    is_loopback.then(|| Ipv4Addr::new(127, 0, 0, last))
}

#[cfg(test)]
mod tests {
    use super::source_for;

    #[test]
    fn sources_are_spread_on_loopback_only() {
        let local = "ws://127.0.0.1:80/".parse().unwrap();
        assert_eq!(source_for(&local, 0), Some([127, 0, 0, 2].into()));
        assert_eq!(source_for(&local, 8000), Some([127, 0, 0, 3].into()));
        let remote = "ws://192.0.2.1:80/".parse().unwrap();
        assert_eq!(source_for(&remote, 0), None);
    }
}
