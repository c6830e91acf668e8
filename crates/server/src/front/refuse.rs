//! Refusals over HTTP: RFC 9457 problem documents.

use bytes::Bytes;
use clarion_protocol::{ErrorName, Position, Refusal};
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Every answer of ours; bodies are small or static, so they are whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Why a request is not answered as was asked.
///
/// The detail is for a developer's eyes, states the rule, and contains nothing that the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The protocol's own name for the same failure, where it has one.
    name: Option<ErrorName>,
    field: Option<&'static str>,
    limit: Option<u64>,
    temporary: bool,
    retry_after_ms: Option<u64>,
    position: Option<Box<Position>>,
}

/// Why a request was refused: RFC 9457, and what the protocol's `$error` says of the same failure.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    /// Always `about:blank`: the status says what kind of problem it is, and `name` more exactly.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status, also the protocol's code of the error.
    status: u16,
    /// The rule that was broken, a sentence for a developer.
    detail: &'a str,
    /// The protocol's name for the error, where it has one; what a program decides by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<&'static str>,
    /// Which parameter of the query or member of the body it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'static str>,
    /// The limit that was passed, in the unit of what it limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit: Option<u64>,
    /// The same request may succeed later.
    temporary: bool,
    /// When to try again at the earliest, milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_ms: Option<u64>,
    /// Of the room, when the one in the request is not the room's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<&'a str>,
    /// Where the room stands, beside `epoch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self {
            status,
            detail,
            headers: Vec::new(),
            name: None,
            field: None,
            limit: None,
            temporary: false,
            retry_after_ms: None,
            position: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing at this path.")
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("The method here is {allowed}."))
            .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 429: one of `limit`, or more than so many a second.
    pub(crate) fn too_many(detail: &'static str, limit: u32, retry_after_s: u32) -> Self {
        let refusal = Refusal::new(ErrorName::RateLimited, detail).with_limit(limit.into());
        let retry_after_ms = Some(u64::from(retry_after_s) * 1_000);
        Refusal { temporary: true, retry_after_ms, ..refusal }.into()
    }

    /// 429: the address is banned, for so long.
    pub(crate) fn banned(left_s: u32) -> Self {
        let detail = "This address is banned for a while.";
        let refusal = Refusal::new(ErrorName::RateLimited, detail);
        let retry_after_ms = Some(u64::from(left_s) * 1_000);
        Refusal { temporary: true, retry_after_ms, ..refusal }.into()
    }

    /// 503: too much is going on, or the server is about to stop.
    pub(crate) fn unavailable(detail: &'static str, retry_after_s: u32) -> Self {
        let ms = u64::from(retry_after_s) * 1_000;
        Refusal { retry_after_ms: Some(ms), ..Refusal::unavailable(detail) }.into()
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self) -> Answer {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: &self.detail,
            name: self.name.map(ErrorName::as_str),
            field: self.field,
            limit: self.limit,
            temporary: self.temporary,
            retry_after_ms: self.retry_after_ms,
            epoch: self.position.as_deref().map(|position| position.epoch.as_str()),
            offset: self.position.as_deref().map(|position| position.offset),
        };
        let body = serde_json::to_vec(&document).expect("strings and numbers can be written");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.name.code());
        let mut problem =
            Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.message);
        problem.name = Some(refusal.name);
        problem.field = refusal.field;
        problem.limit = refusal.limit;
        problem.temporary = refusal.temporary;
        // Every 503 has one: section 8.
        let unavailable = refusal.name == ErrorName::Unavailable;
        let retry_after_ms = refusal.retry_after_ms.or(unavailable.then_some(1_000));
        problem.retry_after_ms = retry_after_ms;
        problem.position = refusal.position.map(Box::new);
        if let Some(ms) = retry_after_ms {
            let value = HeaderValue::from(ms.div_ceil(1_000));
            problem = problem.with_header(RETRY_AFTER, value);
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn body(problem: Problem) -> serde_json::Value {
        let body = problem.into_response().into_body().collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(body).poll(&mut context) {
            std::task::Poll::Ready(body) => {
                serde_json::from_slice(&body.unwrap().to_bytes()).unwrap()
            }
            std::task::Poll::Pending => panic!("a whole body is there at once"),
        }
    }

    use std::future::Future;

    // [6.api]
    #[test]
    fn a_refusal_of_the_protocol_keeps_its_name_field_and_limit() {
        let problem = Problem::from(Refusal::too_large("payload", 5));
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
        let body = body(problem);
        assert_eq!(body["name"], "too_large");
        assert_eq!((&body["field"], &body["limit"]), (&"payload".into(), &5.into()));
    }

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        let response = Problem::from(Refusal::rate_limited(10, 1_001)).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let response = Problem::from(Refusal::unavailable("")).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
