//! Which pages may open a connection: the `Origin` a browser sends, against the rules.
//!
//! A browser lets any page open a WebSocket to any server and sends along what it knows of the
//! user there, so the server has to ask where the page came from. Programs that are no browsers
//! send no `Origin` and are allowed.

use std::net::IpAddr;

/// One rule of `origins.allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// `*`
    Any,
    /// `https://example.com`
    Exactly(Site),
    /// `https://*.example.com`: any name below, not the name itself.
    Below(Site),
}

/// Scheme, host and port of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    https: bool,
    /// Lower case; an IPv6 address with its brackets.
    host: String,
    port: u16,
}

/// Who may connect besides pages of the same origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    pub(crate) allowed: Vec<Allowed>,
}

impl Origins {
    /// Whether a page of `origin` may connect to the address that it called `host`.
    ///
    /// `loopback`: the connection came in at a loopback address, where pages of this machine are
    /// welcome whatever their port (a development server of the web application, say).
    pub(crate) fn allows(&self, origin: &str, host: &str, loopback: bool) -> bool {
        if self.allowed.contains(&Allowed::Any) {
            return true;
        }
        // `null`, which sandboxed pages and files send, is nobody in particular.
        let Some(site) = Site::parse(origin) else { return false };
        site.is_at(host)
            || (loopback && site.is_local())
            || self.allowed.iter().any(|rule| rule.admits(&site))
    }
}

impl Allowed {
    /// Reads one rule.
    ///
    /// # Errors
    /// A sentence that says how a rule looks.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rule = || {
            format!("`{text}` is no origin: write https://example.com, https://*.example.com or *")
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some((scheme, host)) = text.split_once("://*.") {
            let site = Site::parse(&format!("{scheme}://{host}")).ok_or_else(rule)?;
            return Ok(Self::Below(site));
        }
        Site::parse(text).map(Self::Exactly).ok_or_else(rule)
    }

    fn admits(&self, site: &Site) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exactly) => exactly == site,
            Self::Below(below) => {
                let name = site.host.strip_suffix(&below.host).and_then(|n| n.strip_suffix('.'));
                name.is_some_and(|name| !name.is_empty())
                    && site.https == below.https
                    && site.port == below.port
            }
        }
    }
}

impl Site {
    /// Reads `scheme://host[:port]` and nothing more, as RFC 6454 section 6.2 serialises it.
    fn parse(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = split_port(authority)?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: host.to_ascii_lowercase(), port })
    }

    /// Whether `host`, as it stands in the `Host` header, is this site.
    ///
    /// The scheme is not compared: behind a proxy that ends TLS we do not know what the page sees.
    /// A port that is left out is the default of the page's scheme.
    fn is_at(&self, host: &str) -> bool {
        let Some((name, port)) = split_port(host) else { return false };
        let port = port.unwrap_or(if self.https { 443 } else { 80 });
        name.eq_ignore_ascii_case(&self.host) && port == self.port
    }

    fn is_local(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// Whether `host`, as it stands in the `Host` header, names this machine and nothing else can: a
/// loopback address, or a name that RFC 6761 section 6.3 keeps for one.
pub(super) fn is_local(host: &str) -> bool {
    let Some((name, _)) = split_port(host) else { return false };
    let name = name.to_ascii_lowercase();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_name = || name == "localhost" || name.ends_with(".localhost");
    address.map_or_else(|_| is_name(), |address| address.to_canonical().is_loopback())
}

/// Whether `host` can stand in a `Host` header.
pub(super) fn is_authority(host: &str) -> bool {
    split_port(host).is_some()
}

/// Splits `host[:port]`; `None` if it is neither a name nor an address.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
        None => rest.is_empty().then_some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rules: &[&str], origin: &str, host: &str, loopback: bool) -> bool {
        let allowed = rules.iter().map(|rule| Allowed::parse(rule).unwrap()).collect();
        Origins { allowed }.allows(origin, host, loopback)
    }

    #[test]
    fn same_origin_is_allowed_whatever_the_case_and_default_port() {
        for (origin, host) in [
            ("http://chat.example:8080", "chat.example:8080"),
            ("http://Chat.Example", "chat.example"),
            ("http://chat.example", "chat.example:80"),
            ("https://chat.example", "chat.example:443"),
            ("https://chat.example", "chat.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(allows(&[], origin, host, false), "{origin} {host}");
        }
    }

    #[test]
    fn other_origins_are_not() {
        for (origin, host) in [
            ("http://evil.example", "chat.example"),
            ("http://chat.example.evil", "chat.example"),
            ("http://chat.example:81", "chat.example"),
            ("http://chat.example@evil", "chat.example"),
            ("http://chat.example/", "chat.example"),
            ("ftp://chat.example", "chat.example"),
            ("chat.example", "chat.example"),
            ("null", "null"),
            ("", ""),
            ("http://", ""),
            ("http://chat.example:x", "chat.example:x"),
            ("http://localhost:3000", "chat.example"),
        ] {
            assert!(!allows(&[], origin, host, false), "{origin} {host}");
        }
    }

    #[test]
    fn pages_of_this_machine_are_allowed_at_a_loopback_address_only() {
        for origin in ["http://localhost:5173", "http://127.0.0.1", "https://[::1]:9"] {
            assert!(allows(&[], origin, "127.0.0.1:8080", true), "{origin}");
            assert!(!allows(&[], origin, "chat.example", false), "{origin}");
        }
        assert!(!allows(&[], "http://localhost.evil", "127.0.0.1:8080", true));
    }

    #[test]
    fn a_host_is_local_by_what_it_is_and_not_by_what_it_resolves_to() {
        for host in ["localhost:80", "LOCALHOST", "chat.localhost", "127.9.9.9:1", "[::1]:8080"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil", "evillocalhost", "10.0.0.1", "[::2]", "a b"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn rules_compare_scheme_host_and_port() {
        let host = "api.example";
        assert!(allows(&["https://a.example"], "https://a.example", host, false));
        assert!(!allows(&["https://a.example"], "http://a.example", host, false));
        assert!(!allows(&["https://a.example"], "https://a.example:444", host, false));
        assert!(allows(&["https://*.a.example"], "https://x.y.a.example", host, false));
        assert!(!allows(&["https://*.a.example"], "https://a.example", host, false));
        assert!(!allows(&["https://*.a.example"], "https://eviла.example", host, false));
        assert!(!allows(&["https://*.a.example"], "https://evila.example", host, false));
        assert!(allows(&["*"], "null", host, false));
    }
}
