//! Rooms over HTTP: `GET /v1/rooms`, `/v1/history` and `/v1/members`.

use super::query::Query;
use super::{Api, PAGE, json, schema};
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest, Present, RoomRow};
use clarion_protocol::codec::json::publication;
use clarion_protocol::{ClientId, Epoch, Pattern, Position, Refusal, RoomName};
use clarion_store::Page;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomsQuery {
    /// At most so many. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only behind this room: the `next` of the page before.
    #[param(value_type = Option<schema::Room>, inline)]
    after: Option<RoomName>,
    /// Only those that match; without it all, also those with `$`.
    #[param(value_type = Option<schema::PatternText>, inline)]
    pattern: Option<Pattern>,
}

impl RoomsQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["limit", "after", "pattern"])?;
        Ok(Self {
            limit: query.limit()?,
            after: query.room("after")?,
            pattern: query.pattern("pattern")?,
        })
    }
}

/// A room that somebody is in, or that was used a moment ago.
#[derive(Serialize, ToSchema)]
struct Room {
    /// Its name.
    #[schema(schema_with = schema::room)]
    room: String,
    /// Sessions in it, those included whose connection was lost a moment ago.
    members: u64,
    /// Different users.
    users: u64,
    /// The offset of the newest publication, in a room with log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<u64>,
    /// Which log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<String>,
}

impl From<RoomRow> for Room {
    fn from(row: RoomRow) -> Self {
        Self {
            room: row.room.to_string(),
            members: row.members,
            users: row.users,
            offset: row.position.as_ref().map(|position| position.offset),
            epoch: row.position.map(|position| position.epoch.to_string()),
        }
    }
}

/// A page of rooms, by the bytes of their names.
#[derive(Serialize, ToSchema)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// The `after` of the next page, if there is one.
    next: Option<String>,
}

/// Lists the rooms that are in use: somebody is in them, or they were used in the last half minute.
///
/// What a room's log keeps besides is found by its name alone.
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms", params(RoomsQuery),
    responses((
        status = 200, body = Rooms,
        description = "A page. Pages are stable while rooms come and go, and no snapshot."
    )),
)]
pub(super) async fn rooms(api: &Api, query: &str) -> Result<Answer, Problem> {
    let RoomsQuery { limit, after, pattern } = RoomsQuery::read(query)?;
    let limit = super::page(limit);
    // One more than the page, to know whether there is a next one.
    let request = ApiRequest::Rooms { after, limit: limit + 1, pattern };
    let mut rows = Vec::new();
    for answer in api.ask_all(&request).await? {
        let ApiAnswer::Rooms(some) = answer else { return Err(super::wrong().into()) };
        rows.extend(some);
    }
    rows.sort_unstable_by(|a, b| a.room.cmp(&b.room));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.room.to_string());
    Ok(json(&Rooms { rooms: rows.into_iter().map(Room::from).collect(), next }))
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Whose log.
    #[param(value_type = schema::Room, inline)]
    room: RoomName,
    /// The first ones above this offset.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// The last ones below this offset; not beside `after`. Without either: the newest.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// The log that `after` or `before` is a place in.
    #[param(value_type = String, required = false, min_length = 1, max_length = 32)]
    epoch: Option<Epoch>,
    /// At most so many; the setting `limits.page` holds, too. 0 asks for the position alone.
    /// Default: 100.
    #[param(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
}

impl HistoryQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["room", "after", "before", "epoch", "limit"])?;
        let (after, before) = (query.offset("after")?, query.offset("before")?);
        if after.is_some() && before.is_some() {
            return Err(Refusal::bad_request("before", "one of after and before, or neither"));
        }
        let epoch = query.epoch("epoch")?;
        if epoch.is_none() && (after.is_some() || before.is_some()) {
            let rule = "an offset means something with its epoch only";
            return Err(Refusal::bad_request("epoch", rule));
        }
        let limit = query.integer("limit", 0..=u64::from(super::PAGE_MAX))?;
        Ok(Self {
            room: query.the_room()?,
            after,
            before,
            epoch,
            limit: limit.map(|limit| limit as u32),
        })
    }
}

/// A page of a room's log, as the reply to `$history`.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// Which log.
    epoch: String,
    /// The room's newest publication.
    offset: u64,
    /// The oldest one that the log still has; one more than `offset` if it has none.
    first: u64,
    /// Ascending and consecutive, each as it was delivered.
    #[schema(value_type = Vec<DeliveredShape>)]
    publications: Vec<Box<RawValue>>,
    /// There are more in the direction of the request.
    more: bool,
}

/// A publication as its members get it; spec/protocol.md, section 2.
#[derive(ToSchema)]
#[schema(as = Delivered)]
#[expect(dead_code, reason = "the protocol's encoder writes it; this is its shape")]
pub(super) struct DeliveredShape {
    r#type: String,
    /// Any JSON value, as it was published.
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
    metadata: DeliveredMetadataShape,
}

/// Where, when and by whom.
#[derive(ToSchema)]
#[schema(as = DeliveredMetadata)]
#[expect(dead_code, reason = "the protocol's encoder writes it; this is its shape")]
pub(super) struct DeliveredMetadataShape {
    #[schema(schema_with = schema::room)]
    room: String,
    offset: u64,
    epoch: String,
    #[schema(schema_with = schema::instant)]
    time: String,
    #[schema(nullable = false)]
    from: Option<PublisherShape>,
    #[schema(nullable = false)]
    key: Option<String>,
}

