//! The front: every socket until it is a WebSocket connection, and HTTP.
//!
//! It runs on tokio and hyper, beside the workers. A connection is a task here ([`http`]) until its
//! handshake is good ([`upgrade`]); then the bare socket goes to a worker and the task ends.

mod addresses;
mod body;
mod count;
mod credentials;
mod http;
mod listen;
pub(crate) mod origin;
mod patient;
mod proxies;
mod refuse;
mod stream;
mod tls;
mod upgrade;
mod watermark;

pub(crate) use addresses::{Addresses, Admission, Bucket, Network};
pub(crate) use body::read_body;
pub(crate) use count::{Counts, Gauge, Limit, Outcome, log_limit};
pub(crate) use credentials::Sources;
pub(crate) use listen::{TURNS, bind, run};
pub(crate) use proxies::Proxies;
pub(crate) use refuse::{Answer, Document, Problem};
pub(crate) use stream::Stream;
pub(crate) use tls::Tls;
pub(crate) use watermark::{Watermark, default_bytes};

use crate::api::{Api, page};
use crate::auth::Auth;
use crate::config::Guests;
use crate::ui;
use crate::worker::Workers;
use addresses::{Met, Net};
use clarion_engine::Endpoint;
use clarion_websocket::deflate;
use hyper::body::Incoming;
use hyper::header::{
    HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Uri, Version};
use origin::Origins;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::Semaphore;
use upgrade::Handoff;

/// What all connections of the front share.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) api: Arc<Api>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) http_connections: Gauge,
    /// Set once, when the server begins to stop.
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) origins: Origins,
    pub(crate) auth: Arc<Auth>,
    pub(crate) proxies: Proxies,
    /// `Strict-Transport-Security` of answers over TLS, if any.
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) guests: Guests,
    /// Where a token may be.
    pub(crate) token_sources: Sources,
    /// What is agreed to for compression; `None` for nothing.
    pub(crate) deflate: Option<deflate::Config>,
    pub(crate) echo: bool,
    pub(crate) connections_max: usize,
    pub(crate) watermark: Watermark,
    pub(crate) http_connections_max: usize,
    /// For the head of a request, for its body, and for the peer to take some of the answer.
    pub(crate) handshake_time: Duration,
    /// To read a first request: [`listen::TURNS`] of them.
    pub(crate) turns: Semaphore,
}

/// Where a connection comes from and at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client, as far as trusted proxies name it; without its port if a header does.
    pub(crate) peer: SocketAddr,
    /// It came in at a loopback address, and no proxy says that the client is elsewhere.
    pub(crate) loopback: bool,
    pub(crate) tls: bool,
    /// What it counts as; `None` if no limit per address applies to it.
    pub(crate) net: Option<Net>,
}

impl Front {
    /// Where a connection of `peer` comes from.
    fn ends(&self, peer: SocketAddr, loopback: bool, tls: bool) -> Ends {
        Ends { peer, loopback, tls, net: self.addresses.net(peer.ip()) }
    }

    /// The same behind a proxy that says who the client is.
    fn behind_proxy(&self, ends: Ends, client: SocketAddr) -> Ends {
        self.ends(client, ends.loopback && client.ip().to_canonical().is_loopback(), ends.tls)
    }

    /// Where a request comes from.
    fn ends_of(&self, request: &Request<Incoming>, ends: Ends) -> Result<Ends, Problem> {
        let malformed =
            |_| Problem::bad_request("The proxy's header that names the client is malformed.");
        let client = self.proxies.client(ends.peer.ip(), request.headers()).map_err(malformed)?;
        let Some(client) = client else { return Ok(ends) };
        let ends = self.behind_proxy(ends, SocketAddr::new(client, 0));
        match ends.net.and_then(|net| self.addresses.banned(net)) {
            None => Ok(ends),
            Some(left_s) => {
                self.counts.limit(Limit::Bans, Some(client));
                Err(Problem::banned(left_s))
            }
        }
    }

    /// Answers one request; a good handshake leaves in `handoff` what happens after the answer.
    async fn handle(
        &self,
        request: Request<Incoming>,
        ends: Ends,
        handoff: &Handoff,
    ) -> Result<Answer, Problem> {
        if let Err(problem) = check_host(request.version(), request.uri(), request.headers()) {
            if is_websocket(request.headers()) {
                self.counts.handshake(Outcome::Malformed);
            }
            return Err(problem);
        }
        match request.uri().path() {
            "/" if is_websocket(request.headers()) => {
                self.upgrade(request, ends, Endpoint::Session, handoff).await
            }
            "/ws" => self.upgrade(request, ends, Endpoint::Session, handoff).await,
            "/echo" if self.echo => self.upgrade(request, ends, Endpoint::Echo, handoff).await,
            "/healthz" | "/readyz" => self.api.handle(request, ends.peer).await,
            path => {
                self.check_rate(ends)?;
                if Api::serves(path) {
                    return self.api.handle(request, ends.peer).await;
                }
                match *request.method() {
                    Method::GET | Method::HEAD => file(path).ok_or_else(Problem::not_found),
                    _ if file(path).is_some() => Err(Problem::method_not_allowed("GET, HEAD")),
                    _ => Err(Problem::not_found()),
                }
            }
        }
    }

