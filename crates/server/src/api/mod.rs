//! What a back end asks over HTTP, and what probes and Prometheus ask.
//!
//! Everything but the two probes needs the API key. Questions go to the workers by mail and are
//! answered within their turn.

mod answers;
mod broadcast;
mod clients;
mod exposition;
mod metrics;
mod process;
mod stats;

pub(crate) use answers::Answers;

use crate::config::Secret;
use crate::front::{Answer, Counts, Gauge, Problem, read_body};
use crate::worker::{Clock, Workers};
use bytes::Bytes;
use clarion_engine::Mail;
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use metrics::Scrapes;
use stats::Samples;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The HTTP API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) node: String,
    pub(crate) key: Secret,
    pub(crate) workers: Arc<Workers>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) http_connections: Gauge,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
    samples: Samples,
    scrapes: Scrapes,
    started: Instant,
    turn: AtomicUsize,
}

/// What an [`Api`] is made of; see its fields.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) node: String,
    pub(crate) key: Secret,
    pub(crate) workers: Arc<Workers>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) http_connections: Gauge,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Route {
    Stats,
    Clients,
    Broadcast,
    Metrics,
    Alive,
    Ready,
}

impl Route {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/stats" => Self::Stats,
            "/clients" => Self::Clients,
            "/broadcast" => Self::Broadcast,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Alive,
            "/readyz" => Self::Ready,
            _ => return None,
        })
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Alive | Self::Ready)
    }

    fn allowed(self) -> &'static str {
        if matches!(self, Self::Broadcast) { "POST" } else { "GET, HEAD" }
    }
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            node: parts.node,
            key: parts.key,
            workers: parts.workers,
            answers: parts.answers,
            counts: parts.counts,
            http_connections: parts.http_connections,
            draining: parts.draining,
            clock: parts.clock,
            body_bytes: parts.body_bytes,
            body_time: parts.body_time,
            samples: Samples::new(),
            scrapes: Scrapes::default(),
            started: Instant::now(),
            turn: AtomicUsize::new(0),
        }
    }

    /// What a path of the API is called in the counts.
    pub(crate) fn route(path: &str) -> Option<&'static str> {
        Some(match Route::find(path)? {
            Route::Stats => "/stats",
            Route::Clients => "/clients",
            Route::Broadcast => "/broadcast",
            Route::Metrics => "/metrics",
            Route::Alive => "/healthz",
            Route::Ready => "/readyz",
        })
    }

    /// Whether a path is the API's.
    pub(crate) fn serves(path: &str) -> bool {
        Route::find(path).is_some()
    }

    /// Answers a request whose path [`Self::serves`].
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Problem> {
        let route = Route::find(request.uri().path()).ok_or_else(Problem::not_found)?;
        if !route.is_open() {
            self.authorize(&request)?;
        }
        let method = match *request.method() {
            Method::HEAD => Method::GET,
            ref method => method.clone(),
        };
        match (route, method) {
            (Route::Stats, Method::GET) => self.stats().await,
            (Route::Clients, Method::GET) => {
                self.clients(request.uri().query().unwrap_or_default()).await
            }
            (Route::Metrics, Method::GET) => Ok(self.metrics(request.headers()).await),
            (Route::Alive, Method::GET) => Ok(text("ok\n")),
            (Route::Ready, Method::GET) => self.ready(),
            (Route::Broadcast, Method::POST) => {
                let body = read_body(request, self.body_bytes, self.body_time).await?;
                self.broadcast(&body).await
            }
            (route, _) => Err(Problem::method_not_allowed(route.allowed())),
        }
    }

    /// RFC 6750 section 2.1. The comparison takes the same time wherever the first difference is.
    fn authorize(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        let given = request.headers().get(AUTHORIZATION).and_then(bearer);
        let same = given
            .is_some_and(|given| bool::from(given.as_bytes().ct_eq(self.key.expose().as_bytes())));
        if same {
            return Ok(());
        }
        let detail = "The HTTP API wants the header Authorization: Bearer <API key>.";
        Err(Problem::new(StatusCode::UNAUTHORIZED, detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }

    fn ready(&self) -> Result<Answer, Problem> {
        if self.draining.load(Relaxed) {
            return Err(Problem::unavailable("The server is about to stop.", 5));
        }
        Ok(text("ready\n"))
    }

    /// A worker for what any can do; they take turns.
    fn some_worker(&self) -> usize {
        self.turn.fetch_add(1, Relaxed) % self.workers.count()
    }

    async fn ask(&self, worker: usize, request: ApiRequest) -> Result<ApiAnswer, Problem> {
        let mut pending = self.answers.expect();
        self.workers.post(worker, Mail::Api { api: pending.id(), request });
        pending.wait().await
    }

    /// Asks every worker the same, all at once.
    async fn ask_all(&self, request: &ApiRequest) -> Result<Vec<ApiAnswer>, Problem> {
        let pending: Vec<_> = (0..self.workers.count())
            .map(|worker| {
                let pending = self.answers.expect();
                let mail = Mail::Api { api: pending.id(), request: request.clone() };
                self.workers.post(worker, mail);
                pending
            })
            .collect();
        let mut answers = Vec::with_capacity(pending.len());
        for mut pending in pending {
            answers.push(pending.wait().await?);
        }
        Ok(answers)
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// An instant as the protocol writes it.
fn rfc3339(unix_ms: u64) -> String {
    let mut text = Vec::with_capacity(24);
    clarion_protocol::time::write_rfc3339_ms(unix_ms, &mut text);
    String::from_utf8(text).expect("digits and separators")
}

fn json(value: &serde_json::Value) -> Answer {
    answer("application/json", value.to_string())
}

fn text(body: &'static str) -> Answer {
    answer("text/plain; charset=utf-8", body)
}

fn answer(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_found_whatever_the_case_of_the_scheme() {
        let token = |text| bearer(&HeaderValue::from_str(text).unwrap()).map(str::to_owned);
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for other in ["abc", "Basic abc", "Bearer", "Bearer "] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
