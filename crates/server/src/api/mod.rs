//! What a back end asks over HTTP, and what probes and Prometheus ask.
//!
//! Everything but the two probes needs an API key with the scope of the path. Questions go to the workers by mail and are
//! answered within their turn.

mod answers;
mod body;
mod clients;
mod exposition;
mod groups;
mod metrics;
mod openapi;
pub(crate) mod page;
pub(crate) mod process;
mod publish;
mod query;
mod revocations;
mod rooms;
mod schema;
mod sessions;
mod stats;

pub(crate) use answers::Answers;
use answers::Pending;

use crate::api_keys::{ApiKeys, Caller, Denied, Scope};
use crate::audit::{self, Affected, Audit, Record};
use crate::auth::Auth;
use crate::front::{Addresses, Answer, Counts, Gauge, Limit, Problem, read_body};
use crate::worker::{Clock, Workers};
use bytes::Bytes;
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_engine::{Mail, Router, WorkerId};
use clarion_protocol::Refusal;
use clarion_store_sqlite::{Health, SqliteStore};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response};
use metrics::Scrapes;
use serde::Serialize;
use stats::Samples;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The HTTP API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) node: String,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) router: Router,
    pub(crate) workers: Arc<Workers>,
    pub(crate) answers: Arc<Answers>,
    /// For what survives the process, unless nothing is to.
    pub(crate) durable: Option<Arc<SqliteStore>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) http_connections: Gauge,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
    /// Some rooms are, and not only groups and revocations.
    pub(crate) durable_rooms: bool,
    pub(crate) leeway_ms: u64,
    pub(crate) session_ttl_ms: u64,
    /// Held while workers are told of a revocation, so that all are in the same order.
    revoking: Mutex<()>,
    samples: Samples,
    scrapes: Scrapes,
    started: Instant,
}

/// What an [`Api`] is made of; see its fields.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) node: String,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) router: Router,
    pub(crate) workers: Arc<Workers>,
    pub(crate) answers: Arc<Answers>,
    /// For what survives the process, unless nothing is to.
    pub(crate) durable: Option<Arc<SqliteStore>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) http_connections: Gauge,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
    pub(crate) durable_rooms: bool,
    /// How much longer than it says a token is good.
    pub(crate) leeway_ms: u64,
    /// How long a ticket is good.
    pub(crate) session_ttl_ms: u64,
}

/// Entries of a page when nothing is said.
const PAGE: u32 = 100;
/// Entries of a page at most.
const PAGE_MAX: u32 = 1_000;

/// How many entries a page has.
fn page(limit: Option<u32>) -> usize {
    limit.unwrap_or(PAGE) as usize
}

/// What is asked: one of the paths, each of which has one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Stats,
    Clients,
    ClientsFirst,
    Broadcast,
    Publish,
    PublishMany,
    History,
    Members,
    Rooms,
    Disconnect,
    Kick,
    Join,
    GroupUsers,
    GroupAdd,
    GroupRemove,
    Revoke,
    Revocations,
    Document,
    Metrics,
    Alive,
    Ready,
}

impl Route {
    const ALL: &[(&'static str, Self)] = &[
        ("/stats", Self::Stats),
        ("/clients", Self::ClientsFirst),
        ("/broadcast", Self::Broadcast),
        ("/v1/publish", Self::Publish),
        ("/v1/publish/many", Self::PublishMany),
        ("/v1/history", Self::History),
        ("/v1/members", Self::Members),
        ("/v1/rooms", Self::Rooms),
        ("/v1/clients", Self::Clients),
        ("/v1/disconnect", Self::Disconnect),
        ("/v1/kick", Self::Kick),
        ("/v1/join", Self::Join),
        ("/v1/groups/users", Self::GroupUsers),
        ("/v1/groups/add", Self::GroupAdd),
        ("/v1/groups/remove", Self::GroupRemove),
        ("/v1/revoke", Self::Revoke),
        ("/v1/revocations", Self::Revocations),
        ("/openapi.json", Self::Document),
        ("/metrics", Self::Metrics),
        ("/healthz", Self::Alive),
        ("/readyz", Self::Ready),
    ];

    fn find(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == path).map(|(_, route)| *route)
    }

