//! One non-blocking connection: bytes in, whole frames out, and a queue for what cannot be sent.
//!
//! The read buffer belongs to the caller and is shared by all connections of a thread; only a frame
//! that was cut is kept here. Reading stops at the first short read: with an edge-triggered epoll
//! that is safe for a stream socket, and it saves the second `recv` that would only say "nothing".

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::error::{BenchError, Doing};
use crate::frame::{self, Frames};
use crate::handshake::Opened;

/// Bytes of the buffer that a thread reads into; a longer frame takes several turns.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// A client's end of one connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The start of a frame whose end has not arrived.
    carried: Vec<u8>,
    /// Encoded frames that wait for the end of the turn or for room in the socket.
    queued: Vec<u8>,
    mask: [u8; 4],
}

impl Connection {
    /// Takes over a socket after its handshake and registers it under `token`.
    ///
    /// The mask stays the same for the connection's life, so that a message can be masked once and
    /// sent often. RFC 6455 section 5.3 wants a fresh one for each frame, for the sake of proxies;
    /// a server's work is the same.
    pub(crate) fn register(
        opened: Opened,
        registry: &Registry,
        token: usize,
        mask: [u8; 4],
    ) -> Result<Self, BenchError> {
        let set_up = || -> io::Result<TcpStream> {
            opened.stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(opened.stream);
            registry.register(
                &mut stream,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(stream)
        };
        let stream = set_up().doing(|| "registering a socket".to_owned())?;
        Ok(Self { stream, carried: opened.unread, queued: Vec::new(), mask })
    }

    /// The mask of every frame from here.
    pub(crate) fn mask(&self) -> [u8; 4] {
        self.mask
    }

    /// Reads what has arrived and hands each text message to `on_text`.
    ///
    /// Pings are answered in the queue; call [`Connection::flush`] at the end of the turn.
    ///
    /// # Errors
    /// The server closed the connection, broke the framing, or `on_text` failed.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut Vec<u8>,
        mut on_text: impl FnMut(&[u8]) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        loop {
            let carried_size = self.carried.len();
            if buffer.len() < carried_size + READ_SIZE {
                buffer.resize(carried_size + READ_SIZE, 0);
            }
            buffer[..carried_size].copy_from_slice(&self.carried);
            let size = match self.stream.read(&mut buffer[carried_size..]) {
                Ok(0) => return Err(BenchError::Server("the server hung up".to_owned())),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).doing(|| "reading".to_owned()),
            };
            let mut frames = Frames::new(&buffer[..carried_size + size]);
            while let Some(frame) = frames.next()? {
                match frame.header.opcode {
                    frame::TEXT => on_text(frame.payload)?,
                    frame::PING => self.queue(frame::PONG, frame.payload),
                    frame::PONG => {}
                    frame::CLOSE => return Err(closed(frame.payload)),
                    other => {
                        return Err(BenchError::Server(format!("frame with opcode {other}")));
                    }
                }
            }
            self.carried.clear();
            self.carried.extend_from_slice(frames.rest());
            if size < buffer.len() - carried_size {
                return Ok(());
            }
        }
    }

    /// Appends one masked frame to what the next [`Connection::flush`] sends.
    pub(crate) fn queue(&mut self, opcode: u8, payload: &[u8]) {
        frame::encode_masked(&mut self.queued, opcode, payload, self.mask);
    }

    /// Sends one encoded frame from where it lies, behind what is queued; the rest is queued.
    pub(crate) fn send_encoded(&mut self, frame: &[u8]) -> Result<(), BenchError> {
        let sent = if self.queued.is_empty() {
            write_some(&mut self.stream, frame).doing(|| "writing".to_owned())?
        } else {
            0
        };
        self.queued.extend_from_slice(&frame[sent..]);
        Ok(())
    }

    /// Appends bytes that are whole encoded frames already.
    pub(crate) fn queue_encoded(&mut self, frames: &[u8]) {
        self.queued.extend_from_slice(frames);
    }

    /// Sends what is queued in one call; the rest stays for the next writable event.
    pub(crate) fn flush(&mut self) -> Result<(), BenchError> {
        write_queued(&mut self.stream, &mut self.queued).doing(|| "writing".to_owned())
    }
}

/// Writes from the front of `queued`, until it is empty or the socket is full.
pub(crate) fn write_queued(stream: &mut TcpStream, queued: &mut Vec<u8>) -> io::Result<()> {
    let written = write_some(stream, queued)?;
    queued.drain(..written);
    Ok(())
}

/// Writes until all is written or the socket is full; returns how many bytes were taken.
pub(crate) fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(size) => written += size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn closed(payload: &[u8]) -> BenchError {
    let text = match payload.split_first_chunk() {
        Some((&code, reason)) => {
            format!("{} {}", u16::from_be_bytes(code), String::from_utf8_lossy(reason))
        }
        None => "no code".to_owned(),
    };
    BenchError::Server(format!("the server closed a connection: {}", text.trim_end()))
}

/// Masks that differ from connection to connection and are never zero.
pub(crate) fn mask_for(index: usize) -> [u8; 4] {
    // The finalizer of splitmix64: any index gives bits that look random.
    let mut bits = (index as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits as u32) | 0x0101_0101).to_be_bytes()
}
