//! Who was let in and no longer is: revocations, known to every worker.
//!
//! A revocation is of a client, of a user's tokens up to a moment, or of one token by its id. It
//! closes what is connected, and voids tickets and tokens, until it may be forgotten. It is made by
//! the HTTP API, which tells every worker; one of them has the store keep it.
//!
//! There are at most `limits.revocations`, on each worker the same: all are told in the same order,
//! and go by the time in what they are told.

use crate::connection::{Connection, Phase};
use crate::effects::Effects;
use crate::id::{ApiId, ConnId, Now};
use crate::mail::{ApiAnswer, RevocationRow};
use crate::shard::Shard;
use clarion_protocol::{ClientId, Refusal, Sender, close};
use clarion_store::{Request, StoreError};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// Clocks are not further apart than this, milliseconds.
const SKEW_MS: u64 = 30_000;
/// So long after its end a revocation is forgotten, milliseconds: longer than any is on its way.
const LATE_MS: u64 = 60_000;

/// Whose right to be here ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// One session: its ticket is void.
    Client(ClientId),
    /// A user: void are the tokens that were not issued after the revocation, those that do not say
    /// when they were issued, and their tickets.
    User(Box<str>),
    /// A token, by its `jti`, and the tickets that came of it.
    Token(Box<str>),
}

/// Since when and for how long, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was made.
    pub at_ms: u64,
    /// When it may be forgotten.
    pub until_ms: u64,
}

impl Subject {
    /// Whether a connection is meant.
    fn is(&self, sender: &Sender, token_id: Option<&str>) -> bool {
        match self {
            Self::Client(client) => sender.client == Some(*client),
            Self::User(user) => sender.user.as_ref() == Some(user),
            Self::Token(id) => token_id == Some(&**id),
        }
    }

    /// From its text; `None` if it is of nothing that we know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "client" => ClientId::parse(name).ok().map(Self::Client),
            "user" => Some(Self::User(name.into())),
            "jti" => Some(Self::Token(name.into())),
            _ => None,
        }
    }
}

/// What the store calls it, and who reads a list of them page by page.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => write!(f, "client:{client}"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Token(id) => write!(f, "jti:{id}"),
        }
    }
}

/// A request of the HTTP API that waits for the store.
#[derive(Clone, Copy, Debug)]
struct Pending {
    api: ApiId,
    count: u64,
}

/// What is revoked now.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    by_subject: BTreeMap<Subject, Span>,
    /// When the first of them is over, unless it was extended.
    first_over_ms: u64,
    /// What the store was asked to keep, and who waits for it; as many as it lets wait.
    pending: BTreeMap<u64, Pending>,
    asked: u64,
}

impl Revoked {
    pub(crate) fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// Whether what a session stands on is void. `issued_at_ms` is its token's; 0 if it does not say.
    pub(crate) fn voids(
        &self,
        sender: &Sender,
        token_id: Option<&str>,
        issued_at_ms: u64,
        now_ms: u64,
    ) -> bool {
        if self.by_subject.is_empty() {
            return false;
        }
        let span =
            |subject| self.by_subject.get(&subject).filter(|span: &&Span| span.until_ms > now_ms);
        sender.client.is_some_and(|client| span(Subject::Client(client)).is_some())
            || token_id.is_some_and(|id| span(Subject::Token(id.into())).is_some())
            || sender.user.as_ref().is_some_and(|user| {
                span(Subject::User(user.clone())).is_some_and(|span| issued_at_ms <= span.at_ms)
            })
    }

    /// Whether a token that is void may be newer than its user's revocation, by the clock of whoever
    /// signs: many say only in which second that was.
    pub(crate) fn may_be_newer(&self, user: &str, issued_at_ms: u64, now_ms: u64) -> bool {
        let span = self.by_subject.get(&Subject::User(user.into()));
        span.is_some_and(|span| {
            issued_at_ms + SKEW_MS > span.at_ms && now_ms < span.at_ms + SKEW_MS
        })
    }

    /// Forgets those that are over.
    pub(crate) fn sweep(&mut self, now: Now) {
        // Somewhat late: by the time in a revocation that comes now, they may not be over, and all
        // workers have to count them alike.
        self.forget(now.wall_ms.saturating_sub(LATE_MS));
    }

    fn forget(&mut self, now_ms: u64) {
        if self.first_over_ms <= now_ms {
            self.by_subject.retain(|_, span| span.until_ms > now_ms);
            let over = self.by_subject.values().map(|span| span.until_ms).min();
            self.first_over_ms = over.unwrap_or(u64::MAX);
        }
    }

    /// Adds one; a second of the same subject can only extend the first. Says whether there was room.
    fn add(&mut self, subject: Subject, span: Span, limit: usize) -> bool {
        if self.by_subject.len() >= limit {
            self.forget(span.at_ms);
        }
        let full = self.by_subject.len() >= limit;
        if full && !self.by_subject.contains_key(&subject) {
            return false;
        }
        self.first_over_ms = self.first_over_ms.min(span.until_ms);
        let known = self.by_subject.entry(subject).or_insert(span);
        known.at_ms = known.at_ms.max(span.at_ms);
        known.until_ms = known.until_ms.max(span.until_ms);
        true
    }

    fn ask(&mut self, pending: Pending) -> u64 {
        self.asked += 1;
        self.pending.insert(self.asked, pending);
        self.asked
    }
}

