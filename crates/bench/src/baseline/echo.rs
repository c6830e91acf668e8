//! The bare echo: one `recv` and one `send` a message.
//!
//! Each connection reads into a buffer of its own until a frame is whole and sends it back from
//! there, with the mask still on the payload: the four bytes of the mask key are overwritten by the
//! header, so not a byte of payload is touched. Several whole frames in one `recv` go back in one `send`.

use std::io::{ErrorKind, Read};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{BaselineArgs, LISTENER, accept_waiting, listen};
use crate::connection::{READ_SIZE, write_queued, write_some};
use crate::error::{BenchError, Doing};
use crate::frame::{self, Header};

/// Serves until the process is ended.
pub(crate) fn serve(args: &BaselineArgs) -> Result<(), BenchError> {
    let mut poll = Poll::new().doing(|| "making an epoll".to_owned())?;
    let listener = listen(args, &poll)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "waiting for events".to_owned())?;
        for event in &events {
            if event.token() == LISTENER {
                accept_waiting(&listener, |opened, _| {
                    opened.stream.set_nonblocking(true)?;
                    let mut stream = TcpStream::from_std(opened.stream);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(peers.len()), interest)?;
                    peers.push(Some(Peer::new(stream)));
                    Ok(())
                })?;
                continue;
            }
            let slot = &mut peers[event.token().0];
            if let Some(peer) = slot
                && peer.ready().is_err()
            {
                *slot = None;
            }
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// Received bytes, from the start of a frame; the rest of the buffer is room to read into.
    buffer: Vec<u8>,
    filled: usize,
    /// What the socket had no room for, and answers that were put together from several frames.
    queued: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; 4096], filled: 0, queued: Vec::new() }
    }

    fn ready(&mut self) -> Result<(), BenchError> {
        if !self.queued.is_empty() {
            write_queued(&mut self.stream, &mut self.queued).doing(|| "writing".to_owned())?;
        }
        loop {
            let room = self.buffer.len() - self.filled;
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(BenchError::Server("the peer hung up".to_owned())),
                Ok(size) => {
                    self.filled += size;
                    self.answer()?;
                    if size < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).doing(|| "reading".to_owned()),
            }
        }
    }

    /// Sends back every whole frame in the buffer and keeps the start of the next.
    fn answer(&mut self) -> Result<(), BenchError> {
        let mut at = 0;
        while let Some(header) = Header::parse(&self.buffer[at..self.filled])? {
            let end = at + header.frame_size();
            if end > self.filled {
                // Room for the whole frame, so that it is not read in more pieces than need be.
                let wanted = header.frame_size().next_power_of_two().max(READ_SIZE.min(2 * end));
                self.buffer.resize(self.buffer.len().max(wanted), 0);
                break;
            }
            if header.opcode == frame::CLOSE {
                return Err(BenchError::Server("the peer closed".to_owned()));
            }
            // The answer's header has no mask: it ends where the mask key ended.
            let start = at + header.mask.map_or(0, |key| key.len());
            self.buffer.copy_within(at..at + header.size - (start - at), start);
            self.buffer[start + 1] &= 0x7f;
            if at == 0 && end == self.filled && self.queued.is_empty() {
                self.filled = 0;
                return self.send(start, end);
            }
            self.queued.extend_from_slice(&self.buffer[start..end]);
            at = end;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        write_queued(&mut self.stream, &mut self.queued).doing(|| "writing".to_owned())
    }

    /// Sends one frame from where it was received; what does not fit is queued.
    fn send(&mut self, start: usize, end: usize) -> Result<(), BenchError> {
        let frame = &self.buffer[start..end];
        let sent = write_some(&mut self.stream, frame).doing(|| "writing".to_owned())?;
        self.queued.extend_from_slice(&frame[sent..]);
        Ok(())
    }
}
