//! `POST /broadcast`: one envelope to a room, or to everybody.

use super::{Api, rfc3339};
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_protocol::codec::json::decode;
use clarion_protocol::{Command, Publication, Refusal, RoomKind, RoomName, Sender, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The name of the one API key that there is, for idempotency.
const PRINCIPAL: &str = "k:default";

/// What only the HTTP API may say in an envelope.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    ephemeral: Option<&'a RawValue>,
    from: Option<From>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    user: Option<String>,
    info: Option<Box<RawValue>>,
}

/// The same as a client would send it.
#[derive(Serialize)]
struct Plain<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    metadata: PlainMetadata<'a>,
}

#[derive(Serialize)]
struct PlainMetadata<'a> {
    room: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral: Option<&'a RawValue>,
}

/// A publication, and where it goes.
#[derive(Debug)]
struct Broadcast {
    room: RoomName,
    publication: Publication,
    ephemeral: bool,
}

/// Reads the body of a call.
///
/// It is put as a client would send it and goes through the same decoder, so names, sizes, depth
/// and keys have the same rules, in the same words, wherever a publication comes from.
fn parse(body: &[u8], now_ms: u64) -> Result<Broadcast, Problem> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| {
        Problem::from(Refusal::bad_envelope("body", format!("the body is no envelope: {error}")))
    })?;
    let Metadata { room, key, ephemeral, from } = envelope.metadata;
    let all: Box<RawValue> = serde_json::value::to_raw_value("$all").expect("a string");
    let metadata = PlainMetadata { room: room.unwrap_or(&all), key, ephemeral };
    let plain = Plain { r#type: envelope.r#type, payload: envelope.payload, metadata };
    let text = serde_json::to_string(&plain).expect("raw values can be written");
    let incoming = decode(&text).map_err(|rejected| Problem::from(rejected.refusal))?;
    let Command::Publish { room, kind, payload, key, ephemeral, .. } = incoming.command else {
        let rule = "a type that begins with $ is the protocol's own";
        return Err(Refusal::bad_envelope("type", rule).into());
    };
    let publication = Publication {
        kind: kind.into_owned().into(),
        payload: payload.as_bytes().to_vec().into(),
        time_ms: now_ms,
        from: from.map(sender).transpose()?,
        key: key.map(|key| key.into_owned().into()),
    };
    Ok(Broadcast { room: room.to_name(), publication, ephemeral })
}

fn sender(from: From) -> Result<Arc<Sender>, Problem> {
    if let Some(user) = &from.user {
        UserId::validate_segment(user).map_err(|rule| {
            Problem::from(Refusal::bad_envelope("metadata.from.user", rule.message()))
        })?;
    }
    let info = from.info.map(|info| info.get().into());
    Ok(Arc::new(Sender { client: None, user: from.user.map(Into::into), info }))
}

impl Api {
    pub(super) async fn broadcast(&self, body: &[u8]) -> Result<Answer, Problem> {
        let Broadcast { room, publication, ephemeral } = parse(body, self.clock.now().wall_ms)?;
        let request = ApiRequest::Publish {
            room: room.clone(),
            publication: Arc::new(publication),
            ephemeral,
            principal: PRINCIPAL.into(),
        };
        let ApiAnswer::Published { position, time_ms, duplicate, members } =
            self.ask(self.some_worker(), request).await?
        else {
            return Err(Problem::unavailable("A worker gave the wrong answer.", 1));
        };
        // To everybody: the home of `$all` knows only those sessions whose home it is, too.
        let members = match room.kind() {
            RoomKind::All => self.workers.connections() as u64,
            RoomKind::Plain | RoomKind::Client(_) | RoomKind::User(_) | RoomKind::Group(_) => {
                members
            }
        };
        let mut reply = json!({
            "room": room.as_str(),
            "time": rfc3339(time_ms),
            "members": members,
        });
        if let Some(position) = position {
            reply["offset"] = position.offset.into();
            reply["epoch"] = position.epoch.as_str().into();
        }
        if duplicate {
            reply["duplicate"] = true.into();
        }
        Ok(super::json(&reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    #[test]
    fn an_envelope_without_room_goes_to_all() {
        let broadcast = parse(br#"{"type":"news","payload":{"a": 1}}"#, 5).unwrap();
        assert_eq!(broadcast.room.as_str(), "$all");
        assert_eq!(&broadcast.publication.payload[..], br#"{"a": 1}"#);
        assert_eq!(broadcast.publication.time_ms, 5);
        assert!(broadcast.publication.from.is_none());
    }

    #[test]
    fn who_says_it_is_the_callers_to_say() {
        let body = br#"{"type":"a","metadata":{"room":"$user/bob","key":"k",
            "from":{"user":"ada","info":{"b":[]}}}}"#;
        let broadcast = parse(body, 0).unwrap();
        let from = broadcast.publication.from.unwrap();
        assert_eq!(from.user.as_deref(), Some("ada"));
        assert_eq!(from.info.as_deref(), Some(r#"{"b":[]}"#));
        assert_eq!(broadcast.room.as_str(), "$user/bob");
        assert_eq!(broadcast.publication.key.as_deref(), Some("k"));
    }

    #[test]
    fn what_a_client_may_not_send_the_api_may_not_either() {
        for body in [
            "",
            "[]",
            "nonsense",
            r#"{"payload":1}"#,
            r#"{"type":"$join","metadata":{"room":"a"}}"#,
            r#"{"type":""}"#,
            r#"{"type":"a","type":"b"}"#,
            r#"{"type":"a","metadata":{"room":"a//b"}}"#,
            r#"{"type":"a","metadata":{"room":"a","key":""}}"#,
            r#"{"type":"a","metadata":{"from":{"user":"a/b"}}}"#,
            r#"{"type":"a","metadata":{"from":{"client":"x"}}}"#,
            &format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
        ] {
            assert_eq!(parse(body.as_bytes(), 0).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
    }
}
