//! What a connection's bytes go through on a worker.

use super::outbox::GATHER_COUNT;
use crate::front::Stream;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

/// Bytes the kernel may hold unsent before it says that the socket is full.
///
/// Without it the kernel takes megabytes for a peer that reads nothing, where no bound of ours
/// sees them. It is far more than one round trip needs to keep a fast link busy.
const UNSENT_BYTES: u32 = 128 << 10;
/// Bytes of records that are read at a time, for all connections of a worker into one buffer: what
/// is read is decrypted whole, so a session keeps nothing but the record that is cut.
const RECORD_BYTES: usize = 64 << 10;
/// Bytes that a session may have encrypted and not written.
const HELD_BYTES: usize = 64 << 10;

/// A socket that was handed over by the front. HTTP/2 streams get a variant of their own.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Bare TCP.
    Plain(TcpStream),
    /// TCP with the TLS session that was begun on it.
    Tls(Box<Tls>),
}

/// A socket and its TLS session.
///
/// It is bounded: what was encrypted and not written by [`HELD_BYTES`] and one record, what was
/// read and not decrypted by one record.
#[derive(Debug)]
pub(crate) struct Tls {
    stream: TcpStream,
    session: ServerConnection,
    /// Bytes that were encrypted and that the kernel has not taken.
    held: usize,
    /// The front may have left bytes in the session.
    fresh: bool,
    /// The peer said that it will send no more.
    ended: bool,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// So many bytes; `more`: there may be others, which no edge will report.
    Bytes {
        /// Can be 0, for a record that is cut or has nothing in it.
        size: usize,
        /// Read again, without waiting.
        more: bool,
    },
    /// The peer's end.
    End,
}

impl Transport {
    /// What a worker's sessions read records into.
    pub(crate) fn record_buffer() -> Box<[u8]> {
        vec![0; RECORD_BYTES].into()
    }

    /// Takes over a socket; it is made non-blocking here.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        let (stream, session) = match stream {
            Stream::Plain(stream) => (stream, None),
            Stream::Tls(stream, session) => (stream, Some(session)),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        let stream = TcpStream::from_std(stream);
        Ok(match session {
            None => Self::Plain(stream),
            Some(mut session) => {
                session.set_buffer_limit(Some(HELD_BYTES));
                let tls = Tls { stream, session: *session, held: 0, fresh: true, ended: false };
                Self::Tls(Box::new(tls))
            }
        })
    }

    /// Has both directions reported, at their edges. What waits already is reported, too.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &mut tls.stream,
        };
        stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Whether bytes may be waiting that were read from the socket before it was handed over, which
    /// no edge will report.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.fresh)
    }

    /// Bytes that it has taken and that the kernel has not.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.held,
        }
    }

    /// Whether it has something to write by itself: what it holds, or an answer of the session's.
    pub(crate) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Reads once; `records` is the worker's [`Self::record_buffer`].
    pub(crate) fn receive(&mut self, into: &mut [u8], records: &mut [u8]) -> io::Result<Got> {
        match self {
            Self::Plain(stream) => match stream.read(into)? {
                0 => Ok(Got::End),
                // A short read has emptied the socket: epoll(7), question 9.
                size => Ok(Got::Bytes { size, more: size == into.len() }),
            },
            Self::Tls(tls) => tls.receive(into, records),
        }
    }

    /// Reads what will be thrown away; it is not decrypted.
    pub(crate) fn discard(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(tls) => tls.stream.read(into),
        }
    }

    /// Tells the peer that nothing more comes, if that can be told at once.
    pub(crate) fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            // An alert that does not fit is not worth waiting for.
            let _ = tls.write_records();
        }
    }

    /// Tells the peer that nothing more comes, and still reads.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.say_goodbye();
        match self {
            Self::Plain(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(tls) => tls.stream.shutdown(Shutdown::Write),
        }
    }
}

/// A write that is short means that the socket is full, and that an edge will report when it no
/// longer is. With TLS the last bytes that were taken may not have been written; [`flush`] goes on
/// with them, and with `WouldBlock` says that some are left.
///
/// [`flush`]: Write::flush
impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.send(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write_vectored(slices),
            Self::Tls(tls) => tls.send(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => match tls.write_records()? {
                true => Ok(()),
                false => Err(ErrorKind::WouldBlock.into()),
            },
        }
    }
}

impl Tls {
    fn receive(&mut self, into: &mut [u8], records: &mut [u8]) -> io::Result<Got> {
        if self.ended {
            return Ok(Got::End);
        }
        if std::mem::take(&mut self.fresh) {
            self.process()?;
            let size = self.take(into)?;
            return Ok(Got::Bytes { size, more: true });
        }
        // What is decrypted is never longer than it was.
        let room = records.len().min(into.len());
        let got = self.stream.read(&mut records[..room])?;
        if got == 0 {
            // Without the session's own end. A frame that was cut is noticed above, and a WebSocket
            // connection has an end of its own.
            return Ok(Got::End);
        }
        let (mut rest, mut size) = (&records[..got], 0);
        while !rest.is_empty() && !self.ended {
            self.session.read_tls(&mut rest)?;
            self.process()?;
            size += self.take(&mut into[size..])?;
        }
        Ok(Got::Bytes { size, more: got == room || self.ended })
    }

