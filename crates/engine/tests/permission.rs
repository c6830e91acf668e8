//! Who may do what: the table of `permission.rs`, against one written down otherwise.

use clarion_engine::ConnId;
use clarion_engine::config::{Access, Config, Permissions, RoomRule, RoomSettings};
use clarion_engine::effects::{Action, Actions, Grants, Question, RoomGrant, Verdict};
use clarion_engine::permission::decide;
use clarion_protocol::{Pattern, RoomName, Sender};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Small enough that patterns, lists and rooms often meet.
const ROOMS: [&str; 10] = [
    "chat",
    "chat/berlin",
    "chat/berlin/mitte",
    "Chat",
    "doc/42",
    "$user/ada",
    "$user/bob",
    "$group/staff",
    "$client/AAAAAAAAAAAAAAAAAAAAAA",
    "$all",
];
/// Patterns, each with the rooms that it means by their numbers above.
const PATTERNS: [(&str, &[usize]); 9] = [
    ("**", &[0, 1, 2, 3, 4]),
    ("chat", &[0]),
    ("chat/*", &[1]),
    ("chat/**", &[0, 1, 2]),
    ("*", &[0, 3]),
    ("$user/*", &[5, 6]),
    ("$user/bob", &[6]),
    ("$group/**", &[7]),
    ("$all", &[9]),
];

/// One asker and one room: what the model knows.
#[derive(Clone, Debug)]
struct Case {
    rules: Vec<(usize, Permissions)>,
    guest: bool,
    list: Option<Vec<(usize, Vec<Action>)>>,
    member: bool,
    action: Action,
    members: bool,
    room: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let access = || select(vec![Access::Everyone, Access::Users, Access::Granted, Access::Nobody]);
    let permissions = (access(), access(), access(), access(), access()).prop_map(
        |(join, publish, history, members, state)| Permissions {
            join,
            publish,
            history,
            members,
            state,
        },
    );
    let pattern = || 0..PATTERNS.len();
    let actions = vec(select(Action::ALL.to_vec()), 0..5);
    (
        vec((pattern(), permissions), 0..4),
        any::<bool>(),
        prop::option::of(vec((pattern(), actions), 0..4)),
        any::<bool>(),
        select(Action::ALL.to_vec()),
        any::<bool>(),
        0..ROOMS.len(),
    )
        .prop_map(|(rules, guest, list, member, action, members, room)| Case {
            rules,
            guest,
            // Whoever has no token has no list.
            list: list.filter(|_| !guest),
            member,
            action,
            members: members && action == Action::Join,
            room,
        })
}

/// The rules as sentences, one after the other; the first that speaks decides.
fn model(case: &Case, action: Action) -> bool {
    let room = ROOMS[case.room];
    let means = |pattern: usize| PATTERNS[pattern].1.contains(&case.room);
    if room.starts_with('$') && action != Action::Publish {
        // What can be read without a setting: one's own room, and those of one's groups.
        return (room == "$user/ada" && !case.guest) || (room == "$group/staff" && case.member);
    }
    let setting = match case.rules.iter().find(|(pattern, _)| means(*pattern)) {
        Some((_, permissions)) => match action {
            Action::Join => permissions.join,
            Action::Publish => permissions.publish,
            Action::History => permissions.history,
            Action::Members => permissions.members,
            Action::State => permissions.state,
        },
        None if room.starts_with('$') => Access::Granted,
        None => Access::Everyone,
    };
    let listed = match &case.list {
        None => false,
        Some(list) => {
            let mut found = false;
            for (pattern, actions) in list {
                for allowed in actions {
                    found |= means(*pattern) && *allowed == action;
                }
            }
            // A list confines, whatever the setting.
            if !found {
                return false;
            }
            true
        }
    };
    if setting == Access::Nobody {
        return false;
    }
    if setting == Access::Granted {
        return listed;
    }
    setting == Access::Everyone || !case.guest
}

