//! Publications over HTTP: `POST /v1/publish`, `POST /v1/publish/many` and `POST /broadcast`.
//!
//! A worker is asked for each publication, the room's home, so that no mail is passed on and the
//! publications of one request to one room keep their order. Those of one request are posted in one
//! go and wait for their answers together.

use super::body::{Members, text};
use super::{Api, json, rfc3339, schema};
use crate::api_keys::Caller;
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_protocol::codec::json::decode;
use clarion_protocol::codec::json::object::{Object, depth_within, string};
use clarion_protocol::command::PAYLOAD_DEPTH_MAX;
use clarion_protocol::{
    Command, ErrorName, Publication, Refusal, RoomKind, RoomName, Sender, UserId,
};
use serde::Serialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;

/// Publications of one request; more are 400.
pub(super) const PUBLICATIONS_MAX: usize = 1_000;

/// A publication, and where it goes.
#[derive(Debug)]
struct Item {
    room: RoomName,
    publication: Publication,
    ephemeral: bool,
}

impl Item {
    /// Reads an envelope.
    ///
    /// It goes through the same decoder as a client's message, so names, sizes, depth and keys have
    /// the same rules, in the same words, wherever a publication comes from. Only `metadata.from` is
    /// read here, which that decoder ignores because a client has no say in it.
    fn read(envelope: &str, now_ms: u64) -> Result<Self, Refusal> {
        let incoming = decode(envelope).map_err(|rejected| rejected.refusal)?;
        let Command::Publish { room, kind, payload, key, ephemeral, .. } = incoming.command else {
            let rule = "a type that begins with $ is the protocol's own";
            return Err(Refusal::bad_envelope("type", rule));
        };
        let publication = Publication {
            kind: kind.into_owned().into(),
            payload: payload.as_bytes().to_vec().into(),
            time_ms: now_ms,
            from: from(envelope)?,
            key: key.map(|key| key.into_owned().into()),
        };
        Ok(Self { room: room.to_name(), publication, ephemeral })
    }

    /// Idempotency keys are those of the API key by its name, so that they outlive its secret.
    fn request(self, caller: &Caller) -> ApiRequest {
        ApiRequest::Publish {
            room: self.room,
            publication: Arc::new(self.publication),
            ephemeral: self.ephemeral,
            principal: format!("k:{}", caller.name()).into(),
        }
    }
}

/// Who publishes, as the caller says: `metadata.from` of an envelope that the decoder found good.
fn from(envelope: &str) -> Result<Option<Arc<Sender>>, Refusal> {
    const FIELD: &str = "metadata.from";
    let metadata = Object::read(envelope, ["metadata"]).ok().and_then(|it| it.members[0]);
    let metadata = metadata.and_then(|raw| Object::read(raw, ["from"]).ok());
    let Some(metadata) = metadata else { return Ok(None) };
    if metadata.duplicate().is_some() {
        return Err(Refusal::bad_envelope(FIELD, "this may be given once"));
    }
    let Some(raw) = metadata.members[0] else { return Ok(None) };
    let from = Object::read(raw, ["user", "info", "client"])
        .map_err(|_| Refusal::bad_envelope(FIELD, "this is an object"))?;
    if from.duplicate().is_some() {
        return Err(Refusal::bad_envelope(FIELD, "each member may be given once"));
    }
    let [user, info, client] = from.members;
    if client.is_some() {
        let rule = "a client is a session, and none publishes over HTTP";
        return Err(Refusal::bad_envelope("metadata.from.client", rule));
    }
    let user = user.map(|raw| {
        const FIELD: &str = "metadata.from.user";
        let user = string(raw).ok_or_else(|| Refusal::bad_envelope(FIELD, "a user is a string"))?;
        UserId::validate_segment(&user).map_err(|rule| {
            let refusal = Refusal::bad_envelope(FIELD, rule.message());
            Refusal { limit: rule.limit(), ..refusal }
        })?;
        Ok(user.into())
    });
    if info.is_some_and(|info| !depth_within(info, PAYLOAD_DEPTH_MAX)) {
        let rule = "this is nested too deep";
        return Err(
            Refusal::bad_envelope("metadata.from.info", rule).with_limit(PAYLOAD_DEPTH_MAX as u64)
        );
    }
    Ok(Some(Arc::new(Sender { client: None, user: user.transpose()?, info: info.map(Into::into) })))
}

