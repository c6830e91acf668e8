//! What a connection's bytes go through on a worker.

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

/// Bytes the kernel may hold unsent before it says that the socket is full.
///
/// Without it the kernel takes megabytes for a peer that reads nothing, where no bound of ours
/// sees them. It is far more than one round trip needs to keep a fast link busy.
const UNSENT_BYTES: u32 = 128 << 10;

/// A socket that was handed over by the front. TLS and HTTP/2 streams get variants of their own.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Bare TCP.
    Plain(TcpStream),
}

impl Transport {
    /// Takes over a socket; it is made non-blocking here.
    pub(crate) fn plain(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        Ok(Self::Plain(TcpStream::from_std(stream)))
    }

    /// Has both directions reported, at their edges. What waits already is reported, too.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Self::Plain(stream) = self;
        stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Tells the peer that nothing more comes, and still reads.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let Self::Plain(stream) = self;
        stream.shutdown(Shutdown::Write)
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self::Plain(stream) = self;
        stream.read(into)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Plain(stream) = self;
        stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self::Plain(stream) = self;
        stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
