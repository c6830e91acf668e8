//! Groups over HTTP: `GET /v1/groups/users`, `POST /v1/groups/add` and `/v1/groups/remove`.

use super::body::Members;
use super::query::Query;
use super::{Api, json, schema};
use crate::audit::Affected;
use crate::front::{Answer, Problem};
use clarion_engine::WorkerId;
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_protocol::{Refusal, RoomName};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// A user and a group.
#[derive(Debug, ToSchema)]
pub(super) struct Membership {
    /// The group: sessions of its users are in `$group/<group>`.
    #[schema(schema_with = schema::segment)]
    group: Box<str>,
    /// The user.
    #[schema(schema_with = schema::segment)]
    user: Box<str>,
}

impl Membership {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(body, ["group", "user"])?;
        let needed = |name| {
            let segment = members.segment(name)?;
            segment.ok_or_else(|| Refusal::bad_request(name, "this needs a group and a user"))
        };
        Ok(Self { group: needed("group")?, user: needed("user")? })
    }
}

/// Whether it made a difference.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// False if it was so before.
    changed: bool,
}

/// Puts a user into a group: all their sessions, those to come included.
///
/// Groups that are made here survive a restart if the server has a store, and in that case it is answered
/// when it is on the disk; those of a token are the token's.
#[utoipa::path(
    post, path = "/v1/groups/add", tag = "sessions", request_body = Membership,
    responses((status = 200, description = "The user is in the group.", body = Changed)),
)]
pub(super) async fn add(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    set(api, body, true).await
}

/// Takes a user out of a group; the sessions are told `$left` with the reason `group`.
#[utoipa::path(
    post, path = "/v1/groups/remove", tag = "sessions", request_body = Membership,
    responses((status = 200, description = "The user is not in the group.", body = Changed)),
)]
pub(super) async fn remove(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    set(api, body, false).await
}

async fn set(api: &Api, body: &[u8], member: bool) -> Result<Answer, Problem> {
    let Membership { group, user } = Membership::read(body)?;
    let home = home(api, &group, "group")?;
    let answer = api.ask(home, ApiRequest::Group { group, user, member }).await?;
    let ApiAnswer::Count(count) = answer else { return Err(super::wrong().into()) };
    let mut answer = json(&Changed { changed: count > 0 });
    answer.extensions_mut().insert(Affected(count));
    Ok(answer)
}

/// Whom to ask about a group.
fn home(api: &Api, group: &str, field: &'static str) -> Result<WorkerId, Refusal> {
    let room =
        RoomName::group(group).map_err(|rule| Refusal::bad_request(field, rule.message()))?;
    Ok(api.router.room_home(&room))
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UsersQuery {
    /// The group.
    #[param(value_type = schema::Segment, inline)]
    group: Box<str>,
    /// At most so many. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only behind this user: the `next` of the page before.
    #[param(value_type = Option<schema::Segment>, inline)]
    after: Option<Box<str>>,
}

impl UsersQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["group", "limit", "after"])?;
        let group = query.segment("group")?;
        Ok(Self {
            group: group.ok_or_else(|| Refusal::bad_request("group", "this needs a group"))?,
            limit: query.limit()?,
            after: query.segment("after")?,
        })
    }
}

/// A page of users, by the bytes of their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<Box<str>>,
    /// The `after` of the next page, if there is one.
    next: Option<Box<str>>,
}

/// Lists whom `/v1/groups/add` put into a group, connected or not.
#[utoipa::path(
    get, path = "/v1/groups/users", tag = "sessions", params(UsersQuery),
    responses((status = 200, description = "A page; nobody, in a group that is not.", body = Users)),
)]
pub(super) async fn users(api: &Api, query: &str) -> Result<Answer, Problem> {
    let UsersQuery { group, limit, after } = UsersQuery::read(query)?;
    let home = home(api, &group, "group")?;
    let limit = super::page(limit);
    // One more than the page, to know whether there is a next one.
    let request = ApiRequest::GroupUsers { group, after, limit: limit + 1 };
    let ApiAnswer::Users(mut users) = api.ask(home, request).await? else {
        return Err(super::wrong().into());
    };
    let more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| more).cloned();
    Ok(json(&Users { users, next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_a_group_and_a_user() {
        let membership = Membership::read(br#"{"group":"staff","user":"ada"}"#).unwrap();
        assert_eq!((&*membership.group, &*membership.user), ("staff", "ada"));
        for (body, field) in [
            (r#"{"user":"ada"}"#, "group"),
            (r#"{"group":"staff"}"#, "user"),
            (r#"{"group":"a/b","user":"ada"}"#, "group"),
            (r#"{"group":"staff","user":null}"#, "user"),
        ] {
            assert_eq!(Membership::read(body.as_bytes()).unwrap_err().field, Some(field), "{body}");
        }
        assert_eq!(UsersQuery::read("limit=5").unwrap_err().field, Some("group"));
    }
}
