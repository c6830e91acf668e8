//! The grammar inside header fields: values that come once, lists of tokens, extensions.
//!
//! RFC 6455 sections 4.3 and 9.1, on the grammar of RFC 9110 section 5.6.

use std::borrow::Cow;

/// The most elements of a list that are looked at: subprotocols, extensions, an extension's
/// parameters. A longer list is malformed; nobody sends one, and looking costs time.
pub(super) const LIST_COUNT_MAX: usize = 32;

/// A header that may not be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Single<'a> {
    /// It did not come.
    Absent,
    /// It came once, with this value.
    Once(&'a str),
    /// It came more than once, or is not text.
    Malformed,
}

impl<'a> Single<'a> {
    /// Notes one occurrence.
    pub(super) fn see(&mut self, value: &'a [u8]) {
        *self = match (*self, str::from_utf8(value)) {
            (Self::Absent, Ok(value)) => Self::Once(trim(value)),
            (Self::Absent, Err(_)) | (Self::Once(_) | Self::Malformed, _) => Self::Malformed,
        };
    }
}

/// A header that is a list, over all its occurrences.
///
/// It has at least one element where it comes at all: `1#` in the grammar of both lists (RFC 6455
/// sections 4.3 and 9.1). A sender that has none leaves it out.
pub(super) struct List<T> {
    /// `None` once it is malformed.
    elements: Option<Vec<T>>,
    is_there: bool,
}

impl<T> List<T> {
    pub(super) fn new() -> Self {
        Self { elements: Some(Vec::new()), is_there: false }
    }

    /// Notes one occurrence, whose elements `add` adds.
    pub(super) fn see<'a>(
        &mut self,
        value: &'a [u8],
        add: impl FnOnce(Vec<T>, &'a [u8]) -> Option<Vec<T>>,
    ) {
        self.is_there = true;
        self.elements = self.elements.take().and_then(|list| add(list, value));
    }

    /// Returns the elements, none if the header did not come, or `None` if it is malformed.
    pub(super) fn finish(self) -> Option<Vec<T>> {
        self.elements.filter(|list| !list.is_empty() || !self.is_there)
    }
}

/// Cuts off the white space that may surround a value.
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Tells whether `value` is a token: at least one character, none of them a separator.
pub(super) fn is_token(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Tells whether a list has this element, in any case of its letters.
pub(super) fn has_element(value: &[u8], wanted: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|it| it.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Adds the tokens of one header to a list, or returns `None` if one is malformed, there twice, or
/// one too many. Empty elements do not count (RFC 9110 section 5.6.1.2).
pub(super) fn add_unique_tokens<'a>(
    mut list: Vec<&'a str>,
    value: &'a [u8],
) -> Option<Vec<&'a str>> {
    let value = str::from_utf8(value).ok()?;
    for token in value.split(',').map(trim).filter(|token| !token.is_empty()) {
        if !is_token(token) || list.contains(&token) || list.len() == LIST_COUNT_MAX {
            return None;
        }
        list.push(token);
    }
    Some(list)
}

/// An extension that a client offers.
///
/// RFC 6455 section 9.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The registered name, such as `permessage-deflate`.
    pub name: &'a str,
    /// The parameters in their order, with their values unquoted. A name may come twice, which an
    /// extension may or may not allow.
    pub parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Adds the extensions of one header to a list, or returns `None` if it breaks the grammar or
/// lists too many.
pub(super) fn add_extensions<'a>(
    mut list: Vec<Extension<'a>>,
    value: &'a [u8],
) -> Option<Vec<Extension<'a>>> {
    let mut cursor = Cursor { rest: str::from_utf8(value).ok()? };
    loop {
        while cursor.eat(',') {}
        if cursor.rest.is_empty() {
            return Some(list);
        }
        if list.len() == LIST_COUNT_MAX {
            return None;
        }
        list.push(cursor.extension()?);
        if !cursor.rest.is_empty() && !cursor.rest.starts_with(',') {
            return None;
        }
    }
}

