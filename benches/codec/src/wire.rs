//! The wire that all of them have: what a client sent, and nobody who reads what is written.

use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use clarion_websocket::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Returns texts of `size` bytes, as a client sends them.
pub fn frames(size: usize, count: usize) -> Vec<u8> {
    let mut client = Connection::client([7; 32]);
    let text: String = (b' '..=b'~').map(char::from).cycle().take(size).collect();
    let mut wire = Vec::new();
    for _ in 0..count {
        client.send_text(&text, &mut wire).expect("it is open");
    }
    wire
}

/// What a client sent, and how it arrives.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub bytes: &'a [u8],
    /// No read goes beyond a multiple of this.
    pub read_bytes: usize,
}

/// Brings its input read by read, and counts what is written.
pub struct Wire<'a> {
    input: Input<'a>,
    /// How much of the current read has not been taken.
    left: usize,
    pub written: &'a mut usize,
}

impl<'a> Wire<'a> {
    pub fn new(input: Input<'a>, written: &'a mut usize) -> Self {
        Self { left: input.read_bytes, input, written }
    }

    fn bring(&mut self, size_max: usize) -> &'a [u8] {
        if self.left == 0 {
            self.left = self.input.read_bytes;
        }
        let size = size_max.min(self.left).min(self.input.bytes.len());
        let (read, rest) = self.input.bytes.split_at(size);
        self.left -= size;
        self.input.bytes = rest;
        read
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bring(buffer.len());
        buffer[..read.len()].copy_from_slice(read);
        Ok(read.len())
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.written += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.bring(buffer.remaining());
        buffer.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = slices.iter().map(|bytes| black_box(bytes).len()).sum();
        *self.get_mut().written += size;
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