    /// What a key has to have; `None` if none is needed.
    fn scope(self) -> Option<Scope> {
        match self {
            Self::Broadcast | Self::Publish | Self::PublishMany => Some(Scope::Publish),
            Self::Stats
            | Self::Clients
            | Self::ClientsFirst
            | Self::History
            | Self::Members
            | Self::Rooms
            | Self::GroupUsers
            | Self::Revocations
            | Self::Document
            | Self::Metrics => Some(Scope::Read),
            Self::Disconnect
            | Self::Kick
            | Self::Join
            | Self::GroupAdd
            | Self::GroupRemove
            | Self::Revoke => Some(Scope::Admin),
            Self::Alive | Self::Ready => None,
        }
    }

    fn writes(self) -> bool {
        match self {
            Self::Broadcast
            | Self::Publish
            | Self::PublishMany
            | Self::Disconnect
            | Self::Kick
            | Self::Join
            | Self::GroupAdd
            | Self::GroupRemove
            | Self::Revoke => true,
            Self::Stats
            | Self::History
            | Self::Members
            | Self::Rooms
            | Self::GroupUsers
            | Self::Revocations
            | Self::Clients
            | Self::ClientsFirst
            | Self::Document
            | Self::Metrics
            | Self::Alive
            | Self::Ready => false,
        }
    }

