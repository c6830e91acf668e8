//! `GET /v1/clients`, also as `/clients`: who is connected, a page at a time.
//!
//! Every worker gives the first of its own above the last page's end, in order, and the page is
//! the first of them all. So pages are stable while connections come and go, and are no snapshot.

use super::query::Query;
use super::{Api, json, rfc3339, schema};
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest, ClientRow};
use clarion_protocol::{ClientId, Refusal, RoomName};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ClientsQuery {
    /// At most so many. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only behind this client: the `next` of the page before.
    #[param(value_type = Option<schema::Client>, inline)]
    after: Option<ClientId>,
    /// Only members of this room.
    #[param(value_type = Option<schema::Room>, inline)]
    room: Option<RoomName>,
    /// Only this user's.
    #[param(value_type = Option<schema::Segment>, inline)]
    user: Option<Box<str>>,
}

impl ClientsQuery {
    fn read(query: &str) -> Result<Self, Refusal> {
        let query = Query::read(query, ["limit", "after", "room", "user"])?;
        Ok(Self {
            limit: query.limit()?,
            after: query.client("after")?,
            room: query.room("room")?,
            user: query.segment("user")?,
        })
    }
}

/// One connection.
#[derive(Serialize, ToSchema)]
struct Client {
    /// The session's public id.
    #[schema(schema_with = schema::client)]
    client: String,
    /// Whom it speaks for.
    user: Box<str>,
    /// Where it comes from: address and port.
    address: String,
    /// Since when.
    #[schema(schema_with = schema::instant)]
    connected_at: String,
    /// The rooms it is in, at most 100 of them.
    rooms: Vec<String>,
    /// The last measured round trip, milliseconds.
    rtt_ms: Option<f64>,
    /// Bytes queued for it.
    outbox_bytes: usize,
    /// Publications it is behind, summed over its rooms.
    lag: u64,
    /// What it said it runs.
    sdk: Option<Box<str>>,
}

/// A page of connections, by the bytes of their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct Clients {
    clients: Vec<Client>,
    /// The `after` of the next page, if there is one.
    next: Option<String>,
}

/// Lists who is connected, also as `/clients`.
#[utoipa::path(
    get, path = "/v1/clients", tag = "sessions", params(ClientsQuery),
    responses((
        status = 200, body = Clients,
        description = "A page. Pages are stable while connections come and go, and no snapshot."
    )),
)]
pub(super) async fn clients(api: &Api, query: &str) -> Result<Answer, Problem> {
    let ClientsQuery { limit, after, room, user } = ClientsQuery::read(query)?;
    let limit = super::page(limit);
    // One more than the page, to know whether there is a next one.
    let request = ApiRequest::Clients { after, limit: limit + 1, room, user };
    let mut rows = Vec::new();
    for answer in api.ask_all(&request).await? {
        let ApiAnswer::Clients(some) = answer else { return Err(super::wrong().into()) };
        rows.extend(some);
    }
    rows.sort_unstable_by_key(|row| row.client);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.client.to_string());
    Ok(json(&Clients { clients: rows.into_iter().map(Client::from).collect(), next }))
}

/// The same under the name that it had first; only the document wants a function of its own for it.
#[utoipa::path(
    get, path = "/clients", tag = "sessions", params(ClientsQuery),
    operation_id = "clients_first",
    responses((status = 200, description = "As `/v1/clients`.", body = Clients)),
)]
pub(super) async fn clients_first(api: &Api, query: &str) -> Result<Answer, Problem> {
    clients(api, query).await
}

impl From<ClientRow> for Client {
    fn from(row: ClientRow) -> Self {
        Self {
            client: row.client.to_string(),
            user: row.user,
            address: row.address.to_string(),
            connected_at: rfc3339(row.connected_at_ms),
            rooms: row.rooms.iter().map(ToString::to_string).collect(),
            rtt_ms: row.rtt_us.map(|us| f64::from(us) / 1_000.0),
            outbox_bytes: row.outbox_bytes,
            lag: row.lag,
            sdk: row.sdk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_checked() {
        let query = ClientsQuery::read("limit=5&room=chat%2Fberlin&user=a%2Bb").unwrap();
        assert_eq!(query.limit, Some(5));
        assert_eq!(query.room.unwrap().as_str(), "chat/berlin");
        assert_eq!(query.user.as_deref(), Some("a+b"));
        for bad in
            ["limit=0", "limit=1001", "limit=x", "after=x", "room=a//b", "user=a/b", "rooms=a"]
        {
            assert!(ClientsQuery::read(bad).is_err(), "{bad}");
        }
    }
}