/// `envelope` with the room that it does not name; `None` if it does, or if it is none, which the
/// decoder will say better.
fn to_all(envelope: &str) -> Option<String> {
    let object = Object::read(envelope, ["type", "payload", "metadata"]).ok()?;
    let [kind, payload, metadata] = object.members;
    let metadata = metadata.unwrap_or("{}");
    let room = Object::read(metadata, ["room"]).ok()?.members[0];
    if room.is_some() || object.duplicate().is_some() {
        return None;
    }
    // It was an object just now, so what follows is another member, or its end.
    let rest = metadata.trim_start().strip_prefix('{')?;
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let mut text = String::with_capacity(envelope.len() + 32);
    text.push('{');
    for (name, raw) in [("type", kind), ("payload", payload)] {
        if let Some(raw) = raw {
            text += &format!("\"{name}\":");
            text.push_str(raw);
            text.push(',');
        }
    }
    text += &format!("\"metadata\":{{\"room\":\"$all\"{comma}{rest}}}");
    Some(text)
}

/// An application's message, as a client sends it; only `from` is for the API alone.
#[derive(ToSchema)]
#[schema(as = Envelope)]
#[expect(dead_code, reason = "the protocol's decoder reads it; this is its shape")]
pub(super) struct EnvelopeShape {
    /// What it is, in the application's words: 1 to 64 bytes. What begins with `$` is the protocol's.
    #[schema(min_length = 1, max_length = 64, pattern = r"^[^$]")]
    r#type: String,
    /// Any JSON value, nested at most 100 deep; its bytes are delivered as they came. Default: null.
    #[schema(required = false, value_type = Value)]
    payload: Box<RawValue>,
    /// Where it goes.
    metadata: MetadataShape,
}

/// What is said about a publication.
#[derive(ToSchema)]
#[schema(as = Metadata)]
#[expect(dead_code, reason = "the protocol's decoder reads it; this is its shape")]
pub(super) struct MetadataShape {
    /// The room.
    #[schema(schema_with = schema::room)]
    room: String,
    /// Idempotency key, 1 to 64 bytes: repeated within the room's window, 5 minutes by default, it is
    /// the same publication. Only for what goes to a log.
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    key: Option<String>,
    /// Past the log, to those who are there now. Default: false.
    #[schema(nullable = false)]
    ephemeral: Option<bool>,
    /// For whom the caller speaks. Default: nobody, and the delivered publication has no `from`.
    #[schema(nullable = false)]
    from: Option<FromShape>,
}

/// An application's message; without a room it goes to everybody.
#[derive(ToSchema)]
#[schema(as = Broadcast)]
#[expect(dead_code, reason = "the protocol's decoder reads it; this is its shape")]
pub(super) struct BroadcastShape {
    /// What it is, in the application's words: 1 to 64 bytes. What begins with `$` is the protocol's.
    #[schema(min_length = 1, max_length = 64, pattern = r"^[^$]")]
    r#type: String,
    /// Any JSON value, nested at most 100 deep; its bytes are delivered as they came. Default: null.
    #[schema(required = false, value_type = Value)]
    payload: Box<RawValue>,
    /// Where it goes. Default: to everybody.
    #[schema(nullable = false)]
    metadata: Option<BroadcastMetadataShape>,
}