    /// What it is called in the audit log: its path without the version.
    fn action(self) -> &'static str {
        let path = Self::ALL.iter().find(|(_, route)| *route == self).map(|(path, _)| *path);
        let path = path.unwrap_or_default();
        path.strip_prefix("/v1/").unwrap_or(path)
    }

    /// Whether `method` is the one here. A `HEAD` is answered like a `GET`, and hyper leaves the body
    /// out; RFC 9110 section 9.3.2.
    fn allows(self, method: &Method) -> bool {
        match *method {
            Method::POST => self.writes(),
            Method::GET | Method::HEAD => !self.writes(),
            _ => false,
        }
    }

    fn allowed(self) -> &'static str {
        if self.writes() { "POST" } else { "GET, HEAD" }
    }
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            node: parts.node,
            keys: parts.keys,
            audit: parts.audit,
            router: parts.router,
            workers: parts.workers,
            answers: parts.answers,
            durable: parts.durable,
            counts: parts.counts,
            auth: parts.auth,
            addresses: parts.addresses,
            http_connections: parts.http_connections,
            draining: parts.draining,
            clock: parts.clock,
            body_bytes: parts.body_bytes,
            body_time: parts.body_time,
            durable_rooms: parts.durable_rooms,
            leeway_ms: parts.leeway_ms,
            session_ttl_ms: parts.session_ttl_ms,
            revoking: Mutex::new(()),
            samples: Samples::new(),
            scrapes: Scrapes::default(),
            started: Instant::now(),
        }
    }

    /// What a path of the API is called in the counts: itself.
    pub(crate) fn route(path: &str) -> Option<&'static str> {
        Route::ALL.iter().find(|(known, _)| *known == path).map(|(known, _)| *known)
    }

    /// Whether a path is the API's.
    pub(crate) fn serves(path: &str) -> bool {
        Self::route(path).is_some()
    }

    /// Answers a request whose path [`Self::serves`].
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let route = Route::find(request.uri().path()).ok_or_else(Problem::not_found)?;
        let Some(scope) = route.scope() else {
            return self.probe(route, request.method());
        };
        let caller = match self.keys.authorize(request.headers(), scope) {
            Ok(caller) => caller,
            Err(denied) => return Err(self.denied(denied, route, peer).await),
        };
        if !route.allows(request.method()) {
            return Err(Problem::method_not_allowed(route.allowed()));
        }
        match scope {
            Scope::Read => self.read(route, &request).await,
            Scope::Publish => self.publish(route, request, &caller).await,
            Scope::Admin => self.administer(route, request, &caller, peer).await,
        }
    }

    fn probe(&self, route: Route, method: &Method) -> Result<Answer, Problem> {
        if !route.allows(method) {
            return Err(Problem::method_not_allowed(route.allowed()));
        }
        if route == Route::Ready { ready(self) } else { Ok(alive()) }
    }

    async fn read(&self, route: Route, request: &Request<Incoming>) -> Result<Answer, Problem> {
        let query = request.uri().query().unwrap_or_default();
        match route {
            Route::Stats => stats::stats(self).await,
            Route::Clients => clients::clients(self, query).await,
            Route::ClientsFirst => clients::clients_first(self, query).await,
            Route::History => rooms::history(self, query).await,
            Route::Members => rooms::members(self, query).await,
            Route::Rooms => rooms::rooms(self, query).await,
            Route::GroupUsers => groups::users(self, query).await,
            Route::Revocations => revocations::revocations(self, query).await,
            Route::Document => Ok(openapi::document()),
            Route::Metrics => Ok(metrics(self, request.headers()).await),
            _ => Err(Problem::not_found()),
        }
    }

    async fn publish(
        &self,
        route: Route,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Broadcast => {
                // `curl -d` says that it is a form, and has to work.
                let body = read_body(request, self.body_bytes, self.body_time).await?;
                publish::broadcast(self, caller, &body).await
            }
            Route::Publish => publish::publish(self, caller, &self.json_body(request).await?).await,
            Route::PublishMany => {
                publish::publish_many(self, caller, &self.json_body(request).await?).await
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// Does what only administrators may, and puts on record what came of it.
    async fn administer(
        &self,
        route: Route,
        request: Request<Incoming>,
        caller: &Caller,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let body = self.json_body(request).await;
        let subject = body.as_deref().map(audit::subject).unwrap_or_default();
        let result = match (route, body) {
            (_, Err(problem)) => Err(problem),
            (Route::Disconnect, Ok(body)) => sessions::disconnect(self, &body).await,
            (Route::Kick, Ok(body)) => sessions::kick(self, &body).await,
            (Route::Join, Ok(body)) => sessions::join(self, &body).await,
            (Route::GroupAdd, Ok(body)) => groups::add(self, &body).await,
            (Route::GroupRemove, Ok(body)) => groups::remove(self, &body).await,
            (Route::Revoke, Ok(body)) => revocations::revoke(self, &body).await,
            (_, Ok(_)) => Err(Problem::not_found()),
        };
        let (status, affected) = match &result {
            Ok(answer) => (answer.status(), answer.extensions().get().map(|Affected(n)| *n)),
            Err(problem) => (problem.status, None),
        };
        let record = Record {
            key: Some(caller.name().to_owned()),
            address: Some(peer),
            action: route.action(),
            subject,
            status: Some(status.as_u16()),
            affected,
        };
        self.audit.record(record).await;
        result
    }

    async fn denied(&self, denied: Denied, route: Route, peer: SocketAddr) -> Problem {
        match &denied {
            Denied::Unknown => {}
            Denied::Limited(..) => {
                self.counts.limit(Limit::RequestsPerKey, Some(peer.ip()));
            }
            Denied::Forbidden(caller, Scope::Admin) => {
                let record = Record {
                    key: Some(caller.name().to_owned()),
                    address: Some(peer),
                    action: route.action(),
                    status: Some(403),
                    ..Record::default()
                };
                self.audit.record(record).await;
            }
            Denied::Forbidden(..) => {}
        }
        denied.into()
    }

    async fn ask(&self, worker: WorkerId, request: ApiRequest) -> Result<ApiAnswer, Refusal> {
        let mut pending = self.answers.expect();
        self.workers.post(worker, Mail::Api { api: pending.id(), request });
        answered(pending.wait().await.ok_or_else(|| late(1)))
    }

    /// Asks every worker the same, all at once.
    async fn ask_all(&self, request: &ApiRequest) -> Result<Vec<ApiAnswer>, Refusal> {
        let requests = self.workers.ids().map(|worker| (worker, request.clone())).collect();
        self.ask_many(requests).await.into_iter().collect()
    }

    /// Asks much at once; the answers, in the order of the questions. Each worker is woken once.
    async fn ask_many(
        &self,
        requests: Vec<(WorkerId, ApiRequest)>,
    ) -> Vec<Result<ApiAnswer, Refusal>> {
        collect(self.post_many(requests)).await
    }

    /// The first half of [`Self::ask_many`].
    fn post_many(&self, requests: Vec<(WorkerId, ApiRequest)>) -> Vec<Pending<'_>> {
        let mut mail: Vec<Vec<Mail>> = self.workers.ids().map(|_| Vec::new()).collect();
        let pending: Vec<_> = requests
            .into_iter()
            .map(|(worker, request)| {
                let pending = self.answers.expect();
                mail[usize::from(worker.0)].push(Mail::Api { api: pending.id(), request });
                pending
            })
            .collect();
        for (worker, mail) in self.workers.ids().zip(mail) {
            if !mail.is_empty() {
                self.workers.post_all(worker, mail);
            }
        }
        pending
    }
}

