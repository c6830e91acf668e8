//! `GET /clients`: who is connected, a page at a time.
//!
//! Every worker gives the first of its own above the last page's end, in order, and the page is
//! the first of them all. So pages are stable while connections come and go, and are no snapshot.

use super::{Api, rfc3339};
use crate::front::{Answer, Problem};
use clarion_engine::mail::{ApiAnswer, ApiRequest, ClientRow};
use clarion_protocol::{ClientId, RoomName};
use serde_json::{Value, json};

/// Rows of a page when nothing is said.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Query {
    limit: Option<usize>,
    after: Option<ClientId>,
    room: Option<RoomName>,
    user: Option<Box<str>>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let rule = match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    parsed.limit = limit;
                    limit.map(drop).ok_or("limit is a number from 1 to 1000.")
                }
                "after" => {
                    parsed.after = ClientId::parse(&value).ok();
                    parsed.after.map(drop).ok_or("after is the id of a client.")
                }
                "room" => {
                    parsed.room = RoomName::parse(&value).ok();
                    parsed.room.as_ref().map(drop).ok_or("room is the name of a room.")
                }
                "user" => {
                    parsed.user = Some(value.into());
                    Ok(())
                }
                _ => Err("The parameters here are limit, after, room and user."),
            };
            rule.map_err(Problem::bad_request)?;
        }
        Ok(parsed)
    }
}

impl Api {
    pub(super) async fn clients(&self, query: &str) -> Result<Answer, Problem> {
        let Query { limit, after, room, user } = Query::parse(query)?;
        let limit = limit.unwrap_or(LIMIT);
        // One more than the page, to know whether there is a next one.
        let request = ApiRequest::Clients { after, limit: limit + 1, room, user };
        let mut rows = Vec::new();
        for answer in self.ask_all(&request).await? {
            if let ApiAnswer::Clients(some) = answer {
                rows.extend(some);
            }
        }
        rows.sort_unstable_by_key(|row| row.client);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.client.to_string());
        let clients: Vec<_> = rows.iter().map(shown).collect();
        Ok(super::json(&json!({ "clients": clients, "next": next })))
    }
}

fn shown(row: &ClientRow) -> Value {
    let rooms: Vec<_> = row.rooms.iter().map(RoomName::as_str).collect();
    json!({
        "client": row.client.to_string(),
        "user": row.user,
        "address": row.address.to_string(),
        "connected_at": rfc3339(row.connected_at_ms),
        "rooms": rooms,
        "rtt_ms": row.rtt_us.map(|us| f64::from(us) / 1_000.0),
        "outbox_bytes": row.outbox_bytes,
        "lag": row.lag,
        "sdk": row.sdk,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_checked() {
        let query = Query::parse("limit=5&room=chat%2Fberlin&user=a+b").unwrap();
        assert_eq!(query.limit, Some(5));
        assert_eq!(query.room.unwrap().as_str(), "chat/berlin");
        assert_eq!(query.user.as_deref(), Some("a b"));
        for bad in ["limit=0", "limit=1001", "limit=x", "after=x", "room=a//b", "rooms=a"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