    /// Decrypts what was read. An error is told the peer, as far as that fits.
    fn process(&mut self) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(state) => self.ended = state.peer_has_closed(),
            Err(error) => {
                let _ = self.write_records();
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        Ok(())
    }

    /// Takes what is decrypted.
    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.session.reader().read(into) {
            // Nothing more is there, or the front has seen the end, which the next read sees again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            taken => taken,
        }
    }

    /// Encrypts and writes until the socket is full; the number of bytes that were taken.
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut gathered = [IoSlice::new(&[]); GATHER_COUNT];
        let count = slices.len().min(GATHER_COUNT);
        gathered[..count].copy_from_slice(&slices[..count]);
        let (mut rest, mut taken) = (&mut gathered[..count], 0);
        // What is held goes first: a session that holds all it may takes nothing.
        while self.write_records()? {
            let size = self.session.writer().write_vectored(rest)?;
            if size == 0 {
                return Ok(taken);
            }
            taken += size;
            IoSlice::advance_slices(&mut rest, size);
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Writes what is encrypted; whether that was all.
    fn write_records(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // With nothing to decrypt it only says where it stands.
                    let state = self.session.process_new_packets();
                    self.held = state.map_or(HELD_BYTES, |state| state.tls_bytes_to_write());
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.held = 0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::outbox::{Chunks, Progress, Queue};
    use bytes::Bytes;
    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    /// A client that has shaken hands, and what the worker gets of it.
    fn pair() -> (ClientConnection, TcpStream, Transport) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut session = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || session.is_handshaking() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            session.read_tls(&mut &flight[..]).unwrap();
            session.process_new_packets().unwrap();
            let mut flight = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut flight).unwrap();
            }
            client.read_tls(&mut &flight[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        // So small that the socket is full most of the time.
        SockRef::from(&near).set_recv_buffer_size(65_536).unwrap();
        SockRef::from(&far).set_send_buffer_size(32_768).unwrap();
        near.set_nonblocking(true).unwrap();
        (client, near, Transport::new(Stream::Tls(far, Box::new(session))).unwrap())
    }

    /// Reads at most `size` bytes of records, and appends what was in them.
    fn read(client: &mut ClientConnection, stream: &mut TcpStream, size: u64, got: &mut Vec<u8>) {
        match client.read_tls(&mut stream.take(size)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(_) => {
                let state = client.process_new_packets().unwrap();
                let start = got.len();
                got.resize(start + state.plaintext_bytes_to_read(), 0);
                client.reader().read_exact(&mut got[start..]).unwrap();
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many bytes are queued, in chunks of such a size.
        Queue(usize, usize),
        /// As much is written as fits, whether or not anything made room.
        Write,
        /// The peer reads so many bytes of records.
        Read(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..150_000_usize, 1..20_000_usize).prop_map(|(size, of)| Step::Queue(size, of)),
            Just(Step::Write),
            Just(Step::Write),
            (1..100_000_u64).prop_map(Step::Read),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_written_arrives_in_order_however_slowly_it_is_read(
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let (mut client, mut stream, mut transport) = pair();
            let (mut chunks, mut queue) = (Chunks::new(), Queue::EMPTY);
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            let write = |chunks: &mut Chunks, queue: &mut Queue, transport: &mut Transport| {
                if chunks.write(queue, transport).unwrap() == Progress::Blocked {
                    return;
                }
                if let Err(error) = transport.flush() {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    assert!(transport.held() > 0 && transport.wants_write());
                } else {
                    assert_eq!(transport.held(), 0);
                }
            };
            for step in steps {
                match step {
                    Step::Queue(size, of) => {
                        let start = sent.len();
                        sent.extend((start..start + size).map(|n| (n / 7) as u8));
                        for chunk in sent[start..].chunks(of) {
                            chunks.push(&mut queue, Bytes::copy_from_slice(chunk));
                        }
                    }
                    Step::Write => write(&mut chunks, &mut queue, &mut transport),
                    Step::Read(size) => read(&mut client, &mut stream, size, &mut got),
                }
                prop_assert!(transport.held() <= HELD_BYTES + (17 << 10));
                prop_assert!(sent.starts_with(&got));
            }
            while got.len() < sent.len() {
                write(&mut chunks, &mut queue, &mut transport);
                read(&mut client, &mut stream, u64::MAX, &mut got);
            }
            prop_assert!(sent == got);
        }
    }
}
