//! Listening sockets and the loops that accept from them.

use super::http::serve;
use super::{Ends, Front, Limit, Tls};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// Connections that the kernel keeps for us until we accept them; it may cut this down to
/// `net.core.somaxconn`. After a restart, all clients come at once.
const BACKLOG: u32 = 4_096;
/// How long to wait when there are no descriptors left. Every accept would fail at once, so without
/// it the loop would spin; connections that end give theirs back.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often that is told: connections come and go meanwhile, and each could be a line.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Connections whose first request is read at the same time. When thousands come at once, the others
/// wait without buffers: what a burst takes from the allocator stays with the process for long.
pub(crate) const TURNS: usize = 64;
/// How long a connection may have one of those turns, and how long one waits for it: who is slow
/// goes on beside the others.
const TURN: Duration = Duration::from_millis(50);

/// What is sent, as it is, to whoever is one too many: there is no task to serve it.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 112\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
    \"detail\":\"Too many HTTP connections are open.\"}";

/// The same for an address that is banned, and for how long it still is.
fn banned(left_s: u32) -> String {
    let body = "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\
        \"detail\":\"This address is banned for a while.\",\"name\":\"rate_limited\"}";
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nRetry-After: {left_s}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Binds a listening socket.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop` changes; then the listener is closed.
pub(crate) async fn run(
    front: Arc<Front>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    mut stop: watch::Receiver<bool>,
) {
    let loopback = listener.local_addr().is_ok_and(|addr| addr.ip().is_loopback());
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let ends = front.ends(peer, loopback, tls.is_some());
                accept(&front, stream, ends, tls.as_ref(), &stop);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    tracing::error!(%error, "cannot accept connections; trying on");
                }
                tokio::select! {
                    _ = stop.changed() => return,
                    () = tokio::time::sleep(BACK_OFF) => {}
                }
            }
        }
    }
}

fn accept(
    front: &Arc<Front>,
    stream: TcpStream,
    ends: Ends,
    tls: Option<&Arc<Tls>>,
    stop: &watch::Receiver<bool>,
) {
    let proxied = front.proxies.speaks_protocol(ends.peer.ip());
    if !proxied && is_banned(front, &stream, ends) {
        return;
    }
    let Some(counted) = front.http_connections.enter(front.http_connections_max) else {
        front.counts.limit(Limit::HttpConnections, Some(ends.peer.ip()));
        refuse(&stream, ends, FULL);
        return;
    };
    // It fails if the peer is gone, which the first read will tell.
    let _ = stream.set_nodelay(true);
    let (front, tls, stop) = (front.clone(), tls.cloned(), stop.clone());
    tokio::spawn(async move {
        let until = Instant::now() + front.handshake_time;
        // What has said nothing yet costs no buffer. It may hang up; the first read will tell.
        // `readable` alone is true of every new socket, until it is first read from.
        if timeout_at(until, stream.peek(&mut [0])).await.is_ok() {
            // One that takes its time keeps nobody else waiting for long.
            let turn = timeout(TURN, front.turns.acquire()).await;
            let shaken = shake(&front, stream, ends, tls.as_deref(), proxied, stop, until);
            let mut serving = Box::pin(shaken);
            if timeout(TURN, &mut serving).await.is_err() {
                drop(turn);
                serving.await;
            }
        }
        drop(counted);
    });
}

/// What comes before HTTP, by `until`: a header of the PROXY protocol, and TLS. Then HTTP.
async fn shake(
    front: &Front,
    mut stream: TcpStream,
    mut ends: Ends,
    tls: Option<&Tls>,
    proxied: bool,
    stop: watch::Receiver<bool>,
    until: Instant,
) {
    if proxied {
        match timeout_at(until, front.proxies.header(&mut stream)).await {
            Ok(Ok(Some(client))) => ends = front.behind_proxy(ends, client),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::debug!(peer = %ends.peer, %error, "a proxy's connection failed");
                return;
            }
            Err(_) => return,
        }
        if is_banned(front, &stream, ends) {
            return;
        }
    }
    match tls {
        None => serve(front, stream, ends, stop, until).await,
        Some(tls) => {
            if let Some(stream) = tls.accept(stream, ends, until).await {
                serve(front, stream, ends, stop, until).await;
            }
        }
    }
}

/// Whether the address is banned; then that is said and counted.
fn is_banned(front: &Front, stream: &TcpStream, ends: Ends) -> bool {
    let Some(left_s) = ends.net.and_then(|net| front.addresses.banned(net)) else { return false };
    front.counts.limit(Limit::Bans, Some(ends.peer.ip()));
    refuse(stream, ends, banned(left_s).as_bytes());
    true
}

/// Says `answer`, as much of it as fits at once into an empty buffer, which is all of it. With TLS
/// it would be nonsense, and to shake hands first what is refused here.
fn refuse(stream: &TcpStream, ends: Ends, answer: &[u8]) {
    if !ends.tls {
        let _ = stream.try_write(answer);
    }
}

/// Errors of the connection that would have been accepted, not of the listener: accept(2).
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_one_too_many_has_the_right_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
