//! Shapes that several routes share in the OpenAPI document.
//!
//! They say of a text what a JSON Schema can say of it: lengths are in bytes on the wire and in
//! characters there, which is the same for names, since those are ASCII.

use clarion_engine::effects::Grants;
use clarion_protocol::id::{CLIENT_ID_SIZE, SEGMENT_SIZE_MAX};
use clarion_protocol::name::ROOM_NAME_SIZE_MAX;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// One segment of a name: neither empty nor `.` nor `..`.
const SEGMENT: &str = r"([A-Za-z0-9_.:@|+=~-]*[A-Za-z0-9_:@|+=~-][A-Za-z0-9_.:@|+=~-]*|\.{3,128})";

fn text(pattern: &str, length_max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(format!("^{pattern}$")))
        .min_length(Some(1))
        .max_length(Some(length_max))
}

/// The name of a room.
pub(super) fn room() -> Object {
    let pattern = format!(r"({SEGMENT}(/{SEGMENT})*|\$all|\$(client|user|group)/{SEGMENT})");
    let description = "A room: segments of A-Z a-z 0-9 _ . : @ | + = ~ - with single / between, \
        none of them . or .., or $all, $client/<id>, $user/<id>, $group/<name>; at most 128 bytes, \
        and 96 behind the $ and its word.";
    text(&pattern, ROOM_NAME_SIZE_MAX).description(Some(description)).build()
}

/// A room that clients can join.
pub(super) fn plain_room() -> Object {
    let description = "A room whose name has no $; at most 128 bytes.";
    let pattern = format!("{SEGMENT}(/{SEGMENT})*");
    text(&pattern, ROOM_NAME_SIZE_MAX).description(Some(description)).build()
}

/// A pattern of room names.
pub(super) fn pattern() -> Object {
    let segment = format!(r"(\*\*?|{SEGMENT})");
    let pattern = format!(r"({segment}(/{segment})*|\$all|\$(client|user|group)/{segment})");
    let description = "A pattern of room names: * is one segment, ** any number of them.";
    text(&pattern, ROOM_NAME_SIZE_MAX).description(Some(description)).build()
}

/// The id of a user, or the name of a group.
pub(super) fn segment() -> Object {
    let description = "One segment of A-Z a-z 0-9 _ . : @ | + = ~ -; at most 96 bytes.";
    text(SEGMENT, SEGMENT_SIZE_MAX).description(Some(description)).build()
}

/// The public id of a session.
pub(super) fn client() -> Object {
    // 128 bits leave two for the last digit.
    text("[A-Za-z0-9_-]{21}[AQgw]", CLIENT_ID_SIZE)
        .description(Some("The public id of a session: 22 characters of base64url."))
        .build()
}

/// The id of a token.
pub(super) fn token_id() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(Grants::TOKEN_ID_MAX))
        .description(Some("The `jti` of a token; at most 128 bytes."))
        .build()
}

/// Whom a revocation is about, as the `next` of a page says it.
pub(super) fn subject() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^(client:[A-Za-z0-9_-]{21}[AQgw]$|user:|jti:)"))
        .build()
}

/// An instant, RFC 3339.
pub(super) fn instant() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("date-time".into())))
        .build()
}

/// The same as types: `schema_with` of a parameter loses that it is required, and what it is for.
macro_rules! types {
    ($($name:ident = $function:ident),*) => {$(
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $function().into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

types!(
    Room = room,
    PatternText = pattern,
    Segment = segment,
    Client = client,
    SubjectText = subject
);
