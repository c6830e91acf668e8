//! The opening handshake: from a request to a socket that a worker owns.

use super::credentials::is_forwarded;
use super::origin;
use super::stream::Socket;
use super::{Admission, Answer, Ends, Front, Limit, Outcome, Problem};
use crate::config::Guests;
use crate::worker::{Arrival, Reservation};
use bytes::Bytes;
use clarion_engine::Endpoint;
use clarion_engine::effects::{AuthOutcome, Credentials};
use clarion_protocol::codec::SUBPROTOCOL_JSON;
use clarion_protocol::{ErrorName, Refusal};
use clarion_websocket::deflate;
use clarion_websocket::handshake::{self, Accepted};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

/// What a request leaves for the time after its answer was sent; one for each connection.
#[derive(Debug, Default)]
pub(super) struct Handoff(Mutex<Option<Upgrading>>);

/// A connection whose answer is 101.
#[derive(Debug)]
pub(super) struct Upgrading {
    socket: OnUpgrade,
    place: Reservation,
    admission: Option<Admission>,
    endpoint: Endpoint,
    agreed: Agreed,
    ends: Ends,
    guests: bool,
    credentials: Option<Credentials>,
}

/// A handshake that is good.
#[derive(Debug)]
struct Good {
    answer: Answer,
    agreed: Agreed,
    place: Reservation,
    admission: Option<Admission>,
}

/// What an answer of 101 says.
#[derive(Clone, Copy, Debug)]
struct Agreed {
    /// `clarion.v1.json`.
    hello: bool,
    deflate: Option<deflate::Agreed>,
}

impl Handoff {
    fn put(&self, upgrading: Upgrading) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrading);
    }

    pub(super) fn take(&self) -> Option<Upgrading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Front {
    /// Judges a handshake: first what RFC 6455 demands, then our policy.
    pub(super) async fn upgrade(
        &self,
        mut request: Request<Incoming>,
        ends: Ends,
        endpoint: Endpoint,
        handoff: &Handoff,
    ) -> Result<Answer, Problem> {
        let judged = self.judge(&request, ends);
        let Good { answer, agreed, place, admission } = judged.map_err(|(outcome, problem)| {
            self.counts.handshake(outcome);
            match outcome {
                Outcome::Full => self.counts.limit(Limit::Connections, None),
                Outcome::Malformed => self.addresses.strike(ends.net),
                _ => {}
            }
            problem
        })?;
        let guests = match self.guests {
            Guests::Always => true,
            Guests::Auto | Guests::Loopback => {
                ends.loopback && !is_forwarded(request.headers()) && names_this_machine(&request)
            }
            Guests::Never => false,
        };
        let query = request.uri().query();
        let credentials = match endpoint {
            Endpoint::Session => {
                let found = self.token_sources.find(query, request.headers());
                found.inspect_err(|_| self.counts.handshake(Outcome::Malformed))?
            }
            // It speaks with anybody.
            Endpoint::Echo => None,
        };
        if let Some(credentials) = &credentials
            && !agreed.hello
        {
            self.check(credentials, guests).await?;
        }
        let socket = hyper::upgrade::on(&mut request);
        handoff.put(Upgrading {
            socket,
            place,
            admission,
            endpoint,
            agreed,
            ends,
            guests,
            credentials,
        });
        Ok(answer)
    }

    /// Refuses a client whose token is bad, if it does not speak the protocol: one that does is told
    /// in it, on its worker, which a page can read and a refused handshake it cannot.
    async fn check(&self, credentials: &Credentials, guests: bool) -> Result<(), Problem> {
        let refusal = match self.auth.check(credentials, guests).await {
            AuthOutcome::User { .. } | AuthOutcome::Guest => return Ok(()),
            AuthOutcome::Denied(why) => Refusal::unauthenticated(why),
            AuthOutcome::Unavailable => Refusal::unavailable("nobody can be authenticated now"),
        };
        self.counts.handshake(Outcome::Unauthenticated);
        let challenge = (refusal.name == ErrorName::Unauthenticated)
            .then_some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        let problem = Problem::from(refusal);
        Err(challenge.into_iter().fold(problem, |it, (name, value)| it.with_header(name, value)))
    }

    fn judge(&self, request: &Request<Incoming>, ends: Ends) -> Result<Good, (Outcome, Problem)> {
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
        let version = if request.version() == Version::HTTP_11 { (1, 1) } else { (1, 0) };
        let head = handshake::Request { method: request.method().as_str(), target, version };
        let headers =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let accepted = handshake::accept(&head, headers)
            .map_err(|refusal| (Outcome::Malformed, malformed(refusal)))?;
        if !request.body().is_end_stream() {
            // Its bytes could be taken for frames, or frames for its bytes.
            let problem = Problem::bad_request("A WebSocket request has no body.");
            return Err((Outcome::Malformed, problem));
        }
        if let Some(origin) = accepted.origin
            && !self.origins.allows(origin, accepted.host, ends.loopback)
        {
            let detail = "Pages of this origin may not connect; see origins.allowed.";
            return Err((Outcome::Origin, Problem::new(StatusCode::FORBIDDEN, detail)));
        }
        let subprotocol =
            choose(&accepted.subprotocols).map_err(|problem| (Outcome::Subprotocol, problem))?;
        if self.draining.load(Relaxed) {
            let detail = "The server is about to stop.";
            return Err((Outcome::Draining, Problem::unavailable(detail, 1)));
        }
        if self.workers.connections() >= self.connections_max {
            let detail = "There are as many connections as this server allows.";
            return Err((Outcome::Full, Problem::unavailable(detail, 10)));
        }
        if self.watermark.is_passed() {
            self.counts.limit(Limit::MemoryBytes, None);
            let detail = "The server has no memory for more connections.";
            return Err((Outcome::Full, Problem::unavailable(detail, 10)));
        }
        let admission = self
            .addresses
            .handshake(ends.net)
            .map_err(|met| (Outcome::Limited, self.over(met, ends)))?;
        let compression =
            self.deflate.and_then(|config| deflate::accept(&config, &accepted.extensions));
        let (extension, deflate) = compression.map(|it| (it.header, it.agreed)).unzip();
        let answer = switching(&accepted, subprotocol, extension.as_deref());
        let agreed = Agreed { hello: subprotocol.is_some(), deflate };
        Ok(Good { answer, agreed, place: self.workers.reserve(), admission })
    }
}