/// What is said about a publication that may be to everybody.
#[derive(ToSchema)]
#[schema(as = BroadcastMetadata)]
#[expect(dead_code, reason = "the protocol's decoder reads it; this is its shape")]
pub(super) struct BroadcastMetadataShape {
    /// The room. Default: `$all`.
    #[schema(schema_with = schema::room, required = false)]
    room: Option<String>,
    /// Idempotency key, as in an `Envelope`.
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    key: Option<String>,
    /// Past the log, to those who are there now. Default: false.
    #[schema(nullable = false)]
    ephemeral: Option<bool>,
    /// For whom the caller speaks. Default: nobody, and the delivered publication has no `from`.
    #[schema(nullable = false)]
    from: Option<FromShape>,
}

/// Who published, as the caller of the API says; never a `client`.
#[derive(ToSchema)]
#[schema(as = From)]
#[expect(dead_code, reason = "it is read member by member; this is its shape")]
pub(super) struct FromShape {
    /// A user's id: one segment of at most 96 bytes.
    #[schema(schema_with = schema::segment, required = false)]
    user: Option<String>,
    /// Any JSON value, nested at most 100 deep.
    #[schema(required = false, value_type = Value)]
    info: Box<RawValue>,
}

/// Several publications.
#[derive(ToSchema)]
#[schema(as = PublishMany)]
#[expect(dead_code, reason = "it is read item by item; this is its shape")]
pub(super) struct ManyShape {
    /// At most 1,000. A malformed one is refused in its place, like any other that cannot be accepted.
    #[schema(max_items = 1000)]
    publications: Vec<EnvelopeShape>,
}

/// A publication was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published {
    /// Where it went.
    room: String,
    /// Its place in the room's log, if it was logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<u64>,
    /// Which log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<String>,
    /// When, RFC 3339.
    #[schema(schema_with = schema::instant)]
    time: String,
    /// Sessions that were there, as far as is known.
    members: u64,
    /// True if its key had been used before: this is what came of it then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
}

/// What the protocol's `$error` says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failure {
    /// In HTTP's sense.
    code: u16,
    /// The error's stable name; what a program decides by.
    name: &'static str,
    /// The rule that was broken, a sentence for a developer.
    message: String,
    /// Which part of the envelope it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'static str>,
    /// The limit that was passed, in the unit of what it limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit: Option<u64>,
    /// The same publication may be sent again.
    temporary: bool,
    /// When at the earliest, milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_ms: Option<u64>,
}

/// What came of one publication of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ItemResult {
    Published(Published),
    Refused {
        /// Why it was not accepted.
        error: Failure,
    },
}

/// What came of each publication.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results {
    /// In the order of the request, one for each.
    results: Vec<ItemResult>,
}

impl From<Refusal> for ItemResult {
    fn from(refusal: Refusal) -> Self {
        let error = Failure {
            code: refusal.name.code(),
            name: refusal.name.as_str(),
            message: refusal.message.into_owned(),
            field: refusal.field,
            limit: refusal.limit,
            temporary: refusal.temporary,
            retry_after_ms: refusal.retry_after_ms,
        };
        Self::Refused { error }
    }
}

impl Api {
    fn published(&self, room: &RoomName, answer: ApiAnswer) -> Result<Published, Refusal> {
        let (position, time_ms, duplicate, members) = match answer {
            ApiAnswer::Published { position, time_ms, duplicate, members } => {
                (position, time_ms, duplicate, members)
            }
            _ => return Err(super::wrong()),
        };
        let members = match room.kind() {
            // The home of `$all` knows only those sessions whose home it is, too.
            RoomKind::All => self.workers.connections() as u64,
            RoomKind::Plain | RoomKind::Client(_) | RoomKind::User(_) | RoomKind::Group(_) => {
                members
            }
        };
        Ok(Published {
            room: room.as_str().to_owned(),
            offset: position.as_ref().map(|position| position.offset),
            epoch: position.map(|position| position.epoch.as_str().to_owned()),
            time: rfc3339(time_ms),
            members,
            duplicate,
        })
    }

    async fn publish_one(&self, caller: &Caller, envelope: &str) -> Result<Answer, Problem> {
        let item = Item::read(envelope, self.clock.now().wall_ms)?;
        let room = item.room.clone();
        let answer = self.ask(self.router.room_home(&room), item.request(caller)).await?;
        Ok(json(&self.published(&room, answer)?))
    }
}

