//! Cases about groups.

use super::Subject;
use super::ask::{group, groups};

fn listed(members: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    members.iter().map(|(group, user)| ((*group).into(), (*user).into())).collect()
}

/// A user is in a group once; the list is in order, in pages, and goes on behind any place.
pub fn groups_are_listed_in_pages<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    assert!(groups(&mut store, None, 9).members.is_empty());
    assert!(!group(&mut store, "staff", "ada", false), "nobody was in it");
    for (name, user) in [("staff", "bob"), ("a", "zoe"), ("staff", "ada"), ("staff-b", "ada")] {
        assert!(group(&mut store, name, user, true));
        assert!(!group(&mut store, name, user, true), "it is in already");
    }
    let mut list = |after: Option<(&str, &str)>, limit| {
        let page = groups(&mut store, after, limit);
        (page.members, page.more)
    };
    let all = [("a", "zoe"), ("staff", "ada"), ("staff", "bob"), ("staff-b", "ada")];
    assert_eq!(list(None, 9), (listed(&all), false));
    assert_eq!(list(None, 4), (listed(&all), false));
    assert_eq!(list(None, 3), (listed(&all[..3]), true));
    assert_eq!(list(Some(("staff", "ada")), 1), (listed(&all[2..3]), true));
    assert_eq!(list(Some(("staff", "bob")), 9), (listed(&all[3..]), false));
    assert_eq!(list(Some(("b", "")), 2), (listed(&all[1..3]), true));
    assert_eq!(list(None, 0), (listed(&[]), true));
    assert_eq!(list(Some(("staff-b", "ada")), 9), (listed(&[]), false));
    assert!(group(&mut store, "staff", "ada", false));
    assert!(!group(&mut store, "staff", "ada", false));
    let page = groups(&mut store, None, 9);
    assert_eq!(page.members, listed(&[all[0], all[2], all[3]]));
}

/// Who was put in is in after a restart, and who was taken out is not.
pub fn groups_survive_restart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    for user in ["ada", "bob"] {
        group(&mut store, "staff", user, true);
    }
    group(&mut store, "staff", "ada", false);
    store.restart();
    assert_eq!(groups(&mut store, None, 9).members, listed(&[("staff", "bob")]));
}
