//! Opens one socket: TCP, TLS, and the opening handshake of RFC 6455.

use clarion_protocol::close;
use clarion_protocol::codec::SUBPROTOCOL_JSON;
use clarion_websocket::handshake::{Opening, ResponseError};
use clarion_websocket::{CloseCode, Connection, deflate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::builder::Config;
use crate::endpoint::Endpoint;
use crate::stream::Stream;

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of an answer.
const FIELD_COUNT_MAX: usize = 64;

/// Why no connection came to be.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The close code that stands for it.
    pub(crate) code: u16,
    pub(crate) reason: String,
    /// For people.
    pub(crate) why: String,
    pub(crate) retry_after_ms: Option<u64>,
}

impl Failure {
    /// One after which it is tried again.
    pub(crate) fn new(reason: impl Into<String>, why: impl Into<String>) -> Self {
        let code = CloseCode::ABNORMAL.get();
        Self { code, reason: reason.into(), why: why.into(), retry_after_ms: None }
    }
}

/// A connection after its opening handshake.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
    /// What came behind the answer's head.
    pub(crate) rest: Vec<u8>,
}

pub(crate) async fn open(endpoint: &Endpoint, config: &Config) -> Result<Opened, Failure> {
    let entropy = |out: &mut [u8]| {
        getrandom::fill(out).map_err(|error| Failure::new("no_entropy", error.to_string()))
    };
    let (mut nonce, mut seed) = ([0; 16], [0; 32]);
    entropy(&mut nonce)?;
    entropy(&mut seed)?;
    let Endpoint { host, port, .. } = endpoint;
    let unreachable =
        |error: std::io::Error| Failure::new("connect_failed", format!("{host}:{port}: {error}"));
    let stream = TcpStream::connect((&**host, *port)).await.map_err(unreachable)?;
    // Messages are written whole, so there is nothing that waiting could put together.
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut stream = if endpoint.tls {
        config.trust.secure(stream, endpoint).await?
    } else {
        Stream::Plain(stream)
    };

    let mut opening = Opening::new(nonce, &[SUBPROTOCOL_JSON]);
    if config.compression {
        opening = opening.with_deflate(deflate::Config::default());
    }
    let mut request =
        format!("GET {} HTTP/1.1\r\nhost: {}\r\n", endpoint.target, endpoint.authority);
    for (name, value) in opening.headers() {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    stream.flush().await.map_err(unreachable)?;

    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await.map_err(unreachable)? == 0 {
            let why = "the server hung up instead of answering";
            return Err(Failure::new("connect_failed", why));
        }
        if let Some((agreed, size)) = judge(&opening, &head)? {
            let connection = Connection::client(seed);
            let connection = match agreed {
                Some(agreed) => connection.with_deflate(agreed),
                None => connection,
            };
            return Ok(Opened { stream, connection, rest: head.split_off(size) });
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Failure::new("bad_handshake", "the server's answer does not end"));
        }
    }
}

/// What was agreed on and how long the head is, once it is whole.
fn judge(
    opening: &Opening,
    head: &[u8],
) -> Result<Option<(Option<deflate::Agreed>, usize)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_COUNT_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let size = match response.parse(head) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::new("bad_handshake", format!("not HTTP: {error}"))),
    };
    let status = response.code.unwrap_or(0);
    let fields = || response.headers.iter().map(|field| (field.name, field.value));
    match opening.verify_all(status, fields()) {
        Ok(opened) if opened.subprotocol == Some(SUBPROTOCOL_JSON) => {
            Ok(Some((opened.deflate, size)))
        }
        Ok(_) => {
            let why = format!("the server does not speak {SUBPROTOCOL_JSON}");
            Err(Failure::new("bad_handshake", why))
        }
        Err(ResponseError::Status(status)) => Err(refused(status, fields())),
        Err(error) => Err(Failure::new("bad_handshake", error.to_string())),
    }
}

/// The server answered by HTTP: section 7.
fn refused<'a>(status: u16, mut fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Failure {
    let retry_after = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok());
    let failure = Failure {
        retry_after_ms: retry_after.map(|seconds| seconds.saturating_mul(1_000)),
        ..Failure::new(format!("http_{status}"), format!("the server answered with HTTP {status}"))
    };
    // Trying again with the same credentials, or from the same place, is refused again.
    match status {
        401 => Failure { code: close::UNAUTHENTICATED, ..failure },
        403 => Failure { code: close::FORBIDDEN, ..failure },
        _ => failure,
    }
}
