//! Patterns that the settings match room names with: section 1.

use std::fmt;

use crate::id::UserId;
use crate::name::{NameError, ROOM_NAME_SIZE_MAX, check_segment};

/// A pattern over room names: `*` is one segment, `**` any number of them, also none.
///
/// A wildcard is a whole segment, so `chat-*` is no pattern. A pattern matches a `$` name only if it
/// starts with `$` itself, and then its first segment is literal: `$user/*`, `$all`. So `**` is every
/// room that clients can join and no other, and `chat/**` includes `chat`.
///
/// Section 1.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
}

impl Pattern {
    /// Checks `text` and takes a copy.
    ///
    /// # Errors
    /// The first rule of names that `text` breaks. A `$` pattern whose first segment is none of the
    /// four is an error, because it would silently match nothing.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError(NameError::Empty));
        }
        if text.len() > ROOM_NAME_SIZE_MAX {
            return Err(PatternError(NameError::TooLong { limit: ROOM_NAME_SIZE_MAX }));
        }
        check(text).map_err(PatternError)?;
        Ok(Self { text: text.into() })
    }

    /// Whether the room called `name` is one of those that this pattern means.
    ///
    /// `name` is a valid room name; for anything else the answer is of no use. Takes time in
    /// proportion to the product of both lengths at worst, and allocates nothing.
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('$') != self.text.starts_with('$') {
            return false;
        }
        // The usual walk with one way back: after a `**`, each failure gives it one segment more.
        // Only the last `**` is ever returned to, since an earlier one gains nothing by being longer.
        let mut pattern = self.text.split('/');
        let mut rest = name.split('/');
        let mut back = None;
        loop {
            match (pattern.next(), rest.clone().next()) {
                (Some("**"), _) => back = Some((pattern.clone(), rest.clone())),
                (Some(want), Some(segment)) if want == "*" || want == segment => {
                    rest.next();
                }
                (None, None) => return true,
                _ => {
                    let Some((after, mut from)) = back.take() else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (after.clone(), from.clone());
                    back = Some((after, from));
                }
            }
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

/// The rule of names that a pattern breaks; the fault of whoever wrote the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternError(pub NameError);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NameError::BadCharacter => f.write_str(
                "patterns consist of * and ** as whole segments, and of segments as in room names",
            ),
            rule => fmt::Display::fmt(&rule, f),
        }
    }
}

impl std::error::Error for PatternError {}

fn check(text: &str) -> Result<(), NameError> {
    let Some(special) = text.strip_prefix('$') else {
        return text.split('/').try_for_each(|segment| match segment {
            "*" | "**" => Ok(()),
            literal => check_segment(literal),
        });
    };
    match special.split_once('/') {
        None if special == "all" => Ok(()),
        Some(("client" | "user" | "group", "*" | "**")) => Ok(()),
        Some(("client" | "user" | "group", id)) => UserId::validate_segment(id),
        _ => Err(NameError::UnknownSpecial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).expect("a valid pattern").matches(name)
    }

    // [1.pattern.wildcards] [1.pattern.none]
    #[test]
    fn star_is_one_segment_and_two_are_any_number() {
        for name in ["chat/a", "chat/b.c"] {
            assert!(matches("chat/*", name) && matches("chat/**", name) && matches("**", name));
        }
        assert!(!matches("chat/*", "chat") && !matches("chat/*", "chat/a/b"));
        assert!(matches("chat/**", "chat") && matches("chat/**", "chat/a/b/c"));
        assert!(!matches("chat/**", "chats/a"));
        assert!(matches("**/log", "log") && matches("**/log", "a/b/log"));
        assert!(matches("a/**/b/*/c", "a/b/x/b/y/c") && !matches("a/**/b/*/c", "a/b/c"));
        assert!(matches("general", "general") && !matches("general", "genera"));
    }

    // [1.pattern.dollar]
    #[test]
    fn wildcards_never_match_a_special_name() {
        for name in ["$all", "$user/ada"] {
            assert!(!matches("**", name) && !matches("*", name) && !matches("*/*", name));
        }
        assert!(matches("$user/*", "$user/ada") && matches("$user/**", "$user/ada"));
        assert!(matches("$user/ada", "$user/ada") && matches("$all", "$all"));
        assert!(!matches("$user/*", "$group/ada") && !matches("$user/*", "user/ada"));
    }

    // [1.pattern.whole] [1.pattern.literal]
    #[test]
    fn pattern_that_can_match_nothing_is_an_error() {
        let invalid = [
            "",
            "chat-*",
            "***",
            "a//b",
            "a/..",
            "$*",
            "$**",
            "$*/a",
            "$foo/*",
            "$all/*",
            "$user",
            "$user/*/b",
            "a/$user",
        ];
        for text in invalid {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        assert!(Pattern::parse(&"a".repeat(129)).is_err());
    }
}
