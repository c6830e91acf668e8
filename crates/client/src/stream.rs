//! A connection's bytes, with or without TLS.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A socket, and the TLS session on it if the server is a `wss://` one.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What [`Stream::turn`] has done; `None` for what has to wait.
#[derive(Default)]
pub(crate) struct Turn {
    /// Bytes that were read; 0 is the end.
    pub(crate) read: Option<io::Result<usize>>,
    /// Bytes that were taken.
    pub(crate) wrote: Option<io::Result<usize>>,
}

impl Stream {
    /// Reads, if there is a buffer for it, and writes, whichever can be done first.
    ///
    /// What was taken may still be in the TLS session; then a turn with nothing to write goes on
    /// with it as soon as `unsent` says so.
    ///
    /// # Cancel safety
    /// Nothing is read or taken by a turn that was dropped.
    pub(crate) async fn turn(
        &mut self,
        mut read: Option<&mut [u8]>,
        write: &[u8],
        unsent: &mut bool,
    ) -> Turn {
        poll_fn(|context| {
            let mut turn = Turn::default();
            if let Some(buffer) = read.as_deref_mut() {
                let mut buffer = ReadBuf::new(buffer);
                if let Poll::Ready(done) = Pin::new(&mut *self).poll_read(context, &mut buffer) {
                    turn.read = Some(done.map(|()| buffer.filled().len()));
                }
            }
            if !write.is_empty()
                && let Poll::Ready(done) = Pin::new(&mut *self).poll_write(context, write)
            {
                *unsent = true;
                turn.wrote = Some(done);
            }
            if *unsent && let Poll::Ready(done) = Pin::new(&mut *self).poll_flush(context) {
                *unsent = false;
                match done {
                    Ok(()) => _ = turn.wrote.get_or_insert(Ok(0)),
                    Err(error) => turn.wrote = Some(Err(error)),
                }
            }
            if turn.read.is_none() && turn.wrote.is_none() {
                return Poll::Pending;
            }
            Poll::Ready(turn)
        })
        .await
    }

    /// Tells the peer that nothing more comes, if that can be told at once.
    pub(crate) async fn goodbye(&mut self) {
        poll_fn(|context| {
            let _ = Pin::new(&mut *self).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;
    use crate::endpoint::Endpoint;
    use crate::tls::Trust;
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    fn acceptor() -> (TlsAcceptor, Trust) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let trust = Trust::new(vec![made.cert.der().clone()]);
        (TlsAcceptor::from(Arc::new(config)), trust)
    }

    #[tokio::test]
    async fn what_was_taken_is_sent_however_full_the_socket_is() {
        let (acceptor, trust) = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Endpoint::parse(&format!("wss://{address}/")).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (peer, stream) =
            tokio::join!(acceptor.accept(accepted), trust.secure(stream, &endpoint));
        let (mut peer, mut stream) = (peer.unwrap(), stream.ok().unwrap());
        assert!(matches!(stream, Stream::Tls(_)));
        let sent: Vec<u8> = (0..8 << 20).map(|n| (n / 7) as u8).collect();
        let (mut written, mut unsent) = (0, false);
        // Nobody reads: in the end the socket is full, and the session as well.
        while let Some(turn) = tokio::select! {
            biased;
            turn = stream.turn(None, &sent[written..], &mut unsent) => Some(turn),
            () = std::future::ready(()) => None,
        } {
            written += turn.wrote.unwrap().unwrap();
        }
        assert!(unsent && written < sent.len(), "{written}");
        let expected = sent[..written].to_vec();
        let reader = tokio::spawn(async move {
            let mut got = vec![0; expected.len()];
            peer.read_exact(&mut got).await.unwrap();
            assert!(got == expected);
        });
        while unsent {
            let turn = stream.turn(None, &[], &mut unsent).await;
            assert_eq!(turn.wrote.unwrap().unwrap(), 0);
        }
        tokio::time::timeout(Duration::from_secs(20), reader).await.expect("it hangs").unwrap();
    }
}
