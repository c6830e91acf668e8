//! The page to try the API, at `/api`: a form for each operation of `/openapi.json`.
//!
//! The page itself is open, as it holds nothing; whoever opens it types the key, which it keeps in a
//! variable. Nothing in it comes from elsewhere, and its policy lets nothing else in.

use crate::front::Answer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// Our own script and style, and requests to ourselves; nothing else, and not in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: &[(&str, &str, &str)] = &[
    ("/api", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/api/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/api/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

/// Whether a path is one of the page's files.
pub(crate) fn serves(path: &str) -> bool {
    FILES.iter().any(|(known, ..)| *known == path)
}

/// The file at `path`, if it is one of the page's.
pub(crate) fn find(path: &str) -> Option<Answer> {
    let (_, kind, body) = FILES.iter().find(|(known, ..)| *known == path)?;
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    for (name, value) in [
        (CONTENT_TYPE, *kind),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy would refuse at run time, where nobody looks.
    #[test]
    fn the_page_needs_nothing_that_its_policy_refuses() {
        for (path, _, text) in FILES {
            assert!(find(path).is_some() && serves(path));
            for foreign in ["http:", "https:", "//cdn", "<style", " style=", " onclick=", "eval("] {
                assert!(!text.contains(foreign), "{path}: {foreign}");
            }
            for store in ["localStorage", "sessionStorage", "cookie =", "location", "innerHTML"] {
                assert!(!text.contains(store), "{path}: {store}");
            }
        }
    }
}
