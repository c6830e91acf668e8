//! The query of a request: which parameters it has, each at most once, decoded.

use clarion_engine::revoked::Subject;
use clarion_protocol::{
    ClientId, Epoch, ErrorName, OFFSET_MAX, Pattern, Refusal, RoomName, UserId,
};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The parameters that a route knows, in the order of their names.
///
/// A parameter that comes twice is refused like one that nobody knows: whatever stands before us may
/// have taken the other one, and a misspelt name should not silently mean nothing.
#[derive(Debug)]
pub(super) struct Query<'a, const N: usize> {
    names: [&'static str; N],
    values: [Option<Cow<'a, str>>; N],
}

impl<'a, const N: usize> Query<'a, N> {
    /// Reads `query` as `application/x-www-form-urlencoded`, where a `+` is a space.
    pub(super) fn read(query: &'a str, names: [&'static str; N]) -> Result<Self, Refusal> {
        let mut values = [const { None }; N];
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(index) = names.iter().position(|known| *known == name) else {
                let rule = match names.as_slice() {
                    [] => "no parameter is known here".into(),
                    names => format!("the parameters here are {}", names.join(", ")),
                };
                return Err(Refusal::bad_request("query", rule));
            };
            if values[index].replace(value).is_some() {
                return Err(Refusal::bad_request(names[index], "this may be given once"));
            }
        }
        Ok(Self { names, values })
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        let index = self.names.iter().position(|known| *known == name);
        self.values[index.expect("a name that was read")].as_deref()
    }

    pub(super) fn room(&self, name: &'static str) -> Result<Option<RoomName>, Refusal> {
        let parse = |text| RoomName::parse(text).map_err(|rule| Refusal::bad_room(name, rule));
        self.text(name).map(parse).transpose()
    }

    /// The room that the request is about.
    pub(super) fn the_room(&self) -> Result<RoomName, Refusal> {
        self.room("room")?
            .ok_or_else(|| Refusal::new(ErrorName::BadRoom, "this needs a room").with_field("room"))
    }

    pub(super) fn client(&self, name: &'static str) -> Result<Option<ClientId>, Refusal> {
        let rule = |_| Refusal::bad_request(name, "this is the id of a client");
        self.text(name).map(|text| ClientId::parse(text).map_err(rule)).transpose()
    }

    /// A user or a group.
    pub(super) fn segment(&self, name: &'static str) -> Result<Option<Box<str>>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        segment(text, name).map(Some)
    }

    /// Whom a revocation is about.
    pub(super) fn subject(&self, name: &'static str) -> Result<Option<Subject>, Refusal> {
        let rule = || Refusal::bad_request(name, "this is the `next` of another page");
        self.text(name).map(|text| Subject::parse(text).ok_or_else(rule)).transpose()
    }

    pub(super) fn pattern(&self, name: &'static str) -> Result<Option<Pattern>, Refusal> {
        let rule = |_| Refusal::bad_request(name, "this is a pattern of room names");
        self.text(name).map(|text| Pattern::parse(text).map_err(rule)).transpose()
    }

    /// Digits; over the range, `limit` of the refusal is its end.
    pub(super) fn integer(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let (first, last) = (*range.start(), *range.end());
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Of digits, only too many do not fit.
        match (digits, text.parse::<u64>()) {
            (true, Ok(value)) if range.contains(&value) => Ok(Some(value)),
            _ => {
                let rule = format!("this is a whole number from {first} to {last}");
                Err(Refusal::bad_request(name, rule).with_limit(last))
            }
        }
    }

    /// How many entries a page may have.
    pub(super) fn limit(&self) -> Result<Option<u32>, Refusal> {
        let limit = self.integer("limit", 1..=super::PAGE_MAX as u64)?;
        Ok(limit.map(|limit| limit as u32))
    }

    pub(super) fn offset(&self, name: &'static str) -> Result<Option<u64>, Refusal> {
        self.integer(name, 0..=OFFSET_MAX)
    }

    pub(super) fn epoch(&self, name: &'static str) -> Result<Option<Epoch>, Refusal> {
        let rule = || Refusal::bad_request(name, "an epoch has 1 to 32 bytes");
        self.text(name).map(|text| Epoch::new(text).ok_or_else(rule)).transpose()
    }
}

/// Checks that `text` can be a user id or the name of a group.
pub(super) fn segment(text: &str, field: &'static str) -> Result<Box<str>, Refusal> {
    UserId::validate_segment(text).map_err(|rule| {
        let refusal = Refusal::bad_request(field, rule.message());
        Refusal { limit: rule.limit(), ..refusal }
    })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["room", "after", "epoch", "limit"];

    #[test]
    fn parameters_are_decoded() {
        let query = Query::read("room=chat%2Fa%2Bb&after=7&epoch=e%20f", NAMES).unwrap();
        assert_eq!(query.the_room().unwrap().as_str(), "chat/a+b");
        assert_eq!(query.offset("after").unwrap(), Some(7));
        assert_eq!(query.epoch("epoch").unwrap().unwrap().as_str(), "e f");
        assert_eq!(query.integer("limit", 1..=9).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field) in [
            ("colour=red", "query"),
            ("room=a&room=a", "room"),
            ("Room=a", "query"),
            ("=", "query"),
        ] {
            let refusal = Query::read(text, NAMES).unwrap_err();
            assert_eq!((refusal.name, refusal.field), (ErrorName::BadRequest, Some(field)));
        }
    }

    #[test]
    fn names_that_break_a_rule_are_refused() {
        for room in ["", "a//b", "a%00b", "a+b", "%", "%zz", "%ff", "$nobody", "../a"] {
            let text = format!("room={room}");
            let refusal = Query::read(&text, NAMES).unwrap().the_room().unwrap_err();
            assert_eq!((refusal.name, refusal.field), (ErrorName::BadRoom, Some("room")), "{room}");
        }
        assert_eq!(Query::read("", NAMES).unwrap().the_room().unwrap_err().field, Some("room"));
    }

    #[test]
    fn numbers_are_digits_within_their_range() {
        for limit in ["", "0", "10", "-1", "%2B1", "1.0", "1e3", "x", "99999999999999999999999"] {
            let text = format!("limit={limit}");
            let query = Query::read(&text, NAMES).unwrap();
            let refusal = query.integer("limit", 1..=9).unwrap_err();
            assert_eq!((refusal.field, refusal.limit), (Some("limit"), Some(9)), "{limit}");
        }
        let query = Query::read("limit=09", NAMES).unwrap();
        assert_eq!(query.integer("limit", 1..=9).unwrap(), Some(9));
    }

    #[test]
    fn an_epoch_has_a_length() {
        for text in ["epoch=", "epoch=%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff"] {
            let refusal = Query::read(text, NAMES).unwrap().epoch("epoch").unwrap_err();
            assert_eq!(refusal.field, Some("epoch"), "{text}");
        }
    }
}