/// The unread rest of a header's value.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn extension(&mut self) -> Option<Extension<'a>> {
        let mut extension = Extension { name: self.token()?, parameters: Vec::new() };
        while self.eat(';') {
            if extension.parameters.len() == LIST_COUNT_MAX {
                return None;
            }
            let name = self.token()?;
            let value = if self.eat('=') { Some(self.parameter_value()?) } else { None };
            extension.parameters.push((name, value));
        }
        Some(extension)
    }

    /// "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST
    /// conform to the 'token' ABNF." (9.1)
    fn parameter_value(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat('"') {
            return self.token().map(Cow::Borrowed);
        }
        // A token has no quote in it, escaped or not, so the next one ends the string.
        let (quoted, rest) = self.rest.split_once('"')?;
        self.rest = rest;
        self.skip_space();
        let value = if quoted.contains('\\') {
            Cow::Owned(unescape(quoted)?)
        } else {
            Cow::Borrowed(quoted)
        };
        is_token(&value).then_some(value)
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let size = self.rest.bytes().take_while(|&byte| is_token_byte(byte)).count();
        let (token, rest) = self.rest.split_at(size);
        self.rest = rest;
        self.skip_space();
        (!token.is_empty()).then_some(token)
    }

    /// Takes one character and the white space around it, if it comes next.
    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest;
        self.skip_space();
        true
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// Takes each backslash away and the character after it literally.
fn unescape(quoted: &str) -> Option<String> {
    let mut value = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        value.push(if character == '\\' { characters.next()? } else { character });
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extensions(value: &str) -> Option<Vec<(String, Vec<String>)>> {
        let list = add_extensions(Vec::new(), value.as_bytes())?;
        let parameter = |(name, value): &(&str, Option<Cow<'_, str>>)| match value {
            Some(value) => format!("{name}={value}"),
            None => (*name).to_owned(),
        };
        Some(
            list.iter()
                .map(|it| (it.name.to_owned(), it.parameters.iter().map(parameter).collect()))
                .collect(),
        )
    }

    #[test]
    fn extensions_have_parameters_with_values_plain_or_quoted() {
        let bits =
            vec!["client_max_window_bits".to_owned(), "server_max_window_bits=10".to_owned()];
        for value in [
            "permessage-deflate;client_max_window_bits;server_max_window_bits=10,x",
            "permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x",
            " , permessage-deflate ; client_max_window_bits\t; server_max_window_bits = \"\\1\\0\" ,, x , ",
        ] {
            let expected =
                vec![("permessage-deflate".to_owned(), bits.clone()), ("x".to_owned(), vec![])];
            assert_eq!(extensions(value), Some(expected), "{value}");
        }
        assert_eq!(extensions(""), Some(vec![]));
    }

    #[test]
    fn extensions_out_of_grammar_are_refused() {
        for value in [
            ";",
            "a b",
            "a;",
            "a;;b",
            "a;=1",
            "a;b=",
            "a;b=\"1",
            "a;b=\"\"",
            "a;b=\"1 2\"",
            "a;b=\"1\\\"",
            "a;b=\"1\"2",
            "a=1",
            "ä",
            "a;b=1=2",
            "a/b",
        ] {
            assert_eq!(extensions(value), None, "{value}");
        }
    }

    #[test]
    fn lists_have_a_bound() {
        let names: Vec<String> = (0..=LIST_COUNT_MAX).map(|i| format!("n{i}")).collect();
        let (within, over) = (names[1..].join(","), names.join(","));
        assert!(add_unique_tokens(Vec::new(), within.as_bytes()).is_some());
        assert!(add_unique_tokens(Vec::new(), over.as_bytes()).is_none());
        assert!(extensions(&within).is_some());
        assert!(extensions(&over).is_none());
        assert!(extensions(&format!("x;{}", within.replace(',', ";"))).is_some());
        assert!(extensions(&format!("x;{}", over.replace(',', ";"))).is_none());
    }

    #[test]
    fn a_list_is_searched_by_whole_elements() {
        for value in ["Upgrade", "keep-alive, UPGRADE", "upgrade\t,close", ",,upgrade"] {
            assert!(has_element(value.as_bytes(), "upgrade"), "{value}");
        }
        for value in ["", "upgraded", "keep-alive", "up grade", "h2c;upgrade"] {
            assert!(!has_element(value.as_bytes(), "upgrade"), "{value}");
        }
    }
}