/// Who published.
#[derive(ToSchema)]
#[schema(as = Publisher)]
#[expect(dead_code, reason = "the protocol's encoder writes it; this is its shape")]
pub(super) struct PublisherShape {
    /// The session, if it was one.
    #[schema(nullable = false)]
    client: Option<String>,
    #[schema(nullable = false)]
    user: Option<String>,
    /// What the token says about the user: any JSON value.
    #[schema(required = false, value_type = Value)]
    info: Box<RawValue>,
}

impl History {
    fn new(room: &RoomName, page: &Page) -> Self {
        let standing = &page.standing;
        let publications = page.publications.iter().map(|(offset, item)| {
            let mut text = Vec::new();
            let position = Some((&standing.epoch, *offset));
            publication(&mut text, room.as_str(), position, item);
            raw(String::from_utf8(text).expect("the codec writes UTF-8"))
        });
        Self {
            epoch: standing.epoch.to_string(),
            offset: standing.head,
            first: standing.first,
            publications: publications.collect(),
            more: page.more,
        }
    }
}

/// A refusal in the words of a request that names its room beside nothing else.
pub(super) fn of_room(refusal: Refusal) -> Refusal {
    Refusal { field: refusal.field.and(Some("room")), ..refusal }
}

/// Text that is JSON, because it was when it came in or because we wrote it.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("what the protocol carries as JSON is JSON")
}

/// Reads a room's log.
#[utoipa::path(
    get, path = "/v1/history", tag = "rooms", params(HistoryQuery),
    responses((status = 200, description = "A page. It may end before `limit`, by bytes.", body = History)),
)]
pub(super) async fn history(api: &Api, query: &str) -> Result<Answer, Problem> {
    let HistoryQuery { room, after, before, epoch, limit } = HistoryQuery::read(query)?;
    let position = |offset: Option<u64>| Some(Position::new(epoch.clone()?, offset?));
    let (after, before) = (position(after), position(before));
    let limit = limit.unwrap_or(PAGE);
    let request = ApiRequest::History { room: room.clone(), after, before, limit };
    let answer = api.ask(api.router.room_home(&room), request).await.map_err(of_room)?;
    let ApiAnswer::History { page } = answer else { return Err(super::wrong().into()) };
    Ok(json(&History::new(&room, &page)))
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// Of which room.
    #[param(value_type = schema::Room, inline)]
    room: RoomName,
    /// At most so many; the setting `limits.page` holds, too. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only behind this client: the `next` of the page before.
    #[param(value_type = Option<schema::Client>, inline)]
    after: Option<ClientId>,
}

impl MembersQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["room", "limit", "after"])?;
        Ok(Self { room: query.the_room()?, limit: query.limit()?, after: query.client("after")? })
    }
}

/// One session in a room.
#[derive(Serialize, ToSchema)]
struct Member {
    /// The session's public id.
    #[schema(schema_with = schema::client)]
    client: String,
    /// Whom it speaks for.
    user: Box<str>,
    /// What the token says about the user: any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Value)]
    info: Option<Box<RawValue>>,
    /// What the session set by `$state`: any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Value)]
    state: Option<Box<RawValue>>,
}

impl From<Present> for Member {
    fn from(present: Present) -> Self {
        let sender = &present.sender;
        Self {
            client: sender.client.map(|client| client.to_string()).unwrap_or_default(),
            user: sender.user.clone().unwrap_or_default(),
            info: sender.info.as_deref().map(|info| raw(info.to_owned())),
            state: present.state.as_deref().map(|state| raw(state.to_owned())),
        }
    }
}

/// A page of a room's members, by the bytes of their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct Members {
    members: Vec<Member>,
    /// Sessions in the whole room.
    count: u64,
    /// Different users in the whole room.
    users: u64,
    /// The `after` of the next page, if there is one.
    next: Option<String>,
}

/// Lists who is in a room.
#[utoipa::path(
    get, path = "/v1/members", tag = "rooms", params(MembersQuery),
    responses((status = 200, description = "A page; nobody, in a room that is not.", body = Members)),
)]
pub(super) async fn members(api: &Api, query: &str) -> Result<Answer, Problem> {
    let MembersQuery { room, limit, after } = MembersQuery::read(query)?;
    let home = api.router.room_home(&room);
    let request = ApiRequest::Members { room, limit: Some(limit.unwrap_or(PAGE)), after };
    let ApiAnswer::Members { members, count, users, more } =
        api.ask(home, request).await.map_err(of_room)?
    else {
        return Err(super::wrong().into());
    };
    let members: Vec<Member> = members.into_iter().map(Member::from).collect();
    let next = members.last().filter(|_| more).map(|member| member.client.clone());
    Ok(json(&Members { members, count, users, next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_log_starts_after_or_before_something_or_at_its_end() {
        let query = HistoryQuery::read("room=a&after=3&epoch=e&limit=0").unwrap();
        assert_eq!((query.after, query.before, query.limit), (Some(3), None, Some(0)));
        assert!(HistoryQuery::read("room=a").unwrap().epoch.is_none());
        for (text, field) in [
            ("", "room"),
            ("room=a&after=3", "epoch"),
            ("room=a&after=3&before=5&epoch=e", "before"),
            ("room=a&after=9007199254740992&epoch=e", "after"),
            ("room=a&limit=1001", "limit"),
            ("room=a&room=b", "room"),
        ] {
            assert_eq!(HistoryQuery::read(text).unwrap_err().field, Some(field), "{text}");
        }
    }

    #[test]
    fn rooms_go_by_pattern() {
        let query = RoomsQuery::read("pattern=chat%2F**&after=$all").unwrap();
        assert!(query.pattern.unwrap().matches("chat/a"));
        assert_eq!(query.after.unwrap().as_str(), "$all");
        assert_eq!(RoomsQuery::read("pattern=a*").unwrap_err().field, Some("pattern"));
    }
}
