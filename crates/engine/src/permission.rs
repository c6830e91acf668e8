//! What a session may do to a room, as far as the room's settings and the session's token say.
//!
//! It is a function and not a part of the shard: a driver answers
//! [`Effects::decide`](crate::Effects::decide) with it, or asks somebody else and answers later.
//!
//! Each action of a room is open to somebody ([`Access`]). A token may list rooms and what its session
//! may do there ([`Grants::rooms`](crate::effects::Grants)); such a session is confined to the list.
//!
//! | the setting | a guest | a token without list | a token that lists it | a token that lists other things |
//! |---|---|---|---|---|
//! | `everyone` | yes | yes | yes | no |
//! | `users` | no | yes | yes | no |
//! | `granted` | no | no | yes | no |
//! | `nobody` | no | no | no | no |
//!
//! Which setting is asked, or what is so without asking any:
//!
//! | | plain room | `$user/<me>` | `$group/` that the session is in | any other `$` room |
//! |---|---|---|---|---|
//! | join | `join` | the server joins | the server joins | no |
//! | history, members, state | the setting of that name | yes | yes | no |
//! | publish | `publish` | `publish` | `publish` | `publish` |
//!
//! By default plain rooms are everyone's, and `publish` is `granted` in `$` rooms: a pattern of a
//! token matches those only if it begins with `$`, and whoever signs tokens is trusted like
//! whoever writes the settings. A list never takes a session's own room or its groups' from it:
//! those it has from the same token. A join with `members: true` needs both. The HTTP API is not
//! asked for: it may.

use crate::config::{Access, Config};
use crate::effects::{Action, Question, Verdict};
use clarion_protocol::RoomKind;

/// Answers a question at once.
#[must_use]
pub fn decide(config: &Config, question: &Question) -> Verdict {
    let members = question.members && !may(config, question, Action::Members);
    if members || !may(config, question, question.action) { Verdict::Deny } else { Verdict::Allow }
}

fn may(config: &Config, question: &Question, action: Action) -> bool {
    match (action, question.room.kind()) {
        (Action::Publish, _) | (_, RoomKind::Plain) => {}
        (_, RoomKind::User(user)) => return question.sender.user.as_deref() == Some(user),
        (_, RoomKind::Group(_)) => return question.member,
        (_, RoomKind::Client(_) | RoomKind::All) => return false,
    }
    let list = question.grants.as_ref().and_then(|grants| grants.rooms.as_deref());
    let listed = list.map(|list| {
        let room = question.room.as_str();
        list.iter().any(|grant| grant.actions.contains(action) && grant.pattern.matches(room))
    });
    match config.permissions(&question.room).of(action) {
        Access::Everyone => listed != Some(false),
        Access::Users => !question.guest && listed != Some(false),
        Access::Granted => listed == Some(true),
        Access::Nobody => false,
    }
}