impl Shard {
    /// The API revokes. With `keep` the store is asked to keep it, and the answer waits for that.
    pub(crate) fn revoke(
        &mut self,
        api: ApiId,
        subject: &Subject,
        span: Span,
        keep: bool,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let limit = self.config.limits.revocations;
        if !self.revoked.add(subject.clone(), span, limit) {
            if keep {
                self.counters.limit("revocations");
            }
            let why = "there are as many revocations as there may be";
            let refusal = Refusal::unavailable(why).with_limit(limit as u64);
            return fx.answer(api, ApiAnswer::Refused(refusal));
        }
        let meant = |connection: &Connection| {
            let token_id = connection.grants.as_ref().and_then(|g| g.token_id.as_deref());
            let lives =
                matches!(connection.phase, Phase::Authenticating | Phase::Binding | Phase::Open);
            lives && connection.sender.as_ref().is_some_and(|s| subject.is(s, token_id))
        };
        let meant: Vec<_> =
            self.each_connection().filter(|(_, c)| meant(c)).map(|(conn, _)| conn).collect();
        for &conn in &meant {
            self.cast_out(conn, now, fx);
        }
        // Whoever is absent is known by name only; what comes of a token that they came with is not.
        self.end_graces(|sender| subject.is(sender, None), now);
        let count = meant.len() as u64;
        if !keep {
            return fx.answer(api, ApiAnswer::Count(count));
        }
        let token = self.revoked.ask(Pending { api, count });
        let Span { at_ms, until_ms } = span;
        let subject = subject.to_string().into();
        fx.submit(true, Request::Revoke { token, subject, at_ms, until_ms });
    }

    /// Closes a connection whose session is revoked; nobody waits for it to come back.
    fn cast_out(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        if let Some(connection) = self.connection(conn) {
            connection.ended = true;
        }
        let refusal = Refusal::unauthenticated(REVOKED);
        self.turn_away(conn, &refusal, close::UNAUTHENTICATED, now, fx);
    }

    /// Before anybody comes: what the store has kept. It counts, however much that is.
    pub fn restore_revocation(&mut self, subject: Subject, span: Span) {
        self.revoked.add(subject, span, usize::MAX);
    }

    /// The store keeps what was revoked, or does not.
    pub(crate) fn on_revoked(
        &mut self,
        token: u64,
        result: Result<(), StoreError>,
        fx: &mut impl Effects,
    ) {
        let Some(Pending { api, count }) = self.revoked.pending.remove(&token) else { return };
        fx.answer(api, if result.is_ok() { ApiAnswer::Count(count) } else { unknown() });
    }

    /// A page of what is revoked now, by subject.
    pub(crate) fn revocations(
        &self,
        after: Option<&Subject>,
        limit: usize,
        now: Now,
    ) -> Vec<RevocationRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.revoked.by_subject.range((from, Bound::Unbounded));
        let valid = behind.filter(|(_, span)| span.until_ms > now.wall_ms).take(limit);
        valid
            .map(|(subject, span)| RevocationRow { subject: subject.clone(), span: *span })
            .collect()
    }
}

/// What somebody is told whose token or session is void.
pub(crate) const REVOKED: &str = "what you were let in with was revoked";

/// The same, if whoever signs tokens may have one by now that is good.
pub(crate) const RENEW: &str = "this token was revoked; a newer one may be good";

/// It holds here until the process ends; to ask once more does no harm.
fn unknown() -> ApiAnswer {
    ApiAnswer::Refused(Refusal::unavailable("the store did not keep it; it holds until a restart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(user: &str, client: u8) -> Sender {
        Sender { client: Some(ClientId([client; 16])), user: Some(user.into()), info: None }
    }

    #[test]
    fn a_subject_comes_back_from_its_text() {
        for subject in [
            Subject::Client(ClientId([3; 16])),
            Subject::User("guest:ada".into()),
            Subject::Token("user:a\u{0} b".into()),
        ] {
            assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
        }
        for text in ["", "user", "client:ada", "group:a", "User:ada"] {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }

    // [3.revoked.user] [3.revoked.token]
    #[test]
    fn a_revocation_voids_what_is_not_newer_until_it_ends() {
        let mut revoked = Revoked::default();
        let span = Span { at_ms: 1_000, until_ms: 5_000 };
        assert!(revoked.add(Subject::User("ada".into()), span, 10));
        assert!(revoked.add(Subject::Token("t".into()), span, 10));
        let ada = |issued, now| revoked.voids(&sender("ada", 1), None, issued, now);
        assert!(ada(0, 1_000) && ada(1_000, 1_000) && ada(1_000, 4_999));
        assert!(!ada(1_001, 1_000) && !ada(0, 5_000));
        assert!(!revoked.voids(&sender("bob", 1), None, 0, 1_000));
        assert!(revoked.voids(&sender("bob", 1), Some("t"), 9_000, 1_000));
        assert!(!revoked.voids(&sender("bob", 1), Some("t"), 0, 5_000));
    }

    // [3.revoked.limit]
    #[test]
    fn there_are_so_many_and_what_is_over_makes_room() {
        let mut revoked = Revoked::default();
        let mut add = |n: u64, at_ms| {
            let span = Span { at_ms, until_ms: 100 + n };
            revoked.add(Subject::User(format!("u{n}").into()), span, 3)
        };
        assert!(add(1, 0) && add(2, 0) && add(3, 0));
        assert!(!add(4, 100), "full");
        assert!(add(2, 100), "known already");
        assert!(add(4, 101), "the first is over");
        assert_eq!(revoked.len(), 3);
        revoked.forget(102);
        assert_eq!(revoked.len(), 2);
    }
}
