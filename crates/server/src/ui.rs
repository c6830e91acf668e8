//! The web application, embedded at build time; without it, one page that says how to build it.

use crate::front::Answer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// One file of the web application.
struct Asset {
    /// From the root: `/assets/app-1a2b3c4d.js`.
    path: &'static str,
    content_type: &'static str,
    /// Its name changes with its content.
    hashed: bool,
    body: &'static [u8],
}

// `static ASSETS: &[Asset]`, sorted by path; empty when there was nothing to embed.
include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Only what we serve runs; it may connect anywhere, because an SDK's user tries that here.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What stands at `/` when no web application was embedded.
const MISSING: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>Clarion</title>\n<h1>Clarion is running</h1>\n\
    <p>This binary was built without the web application. To have it here, \
    install Node and run <code>make run</code> in the source tree.</p>\n\
    <p>Clients connect to <code>/ws</code> on this address.</p>\n</html>\n";

/// Whether there is a file at `path`.
pub(crate) fn serves(path: &str) -> bool {
    path == "/" || asset(path).is_some()
}

/// The file at `path`, if there is one.
pub(crate) fn find(path: &str) -> Option<Answer> {
    if path == "/" {
        let body = asset("/index.html").map_or(MISSING.as_bytes(), |index| index.body);
        return Some(respond("text/html; charset=utf-8", false, body));
    }
    let asset = asset(path)?;
    Some(respond(asset.content_type, asset.hashed, asset.body))
}

fn asset(path: &str) -> Option<&'static Asset> {
    let index = ASSETS.binary_search_by_key(&path, |asset| asset.path).ok()?;
    Some(&ASSETS[index])
}

fn respond(content_type: &'static str, hashed: bool, body: &'static [u8]) -> Answer {
    let cache = if hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::new(Full::new(Bytes::from_static(body)));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, cache),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_page_that_is_asked_for_again_each_time() {
        let page = find("/").unwrap();
        assert_eq!(page.headers()[CACHE_CONTROL], "no-cache");
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(find("/../Cargo.toml").is_none());
    }

    #[test]
    fn assets_are_found_by_their_path() {
        assert!(ASSETS.is_sorted_by_key(|asset| asset.path));
        for asset in ASSETS {
            assert!(find(asset.path).is_some() && !asset.content_type.is_empty());
            if asset.hashed {
                let cache = find(asset.path).unwrap().headers()[CACHE_CONTROL].clone();
                assert!(cache.to_str().unwrap().contains("immutable"));
            }
        }
    }
}
