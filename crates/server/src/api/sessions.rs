//! Sessions over HTTP: `POST /v1/disconnect`, `/v1/kick` and `/v1/join`.
//!
//! Each is about one session or about all sessions of a user, and says how many it found. That it
//! found none is no error: whoever asks twice has what they want.

use super::body::Members;
use super::rooms::of_room;
use super::{Api, json, schema};
use crate::audit::Affected;
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest, Target};
use clarion_protocol::{ClientId, ErrorName, Refusal, RoomName};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Whom to disconnect: one session, or all sessions of a user.
#[derive(Debug)]
pub(super) struct Disconnect(Target);

/// Whom to take out of a room or put into it.
#[derive(Debug)]
pub(super) struct Move {
    /// None with `$`.
    room: RoomName,
    target: Target,
}

impl Disconnect {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(body, ["client", "user"])?;
        Ok(Self(target(members.client("client")?, members.segment("user")?)?))
    }
}

impl Move {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(body, ["room", "client", "user"])?;
        let room = members.room()?;
        let (client, user) = (members.client("client")?, members.segment("user")?);
        if room.kind().is_special() {
            let rule = "the server joins and leaves $ rooms";
            return Err(Refusal::new(ErrorName::BadRoom, rule).with_field("room"));
        }
        Ok(Self { room, target: target(client, user)? })
    }
}

fn target(client: Option<ClientId>, user: Option<Box<str>>) -> Result<Target, Refusal> {
    match (client, user) {
        (Some(client), None) => Ok(Target::Client(client)),
        (None, Some(user)) => Ok(Target::User(user)),
        (None, None) => Err(Refusal::bad_request("client", "this needs a client or a user")),
        (Some(_), Some(_)) => Err(Refusal::bad_request("user", "one of client and user, not both")),
    }
}

/// An object that has one of the two.
fn client_or_user(object: impl Fn() -> ObjectBuilder) -> RefOr<Schema> {
    let one = object().property("client", schema::client()).required("client");
    let all = object().property("user", schema::segment()).required("user");
    OneOfBuilder::new().item(one).item(all).into()
}

impl PartialSchema for Disconnect {
    fn schema() -> RefOr<Schema> {
        client_or_user(ObjectBuilder::new)
    }
}

impl ToSchema for Disconnect {}

impl PartialSchema for Move {
    fn schema() -> RefOr<Schema> {
        let room = || ObjectBuilder::new().property("room", schema::plain_room());
        client_or_user(|| room().required("room"))
    }
}

impl ToSchema for Move {}

/// How many there were.
#[derive(Serialize, ToSchema)]
pub(super) struct Count {
    /// Sessions that this was done to.
    sessions: u64,
}

/// The sum of what workers say.
pub(super) fn total(answers: impl IntoIterator<Item = ApiAnswer>) -> Result<u64, Refusal> {
    let count = |answer| match answer {
        ApiAnswer::Count(count) => Ok(count),
        _ => Err(super::wrong()),
    };
    answers.into_iter().map(count).sum()
}

fn sum(answers: impl IntoIterator<Item = ApiAnswer>) -> Result<Answer, Problem> {
    let sessions = total(answers)?;
    let mut answer = json(&Count { sessions });
    answer.extensions_mut().insert(Affected(sessions));
    Ok(answer)
}

/// Closes connections with 4006; a client does not come back from that by itself.
#[utoipa::path(
    post, path = "/v1/disconnect", tag = "sessions", request_body = Disconnect,
    responses((status = 200, description = "How many are being closed.", body = Count)),
)]
pub(super) async fn disconnect(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    let Disconnect(target) = Disconnect::read(body)?;
    sum(api.ask_all(&ApiRequest::Disconnect { target }).await?)
}

/// Makes sessions leave a room; they are told `$left` with the reason `kicked`.
#[utoipa::path(
    post, path = "/v1/kick", tag = "sessions", request_body = Move,
    responses((status = 200, description = "How many left.", body = Count)),
)]
pub(super) async fn kick(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    let Move { room, target } = Move::read(body)?;
    let home = api.router.room_home(&room);
    let request = ApiRequest::Kick { room, target };
    sum([api.ask(home, request).await.map_err(of_room)?])
}

/// Makes sessions join a room, live only; they are told `$joined`.
#[utoipa::path(
    post, path = "/v1/join", tag = "sessions", request_body = Move,
    responses((
        status = 200, body = Count,
        description = "How many are made to join. One that is in the room already stays as it is."
    )),
)]
pub(super) async fn join(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    let Move { room, target } = Move::read(body)?;
    sum(api.ask_all(&ApiRequest::Join { room, target }).await.map_err(of_room)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_about_a_session_or_a_user() {
        let client = "ABEiM0RVZneImaq7zN3u_w";
        let body = format!(r#"{{"client":"{client}","reason":"ignored"}}"#);
        let Disconnect(target) = Disconnect::read(body.as_bytes()).unwrap();
        assert!(matches!(target, Target::Client(id) if id.to_string() == client));
        let Move { room, target } = Move::read(br#"{"room":"a/b","user":"ada"}"#).unwrap();
        assert_eq!(room.as_str(), "a/b");
        assert!(matches!(target, Target::User(user) if &*user == "ada"));
        let both = format!(r#"{{"room":"a","client":"{client}","user":"ada"}}"#);
        for (body, field) in [
            (r#"{"room":"a"}"#, "client"),
            (&both, "user"),
            (r#"{"user":"ada"}"#, "room"),
            (r#"{"room":"$group/a","user":"ada"}"#, "room"),
            (r#"{"room":"a","client":"ada"}"#, "client"),
        ] {
            assert_eq!(Move::read(body.as_bytes()).unwrap_err().field, Some(field), "{body}");
        }
    }
}
