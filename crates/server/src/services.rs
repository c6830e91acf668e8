//! What a shard asks of others and is answered at once: who somebody is, and what they may do.
//!
//! Each worker has its own copy; nothing is shared. Verifiers that must ask somebody else answer
//! later, by mail.

use clarion_engine::effects::{Action, AuthOutcome, Credentials, Question, Verdict};
use clarion_protocol::RoomKind;

/// Says who a client is. `guests`: whether one without a token is a guest on its connection.
pub(crate) fn authenticate(credentials: &Credentials, guests: bool) -> AuthOutcome {
    match credentials {
        Credentials::Token(_) => AuthOutcome::Denied("this server has no token verifier"),
        Credentials::None if guests => AuthOutcome::Guest,
        Credentials::None => AuthOutcome::Denied("guests are not allowed here"),
    }
}

/// Says whether a client may do something to a room.
///
/// Every room without `$` is open to whoever was let in. A user may read their own inbox; nobody
/// may publish to a `$` room, which is the HTTP API's.
pub(crate) fn decide(question: &Question) -> Verdict {
    let allowed = match question.room.kind() {
        RoomKind::Plain => true,
        RoomKind::User(user) => {
            question.sender.user.as_deref() == Some(user) && question.action != Action::Publish
        }
        RoomKind::Client(_) | RoomKind::Group(_) | RoomKind::All => false,
    };
    if allowed { Verdict::Allow } else { Verdict::Deny }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clarion_engine::ConnId;
    use clarion_protocol::{RoomName, Sender};
    use std::sync::Arc;

    fn verdict(action: Action, room: &str) -> Verdict {
        decide(&Question {
            token: 0,
            conn: ConnId { index: 0, generation: 0 },
            sender: Arc::new(Sender { user: Some("ada".into()), ..Sender::default() }),
            guest: false,
            action,
            room: RoomName::parse(room).unwrap(),
        })
    }

    #[test]
    fn plain_rooms_are_open_and_special_ones_are_not() {
        use Action::{History, Join, Members, Publish, State};
        for action in [Join, Publish, History, Members, State] {
            assert_eq!(verdict(action, "chat/berlin"), Verdict::Allow);
            assert_eq!(verdict(action, "$all"), Verdict::Deny);
            assert_eq!(verdict(action, "$group/staff"), Verdict::Deny);
            assert_eq!(verdict(action, "$user/bob"), Verdict::Deny);
        }
        assert_eq!(verdict(Join, "$user/ada"), Verdict::Allow);
        assert_eq!(verdict(History, "$user/ada"), Verdict::Allow);
        assert_eq!(verdict(Publish, "$user/ada"), Verdict::Deny);
    }

    #[test]
    fn guests_come_in_where_they_are_allowed() {
        assert_eq!(authenticate(&Credentials::None, true), AuthOutcome::Guest);
        assert!(matches!(authenticate(&Credentials::None, false), AuthOutcome::Denied(_)));
        let token = Credentials::Token("x".into());
        assert!(matches!(authenticate(&token, true), AuthOutcome::Denied(_)));
    }
}
