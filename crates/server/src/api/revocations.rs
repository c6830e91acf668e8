//! Revocations over HTTP: `POST /v1/revoke` and `GET /v1/revocations`.
//!
//! Every worker is told before it is answered, and one of them has the store keep it. All are told in
//! one order, so that all agree on which was one too many.

use super::body::Members;
use super::query::Query;
use super::sessions::total;
use super::{Api, json, rfc3339, schema};
use crate::audit::Affected;
use crate::front::{Answer, Problem};
use clarion_engine::WorkerId;
use clarion_engine::mail::{ApiAnswer, ApiRequest, RevocationRow};
use clarion_engine::revoked::{Span, Subject};
use clarion_protocol::Refusal;
use clarion_protocol::codec::json::object::string;
use clarion_protocol::time::parse_rfc3339_ms;
use serde::Serialize;
use std::sync::PoisonError;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// The worker that has the store keep what is revoked; any would do.
const KEEPER: WorkerId = WorkerId(0);
/// A worker makes no ticket of a revoked session so long after it was revoked, milliseconds.
const TOLD_MS: u64 = 60_000;

/// Whose right to be here ends: a session's, a user's, or a token's.
#[derive(Debug)]
pub(super) struct Revoke {
    subject: Subject,
    /// When the last of the tokens ends that this is about, Unix milliseconds. A session needs none: its
    /// ticket ends by itself.
    until_ms: Option<u64>,
}

impl Revoke {
    fn read(body: &[u8], now_ms: u64) -> Result<Self, Refusal> {
        let members = Members::read(body, ["client", "user", "jti", "until"])?;
        let until_ms = until(members.raw("until"), now_ms)?;
        let subject = match (members.client("client")?, members.segment("user")?, jti(&members)?) {
            (Some(client), None, None) => Subject::Client(client),
            (None, Some(user), None) => Subject::User(user),
            (None, None, Some(jti)) => Subject::Token(jti),
            (None, None, None) => {
                return Err(Refusal::bad_request("client", "this needs a client, a user or a jti"));
            }
            (_, _, jti) => {
                let field = if jti.is_some() { "jti" } else { "user" };
                return Err(Refusal::bad_request(field, "one of client, user and jti, not more"));
            }
        };
        if until_ms.is_none() && !matches!(subject, Subject::Client(_)) {
            let rule = "this needs to know when the last token ends that it is about";
            return Err(Refusal::bad_request("until", rule));
        }
        Ok(Self { subject, until_ms })
    }
}

fn jti<const N: usize>(members: &Members<'_, N>) -> Result<Option<Box<str>>, Refusal> {
    let Some(raw) = members.raw("jti") else { return Ok(None) };
    let max = clarion_engine::effects::Grants::TOKEN_ID_MAX;
    match string(raw) {
        Some(jti) if (1..=max).contains(&jti.len()) => Ok(Some(jti.into())),
        Some(jti) if !jti.is_empty() => {
            Err(Refusal::bad_request("jti", "this is too long").with_limit(max as u64))
        }
        _ => Err(Refusal::bad_request("jti", "this is a string, and not empty")),
    }
}

fn until(raw: Option<&str>, now_ms: u64) -> Result<Option<u64>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    match string(raw).and_then(|text| parse_rfc3339_ms(&text)) {
        Some(until_ms) if until_ms > now_ms => Ok(Some(until_ms)),
        Some(_) => Err(Refusal::bad_request("until", "this is over already")),
        None => {
            let rule = "this is an instant as 2026-01-01T12:00:00.000Z";
            Err(Refusal::bad_request("until", rule))
        }
    }
}

impl PartialSchema for Revoke {
    fn schema() -> RefOr<Schema> {
        let object = || ObjectBuilder::new().property("until", schema::instant());
        let client = object().property("client", schema::client()).required("client");
        let user = object().property("user", schema::segment()).required("user").required("until");
        let jti = object().property("jti", schema::token_id()).required("jti").required("until");
        OneOfBuilder::new().item(client).item(user).item(jti).into()
    }
}

impl ToSchema for Revoke {}

/// What was revoked.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    /// Connections that are being closed with 4001.
    sessions: u64,
    /// Tokens of a user that were issued after this are good.
    #[schema(schema_with = schema::instant)]
    at: String,
    /// When it is forgotten, unless it was revoked for longer before.
    #[schema(schema_with = schema::instant)]
    until: String,
}

/// Revokes a session, a user's tokens up to now, or one token, and what came of it.
///
/// When it is answered, nobody can be let in any more by a ticket or a token that it is about, also
/// after a restart if there is a store; who was in is being disconnected. `until` is when the last of
/// these tokens ends by its `exp`, and may be left out for a `client`. After a 503 ask again.
#[utoipa::path(
    post, path = "/v1/revoke", tag = "sessions", request_body = Revoke,
    responses((status = 200, description = "It holds, and is kept.", body = Revoked)),
)]
pub(super) async fn revoke(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    let at_ms = api.clock.now().wall_ms;
    let Revoke { subject, until_ms } = Revoke::read(body, at_ms)?;
    // A token is good for the leeway longer than it says.
    let mut until_ms = until_ms.map_or(0, |until_ms| until_ms + api.leeway_ms);
    if matches!(subject, Subject::Client(_)) {
        until_ms = until_ms.max(at_ms + api.session_ttl_ms + TOLD_MS);
    }
    let span = Span { at_ms, until_ms };
    let ask = |worker| {
        let (subject, keep) = (subject.clone(), worker == KEEPER);
        (worker, ApiRequest::Revoke { subject, span, keep })
    };
    let pending = {
        let _order = api.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        api.post_many(api.workers.ids().map(ask).collect())
    };
    let sessions =
        total(super::collect(pending).await.into_iter().collect::<Result<Vec<_>, _>>()?)?;
    let (at, until) = (rfc3339(at_ms), rfc3339(until_ms));
    let mut answer = json(&Revoked { sessions, at, until });
    answer.extensions_mut().insert(Affected(sessions));
    Ok(answer)
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RevocationsQuery {
    /// At most so many. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only behind this: the `next` of the page before.
    #[param(value_type = Option<schema::SubjectText>, inline)]
    after: Option<Subject>,
}

impl RevocationsQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["limit", "after"])?;
        Ok(Self { limit: query.limit()?, after: query.subject("after")? })
    }
}

