//! Tokens, what a session stands on, and what was revoked: whether anybody is in who must not be.

use clarion_engine::revoked::{Span, Subject};
use std::fmt;

/// A token of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) user: String,
    /// Its `jti`, if it says any.
    pub(crate) id: Option<String>,
    /// 0 if it does not say.
    pub(crate) issued_at_ms: u64,
}

impl Token {
    /// From `user:u0 id:3.1 issued:17`, of which only the user is needed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let said = |name: &str| text.split(' ').find_map(|part| part.strip_prefix(name));
        Some(Self {
            user: said("user:")?.to_owned(),
            id: said("id:").map(str::to_owned),
            issued_at_ms: said("issued:").and_then(|at_ms| at_ms.parse().ok()).unwrap_or(0),
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, id, issued_at_ms } = self;
        write!(f, "user:{user} id:{} issued:{issued_at_ms}", id.as_deref().unwrap_or_default())
    }
}

/// What a session stands on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) user: String,
    pub(crate) client: String,
    /// None for a guest.
    pub(crate) token: Option<Token>,
}

/// A revocation that the API asked for.
#[derive(Debug)]
pub(crate) struct Revocation {
    subject: Subject,
    span: Span,
    /// Answers of workers to come.
    left: usize,
    /// How many said that there are too many.
    too_many: usize,
    /// Whether the store kept it, by what the API was told.
    kept: bool,
    /// Links from this one on began when it held; `None` if it is not known to hold.
    holds_since: Option<usize>,
}

impl Revocation {
    pub(crate) fn new(subject: Subject, span: Span, workers: usize) -> Self {
        Self { subject, span, left: workers, too_many: 0, kept: true, holds_since: None }
    }

    /// A worker answered; `refused` with a limit or without, the latter by who asked the store.
    pub(crate) fn answered(
        &mut self,
        refused: Option<Option<u64>>,
        workers: usize,
        links: usize,
    ) -> Result<(), String> {
        self.left -= 1;
        match refused {
            Some(Some(_)) => self.too_many += 1,
            Some(None) => self.kept = false,
            None => {}
        }
        match (self.left, self.too_many) {
            (0, 0) => self.holds_since = Some(links),
            (0, too_many) if too_many < workers => {
                return Err(format!("workers do not agree whether {self:?} is one too many"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The process has ended, and starts with what the store has.
    pub(crate) fn restarted(
        &mut self,
        kept: &[(Subject, Span)],
        now_ms: u64,
        links: usize,
    ) -> Result<(), String> {
        // Of several of one subject the later of both times is kept.
        let covers =
            |span: &Span| span.at_ms >= self.span.at_ms && span.until_ms >= self.span.until_ms;
        let is_kept = kept.iter().any(|(subject, span)| *subject == self.subject && covers(span));
        let is_due = self.kept && self.holds_since.is_some() && self.span.until_ms > now_ms;
        if is_due && !is_kept {
            return Err(format!("section 3: {self:?} was not kept"));
        }
        self.holds_since = is_kept.then_some(links);
        Ok(())
    }

    /// Whether nobody who began after it held, with link number `link` or any, may stand on this.
    pub(crate) fn forbids(&self, standing: &Standing, link: Option<usize>, now_ms: u64) -> bool {
        let holds = self.holds_since.is_some_and(|since| link.is_none_or(|link| since <= link));
        let token = standing.token.as_ref();
        let is_about = match &self.subject {
            Subject::Client(client) => client.to_string() == standing.client,
            Subject::User(user) => {
                **user == *standing.user
                    && token.is_none_or(|token| token.issued_at_ms <= self.span.at_ms)
            }
            Subject::Token(id) => token.is_some_and(|token| token.id.as_deref() == Some(id)),
        };
        holds && is_about && self.span.until_ms > now_ms
    }
}
