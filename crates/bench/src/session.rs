//! Opening a session: handshake, `$hello`, `$join`, in blocking calls before the measurement.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::frame::{self, Frames};
use crate::handshake::{self, Opened, Target};

/// What a session is to be in from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The room to join; `None` for one that only publishes.
    pub(crate) room: Option<&'a str>,
    /// Whether to ask for the room's members and their changes.
    pub(crate) members: bool,
    /// The address to connect from, when the ports of one are not enough.
    pub(crate) source: Option<Ipv4Addr>,
}

/// A session that was welcomed and, if it wanted a room, has joined it.
pub(crate) struct Session {
    pub(crate) opened: Opened,
    /// The last offset of the room at the join; 0 where the answer has none.
    pub(crate) offset: u64,
}

/// Opens a session and waits until it is where it wants to be.
///
/// # Errors
/// The server refused the handshake, answered `$error`, or closed.
pub(crate) fn open(
    target: &Target,
    wanted: Wanted<'_>,
    mask: [u8; 4],
) -> Result<Session, BenchError> {
    let mut opened = handshake::connect(target, wanted.source, Some(envelope::SUBPROTOCOL))?;
    let mut commands = Vec::new();
    frame::encode_masked(&mut commands, frame::TEXT, envelope::hello().as_bytes(), mask);
    if let Some(room) = wanted.room {
        let join = envelope::join(room, wanted.members, "join");
        frame::encode_masked(&mut commands, frame::TEXT, join.as_bytes(), mask);
    }
    opened.stream.write_all(&commands).doing(|| "sending $hello".to_owned())?;
    let awaited = if wanted.room.is_some() { "join" } else { "hello" };
    let offset = await_answer(&mut opened, awaited)?;
    Ok(Session { opened, offset })
}

/// Reads until the command `id` is answered; what comes behind that stays unread.
fn await_answer(opened: &mut Opened, id: &str) -> Result<u64, BenchError> {
    let mut bytes = std::mem::take(&mut opened.unread);
    loop {
        let mut frames = Frames::new(&bytes);
        while let Some(frame) = frames.next()? {
            if frame.header.opcode == frame::CLOSE {
                return Err(BenchError::Server("the server closed a session at once".to_owned()));
            }
            match envelope::kind(frame.payload) {
                Kind::Error => return Err(refused(frame.payload)),
                Kind::Answer if envelope::answers(frame.payload, id) => {
                    opened.unread = frames.rest().to_vec();
                    return Ok(envelope::offset(frame.payload).unwrap_or(0));
                }
                Kind::Answer | Kind::Publication | Kind::Push | Kind::Unknown => {}
            }
        }
        bytes = frames.rest().to_vec();
        let mut piece = [0; 16 * 1024];
        let size = opened.stream.read(&mut piece).doing(|| format!("waiting for {id}"))?;
        if size == 0 {
            return Err(BenchError::Server(format!("the server hung up before it answered {id}")));
        }
        bytes.extend_from_slice(&piece[..size]);
    }
}

/// The error for a `$error` of the server.
pub(crate) fn refused(text: &[u8]) -> BenchError {
    BenchError::Server(format!("the server refused: {}", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::{Wanted, open};
    use crate::error::BenchError;
    use crate::frame::{self, TEXT};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    const WELCOME: &str = r#"{"type":"$welcome","payload":{},"metadata":{"id":"hello"}}"#;
    const JOINED: &str =
        r#"{"type":"$reply","payload":{"epoch":"e","offset":5,"from":6},"metadata":{"id":"join"}}"#;

    /// Accepts one connection, with Clarion's subprotocol, and sends `texts`.
    fn server(texts: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            answer(&mut stream, &texts);
        });
        url
    }

    fn answer(stream: &mut TcpStream, texts: &[&str]) {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Protocol: clarion.v1.json\r\n\r\n"
            .to_vec();
        for text in texts {
            frame::encode_header(&mut bytes, TEXT, text.len(), None);
            bytes.extend_from_slice(text.as_bytes());
        }
        stream.write_all(&bytes).unwrap();
        // Keeps the socket until the client is gone, so that nothing is reset under way.
        let _ = std::io::copy(stream, &mut std::io::sink());
    }

    fn wanted() -> Wanted<'static> {
        Wanted { room: Some("bench"), members: false, source: None }
    }

    #[test]
    fn session_is_open_after_the_join_reply() {
        let url = server(vec![WELCOME, JOINED, r#"{"type":"$members"}"#]);
        let session = open(&url.parse().unwrap(), wanted(), [1; 4]).unwrap();
        assert_eq!(session.offset, 5);
        assert!(!session.opened.unread.is_empty(), "the push behind the reply is kept");
    }

    #[test]
    fn refusal_is_an_error_with_the_servers_words() {
        let url = server(vec![WELCOME, r#"{"type":"$error","payload":{"name":"forbidden"}}"#]);
        let Err(BenchError::Server(text)) = open(&url.parse().unwrap(), wanted(), [1; 4]) else {
            panic!("the join was refused");
        };
        assert!(text.contains("forbidden"));
    }
}