/// Publishes to everybody, or to a room.
#[utoipa::path(
    post, path = "/broadcast", tag = "publish",
    request_body(content = BroadcastShape, description = "The `Content-Type` is not looked at."),
    responses((status = 200, description = "It was accepted.", body = Published)),
)]
pub(super) async fn broadcast(api: &Api, caller: &Caller, body: &[u8]) -> Result<Answer, Problem> {
    let envelope = text(body, ErrorName::BadEnvelope)?;
    match to_all(envelope) {
        Some(envelope) => api.publish_one(caller, &envelope).await,
        None => api.publish_one(caller, envelope).await,
    }
}

/// Publishes to a room.
#[utoipa::path(
    post, path = "/v1/publish", tag = "publish",
    request_body = EnvelopeShape,
    responses((status = 200, description = "It was accepted.", body = Published)),
)]
pub(super) async fn publish(api: &Api, caller: &Caller, body: &[u8]) -> Result<Answer, Problem> {
    api.publish_one(caller, text(body, ErrorName::BadEnvelope)?).await
}

/// Publishes several at once, each for itself: one may be accepted and the next refused.
///
/// Those to one room keep their order.
#[utoipa::path(
    post, path = "/v1/publish/many", tag = "publish",
    request_body = ManyShape,
    responses((status = 200, description = "What came of each.", body = Results)),
)]
pub(super) async fn publish_many(
    api: &Api,
    caller: &Caller,
    body: &[u8],
) -> Result<Answer, Problem> {
    let envelopes = envelopes(body)?;
    let now_ms = api.clock.now().wall_ms;
    let items = envelopes.iter().map(|envelope| Item::read(envelope, now_ms));
    // The rooms of those that are asked for, and at once the refusals of the others.
    let mut places = Vec::with_capacity(envelopes.len());
    let mut requests = Vec::with_capacity(envelopes.len());
    for item in items {
        places.push(item.map(|item| {
            let room = item.room.clone();
            requests.push((api.router.room_home(&room), item.request(caller)));
            room
        }));
    }
    let mut answers = api.ask_many(requests).await.into_iter();
    let mut result = |place: Result<RoomName, Refusal>| {
        let room = place?;
        let answer = answers.next().expect("an answer for each that was asked for");
        api.published(&room, answer?)
    };
    let results = places.into_iter().map(|place| match result(place) {
        Ok(published) => ItemResult::Published(published),
        Err(refusal) => refusal.into(),
    });
    let results = results.collect();
    Ok(json(&Results { results }))
}

/// The envelopes of a request, uncut and unread.
fn envelopes(body: &[u8]) -> Result<Vec<&str>, Refusal> {
    const FIELD: &str = "publications";
    let raw = Members::read(body, [FIELD])?.raw(FIELD);
    let raw = raw.ok_or_else(|| Refusal::bad_request(FIELD, "this is what to publish"))?;
    let list = serde_json::Deserializer::from_str(raw).deserialize_seq(Envelopes);
    let list = list.map_err(|_| Refusal::bad_request(FIELD, "this is an array"))?;
    list.ok_or_else(|| {
        let rule = "too many at once";
        Refusal::bad_request(FIELD, rule).with_limit(PUBLICATIONS_MAX as u64)
    })
}

/// Collects the items of an array, or nothing if there are too many.
struct Envelopes;