/// One revocation: of a client, of a user, or of a token.
#[derive(Serialize, ToSchema)]
struct Revocation {
    /// The session's public id.
    #[schema(schema_with = schema::client)]
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// Whose tokens.
    #[schema(schema_with = schema::segment)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    /// Which token.
    #[schema(schema_with = schema::token_id)]
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<Box<str>>,
    /// When it was made last.
    #[schema(schema_with = schema::instant)]
    at: String,
    /// When it is forgotten.
    #[schema(schema_with = schema::instant)]
    until: String,
}

impl From<RevocationRow> for Revocation {
    fn from(RevocationRow { subject, span }: RevocationRow) -> Self {
        let (client, user, jti) = match subject {
            Subject::Client(client) => (Some(client.to_string()), None, None),
            Subject::User(user) => (None, Some(user), None),
            Subject::Token(jti) => (None, None, Some(jti)),
        };
        Self { client, user, jti, at: rfc3339(span.at_ms), until: rfc3339(span.until_ms) }
    }
}

/// A page of revocations: clients, users, tokens, each by their bytes.
#[derive(Serialize, ToSchema)]
pub(super) struct Revocations {
    revocations: Vec<Revocation>,
    /// The `after` of the next page, if there is one.
    next: Option<String>,
}

/// Lists what is revoked and not over.
#[utoipa::path(
    get, path = "/v1/revocations", tag = "sessions", params(RevocationsQuery),
    responses((status = 200, description = "A page.", body = Revocations)),
)]
pub(super) async fn revocations(api: &Api, query: &str) -> Result<Answer, Problem> {
    let RevocationsQuery { limit, after } = RevocationsQuery::read(query)?;
    let limit = super::page(limit);
    // One more than the page, to know whether there is a next one.
    let request = ApiRequest::Revocations { after, limit: limit + 1 };
    let ApiAnswer::Revocations(mut rows) = api.ask(KEEPER, request).await? else {
        return Err(super::wrong().into());
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.subject.to_string());
    Ok(json(&Revocations { revocations: rows.into_iter().map(Revocation::from).collect(), next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: &str = "2026-01-01T12:00:00.000Z";
    const UNTIL_MS: u64 = 1_767_268_800_000;

    fn read(body: &str) -> Result<Revoke, Refusal> {
        Revoke::read(body.as_bytes(), UNTIL_MS - 1)
    }

    #[test]
    fn it_is_about_one_of_three() {
        let Revoke { subject, until_ms } =
            read(&format!(r#"{{"user":"ada","until":"{UNTIL}","more":1}}"#)).unwrap();
        assert_eq!((subject, until_ms), (Subject::User("ada".into()), Some(UNTIL_MS)));
        let Revoke { subject, .. } =
            read(&format!(r#"{{"jti":"a \u00e9:","until":"{UNTIL}"}}"#)).unwrap();
        assert_eq!(subject, Subject::Token("a \u{e9}:".into()));
        let client = "ABEiM0RVZneImaq7zN3u_w";
        let Revoke { subject, until_ms } = read(&format!(r#"{{"client":"{client}"}}"#)).unwrap();
        assert!(matches!(subject, Subject::Client(id) if id.to_string() == client));
        assert_eq!(until_ms, None);
    }

    // [8.revoke.body]
    #[test]
    fn what_is_wrong_is_named() {
        let long = format!(r#"{{"jti":"{}","until":"{UNTIL}"}}"#, "x".repeat(129));
        for (body, field, limit) in [
            ("{}", "client", None),
            (r#"{"until":"2026-01-01T12:00:00.000Z"}"#, "client", None),
            (r#"{"client":"ada"}"#, "client", None),
            (r#"{"user":"a/b"}"#, "user", None),
            (r#"{"user":"a","jti":"b"}"#, "jti", None),
            (r#"{"client":"ABEiM0RVZneImaq7zN3u_w","user":"b"}"#, "user", None),
            (r#"{"user":"a"}"#, "until", None),
            (r#"{"jti":"a"}"#, "until", None),
            (r#"{"jti":""}"#, "jti", None),
            (r#"{"jti":null}"#, "jti", None),
            (&long, "jti", Some(128)),
            (r#"{"user":"a","until":"2026-01-01"}"#, "until", None),
            (r#"{"user":"a","until":1767268800}"#, "until", None),
            (r#"{"user":"a","until":null}"#, "until", None),
            (r#"{"user":"a","until":"2026-01-01T11:59:59.999Z"}"#, "until", None),
        ] {
            let refusal = read(body).unwrap_err();
            assert_eq!((refusal.field, refusal.limit), (Some(field), limit), "{body}");
        }
        assert_eq!(RevocationsQuery::read("after=ada").unwrap_err().field, Some("after"));
        assert!(RevocationsQuery::read("after=user:ada&limit=5").is_ok());
    }
}
