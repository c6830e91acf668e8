//! The opening handshake, from both ends, in blocking calls before the measurement begins.
//!
//! The nonce is the one of RFC 6455 section 1.3, so its answer is a constant and neither end needs
//! SHA-1. A nonce protects against caches, of which there are none between these programs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{BenchError, Doing};

const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Neither a request nor a response of ours is longer.
const HEAD_SIZE_MAX: usize = 16 * 1024;
/// How long the other end may take for one step before the measurement begins.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where a server is: the parts of a `ws://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As in the URL; the value of `Host`.
    pub(crate) authority: String,
    pub(crate) address: SocketAddr,
    /// With the query, at least `/`.
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("ws://").ok_or("only ws:// URLs can be measured")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let with_port =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{authority}: {error}"))?
            .next()
            .ok_or_else(|| format!("{authority} has no address"))?;
        Ok(Self { authority: authority.to_owned(), address, path: path.to_owned() })
    }
}

/// A socket whose opening handshake is over.
pub(crate) struct Opened {
    /// Still blocking.
    pub(crate) stream: TcpStream,
    /// What arrived behind the handshake.
    pub(crate) unread: Vec<u8>,
}

/// Connects and offers `subprotocol`, from the loopback address `source` if there is one.
///
/// # Errors
/// No connection, or anything but a 101 with the right accept key and subprotocol.
pub(crate) fn connect(
    target: &Target,
    source: Option<Ipv4Addr>,
    subprotocol: Option<&str>,
) -> Result<Opened, BenchError> {
    let mut stream = dial(target, source).doing(|| format!("connecting to {}", target.address))?;
    let request = request(target, subprotocol);
    stream.write_all(request.as_bytes()).doing(|| "sending the handshake".to_owned())?;
    let (head, unread) = read_head(&mut stream).doing(|| "waiting for the handshake".to_owned())?;
    check_response(&head, subprotocol)?;
    Ok(Opened { stream, unread })
}

/// The head of a handshake's request.
pub(crate) fn request(target: &Target, subprotocol: Option<&str>) -> String {
    let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n{}\r\n",
        target.path,
        target.authority,
        offer.as_deref().unwrap_or_default()
    )
}

/// Takes the server's part on a socket just accepted; returns the path that was asked for.
pub(crate) fn accept(mut stream: TcpStream) -> std::io::Result<(Opened, String)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let (head, unread) = read_head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(response.as_bytes())?;
    Ok((Opened { stream, unread }, path))
}

fn dial(target: &Target, source: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    socket.connect_timeout(&SockAddr::from(target.address), TIMEOUT)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Reads up to the empty line; returns the head and what came behind it.
fn read_head(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 2048];
        let size = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..size]);
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let unread = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), unread));
        }
        if size == 0 || bytes.len() > HEAD_SIZE_MAX {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether the answer is a 101 with the right accept key and subprotocol.
pub(crate) fn check_response(head: &str, subprotocol: Option<&str>) -> Result<(), BenchError> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(BenchError::Server(format!("the handshake was answered {status:?}")));
    }
    let header = |name: &str| {
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    if header("sec-websocket-accept") != Some(ACCEPT) {
        return Err(BenchError::Server("the handshake has a wrong accept key".to_owned()));
    }
    if header("sec-websocket-protocol") != subprotocol {
        return Err(BenchError::Server("the server chose another subprotocol".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Target, accept, check_response, connect};
    use std::net::TcpListener;

    #[test]
    fn url_is_taken_apart() {
        let target: Target = "ws://127.0.0.1:8080/echo?a=1".parse().unwrap();
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.address.port(), 8080);
        assert_eq!(target.path, "/echo?a=1");
        assert_eq!("ws://127.0.0.1".parse::<Target>().unwrap().path, "/");
        assert!("wss://127.0.0.1/".parse::<Target>().is_err());
    }

    #[test]
    fn both_ends_agree() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/member", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || accept(listener.accept().unwrap().0).unwrap().1);
        let opened = connect(&url.parse().unwrap(), None, None).unwrap();
        assert!(opened.unread.is_empty());
        assert_eq!(server.join().unwrap(), "/member");
    }

    #[test]
    fn wrong_responses_are_refused() {
        let good = "HTTP/1.1 101 X\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(check_response(good, None).is_ok());
        assert!(check_response(good, Some("clarion.v1.json")).is_err());
        assert!(check_response("HTTP/1.1 101 X\r\n", None).is_err());
        assert!(check_response("HTTP/1.1 403 Forbidden\r\n", None).is_err());
    }
}
