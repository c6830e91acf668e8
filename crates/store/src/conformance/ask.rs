//! Asking a store one thing and taking the answer apart.

use crate::{
    Appended, Completion, Groups, Key, LogLimits, Page, Range, Request, Revocations, Standing,
    Store, StoreError,
};
use bytes::Bytes;
use clarion_protocol::{Epoch, Offset, Publication, RoomName};
use std::sync::Arc;

/// Bounds of keys and logs that no case reaches by accident.
pub(super) const WIDE: LogLimits =
    LogLimits { size: 1_000_000, age_ms: 1 << 40, bytes: 1 << 30, key_window_ms: 1 << 40 };

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).expect("a name of a case")
}

pub(super) fn epoch(text: &str) -> Epoch {
    Epoch::new(text).expect("an epoch of a case")
}

pub(super) fn key(principal: &str, key: &str) -> Option<Key> {
    Some(Key { principal: principal.into(), key: key.into() })
}

pub(super) fn publication(payload: &str, time_ms: u64) -> Publication {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Publication { kind: "note".into(), payload, time_ms, from: None, key: None }
}

/// An append of a text, with an epoch of its own for the log that it may make.
pub(super) fn append(token: u64, to: &str, text: &str, limits: LogLimits, now_ms: u64) -> Request {
    Request::Append {
        token,
        room: room(to),
        publication: Arc::new(publication(text, now_ms)),
        key: None,
        limits,
        fresh: epoch(&format!("e-{to}")),
    }
}

/// An append with a key.
pub(super) fn keyed(
    to: &str,
    text: &str,
    used: Option<Key>,
    limits: LogLimits,
    now: u64,
) -> Request {
    match append(1, to, text, limits, now) {
        Request::Append { token, room, publication, limits, fresh, .. } => {
            let mut publication = (*publication).clone();
            publication.key = used.as_ref().map(|key| key.key.clone());
            let publication = Arc::new(publication);
            Request::Append { token, room, publication, key: used, limits, fresh }
        }
        _ => unreachable!("an append is one"),
    }
}

pub(super) fn read_request(from: &str, range: Range, limit: u32, bytes: usize) -> Request {
    let (room, age_ms) = (room(from), WIDE.age_ms);
    Request::Read { token: 2, room, range, limit, bytes, age_ms, fresh: None }
}

pub(super) fn one(store: &mut impl Store, request: Request, now_ms: u64) -> Completion {
    let mut completions = store.apply(vec![request], now_ms);
    assert_eq!(completions.len(), 1, "one completion for one request");
    completions.pop().expect("there is one")
}

pub(super) fn appended(store: &mut impl Store, request: Request, now_ms: u64) -> Appended {
    match one(store, request, now_ms) {
        Completion::Appended { result, .. } => result.expect("the store works"),
        other => panic!("an append was answered with {other:?}"),
    }
}

/// Appends a text and gives its offset.
pub(super) fn put(store: &mut impl Store, to: &str, text: &str) -> Offset {
    appended(store, append(1, to, text, WIDE, 0), 0).offset
}

pub(super) fn open(store: &mut impl Store, of: &str, fresh: &str) -> Standing {
    let request = Request::Open { token: 3, room: room(of), fresh: epoch(fresh) };
    match one(store, request, 0) {
        Completion::Opened { token: 3, result } => result.expect("the store works"),
        other => panic!("an open was answered with {other:?}"),
    }
}

pub(super) fn try_read(
    store: &mut impl Store,
    request: Request,
    now_ms: u64,
) -> Result<Page, StoreError> {
    match one(store, request, now_ms) {
        Completion::Read { token: 2, result } => result,
        other => panic!("a read was answered with {other:?}"),
    }
}

pub(super) fn read(
    store: &mut impl Store,
    from: &str,
    range: Range,
    limit: u32,
    bytes: usize,
) -> Page {
    try_read(store, read_request(from, range, limit, bytes), 0).expect("the store works")
}

/// Everything that the log has.
pub(super) fn all(store: &mut impl Store, from: &str) -> Page {
    read(store, from, Range::After(0), u32::MAX, usize::MAX)
}

pub(super) fn ack(store: &mut impl Store, of: &str, log: &str, offset: Offset) -> Offset {
    let request = Request::Ack { token: 4, room: room(of), epoch: epoch(log), offset };
    match one(store, request, 0) {
        Completion::Acked { token: 4, result } => result.expect("the store works"),
        other => panic!("an acknowledgement was answered with {other:?}"),
    }
}

pub(super) fn revoke(store: &mut impl Store, subject: &str, at_ms: u64, until_ms: u64) {
    let request = Request::Revoke { token: 5, subject: subject.into(), at_ms, until_ms };
    assert_eq!(one(store, request, 0), Completion::Revoked { token: 5, result: Ok(()) });
}

pub(super) fn revoked(
    store: &mut impl Store,
    after: Option<&str>,
    limit: u32,
    now_ms: u64,
) -> Revocations {
    let request = Request::Revocations { token: 6, after: after.map(Into::into), limit };
    match one(store, request, now_ms) {
        Completion::Revocations { token: 6, result } => result.expect("the store works"),
        other => panic!("a list was answered with {other:?}"),
    }
}

/// Says whether it changed anything.
pub(super) fn group(store: &mut impl Store, group: &str, user: &str, member: bool) -> bool {
    let request = Request::Group { token: 7, group: group.into(), user: user.into(), member };
    match one(store, request, 0) {
        Completion::Grouped { token: 7, result } => result.expect("the store works"),
        other => panic!("a group was answered with {other:?}"),
    }
}

pub(super) fn groups(store: &mut impl Store, after: Option<(&str, &str)>, limit: u32) -> Groups {
    let after = after.map(|(group, user)| (group.into(), user.into()));
    match one(store, Request::Groups { token: 8, after, limit }, 0) {
        Completion::Groups { token: 8, result } => result.expect("the store works"),
        other => panic!("a list was answered with {other:?}"),
    }
}

pub(super) fn offsets(page: &Page) -> Vec<Offset> {
    page.publications.iter().map(|(offset, _)| *offset).collect()
}

pub(super) fn texts(page: &Page) -> Vec<String> {
    let text = |(_, publication): &(Offset, Arc<Publication>)| {
        String::from_utf8_lossy(&publication.payload).into_owned()
    };
    page.publications.iter().map(text).collect()
}
