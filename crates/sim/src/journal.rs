//! What every client said and was told, and whether it was as promised.
//!
//! The checker knows nothing of shards and stores: it reads what clients wrote down, in the order in
//! which it happened, and what the logs of durable rooms have in the end. Each check is a promise of
//! the spec's section 5; the tests below break each once.

use crate::disk::Kept;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A place in a log: its epoch, and an offset.
pub(crate) type Place = (String, u64);

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Which connection; no other has the number, also after a restart.
    pub(crate) link: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It began, as this user; guests have none.
    Hello { user: Option<String> },
    /// It published, which nobody else does with this payload unless the key is the same.
    Said { room: String, payload: String },
    /// A publication was acknowledged; one with a key names whose it is.
    Acked { room: String, key: Option<Key>, payload: String, place: Place, duplicate: bool },
    /// It is in a room from here on; `next` is the first that it hears, if there is a log.
    Joined { room: String, after: Option<Place>, next: Option<Place>, recovered: bool },
    /// It was told that it goes on from here.
    Gap { room: String, next: Place },
    /// It is in the room no longer.
    Left { room: String },
    /// A publication came.
    Heard { room: String, place: Place, payload: String, key: Option<Key> },
    /// It acknowledged its inbox up to an offset.
    Ack { offset: u64 },
    /// The server has that.
    AckKept { epoch: String, offset: u64 },
}

/// Whose key, and which.
pub(crate) type Key = (String, String);

/// Looks whether a history is as promised. `endings` has every durable room that has a log.
pub(crate) fn check(events: &[Event], endings: &BTreeMap<String, Kept>) -> Result<(), String> {
    let places = places(events, endings)?;
    streams(events)?;
    losses(events, endings)?;
    gaps(events, endings)?;
    keys(events)?;
    orders(events, &places)?;
    inboxes(events, endings)
}

type Places = HashMap<(String, Place), String>;

/// Promise 1: a place names one publication, which is one that somebody published to the room.
fn places(events: &[Event], endings: &BTreeMap<String, Kept>) -> Result<Places, String> {
    let mut said = BTreeSet::new();
    for event in events {
        if let What::Said { room, payload } = &event.what {
            said.insert((room, payload));
        }
    }
    let mut places = HashMap::new();
    let mut note = |room: &String, place: Place, payload: &String| {
        if !said.contains(&(room, payload)) {
            return Err(format!("promise 1: nobody published {payload} at {place:?} of {room}"));
        }
        match places.insert((room.clone(), place.clone()), payload.clone()) {
            Some(before) if before != *payload => {
                Err(format!("promise 1: {place:?} of {room} names both {before} and {payload}"))
            }
            _ => Ok(()),
        }
    };
    for event in events {
        match &event.what {
            What::Acked { room, payload, place, duplicate: false, .. }
            | What::Heard { room, place, payload, .. } => {
                note(room, place.clone(), payload)?;
            }
            _ => {}
        }
    }
    for (room, kept) in endings {
        for (offset, payload) in &kept.payloads {
            note(room, (kept.epoch.clone(), *offset), payload)?;
        }
    }
    Ok(places)
}

