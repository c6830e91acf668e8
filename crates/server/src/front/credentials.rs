//! What a handshake brings to say who a client is.

use super::Problem;
use clarion_engine::effects::Credentials;
use hyper::header::{AUTHORIZATION, COOKIE, FORWARDED, HeaderMap, ORIGIN, VIA};
use std::borrow::Cow;

/// Where a token may be, beside `Authorization`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Whether `?token=` counts.
    pub(crate) query: bool,
    /// The name of the cookie that counts; empty for none.
    pub(crate) cookie: String,
}

impl Sources {
    /// The first of `Authorization`, `?token=` and cookie that is there, good or not. Call it when the
    /// `Origin` was found to be allowed: a cookie counts only with one.
    ///
    /// An empty token is a token, or a variable that was not set would make a guest.
    ///
    /// # Errors
    /// One of them is there twice: two readers of a request must not differ.
    pub(super) fn find(
        &self,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Option<Credentials>, Problem> {
        let one = |mut found: Vec<Cow<'_, str>>| match found.len() {
            0 => Ok(None),
            1 => Ok(found.pop().map(|token| Credentials::Token(token.into_owned().into()))),
            _ => Err(Problem::bad_request("A token comes at most once in each place.")),
        };
        let of_header = one(bearers(headers))?;
        let of_query = one(if self.query { in_query(query.unwrap_or_default()) } else { vec![] })?;
        let counts = !self.cookie.is_empty() && headers.contains_key(ORIGIN);
        let of_cookie = one(if counts { in_cookies(headers, &self.cookie) } else { vec![] })?;
        Ok(of_header.or(of_query).or(of_cookie))
    }
}

/// Tokens of `Authorization: Bearer`; other schemes are a proxy's affair.
fn bearers(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let tokens = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = match value.as_bytes().split_at_checked(6)? {
            (scheme, token) if token.first().is_none_or(|byte| *byte == b' ') => (scheme, token),
            _ => return None,
        };
        scheme.eq_ignore_ascii_case(b"bearer").then(|| String::from_utf8_lossy(token.trim_ascii()))
    });
    tokens.collect()
}

fn in_query(query: &str) -> Vec<Cow<'_, str>> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(name, _)| name == "token").map(|(_, value)| value).collect()
}

/// RFC 6265 section 5.4: pairs with `; ` between them, in one header or, from proxies, several.
fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Vec<Cow<'a, str>> {
    let pairs =
        headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        (found == name.as_bytes()).then(|| String::from_utf8_lossy(value))
    });
    values.collect()
}

/// Whether a proxy says that it passes the request on for somebody else. Whoever it is, they are not on
/// this machine because the proxy is.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED, VIA].iter().any(|name| headers.contains_key(name))
        || ["x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn found(sources: &Sources, query: Option<&str>, headers: &[(HeaderName, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        match sources.find(query, &map) {
            Ok(Some(Credentials::Token(token))) => token.to_string(),
            Ok(Some(Credentials::None)) => panic!("nothing is None"),
            Ok(None) => "none".into(),
            Err(_) => "twice".into(),
        }
    }

    const ORIGIN_HEADER: (HeaderName, &str) = (ORIGIN, "https://chat.example");

    // [3.credentials.order]
    #[test]
    fn header_is_over_query_is_over_cookie_and_the_latter_two_are_off_by_default() {
        let all = Sources { query: true, cookie: "t".into() };
        let (header, cookie) = ((AUTHORIZATION, "Bearer h"), (COOKIE, "a=1; t=c; b=2"));
        let everything = [ORIGIN_HEADER, cookie.clone(), header.clone()];
        assert_eq!(found(&all, Some("token=q"), &everything), "h");
        assert_eq!(found(&all, Some("x=1&token=q%2E"), &everything[..2]), "q.");
        assert_eq!(found(&all, None, &everything[..2]), "c");
        assert_eq!(
            found(&all, None, std::slice::from_ref(&cookie)),
            "none",
            "a cookie without Origin"
        );
        assert_eq!(found(&Sources::default(), Some("token=q"), &everything[..2]), "none");
    }

    // [3.credentials.invalid]
    #[test]
    fn what_is_there_counts_however_bad_and_never_twice() {
        let all = Sources { query: true, cookie: "t".into() };
        for value in ["Bearer", "Bearer ", "bearer  ", "BEARER\u{20}"] {
            assert_eq!(found(&all, Some("token=q"), &[(AUTHORIZATION, value)]), "", "{value:?}");
        }
        for value in ["Basic YQ==", "Bearerx", "Bear"] {
            assert_eq!(found(&all, None, &[(AUTHORIZATION, value)]), "none", "{value:?}");
        }
        assert_eq!(found(&all, Some("token"), &[]), "");
        assert_eq!(found(&all, None, &[ORIGIN_HEADER, (COOKIE, "t=")]), "");
        assert_eq!(found(&all, None, &[ORIGIN_HEADER, (COOKIE, "T=x; tt=y; t")]), "none");
        let header = (AUTHORIZATION, "Bearer a");
        assert_eq!(found(&all, None, &[header.clone(), header]), "twice");
        assert_eq!(found(&all, Some("token=a&token=a"), &[]), "twice");
        assert_eq!(found(&all, None, &[ORIGIN_HEADER, (COOKIE, "t=a; t=b")]), "twice");
        assert_eq!(found(&all, None, &[ORIGIN_HEADER, (COOKIE, "t=a"), (COOKIE, "t=a")]), "twice");
        let mut odd = HeaderMap::new();
        odd.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
        let outcome = all.find(None, &odd).unwrap();
        assert_eq!(outcome, Some(Credentials::Token("\u{fffd}".into())));
    }
}
