//! Where a server is.

use std::fmt;

use http::Uri;

/// Why an address cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no URL.
    Malformed,
    /// It does not begin with `ws://` or `wss://`.
    Scheme,
    /// It has a name or password in it. Credentials are given to the builder, not to proxies' logs.
    Credentials,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a URL such as ws://host:port/ws",
            Self::Scheme => "a server's URL begins with ws:// or wss://",
            Self::Credentials => "a server's URL has no user name or password in it",
        })
    }
}

impl std::error::Error for UrlError {}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        let (tls, default_port) = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("ws") => (false, 80),
            Some("wss") => (true, 443),
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        // The brackets of an IPv6 address are the URL's, not the address's.
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || url.contains('#') {
            return Err(UrlError::Malformed);
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            _ => authority.port_u16().ok_or(UrlError::Malformed)?,
        };
        let target = uri.path_and_query().map_or("/", |it| it.as_str());
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            target: target.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_target() {
        let cases = [
            ("ws://example.org", "example.org", 80, "/"),
            ("ws://example.org:8080/ws?x=1", "example.org", 8080, "/ws?x=1"),
            ("ws://[::1]:8080/ws", "::1", 8080, "/ws"),
            ("WS://127.0.0.1/", "127.0.0.1", 80, "/"),
            ("wss://example.org/ws", "example.org", 443, "/ws"),
            ("wss://[::1]:8443/ws", "::1", 8443, "/ws"),
        ];
        for (url, host, port, target) in cases {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!((&*endpoint.host, endpoint.port, &*endpoint.target), (host, port, target));
            assert_eq!(endpoint.tls, url.starts_with("wss"));
        }
    }

    #[test]
    fn what_cannot_be_connected_to_says_why() {
        let cases = [
            ("", UrlError::Malformed),
            ("ws://", UrlError::Malformed),
            ("ws://a b/", UrlError::Malformed),
            ("ws://host/\r\nX: y", UrlError::Malformed),
            ("ws://host:99999/", UrlError::Malformed),
            ("ws://host:x/", UrlError::Malformed),
            ("ws://host/#part", UrlError::Malformed),
            ("http://host/", UrlError::Scheme),
            ("host:8080", UrlError::Scheme),
            ("/ws", UrlError::Scheme),
            ("ws://ada:secret@host/", UrlError::Credentials),
        ];
        for (url, error) in cases {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }
}
