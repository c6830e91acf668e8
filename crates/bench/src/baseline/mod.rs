//! The servers to compare with: the least work that the same traffic can cost.
//!
//! They speak just enough WebSocket for the generator and nothing of Clarion's protocol: no session,
//! no room, no JSON, no limits, no timers, and no mask is taken off where that can be avoided. What
//! they cost is what the kernel charges for the same messages, plus one epoll loop. They run
//! in a process of their own, so their CPU time is read in the same way as Clarion's.
//!
//! A peer that sends nonsense is disconnected; any other failure ends the process.

pub(crate) mod echo;
pub(crate) mod fanout;

use std::io::Write;
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token};

use crate::error::{BenchError, Doing};
use crate::handshake::{self, Opened};

/// The token of the listener; connections count from 0.
const LISTENER: Token = Token(usize::MAX);
/// What the first line of a baseline's output begins with; the address follows.
pub(crate) const LISTENING: &str = "listening on ";

/// The arguments of the baselines.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BaselineArgs {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

/// Binds, registers and says where.
fn listen(args: &BaselineArgs, poll: &Poll) -> Result<TcpListener, BenchError> {
    let bind = || {
        let mut listener = TcpListener::bind(args.listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut out = std::io::stdout();
        writeln!(out, "{LISTENING}{}", listener.local_addr()?)?;
        out.flush()?;
        Ok(listener)
    };
    bind().doing(|| format!("listening on {}", args.listen))
}

/// Takes every waiting connection through its handshake, one after the other.
///
/// The generator opens its connections one at a time and before it measures, so blocking here is
/// simple and costs the measurement nothing. One that fails its handshake is dropped.
fn accept_waiting(
    listener: &TcpListener,
    mut on_open: impl FnMut(Opened, &str) -> std::io::Result<()>,
) -> Result<(), BenchError> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Ok((opened, path)) = handshake::accept(stream.into()) {
                    on_open(opened, &path).doing(|| "registering a socket".to_owned())?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).doing(|| "accepting".to_owned()),
        }
    }
}