    fn check_rate(&self, ends: Ends) -> Result<(), Problem> {
        self.addresses.request(ends.net).map_err(|met| self.over(met, ends))
    }

    /// A limit that is per address, or of handshakes, was met.
    fn over(&self, met: Met, ends: Ends) -> Problem {
        self.counts.limit(met.limit, Some(ends.peer.ip()));
        if met.limit != Limit::Handshakes {
            self.addresses.strike(ends.net);
        }
        let detail = match met.limit {
            Limit::ConnectionsPerIp => {
                "There are as many connections from this address as are allowed."
            }
            Limit::Handshakes => "Too many clients are connecting now.",
            Limit::HandshakesPerIp => "This address connects too often.",
            _ => "This address asks too often.",
        };
        Problem::too_many(detail, met.value, met.retry_after_s)
    }
}

/// A file of the chat, or of the page to try the API.
fn file(path: &str) -> Option<Answer> {
    page::find(path).or_else(|| ui::find(path))
}

/// What a path is called in the counts: no more names than the source has, whatever is asked for.
fn route(path: &str) -> &'static str {
    match path {
        "/ws" => "/ws",
        "/echo" => "/echo",
        path => match Api::route(path) {
            Some(route) => route,
            None if page::serves(path) || ui::serves(path) => "files",
            None => "other",
        },
    }
}

/// Whether this is meant to be a WebSocket handshake. `Upgrade: h2c`, which curl sends, is not;
/// one whose `Upgrade` a proxy took away is, so that it can be told what is missing.
fn is_websocket(headers: &HeaderMap) -> bool {
    let named = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        bytes.split(|&b| b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    headers.get_all(UPGRADE).iter().any(named)
        || headers.contains_key(SEC_WEBSOCKET_KEY)
        || headers.contains_key(SEC_WEBSOCKET_VERSION)
}

/// "A server MUST respond with a 400 status code to any HTTP/1.1 request message that lacks a Host
/// header field and to any request message that contains more than one Host header field line or
/// a Host header field with an invalid field value." RFC 9112 section 3.2. hyper lets them pass.
///
/// Of a target that names a host itself, a client sends the same as Host (section 3.2.2); where they
/// differ, two readers of the request would take it for requests to different hosts.
fn check_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let named = uri.authority().map(|authority| authority.as_str());
    let good = match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(|host| {
            origin::is_authority(host) && named.is_none_or(|name| name.eq_ignore_ascii_case(host))
        }),
        (Some(_), Some(_)) => false,
    };
    let rule = "There must be exactly one Host header, and the target may name no other host.";
    if good { Ok(()) } else { Err(Problem::bad_request(rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_host_is_wanted() {
        let check_of = |version, target: &'static str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            check_host(version, &Uri::from_static(target), &headers).is_ok()
        };
        let check = |version, hosts| check_of(version, "/ws", hosts);
        assert!(check(Version::HTTP_11, &["a.example:80"]));
        assert!(check(Version::HTTP_11, &["[::1]:80"]));
        assert!(check(Version::HTTP_10, &[]));
        assert!(!check(Version::HTTP_11, &[]));
        assert!(!check(Version::HTTP_11, &["a", "a"]));
        assert!(!check(Version::HTTP_10, &["a", "b"]));
        assert!(!check(Version::HTTP_11, &["a/b"]));
        assert!(!check(Version::HTTP_11, &["a b"]));
        assert!(!check(Version::HTTP_11, &[""]));
        assert!(check_of(Version::HTTP_11, "http://A:80/ws", &["a:80"]));
        assert!(!check_of(Version::HTTP_11, "http://b/ws", &["a"]));
        assert!(!check_of(Version::HTTP_11, "http://a@b/ws", &["b"]));
    }

    #[test]
    fn only_a_handshake_is_a_handshake() {
        let is = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static(value));
            is_websocket(&headers)
        };
        assert!(is("upgrade", "WebSocket"));
        assert!(is("upgrade", "foo, websocket"));
        assert!(is("sec-websocket-key", "x"));
        assert!(!is("upgrade", "h2c"));
        assert!(!is("connection", "upgrade"));
    }
}
