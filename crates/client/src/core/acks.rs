//! Acknowledges what was handled in `$user/<me>`.

use std::sync::Arc;

use clarion_protocol::Position;

use super::backoff::Backoff;
use super::codec;
use super::commands::Owner;
use super::cx::Cx;
use super::errors::CommandError;

/// What became of the newest `$ack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Saying {
    /// There is none, or it was answered.
    #[default]
    Nothing,
    /// The one with this id is under way.
    UnderWay(u64),
    /// It was refused for now, and is said again at this time.
    Again { at_ms: u64 },
}

/// Acknowledges what was handled, so that the next device begins behind it.
///
/// One `$ack` is under way at a time; meanwhile only the newest position is kept, and it outlives
/// the connection.
#[derive(Default)]
pub(super) struct Acks {
    /// Handled, and not known to be acknowledged.
    unsaid: Option<Position>,
    saying: Saying,
    backoff: Backoff,
}

impl Acks {
    /// Everything up to here was handled.
    pub(super) fn handled(&mut self, position: &Position) {
        self.unsaid = Some(position.clone());
    }

    /// Says what is to be said. To be called while the room is joined.
    pub(super) fn say(&mut self, room: &Arc<str>, cx: &mut Cx) {
        if self.saying == Saying::Nothing
            && let Some(position) = &self.unsaid
        {
            let payload = codec::ack_payload(position);
            let owner = Owner::Ack(room.clone(), position.clone());
            self.saying = Saying::UnderWay(cx.command(owner, "$ack", &payload, room));
        }
    }

    /// The `$ack` with this id was answered, or will not be.
    pub(super) fn answered(
        &mut self,
        id: u64,
        said: &Position,
        result: Result<(), CommandError>,
        room: &Arc<str>,
        cx: &mut Cx,
    ) {
        if self.saying != Saying::UnderWay(id) {
            return;
        }
        match result {
            // It is said again after the next join.
            Err(CommandError::ConnectionLost | CommandError::Closed) => {}
            Err(error) if error.is_temporary() => {
                let wait_ms = cx.backoff_ms(&mut self.backoff, &error);
                self.saying = Saying::Again { at_ms: cx.now.mono_ms.saturating_add(wait_ms) };
            }
            // Said, or refused for good: this position is over, a newer one may be better.
            Ok(()) | Err(_) => {
                self.backoff.reset();
                self.saying = Saying::Nothing;
                self.unsaid.take_if(|unsaid| unsaid == said);
                self.say(room, cx);
            }
        }
    }

    /// There is no connection any more.
    pub(super) fn dropped(&mut self) {
        self.saying = Saying::Nothing;
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        match self.saying {
            Saying::Again { at_ms } => Some(at_ms),
            Saying::Nothing | Saying::UnderWay(_) => None,
        }
    }

    pub(super) fn on_tick(&mut self, room: &Arc<str>, cx: &mut Cx) {
        if self.next_deadline_ms().is_some_and(|at_ms| at_ms <= cx.now.mono_ms) {
            self.saying = Saying::Nothing;
            self.say(room, cx);
        }
    }
}
