//! Cases about revocations.

use super::Subject;
use super::ask::{revoke, revoked};
use crate::Revocation;

/// The list is in order, in pages, without what is over; a later word on a subject only extends it.
pub fn revocations_are_listed_until_they_end<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    assert!(revoked(&mut store, None, 9, 0).revocations.is_empty());
    for (subject, at_ms, until_ms) in
        [("u:bob", 2, 20), ("u:ada", 3, 30), ("c:\u{0}", 1, 10), ("u:bob", 4, 15), ("u:ada", 1, 40)]
    {
        revoke(&mut store, subject, at_ms, until_ms);
    }
    let mut list = |after, limit, now_ms| {
        let page = revoked(&mut store, after, limit, now_ms);
        let text = |it: Revocation| (it.subject, it.at_ms, it.until_ms);
        (page.revocations.into_iter().map(text).collect::<Vec<_>>(), page.more)
    };
    let first = ("c:\u{0}".into(), 1, 10);
    let (ada, bob) = (("u:ada".into(), 3, 40), ("u:bob".into(), 4, 20));
    assert_eq!(list(None, 9, 9), (vec![first.clone(), ada.clone(), bob.clone()], false));
    assert_eq!(list(None, 9, 10), (vec![ada.clone(), bob.clone()], false), "at its end it is over");
    assert_eq!(list(None, 2, 0), (vec![first, ada], true));
    assert_eq!(list(Some("u:ada"), 1, 0), (vec![bob], false));
    assert_eq!(list(Some("u:bob"), 1, 0), (vec![], false));
}

/// They are there after a restart.
pub fn revocations_survive_restart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    revoke(&mut store, "u:ada", 2, 30);
    store.restart();
    let page = revoked(&mut store, None, 9, 0);
    assert_eq!(page.revocations, [Revocation { subject: "u:ada".into(), at_ms: 2, until_ms: 30 }]);
}
