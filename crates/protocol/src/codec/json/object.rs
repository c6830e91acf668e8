//! Reading JSON objects and scalars that the protocol knows, out of text that is JSON.
//!
//! Objects are read one level at a time into the raw text of the members that are asked for. That
//! keeps payloads untouched, finds duplicates of every member, and lets a wrong member be named
//! without losing the others. Skipping a value takes no stack, so nesting is no danger here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of one object that were asked for, as raw JSON text.
#[derive(Debug)]
pub struct Object<'a, const N: usize> {
    /// In the order of the names; `None` if absent. Of a duplicate, the first.
    pub members: [Option<&'a str>; N],
    /// Which of them came more than once.
    repeated: [bool; N],
    /// Whether a name that was not asked for came more than once.
    repeated_unknown: bool,
}

/// A name that came more than once in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicate {
    /// One that was asked for, by index.
    Known(usize),
    /// Any other.
    Unknown,
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads `text` as an object and nothing else.
    ///
    /// # Errors
    /// It is not JSON, or another value.
    pub fn read(text: &'a str, names: [&str; N]) -> Result<Self, serde_json::Error> {
        let mut source = serde_json::Deserializer::from_str(text);
        let object = source.deserialize_map(ObjectVisitor { names })?;
        source.end()?;
        Ok(object)
    }

    /// A member that is given exactly once; of one that came twice nobody knows which is meant.
    pub fn unique(&self, index: usize) -> Option<&'a str> {
        self.members[index].filter(|_| !self.repeated[index])
    }

    /// The first name that came more than once, those that were asked for before any other.
    pub fn duplicate(&self) -> Option<Duplicate> {
        match self.repeated.iter().position(|repeated| *repeated) {
            Some(index) => Some(Duplicate::Known(index)),
            None => self.repeated_unknown.then_some(Duplicate::Unknown),
        }
    }
}

struct ObjectVisitor<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<'_, N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object =
            Object { members: [None; N], repeated: [false; N], repeated_unknown: false };
        // Sorted, because a list would let a message of many names cost its square, and a hash map
        // would need a seed. Empty, and so without an allocation, in all but rare messages.
        let mut unknown = BTreeSet::new();
        while let Some(Text(name)) = map.next_key()? {
            if let Some(index) = self.names.iter().position(|known| *known == name) {
                let value = map.next_value::<&RawValue>()?.get();
                match &mut object.members[index] {
                    member @ None => *member = Some(value),
                    Some(_) => object.repeated[index] = true,
                }
            } else {
                map.next_value::<IgnoredAny>()?;
                object.repeated_unknown |= !unknown.insert(name);
            }
        }
        Ok(object)
    }
}

/// The members of one object whose names are data, in their order, as raw JSON text. A name can come
/// more than once.
///
/// # Errors
/// As [`Object::read`], but for what follows the object.
pub fn entries(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, serde_json::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(Cow<'de, str>, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((Text(name), value)) = map.next_entry::<_, &RawValue>()? {
                entries.push((name, value.get()));
            }
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(text).deserialize_map(Entries)
}

/// A JSON string, borrowed if it has no escapes. (`Cow` as serde reads it always copies.)
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        source.deserialize_str(TextVisitor)
    }
}

/// Reads raw JSON text as a string; `None` if it is another value or has a lone surrogate.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    // Raw text was checked when it was cut out, so without a backslash it means itself.
    if let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
        && !inner.contains('\\')
    {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<Text<'_>>(raw).ok().map(|Text(text)| text)
}

/// Reads raw JSON text as an integer from 0 to 2^53 - 1, which is digits and nothing else.
///
/// `1.0` and `1e3` are refused though some would call them integers: libraries disagree on them, and
/// an id or offset has to come back as it went.
pub fn integer(raw: &str) -> Option<u64> {
    let digits = raw.len() <= 16 && raw.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return None;
    }
    raw.parse().ok().filter(|value| *value <= crate::OFFSET_MAX)
}

/// Reads raw JSON text as `true` or `false`.
pub fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether arrays and objects in raw JSON text are nested at most `limit` deep.
pub fn depth_within(raw: &str, limit: usize) -> bool {
    // Nearly every payload has fewer brackets than the limit, and counting them is much cheaper
    // than following strings.
    let brackets = raw.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets <= limit {
        return true;
    }
    let mut depth = 0_usize;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > limit {
            return false;
        }
    }
    true
}

fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}
