//! Who is in a room, as of the last message.

use std::collections::BTreeMap;

use super::codec::{Member, MembersChange};

/// Who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembersSnapshot {
    /// One entry per session, by client id; empty when `detailed` is false.
    pub members: BTreeMap<String, Member>,
    /// Sessions.
    pub count: u64,
    /// Different users.
    pub users: u64,
    /// False in a room with more members than the server lists (500 by default): only counts.
    pub detailed: bool,
}

impl MembersSnapshot {
    /// Applies a `$members` push; the snapshot of a join is applied to an empty one.
    pub(super) fn apply(&mut self, change: MembersChange) {
        let MembersChange { joined, left, changed, all, count, users } = change;
        self.count = count.unwrap_or(self.count);
        self.users = users.unwrap_or(self.users);
        if let Some(all) = all {
            self.members = all.into_iter().map(by_client).collect();
            self.detailed = true;
        } else if !self.detailed || (joined.is_none() && left.is_none() && changed.is_none()) {
            self.members.clear();
            self.detailed = false;
        } else {
            for member in left.into_iter().flatten() {
                self.members.remove(&member.client);
            }
            self.members.extend(joined.into_iter().chain(changed).flatten().map(by_client));
        }
    }
}

fn by_client(member: Member) -> (String, Member) {
    (member.client.clone(), member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> MembersChange {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn snapshot_follows_changes_and_counts_void_it() {
        let mut snapshot = MembersSnapshot::default();
        snapshot.apply(change(r#"{"all":[{"client":"a"},{"client":"b"}],"count":2,"users":2}"#));
        snapshot.apply(change(
            r#"{"joined":[{"client":"c"}],"left":[{"client":"a"},{"client":"x"}],
                "changed":[{"client":"b","state":null}],"count":2,"users":1}"#,
        ));
        let clients: Vec<_> = snapshot.members.keys().map(String::as_str).collect();
        assert_eq!(clients, ["b", "c"]);
        assert_eq!(snapshot.members["b"].state.as_ref().unwrap().text(), "null");
        assert_eq!((snapshot.count, snapshot.users, snapshot.detailed), (2, 1, true));
        snapshot.apply(change(r#"{"count":501,"users":400}"#));
        assert_eq!((snapshot.members.len(), snapshot.count, snapshot.detailed), (0, 501, false));
        snapshot.apply(change(
            r#"{"joined":[{"client":"d"}],"left":[],"changed":[],"count":502,"users":401}"#,
        ));
        assert!(!snapshot.detailed && snapshot.members.is_empty());
        snapshot.apply(change(r#"{"all":[{"client":"a"}],"count":1,"users":1}"#));
        assert!(snapshot.detailed && snapshot.members.len() == 1);
    }
}