impl<'de> Visitor<'de> for Envelopes {
    type Value = Option<Vec<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < PUBLICATIONS_MAX {
            let Some(item) = seq.next_element::<&'de RawValue>()? else { return Ok(Some(list)) };
            list.push(item.get());
        }
        let mut more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok((!more).then_some(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_without_room_goes_to_all() {
        for envelope in [
            r#"{"type":"news","payload":{"a": 1}}"#,
            r#"{"metadata":{},"payload":{"a": 1},"type":"news"}"#,
            r#" { "type" : "news" , "metadata" : { "key2" : 1 } , "payload" : {"a": 1} } "#,
        ] {
            let item = Item::read(&to_all(envelope).unwrap(), 5).unwrap();
            assert_eq!(item.room.as_str(), "$all");
            assert_eq!(&item.publication.payload[..], br#"{"a": 1}"#);
            assert_eq!(item.publication.time_ms, 5);
            assert!(item.publication.from.is_none());
        }
        for envelope in [
            r#"{"type":"a","metadata":{"room":null}}"#,
            r#"{"type":"a","type":"b"}"#,
            r#"{"metadata":1}"#,
            "[]",
            "",
        ] {
            assert_eq!(to_all(envelope), None, "{envelope}");
        }
    }

    #[test]
    fn who_says_it_is_the_callers_to_say() {
        let envelope = r#"{"type":"a","metadata":{"room":"$user/bob","key":"k",
            "from":{"user":"ada","info":{"b":[]}}}}"#;
        let item = Item::read(envelope, 0).unwrap();
        let from = item.publication.from.unwrap();
        assert_eq!(from.user.as_deref(), Some("ada"));
        assert_eq!(from.info.as_deref(), Some(r#"{"b":[]}"#));
        assert_eq!(item.room.as_str(), "$user/bob");
        assert_eq!(item.publication.key.as_deref(), Some("k"));
    }

    #[test]
    fn what_a_client_may_not_send_the_api_may_not_either() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for envelope in [
            "",
            "[]",
            "nonsense",
            r#"{"payload":1}"#,
            r#"{"type":"a"}"#,
            r#"{"type":"$join","metadata":{"room":"a"}}"#,
            r#"{"type":"","metadata":{"room":"a"}}"#,
            r#"{"type":"a","type":"b","metadata":{"room":"a"}}"#,
            r#"{"type":"a","metadata":{"room":"a//b"}}"#,
            r#"{"type":"a","metadata":{"room":"a","key":""}}"#,
            &format!(r#"{{"type":"a","payload":{deep},"metadata":{{"room":"a"}}}}"#),
        ] {
            assert_eq!(Item::read(envelope, 0).unwrap_err().name.code(), 400, "{envelope}");
        }
        for (from, field) in [
            ("null", "metadata.from"),
            ("[]", "metadata.from"),
            (r#"{"user":"a"},"from":{}"#, "metadata"),
            (r#"{"user":"a","user":"b"}"#, "metadata.from"),
            (r#"{"user":"a/b"}"#, "metadata.from.user"),
            (r#"{"user":null}"#, "metadata.from.user"),
            (r#"{"client":"x"}"#, "metadata.from.client"),
            (&format!(r#"{{"info":{deep}}}"#), "metadata.from.info"),
        ] {
            let envelope = format!(r#"{{"type":"a","metadata":{{"room":"a","from":{from}}}}}"#);
            assert_eq!(Item::read(&envelope, 0).unwrap_err().field, Some(field), "{from}");
        }
    }

    #[test]
    fn many_are_cut_apart_and_counted() {
        let cut = |body: &str| envelopes(body.as_bytes()).map(|list| list.len());
        assert_eq!(envelopes(br#"{"publications":[ {} ,1]}"#).unwrap(), ["{}", "1"]);
        assert_eq!(cut(r#"{"publications":[]}"#), Ok(0));
        let items = |count: usize| format!(r#"{{"publications":[0{}]}}"#, ",0".repeat(count - 1));
        assert_eq!(cut(&items(PUBLICATIONS_MAX)), Ok(PUBLICATIONS_MAX));
        let refusal = cut(&items(PUBLICATIONS_MAX + 1)).unwrap_err();
        assert_eq!((refusal.name, refusal.limit), (ErrorName::BadRequest, Some(1_000)));
        for body in ["{}", r#"{"publications":{}}"#, r#"{"publications":null}"#] {
            let refusal = cut(body).unwrap_err();
            assert_eq!(refusal.field, Some("publications"), "{body}");
        }
    }
}
