//! What hyper is given to talk over, and what is left of it when it has done so.

use rustls::ServerConnection;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A socket on its way to a worker, without anything of the front's runtime.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Bare TCP.
    Plain(std::net::TcpStream),
    /// With the TLS session that was begun on it; it may hold bytes that were read.
    Tls(std::net::TcpStream, Box<ServerConnection>),
}

/// What a connection of the front is served over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Takes it out of the runtime.
    ///
    /// # Errors
    /// What the operating system says.
    fn detach(self) -> io::Result<Stream>;
}

impl Socket for TcpStream {
    fn detach(self) -> io::Result<Stream> {
        self.into_std().map(Stream::Plain)
    }
}

impl Socket for TlsStream<TcpStream> {
    fn detach(self) -> io::Result<Stream> {
        let (stream, session) = self.into_inner();
        Ok(Stream::Tls(stream.into_std()?, Box::new(session)))
    }
}
