//! The bare fan-out: for each publication one `send` to each member.
//!
//! A connection that asked for `/publisher` publishes; every other is a member. The payload is sent on
//! as it came (unmasked once), so the generator writes what a member is to receive. Members are served
//! in the order in which they came. Several publications in one `recv` are one `send` each and member:
//! this is the cost that a server without batching has.

use std::io::{ErrorKind, Read};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{BaselineArgs, LISTENER, accept_waiting, listen};
use crate::connection::{write_queued, write_some};
use crate::error::{BenchError, Doing};
use crate::frame::{self, Frames};

/// Bytes of the buffer for what publishers send.
const READ_SIZE: usize = 64 * 1024;

/// Serves until the process is ended.
pub(crate) fn serve(args: &BaselineArgs) -> Result<(), BenchError> {
    let mut poll = Poll::new().doing(|| "making an epoll".to_owned())?;
    let listener = listen(args, &poll)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut deliveries = Vec::new();
    loop {
        poll.poll(&mut events, None).doing(|| "waiting for events".to_owned())?;
        for event in &events {
            if event.token() == LISTENER {
                accept_waiting(&listener, |opened, path| {
                    opened.stream.set_nonblocking(true)?;
                    let mut stream = TcpStream::from_std(opened.stream);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(peers.len()), interest)?;
                    let is_member = path != "/publisher";
                    peers.push(Some(Peer {
                        stream,
                        is_member,
                        unread: Vec::new(),
                        queued: Vec::new(),
                    }));
                    Ok(())
                })?;
                continue;
            }
            let slot = &mut peers[event.token().0];
            if let Some(peer) = slot
                && peer.ready(&mut deliveries).is_err()
            {
                *slot = None;
            }
            for delivery in deliveries.drain(..) {
                for slot in &mut peers {
                    if slot.as_mut().is_some_and(|peer| peer.deliver(&delivery).is_err()) {
                        *slot = None;
                    }
                }
            }
        }
    }
}

struct Peer {
    stream: TcpStream,
    is_member: bool,
    /// Received bytes, from the start of a frame.
    unread: Vec<u8>,
    /// What the socket had no room for.
    queued: Vec<u8>,
}

impl Peer {
    /// Reads what a publisher sent and appends one encoded frame for each publication.
    fn ready(&mut self, deliveries: &mut Vec<Vec<u8>>) -> Result<(), BenchError> {
        if !self.queued.is_empty() {
            write_queued(&mut self.stream, &mut self.queued).doing(|| "writing".to_owned())?;
        }
        loop {
            let size = match read_into(&mut self.stream, &mut self.unread) {
                Ok(0) => return Err(BenchError::Server("the peer hung up".to_owned())),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).doing(|| "reading".to_owned()),
            };
            let mut frames = Frames::new(&self.unread);
            while let Some(frame) = frames.next()? {
                match frame.header.opcode {
                    frame::TEXT => deliveries.push(encode(frame.payload, frame.header.mask)),
                    frame::CLOSE => return Err(BenchError::Server("the peer closed".to_owned())),
                    _ => {}
                }
            }
            let rest = frames.rest().len();
            self.unread.drain(..self.unread.len() - rest);
            if size < READ_SIZE {
                return Ok(());
            }
        }
    }

    /// Sends one frame to a member; what does not fit is queued, behind what is queued already.
    fn deliver(&mut self, frame: &[u8]) -> std::io::Result<()> {
        if !self.is_member {
            return Ok(());
        }
        let sent = if self.queued.is_empty() { write_some(&mut self.stream, frame)? } else { 0 };
        self.queued.extend_from_slice(&frame[sent..]);
        Ok(())
    }
}

fn read_into(stream: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<usize> {
    let filled = unread.len();
    unread.resize(filled + READ_SIZE, 0);
    let result = stream.read(&mut unread[filled..]);
    unread.truncate(filled + *result.as_ref().unwrap_or(&0));
    result
}

fn encode(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame::HEADER_SIZE_MAX + payload.len());
    frame::encode_header(&mut out, frame::TEXT, payload.len(), None);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        frame::apply_mask(&mut out[start..], mask);
    }
    out
}