/// The answers to questions, in their order.
async fn collect(pending: Vec<Pending<'_>>) -> Vec<Result<ApiAnswer, Refusal>> {
    let mut answers = Vec::with_capacity(pending.len());
    for mut pending in pending {
        answers.push(pending.wait().await);
    }
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    let refusal = (missing > 0).then(|| late(missing));
    let or_late = |answer: Option<ApiAnswer>| {
        answered(answer.ok_or_else(|| refusal.clone().expect("one is missing")))
    };
    answers.into_iter().map(or_late).collect()
}

/// An answer that is a refusal is one.
fn answered(answer: Result<ApiAnswer, Refusal>) -> Result<ApiAnswer, Refusal> {
    match answer? {
        ApiAnswer::Refused(refusal) => Err(refusal),
        answer => Ok(answer),
    }
}

/// A worker is stuck, which is our fault, or the process is about to end.
fn late(count: usize) -> Refusal {
    tracing::error!(count, "a worker did not answer the HTTP API");
    let refusal = Refusal::unavailable("a worker did not answer in time");
    Refusal { retry_after_ms: Some(1_000), ..refusal }
}

/// An answer to another question, which no worker gives.
fn wrong() -> Refusal {
    Refusal::unavailable("a worker gave the wrong answer")
}

/// Everything that is counted, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "node",
    responses((
        status = 200, body = String, content_type = "text/plain",
        description = "Text format 0.0.4, or OpenMetrics 1.0 to who prefers that in `Accept`."
    )),
)]
async fn metrics(api: &Api, headers: &HeaderMap) -> Answer {
    api.metrics(headers).await
}

/// Says that the process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "node", security(()),
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain")),
)]
fn alive() -> Answer {
    text("ok\n")
}

/// Says whether new connections are taken.
#[utoipa::path(
    get, path = "/readyz", tag = "node", security(()),
    responses((status = 200, description = "They are.", body = String, content_type = "text/plain")),
)]
fn ready(api: &Api) -> Result<Answer, Problem> {
    if api.draining.load(Relaxed) {
        return Err(Problem::unavailable("The server is about to stop.", 5));
    }
    if let Some(Health::Failing(why)) = api.durable.as_ref().map(|store| store.health())
        && api.durable_rooms
    {
        // Whoever may ask this may know that, and no more: the sentence is in the log.
        tracing::debug!(why, "not ready");
        return Err(Problem::unavailable("The store does not work.", 5));
    }
    Ok(text("ready\n"))
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// An instant as the protocol writes it.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let mut text = Vec::with_capacity(24);
    clarion_protocol::time::write_rfc3339_ms(unix_ms, &mut text);
    String::from_utf8(text).expect("digits and separators")
}

fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("structures of ours can be written");
    answer("application/json", body)
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