/// Promises 1 and 2: on each connection the offsets of a room follow each other, from where the join
/// or a gap said; and what was recovered goes on where it was asked to.
fn streams(events: &[Event]) -> Result<(), String> {
    let mut streams: HashMap<(usize, &str), Option<Place>> = HashMap::new();
    for Event { link, what } in events {
        match what {
            What::Joined { room, after, next, recovered } => {
                // A device without a position is told so of its inbox; [`inboxes`] looks at those.
                let own = after.is_none() && room.starts_with("$user/");
                if *recovered && !own {
                    let wanted = after.as_ref().map(|(epoch, offset)| (epoch.clone(), offset + 1));
                    if wanted.is_none() || *next != wanted {
                        return Err(format!(
                            "promise 2: {room} is recovered from {next:?}, asked for {after:?}"
                        ));
                    }
                }
                streams.insert((*link, room), next.clone());
            }
            What::Gap { room, next } => {
                let stream = streams.get_mut(&(*link, room));
                let Some(Some(expected)) = stream else {
                    return Err(format!("promise 1: a gap in {room}, where there is no stream"));
                };
                if expected.0 == next.0 && next.1 < expected.1 {
                    return Err(format!("promise 1: a gap of {room} goes back to {next:?}"));
                }
                *expected = next.clone();
            }
            What::Left { room } => {
                streams.remove(&(*link, room.as_str()));
            }
            What::Heard { room, place, .. } => match streams.get_mut(&(*link, room)) {
                Some(Some(expected)) if expected == place => expected.1 += 1,
                other => {
                    return Err(format!("promise 1: {place:?} of {room} came, not {other:?}"));
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// Promise 3: what was acknowledged, or seen by anybody, is in the log for good.
fn losses(events: &[Event], endings: &BTreeMap<String, Kept>) -> Result<(), String> {
    for event in events {
        let (room, place, how) = match &event.what {
            What::Acked { room, place, .. } => (room, place, "acknowledged"),
            What::Heard { room, place, .. } => (room, place, "delivered"),
            _ => continue,
        };
        if !is_durable(room) {
            continue;
        }
        let there = endings.get(room).is_some_and(|kept| {
            let (epoch, offset) = place;
            let trimmed = *offset < kept.first;
            kept.epoch == *epoch && (trimmed || kept.payloads.contains_key(offset))
        });
        if !there {
            return Err(format!("promise 3: {place:?} of {room} was {how} and is not kept"));
        }
    }
    Ok(())
}

/// Promises 1 and 2, the other way round: what a durable log still has is not called lost.
fn gaps(events: &[Event], endings: &BTreeMap<String, Kept>) -> Result<(), String> {
    let has = |room: &str, (epoch, offset): &Place| {
        let kept = endings.get(room);
        kept.is_some_and(|kept| kept.epoch == *epoch && kept.first <= offset + 1)
    };
    let mut streams: HashMap<(usize, &str), Place> = HashMap::new();
    for Event { link, what } in events {
        match what {
            What::Joined { room, after, next, recovered } => {
                if let Some(after) = after
                    && is_durable(room)
                    && has(room, after)
                    && !recovered
                {
                    return Err(format!(
                        "promise 2: {room} has what follows {after:?}, and did not say so"
                    ));
                }
                streams.extend(next.clone().map(|next| ((*link, room.as_str()), next)));
            }
            What::Gap { room, next } if is_durable(room) => {
                // The epoch of a log that nothing was appended to is nobody's loss.
                if let Some((epoch, expected)) = streams.insert((*link, room), next.clone())
                    && expected > 1
                    && has(room, &(epoch.clone(), expected - 1))
                    && (&epoch, expected) != (&next.0, next.1)
                {
                    return Err(format!(
                        "promise 1: {room} has {expected} of {epoch}, and a gap leads to {next:?}"
                    ));
                }
            }
            What::Heard { room, place: (epoch, offset), .. } => {
                streams.insert((*link, room), (epoch.clone(), offset + 1));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Promise 4: a key of a user is one publication in a log.
fn keys(events: &[Event]) -> Result<(), String> {
    let mut offsets: HashMap<(&str, &str, &Key), u64> = HashMap::new();
    for event in events {
        let (room, key, (epoch, offset)) = match &event.what {
            What::Acked { room, key: Some(key), place, .. }
            | What::Heard { room, key: Some(key), place, .. } => (room, key, place),
            _ => continue,
        };
        let first = *offsets.entry((room, epoch, key)).or_insert(*offset);
        if first != *offset {
            return Err(format!(
                "promise 4: {key:?} is at {first} and at {offset} of {room}, {epoch}"
            ));
        }
    }
    Ok(())
}

/// Promise 5: what a connection published to a room once stands there in this order.
fn orders(events: &[Event], places: &Places) -> Result<(), String> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for event in events {
        if let What::Said { payload, .. } = &event.what {
            *times.entry(payload).or_default() += 1;
        }
    }
    let at: HashMap<(&str, &str), &Place> = places
        .iter()
        .map(|((room, place), payload)| ((room.as_str(), payload.as_str()), place))
        .collect();
    let mut last: HashMap<(usize, &str, &str), u64> = HashMap::new();
    for Event { link, what } in events {
        let What::Said { room, payload } = what else { continue };
        let once = times[payload.as_str()] == 1;
        let Some((epoch, offset)) = at.get(&(room.as_str(), payload.as_str())).filter(|_| once)
        else {
            continue;
        };
        let last = last.entry((*link, room, epoch)).or_default();
        if *offset < *last {
            return Err(format!("promise 5: {payload} is at {offset} of {room}, behind {last}"));
        }
        *last = *offset;
    }
    Ok(())
}

/// Promise 7: a device without a position begins behind what its user acknowledged, and no further.
fn inboxes(events: &[Event], endings: &BTreeMap<String, Kept>) -> Result<(), String> {
    let mut users: HashMap<usize, &str> = HashMap::new();
    // By user: the most that was said, and by user and epoch the most that was kept.
    let mut said: HashMap<&str, u64> = HashMap::new();
    let mut kept: HashMap<(&str, &str), u64> = HashMap::new();
    // What was kept when the connection began.
    let mut least: HashMap<usize, HashMap<String, u64>> = HashMap::new();
    for Event { link, what } in events {
        let user = users.get(link).copied();
        match (what, user) {
            (What::Hello { user: Some(user) }, _) => {
                users.insert(*link, user);
                let own = kept.iter().filter(|((of, _), _)| of == user);
                least.insert(*link, own.map(|((_, epoch), n)| ((*epoch).into(), *n)).collect());
            }
            (What::Ack { offset }, Some(user)) => {
                let said = said.entry(user).or_default();
                *said = (*said).max(*offset);
            }
            (What::AckKept { epoch, offset }, Some(user)) => {
                let kept = kept.entry((user, epoch)).or_default();
                *kept = (*kept).max(*offset);
            }
            (What::Joined { room, after: None, next: Some((epoch, next)), .. }, Some(user))
                if room.strip_prefix("$user/") == Some(user) =>
            {
                let least = least[link].get(epoch).copied().unwrap_or_default();
                let trimmed = endings.get(room).map_or(0, |kept| kept.first - 1);
                let most = said.get(user).copied().unwrap_or_default().max(trimmed);
                if next - 1 < least || next - 1 > most {
                    return Err(format!(
                        "promise 7: a device of {user} begins at {next}; {least} was acknowledged for certain, {most} at most"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a room of the simulation outlives the process.
pub(crate) fn is_durable(room: &str) -> bool {
    room.starts_with("$user/") || room.starts_with("$group/") || ["a", "b/c"].contains(&room)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "e";
    /// Connections: two of ada's devices, the second of which comes later, and bob's.
    const ADA: usize = 1;
    const BOB: usize = 2;
    const LATER: usize = 3;
    const INBOX: &str = "$user/ada";

    fn place(offset: u64) -> Place {
        (EPOCH.into(), offset)
    }

    fn said(room: &str, payload: &str) -> What {
        What::Said { room: room.into(), payload: payload.into() }
    }

    fn acked(room: &str, key: Option<&str>, payload: &str, offset: u64) -> What {
        let key = key.map(|key| ("ada".into(), key.into()));
        let (room, payload) = (room.into(), payload.into());
        What::Acked { room, key, payload, place: place(offset), duplicate: false }
    }

    fn joined(room: &str, after: Option<u64>, next: u64) -> What {
        let recovered = after.is_some_and(|after| after + 1 == next);
        let (after, next) = (after.map(place), Some(place(next)));
        What::Joined { room: room.into(), after, next, recovered }
    }

    fn heard(room: &str, offset: u64, payload: &str) -> What {
        let key = (payload == "one").then(|| ("ada".into(), "k".into()));
        What::Heard { room: room.into(), place: place(offset), payload: payload.into(), key }
    }

    fn kept(first: u64, payloads: &[&str]) -> Kept {
        let payloads = payloads.iter().enumerate();
        let payloads: BTreeMap<u64, String> =
            payloads.map(|(at, payload)| (first + at as u64, (*payload).into())).collect();
        Kept { epoch: EPOCH.into(), head: first + payloads.len() as u64 - 1, first, payloads }
    }

    /// What a whole server does: two publications, of which the first is repeated with its key after a
    /// restart; somebody who comes back; and an inbox.
    fn good() -> (Vec<(usize, What)>, BTreeMap<String, Kept>) {
        let user = |user: &str| What::Hello { user: Some(user.into()) };
        let history = vec![
            (ADA, user("ada")),
            (BOB, user("bob")),
            (BOB, joined("a", None, 1)),
            (ADA, said("a", "one")),
            (ADA, said("a", "two")),
            (BOB, heard("a", 1, "one")),
            (ADA, acked("a", None, "two", 2)),
            // The server is killed here, and starts again.
            (BOB, joined("a", Some(1), 2)),
            (ADA, said("a", "one")),
            (
                ADA,
                What::Acked {
                    room: "a".into(),
                    key: Some(("ada".into(), "k".into())),
                    payload: "one".into(),
                    place: place(1),
                    duplicate: true,
                },
            ),
            (BOB, heard("a", 2, "two")),
            (BOB, said("a", "four")),
            (BOB, acked("a", None, "four", 3)),
            (BOB, said(INBOX, "letter")),
            (BOB, acked(INBOX, None, "letter", 1)),
            (ADA, joined(INBOX, None, 1)),
            (ADA, heard(INBOX, 1, "letter")),
            (ADA, What::Ack { offset: 1 }),
            (ADA, What::AckKept { epoch: EPOCH.into(), offset: 1 }),
            (LATER, user("ada")),
            (LATER, joined(INBOX, None, 2)),
        ];
        let endings = [("a", kept(1, &["one", "two", "four"])), (INBOX, kept(1, &["letter"]))];
        (history, endings.map(|(room, kept)| (room.to_owned(), kept)).into())
    }

    type Change = fn(&mut Vec<(usize, What)>, &mut BTreeMap<String, Kept>);

    /// What is said of the good history after a change.
    fn broken(change: Change) -> String {
        let (mut history, mut endings) = good();
        change(&mut history, &mut endings);
        let events: Vec<_> = history.into_iter().map(|(link, what)| Event { link, what }).collect();
        check(&events, &endings).err().unwrap_or_default()
    }

    /// The first event that looks like this.
    fn find(history: &[(usize, What)], what: &What) -> usize {
        let text = format!("{what:?}");
        let at = history.iter().position(|(_, it)| format!("{it:?}") == text);
        at.expect("the good history has it")
    }

    #[test]
    fn a_whole_history_is_good() {
        assert_eq!(broken(|_, _| ()), "");
    }

    #[test]
    fn what_was_acknowledged_or_seen_has_to_be_kept() {
        let lost: Change = |_, endings| {
            endings.insert("a".into(), kept(1, &["one", "two"]));
        };
        assert!(broken(lost).starts_with("promise 3"), "{}", broken(lost));
        let all: Change = |_, endings| {
            endings.remove(INBOX);
        };
        assert!(broken(all).starts_with("promise 3"), "{}", broken(all));
        let other_epoch: Change = |_, endings| {
            endings.get_mut("a").unwrap().epoch = "f".into();
        };
        assert!(broken(other_epoch).starts_with("promise 3"), "{}", broken(other_epoch));
        let only_seen: Change = |history, _| {
            history.extend([(ADA, said("a", "five")), (BOB, heard("a", 3, "four"))]);
            history.push((BOB, heard("a", 4, "five")));
        };
        assert!(broken(only_seen).contains("was delivered"), "{}", broken(only_seen));
        let trimmed: Change = |_, endings| {
            endings.insert("a".into(), kept(3, &["four"]));
        };
        assert_eq!(broken(trimmed), "", "what is trimmed was kept");
    }

    #[test]
    fn a_place_has_one_publication_and_that_was_published() {
        let twice: Change = |history, _| {
            history.extend([(ADA, said("a", "other")), (ADA, acked("a", None, "other", 2))]);
        };
        assert!(broken(twice).contains("names both"), "{}", broken(twice));
        let torn: Change = |_, endings| {
            endings.get_mut("a").unwrap().payloads.insert(3, "fo".into());
        };
        assert!(broken(torn).contains("nobody published"), "{}", broken(torn));
        let elsewhere: Change = |history, _| {
            let at = find(history, &said("a", "four"));
            history[at].1 = said("b/c", "four");
        };
        assert!(broken(elsewhere).contains("nobody published"), "{}", broken(elsewhere));
    }

    #[test]
    fn offsets_follow_each_other_on_every_connection() {
        let repeated: Change = |history, _| {
            let at = find(history, &heard("a", 2, "two"));
            history.insert(at, (BOB, heard("a", 1, "one")));
        };
        assert!(broken(repeated).starts_with("promise 1"), "{}", broken(repeated));
        let hole: Change = |history, _| {
            let at = find(history, &heard("a", 2, "two"));
            history[at].1 = heard("a", 3, "four");
        };
        assert!(broken(hole).starts_with("promise 1"), "{}", broken(hole));
        let after_leaving: Change = |history, _| {
            let at = find(history, &heard("a", 2, "two"));
            history.insert(at, (BOB, What::Left { room: "a".into() }));
        };
        assert!(broken(after_leaving).starts_with("promise 1"), "{}", broken(after_leaving));
        let back: Change = |history, _| {
            history.push((BOB, What::Gap { room: "a".into(), next: place(1) }));
        };
        assert!(broken(back).contains("goes back"), "{}", broken(back));
    }

    #[test]
    fn what_is_recovered_goes_on_where_it_was_asked_to() {
        let further: Change = |history, _| {
            let at = find(history, &joined("a", Some(1), 2));
            let (room, after, next) = ("a".into(), Some(place(1)), Some(place(3)));
            history[at].1 = What::Joined { room, after, next, recovered: true };
        };
        assert!(broken(further).starts_with("promise 2"), "{}", broken(further));
    }

    #[test]
    fn what_a_log_still_has_is_not_called_lost() {
        let refused: Change = |history, _| {
            let at = find(history, &joined("a", Some(1), 2));
            history[at].1 = joined("a", Some(1), 4);
            history
                .retain(|(_, what)| format!("{what:?}") != format!("{:?}", heard("a", 2, "two")));
        };
        assert!(broken(refused).starts_with("promise 2"), "{}", broken(refused));
        let gap: Change = |history, _| gap_over_two(history);
        assert!(broken(gap).contains("a gap leads"), "{}", broken(gap));
        let trimmed: Change = |history, endings| {
            gap_over_two(history);
            endings.insert("a".into(), kept(3, &["four"]));
        };
        assert_eq!(broken(trimmed), "", "it was trimmed");
    }

    fn gap_over_two(history: &mut [(usize, What)]) {
        let at = find(history, &heard("a", 2, "two"));
        history[at].1 = What::Gap { room: "a".into(), next: place(3) };
    }

    #[test]
    fn a_key_is_one_publication() {
        let twice: Change = |history, endings| {
            let at = find(history, &said("a", "four"));
            history.insert(at, (ADA, acked("a", Some("k"), "one", 4)));
            endings.insert("a".into(), kept(1, &["one", "two", "four", "one"]));
        };
        assert!(broken(twice).starts_with("promise 4"), "{}", broken(twice));
        let of_another: Change = |history, endings| {
            let key = Some(("bob".into(), "k".into()));
            let (room, payload) = ("a".to_owned(), "bobs".to_owned());
            history.push((BOB, said(&room, &payload)));
            let duplicate = false;
            history.push((BOB, What::Acked { room, key, payload, place: place(4), duplicate }));
            endings.insert("a".into(), kept(1, &["one", "two", "four", "bobs"]));
        };
        assert_eq!(broken(of_another), "", "keys of two users never meet");
    }

    #[test]
    fn what_a_connection_publishes_stands_in_its_order() {
        let late: Change = |history, endings| {
            let at = find(history, &said("a", "four"));
            history.insert(at, (BOB, said("a", "five")));
            history.push((BOB, acked("a", None, "five", 4)));
            endings.insert("a".into(), kept(1, &["one", "two", "four", "five"]));
        };
        assert!(broken(late).starts_with("promise 5"), "{}", broken(late));
    }

    #[test]
    fn a_device_without_a_position_begins_behind_what_was_acknowledged() {
        let forgotten: Change = |history, _| {
            history.pop();
            history.push((LATER, joined(INBOX, None, 1)));
        };
        assert!(broken(forgotten).starts_with("promise 7"), "{}", broken(forgotten));
        let too_far: Change = |history, endings| {
            history.push((BOB, said(INBOX, "second")));
            history.push((BOB, acked(INBOX, None, "second", 2)));
            history.push((LATER, joined(INBOX, None, 3)));
            endings.insert(INBOX.into(), kept(1, &["letter", "second"]));
        };
        assert!(broken(too_far).starts_with("promise 7"), "{}", broken(too_far));
    }
}
