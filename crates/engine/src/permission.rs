//! What a session may do to a room, as far as the room's settings and the session itself say.
//!
//! It is a function and not a part of the shard: a driver answers
//! [`Effects::decide`](crate::Effects::decide) with it, or asks somebody else and answers later.
//!
//! | | plain room | `$user/<me>` | `$group/` that the session is in | any other `$` room |
//! |---|---|---|---|---|
//! | join | `join` | the server joins | the server joins | no |
//! | history, members, state | `join` | yes | yes | no |
//! | publish | `publish` | `publish` | `publish` | `publish` |
//!
//! `join` and `publish` are the room's settings; by default `publish` is everyone's in a plain room
//! and nobody's in a `$` room. The HTTP API is not asked for: it may.

use crate::config::Config;
use crate::effects::{Action, Question, Verdict};
use clarion_protocol::RoomKind;

/// Answers a question at once.
#[must_use]
pub fn decide(config: &Config, question: &Question) -> Verdict {
    let settings = config.room(&question.room);
    let allowed = match (question.action, question.room.kind()) {
        (Action::Publish, _) => settings.publish,
        (_, RoomKind::Plain) => settings.join,
        (_, RoomKind::User(user)) => question.sender.user.as_deref() == Some(user),
        (_, RoomKind::Group(_)) => question.member,
        (_, RoomKind::Client(_) | RoomKind::All) => false,
    };
    if allowed { Verdict::Allow } else { Verdict::Deny }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnId;
    use crate::config::{RoomRule, RoomSettings};
    use clarion_protocol::{Pattern, RoomName, Sender};
    use std::sync::Arc;

    fn config(rules: &[(&str, bool, bool)]) -> Config {
        let rule = |&(pattern, join, publish): &(&str, bool, bool)| RoomRule {
            pattern: Pattern::parse(pattern).unwrap(),
            settings: RoomSettings { log: None, durable: false, presence: false, join, publish },
        };
        Config {
            workers: 1,
            limits: crate::config::Limits::default(),
            heartbeat: crate::config::Heartbeat::default(),
            session: crate::config::Session::default(),
            presence: crate::config::Presence::default(),
            deflate: crate::config::Deflate::default(),
            rooms: rules.iter().map(rule).collect(),
            ticket_key: [0; 32],
            hash_seed: 0,
        }
    }

    fn verdict(config: &Config, action: Action, room: &str, member: bool) -> bool {
        let question = Question {
            token: 0,
            conn: ConnId { index: 0, generation: 0 },
            sender: Arc::new(Sender { user: Some("ada".into()), ..Sender::default() }),
            guest: false,
            member,
            action,
            room: RoomName::parse(room).unwrap(),
        };
        decide(config, &question) == Verdict::Allow
    }

    const ALL: [Action; 5] =
        [Action::Join, Action::Publish, Action::History, Action::Members, Action::State];

    // [1.special.publish] [1.client.publish] [4.groups.may] [3.guest.loopback]
    #[test]
    fn without_settings_plain_rooms_are_open_and_special_ones_are_not() {
        let config = config(&[]);
        for action in ALL {
            let reads = action != Action::Publish;
            assert!(verdict(&config, action, "chat/berlin", false));
            assert!(!verdict(&config, action, "$all", true));
            assert!(!verdict(&config, action, "$client/AAAAAAAAAAAAAAAAAAAAAA", true));
            assert!(!verdict(&config, action, "$user/bob", false));
            assert_eq!(verdict(&config, action, "$user/ada", false), reads);
            assert!(!verdict(&config, action, "$group/staff", false));
            assert_eq!(verdict(&config, action, "$group/staff", true), reads);
        }
    }

    // [1.special.publish] [4.groups.may]
    #[test]
    fn settings_close_plain_rooms_and_open_special_ones_for_publishing() {
        let config = config(&[
            ("secret/**", false, false),
            ("news", true, false),
            ("$user/*", true, true),
            ("$all", true, true),
        ]);
        for action in ALL {
            let publish = action == Action::Publish;
            assert!(!verdict(&config, action, "secret/x", true));
            assert_eq!(verdict(&config, action, "news", false), !publish);
            assert_eq!(verdict(&config, action, "$user/bob", false), publish);
            assert_eq!(verdict(&config, action, "$all", false), publish);
            assert!(!verdict(&config, action, "$group/staff", false));
        }
    }
}
