//! The JSON body of a `POST`: what may come, and how it is read.
//!
//! It is read by the protocol's own reader, so that names, numbers and duplicates have the same rules
//! over HTTP as in a message. What is in it beyond that is ignored, as in a message.

use super::Api;
use crate::front::{Problem, read_body};
use bytes::Bytes;
use clarion_protocol::codec::json::object::{Duplicate, Object, string};
use clarion_protocol::{ClientId, ErrorName, Refusal, RoomName};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, StatusCode};

const JSON: &str = "application/json";

impl Api {
    /// The body of a request that wants JSON there.
    ///
    /// # Errors
    /// 415 for anything that says it is something else, and as [`read_body`].
    pub(super) async fn json_body(&self, request: Request<Incoming>) -> Result<Bytes, Problem> {
        check_content(request.headers())?;
        read_body(request, self.body_bytes, self.body_time).await
    }
}

/// "The origin server is refusing to service the request because the content is in a format not
/// supported by this method on the target resource." RFC 9110 section 15.5.16, which also says which
/// header tells what would be. A body that says nothing is read as JSON.
fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(CONTENT_TYPE).iter().any(|value| !is_json(value)) {
        return Err(unsupported("The body is application/json in UTF-8.", ACCEPT, JSON));
    }
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        let detail = "The body is not compressed.";
        return Err(unsupported(detail, ACCEPT_ENCODING, "identity"));
    }
    Ok(())
}

fn unsupported(detail: &'static str, name: HeaderName, value: &'static str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        .with_header(name, HeaderValue::from_static(value))
}

fn is_json(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is_utf8 = |parameter: &str| {
        let Some((name, value)) = parameter.split_once('=') else { return parameter.is_empty() };
        let value = value.trim_matches('"');
        !name.eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
    };
    kind.eq_ignore_ascii_case(JSON) && parts.all(is_utf8)
}

/// The text of a body.
pub(super) fn text(body: &[u8], name: ErrorName) -> Result<&str, Refusal> {
    let rule = || Refusal::new(name, "the body is not JSON in UTF-8").with_field("body");
    std::str::from_utf8(body).map_err(|_| rule())
}

/// Members of a body that is an object, as raw JSON.
#[derive(Debug)]
pub(super) struct Members<'a, const N: usize> {
    names: [&'static str; N],
    object: Object<'a, N>,
}

impl<'a, const N: usize> Members<'a, N> {
    pub(super) fn read(body: &'a [u8], names: [&'static str; N]) -> Result<Self, Refusal> {
        let text = text(body, ErrorName::BadRequest)?;
        let object = Object::read(text, names).map_err(|error| {
            let rule = match error.classify() {
                serde_json::error::Category::Data => "the body is a JSON object",
                _ => "the body is not JSON",
            };
            Refusal::bad_request("body", rule)
        })?;
        match object.duplicate() {
            Some(Duplicate::Known(index)) => {
                Err(Refusal::bad_request(names[index], "this may be given once"))
            }
            Some(Duplicate::Unknown) => {
                Err(Refusal::bad_request("body", "each member may be given once"))
            }
            None => Ok(Self { names, object }),
        }
    }

    pub(super) fn raw(&self, name: &'static str) -> Option<&'a str> {
        let index = self.names.iter().position(|known| *known == name);
        self.object.members[index.expect("a name that was read")]
    }

    pub(super) fn room(&self) -> Result<RoomName, Refusal> {
        let rule = |text| Refusal::new(ErrorName::BadRoom, text).with_field("room");
        let raw = self.raw("room").ok_or_else(|| rule("this needs a room"))?;
        let name = string(raw).ok_or_else(|| rule("a room is a string"))?;
        RoomName::parse(&name).map_err(|rule| Refusal::bad_room("room", rule))
    }

    pub(super) fn client(&self, name: &'static str) -> Result<Option<ClientId>, Refusal> {
        let rule = || Refusal::bad_request(name, "this is the id of a client");
        let parse = |raw| string(raw).and_then(|text| ClientId::parse(&text).ok());
        self.raw(name).map(|raw| parse(raw).ok_or_else(rule)).transpose()
    }

    /// A user or a group.
    pub(super) fn segment(&self, name: &'static str) -> Result<Option<Box<str>>, Refusal> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text = string(raw).ok_or_else(|| Refusal::bad_request(name, "this is a string"))?;
        super::query::segment(&text, name).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
        values.collect()
    }

    #[test]
    fn json_is_json_whatever_its_case_and_parameters() {
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; profile=x;",
        ] {
            assert!(check_content(&headers(&CONTENT_TYPE, &[kind])).is_ok(), "{kind}");
        }
        assert!(check_content(&HeaderMap::new()).is_ok());
        assert!(check_content(&headers(&CONTENT_ENCODING, &["identity"])).is_ok());
    }

    #[test]
    fn anything_else_is_415() {
        for kind in ["text/plain", "", "json", "application/json; charset=latin1", "\u{a0}"] {
            let value = HeaderValue::from_bytes(kind.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
            let problem = check_content(&headers).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        }
        let two = headers(&CONTENT_TYPE, &["application/json", "text/plain"]);
        assert!(check_content(&two).is_err());
        assert!(check_content(&headers(&CONTENT_ENCODING, &["gzip"])).is_err());
    }

    #[test]
    fn members_are_read_as_strictly_as_in_a_message() {
        let names = ["room", "client", "user"];
        let body = br#"{"room":"\u0061/b","user":"ada","more":[1]}"#;
        let members = Members::read(body, names).unwrap();
        assert_eq!(members.room().unwrap().as_str(), "a/b");
        assert_eq!(members.segment("user").unwrap().as_deref(), Some("ada"));
        assert_eq!(members.client("client").unwrap(), None);
        for (body, field) in [
            (&b""[..], "body"),
            (b"\xff{}", "body"),
            (b"\xef\xbb\xbf{}", "body"),
            (b"[]", "body"),
            (b"{} {}", "body"),
            (br#"{"room":"a","room":"a"}"#, "room"),
            (br#"{"x":1,"x":1}"#, "body"),
        ] {
            let refusal = Members::read(body, names).unwrap_err();
            assert_eq!((refusal.name, refusal.field), (ErrorName::BadRequest, Some(field)));
        }
        for body in ["{}", r#"{"room":null}"#, r#"{"room":1}"#, r#"{"room":"\ud800"}"#] {
            let refusal = Members::read(body.as_bytes(), names).unwrap().room().unwrap_err();
            assert_eq!((refusal.name, refusal.field), (ErrorName::BadRoom, Some("room")), "{body}");
        }
        for body in [r#"{"user":null}"#, r#"{"user":""}"#, r#"{"user":"a/b"}"#, r#"{"user":1}"#] {
            let members = Members::read(body.as_bytes(), names).unwrap();
            assert_eq!(members.segment("user").unwrap_err().field, Some("user"), "{body}");
        }
    }
}