fn asked(case: &Case) -> Verdict {
    let pattern = |index: usize| Pattern::parse(PATTERNS[index].0).unwrap();
    let rules = case.rules.iter().map(|(index, permissions)| RoomRule {
        pattern: pattern(*index),
        settings: RoomSettings { permissions: *permissions, ..RoomSettings::default() },
    });
    let config = Config {
        workers: 1,
        limits: Default::default(),
        heartbeat: Default::default(),
        session: Default::default(),
        presence: Default::default(),
        deflate: Default::default(),
        rooms: rules.collect(),
        ticket_key: [0; 32],
        groups_durable: false,
        hash_seed: 0,
    };
    let rooms = case.list.as_ref().map(|list| {
        let grant = |(index, actions): &(usize, Vec<Action>)| RoomGrant {
            pattern: pattern(*index),
            actions: actions.iter().copied().collect::<Actions>(),
        };
        list.iter().map(grant).collect()
    });
    let user = if case.guest { "guest:x" } else { "ada" };
    let question = Question {
        token: 0,
        conn: ConnId { index: 0, generation: 0 },
        sender: Arc::new(Sender { user: Some(user.into()), ..Sender::default() }),
        guest: case.guest,
        grants: rooms.map(|rooms| Arc::new(Grants { rooms: Some(rooms), ..Grants::default() })),
        member: case.member,
        action: case.action,
        members: case.members,
        room: RoomName::parse(ROOMS[case.room]).unwrap(),
    };
    decide(&config, &question)
}

/// A token that lists something and one that lists nothing, in a room without settings.
fn case(room: &str, action: Action, list: Option<&[(&str, &[Action])]>) -> Case {
    let index = |text: &str| PATTERNS.iter().position(|(pattern, _)| *pattern == text).unwrap();
    Case {
        rules: Vec::new(),
        guest: false,
        list: list.map(|list| list.iter().map(|(text, may)| (index(text), may.to_vec())).collect()),
        member: false,
        action,
        members: false,
        room: ROOMS.iter().position(|name| *name == room).unwrap(),
    }
}

// [3.may.list] [3.may.special] [1.special.publish] [1.client.publish]
#[test]
fn without_settings_a_token_that_lists_a_special_room_may_publish_there_and_no_other() {
    let publish = Action::Publish;
    for room in ["$user/bob", "$group/staff", "$all"] {
        assert_eq!(asked(&case(room, publish, None)), Verdict::Deny, "{room}");
        let all = [("**", &Action::ALL[..])];
        assert_eq!(asked(&case(room, publish, Some(&all))), Verdict::Deny, "** is no $ room");
    }
    let own = [("$user/*", &[publish][..])];
    assert_eq!(asked(&case("$user/bob", publish, Some(&own))), Verdict::Allow);
    assert_eq!(asked(&case("$user/bob", Action::History, Some(&own))), Verdict::Deny);
    assert_eq!(asked(&case("$user/ada", Action::History, Some(&own))), Verdict::Allow);
    assert_eq!(asked(&case("chat", Action::Join, Some(&own))), Verdict::Deny, "it confines");
    assert_eq!(asked(&case("chat", Action::Join, None)), Verdict::Allow);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    // [3.may.access] [3.may.list] [3.may.members] [4.groups.may] [3.guest.loopback]
    #[test]
    fn it_is_what_the_sentences_say(case in cases()) {
        let mut allowed = model(&case, case.action);
        if case.members {
            allowed &= model(&case, Action::Members);
        }
        let verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
        prop_assert_eq!(asked(&case), verdict);
    }

    // [3.may.list]
    #[test]
    fn a_list_never_allows_what_its_token_without_it_may_not_unless_the_setting_is_granted(
        case in cases(),
    ) {
        let free = Case { list: None, ..case.clone() };
        let granted = |case: &Case| case.rules.iter().any(|(_, may)| {
            Action::ALL.into_iter().any(|action| may.of(action) == Access::Granted)
        });
        if !granted(&case) && !ROOMS[case.room].starts_with('$') && asked(&case) == Verdict::Allow {
            prop_assert_eq!(asked(&free), Verdict::Allow);
        }
    }
}