/// Whether the server was asked for under a name that no name server can give away. A page of
/// another site could have its own name lead here, and would then be of the same origin.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(origin::is_local)
}

/// None is offered: none. Ours is among them: ours. Only others: refused, since whoever offers
/// them would not understand what we send.
fn choose(offered: &[&str]) -> Result<Option<&'static str>, Problem> {
    if offered.is_empty() {
        return Ok(None);
    }
    if offered.contains(&SUBPROTOCOL_JSON) {
        return Ok(Some(SUBPROTOCOL_JSON));
    }
    Err(Problem::bad_request("The only subprotocol here is clarion.v1.json."))
}

fn malformed(refusal: handshake::Refusal) -> Problem {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    refusal.headers().iter().fold(
        Problem::new(status, refusal.reason()),
        |problem, (name, value)| {
            problem.with_header(HeaderName::from_static(name), HeaderValue::from_static(value))
        },
    )
}

fn switching(
    accepted: &Accepted<'_>,
    subprotocol: Option<&str>,
    extension: Option<&str>,
) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let extension = extension.map(|value| ("sec-websocket-extensions", value));
    for (name, value) in accepted.headers(subprotocol).chain(extension) {
        let value = HeaderValue::from_str(value).expect("a token, base64 or parameters of ours");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

impl Upgrading {
    /// Takes the bare socket out from under hyper, which has sent the answer, and hands it over
    /// with what it read behind the request.
    pub(super) async fn finish<S: Socket>(self, front: &Front) {
        let Self { socket, place, admission, endpoint, agreed, ends, guests, credentials } = self;
        let lost = |error: &dyn std::fmt::Display| {
            front.counts.handshake(Outcome::Lost);
            tracing::debug!(peer = %ends.peer, %error, "connection lost in its handshake");
        };
        let upgraded = match socket.await {
            Ok(upgraded) => upgraded,
            Err(error) => return lost(&error),
        };
        let parts: Parts<TokioIo<S>> = upgraded.downcast().expect("it was served over this");
        let stream = match parts.io.into_inner().detach() {
            Ok(stream) => stream,
            Err(error) => return lost(&error),
        };
        front.counts.handshake(Outcome::Accepted);
        let worker = place.worker();
        let arrival = Arrival {
            stream,
            read: parts.read_buf,
            endpoint,
            deflate: agreed.deflate,
            hello: agreed.hello,
            peer: ends.peer,
            credentials,
            guests,
            seat: place.seat,
            admission,
        };
        front.workers.deliver(worker, arrival);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [2.subprotocol.unknown] [2.subprotocol]
    #[test]
    fn the_subprotocol_is_ours_or_none() {
        assert_eq!(choose(&[]).unwrap(), None);
        let offered = ["graphql-ws", SUBPROTOCOL_JSON];
        assert_eq!(choose(&offered).unwrap(), Some(SUBPROTOCOL_JSON));
        assert_eq!(choose(&["graphql-ws"]).unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn another_version_is_told_ours() {
        let response = malformed(handshake::Refusal::Version).into_response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()["sec-websocket-version"], "13");
        let response = malformed(handshake::Refusal::Method).into_response();
        assert_eq!(response.headers()["allow"], "GET");
    }
}
