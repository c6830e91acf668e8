//! One connection of the front: HTTP requests, until it ends or becomes a WebSocket.

use super::patient::Patient;
use super::stream::Socket;
use super::upgrade::Handoff;
use super::{Ends, Front, Limit};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, STRICT_TRANSPORT_SECURITY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The head of a request, bytes; over it 431. hyper's own default lets 400 KB through.
const HEAD_BYTES: usize = 16 << 10;
/// After so long a connection is closed behind its next answer, so that none is for ever; a client
/// that keeps its connections alive opens a new one.
const AGE_MAX: Duration = Duration::from_secs(600);
/// And so long after that, or after the server began to stop, whatever it is doing.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// Serves one connection.
///
/// hyper closes it when the head of a request takes longer than the first one has until `until`,
/// the first as any later one.
pub(super) async fn serve<S: Socket>(
    front: &Front,
    stream: S,
    ends: Ends,
    mut stop: watch::Receiver<bool>,
    until: Instant,
) {
    let handoff = Handoff::default();
    let head_time = until.saturating_duration_since(Instant::now());
    let io = TokioIo::new(Patient::new(stream, front.handshake_time));
    let ended = until_ended(front, io, ends, &mut stop, &handoff, head_time).await;
    if let Some(Err(error)) = ended {
        tracing::debug!(peer = %ends.peer, %error, "HTTP connection failed");
    }
    if let Some(upgrading) = handoff.take() {
        upgrading.finish::<Patient<S>>(front).await;
    }
}

/// Answers requests; `None` if the connection was cut off.
async fn until_ended<S: Socket>(
    front: &Front,
    io: TokioIo<S>,
    ends: Ends,
    stop: &mut watch::Receiver<bool>,
    handoff: &Handoff,
    head_time: Duration,
) -> Option<hyper::Result<()>> {
    let service = service_fn(|request: Request<Incoming>| async move {
        let route = super::route(request.uri().path());
        let is_handshake = super::is_websocket(request.headers());
        let (ends, answer) = match front.ends_of(&request, ends) {
            Ok(ends) => (ends, front.handle(request, ends, handoff).await),
            Err(problem) => (ends, Err(problem)),
        };
        let mut answer = answer.unwrap_or_else(|problem| {
            let status = problem.status.as_u16();
            if problem.status == StatusCode::PAYLOAD_TOO_LARGE {
                front.counts.limit(Limit::HttpBodyBytes, Some(ends.peer.ip()));
            }
            if problem.status == StatusCode::UNAUTHORIZED {
                front.addresses.strike(ends.net);
            }
            tracing::debug!(peer = %ends.peer, route, status, "request refused");
            problem.into_response()
        });
        if let (true, Some(hsts)) = (ends.tls, &front.hsts) {
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        // What becomes a WebSocket is counted as a handshake.
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            front.counts.request(route, answer.status().as_u16());
            if is_handshake {
                // A proxy may take the connection for a WebSocket now, and let its client say in
                // it what the proxy would not have let through as requests.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Ok::<_, Infallible>(answer)
    });
    let mut builder = http1::Builder::new();
    // No `pipeline_flush`: with frames behind the request it loses the 101.
    builder.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    tokio::select! {
        ended = connection.as_mut() => return Some(ended),
        _ = stop.changed() => {}
        () = tokio::time::sleep(AGE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(LAST_ANSWER, connection).await.ok()
}
