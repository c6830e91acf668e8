//! What became of the log between the last position seen and now.

use clarion_protocol::Position;

use super::codec::{Gap, Joined};

/// Where a room stands after a join, and what became of the time between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resumption {
    pub(super) position: Option<Position>,
    /// What was lost since the previous position, if anything was.
    pub(super) gap: Option<Gap>,
}

fn gap(reason: &str, position: Option<&Position>, lost: Option<(u64, u64)>) -> Gap {
    Gap {
        reason: reason.to_owned(),
        position: position.cloned(),
        from: lost.map(|(from, _)| from),
        to: lost.map(|(_, to)| to),
    }
}

/// A gap of which nothing is known but that there is one.
pub(super) fn unknown_gap() -> Gap {
    gap("unknown", None, None)
}

/// Compares the last position seen with a join's reply.
///
/// The new position lies *before* what the server is about to replay and moves with each delivery,
/// so a connection that breaks in the middle of a replay resumes in the middle of it. It never moves
/// back within an epoch: a replay of `last` may repeat what was seen, and that is dropped. In an
/// inbox the user's acknowledged offset, which only the server knows, stands for a position.
pub(super) fn resume(previous: Option<&Position>, reply: &Joined, is_inbox: bool) -> Resumption {
    let Some(head) = &reply.position else {
        return Resumption { position: None, gap: previous.map(|_| unknown_gap()) };
    };
    let from = reply.from.unwrap_or(head.offset.saturating_add(1));
    let before = from.saturating_sub(1);
    let position = Position::new(head.epoch.clone(), before);
    let Some(seen) = previous else {
        let is_trimmed = is_inbox && !reply.recovered && before > 0;
        let gap =
            is_trimmed.then(|| Gap { to: Some(before), ..gap("trimmed", Some(&position), None) });
        return Resumption { position: Some(position), gap };
    };
    let gap = if seen.epoch != head.epoch {
        gap("epoch", Some(&position), None)
    } else if seen.offset > head.offset {
        // A head behind what was seen is not this log's future: take the server's word for where
        // it is.
        gap("unknown", Some(&position), None)
    } else if before > seen.offset && !reply.recovered {
        gap("trimmed", Some(&position), Some((seen.offset + 1, before)))
    } else {
        let offset = seen.offset.max(before);
        let position = Position::new(position.epoch, offset);
        return Resumption { position: Some(position), gap: None };
    };
    Resumption { position: Some(position), gap: Some(gap) }
}

/// What to do with a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    Deliver,
    DeliverAfter(Gap),
    Drop,
}

/// What to do with a publication at `next` when `seen` was the last.
pub(super) fn follow(seen: Option<&Position>, next: &Position) -> Follow {
    let Some(seen) = seen else { return Follow::Deliver };
    let before = next.offset.saturating_sub(1);
    let position = Position::new(next.epoch.clone(), before);
    if seen.epoch != next.epoch {
        return Follow::DeliverAfter(gap("epoch", Some(&position), None));
    }
    if next.offset <= seen.offset {
        return Follow::Drop;
    }
    if before == seen.offset {
        return Follow::Deliver;
    }
    Follow::DeliverAfter(gap("unknown", Some(&position), Some((seen.offset + 1, before))))
}

#[cfg(test)]
mod tests {
    use clarion_protocol::Epoch;

    use super::*;

    fn at(epoch: &str, offset: u64) -> Position {
        Position::new(Epoch::new(epoch).unwrap(), offset)
    }

    fn reply(epoch: &str, offset: u64, from: u64, recovered: bool) -> Joined {
        let position = Some(at(epoch, offset));
        Joined { position, from: Some(from), recovered, members: None }
    }

    fn resumed(previous: Option<&Position>, reply: &Joined) -> (Option<Position>, Option<String>) {
        let Resumption { position, gap } = resume(previous, reply, false);
        (position, gap.map(|gap| gap.reason))
    }

    #[test]
    fn resume_tells_what_was_lost() {
        let seen = at("e", 5);
        let first = resumed(None, &reply("e", 9, 10, false));
        assert_eq!(first, (Some(at("e", 9)), None));
        assert_eq!(resumed(Some(&seen), &reply("e", 9, 6, true)), (Some(at("e", 5)), None));
        // `last` repeats what was seen.
        assert_eq!(resumed(Some(&seen), &reply("e", 6, 2, false)), (Some(at("e", 5)), None));
        let trimmed = resume(Some(&seen), &reply("e", 9, 8, false), false);
        assert_eq!(trimmed.position, Some(at("e", 7)));
        assert_eq!(trimmed.gap, Some(gap("trimmed", Some(&at("e", 7)), Some((6, 7)))));
        let epoch = resumed(Some(&seen), &reply("f", 3, 4, false));
        assert_eq!(epoch, (Some(at("f", 3)), Some("epoch".to_owned())));
        let behind = resumed(Some(&seen), &reply("e", 3, 4, false));
        assert_eq!(behind, (Some(at("e", 3)), Some("unknown".to_owned())));
        let unlogged = resumed(Some(&seen), &Joined::default());
        assert_eq!(unlogged, (None, Some("unknown".to_owned())));
    }

    #[test]
    fn follow_drops_what_was_seen_and_hides_no_hole() {
        let seen = at("e", 5);
        assert_eq!(follow(None, &at("e", 7)), Follow::Deliver);
        assert_eq!(follow(Some(&seen), &at("e", 6)), Follow::Deliver);
        assert_eq!(follow(Some(&seen), &at("e", 5)), Follow::Drop);
        let hole = gap("unknown", Some(&at("e", 7)), Some((6, 7)));
        assert_eq!(follow(Some(&seen), &at("e", 8)), Follow::DeliverAfter(hole));
        let epoch = gap("epoch", Some(&at("f", 0)), None);
        assert_eq!(follow(Some(&seen), &at("f", 1)), Follow::DeliverAfter(epoch));
    }
}
