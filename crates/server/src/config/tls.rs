//! TLS, and proxies that speak for clients.

use super::Span;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where TLS is spoken, and with which certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// Where to listen for HTTPS and WSS, beside `listen`.
    pub(crate) listen: Vec<SocketAddr>,
    /// The certificate and those between it and a root (PEM); taken again when it changes.
    pub(crate) cert: String,
    /// Its private key (PEM).
    pub(crate) key: String,
    /// For how long browsers are to use nothing but HTTPS here. 0: they are not told.
    pub(crate) hsts: Span,
}

/// Proxies in front, and how they name the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxies {
    /// Networks whose word is taken: `10.0.0.0/8`.
    pub(crate) trusted: Vec<String>,
    /// Whether their connections begin with a header of the PROXY protocol, version 1 or 2.
    pub(crate) protocol: bool,
    /// Which header of a request names the client. The proxy has to set it itself: one that it
    /// passes on is the client's to invent.
    pub(crate) header: ProxyHeader,
}

/// The header in which proxies name the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProxyHeader {
    /// `X-Forwarded-For`
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded`, RFC 7239
    #[serde(rename = "forwarded")]
    Forwarded,
    /// None.
    #[serde(rename = "none")]
    None,
}

impl Default for Tls {
    fn default() -> Self {
        let hsts = Span::from_ms(0);
        Self { listen: Vec::new(), cert: String::new(), key: String::new(), hsts }
    }
}

impl Default for Proxies {
    fn default() -> Self {
        let header = ProxyHeader::XForwardedFor;
        Self { trusted: Vec::new(), protocol: false, header }
    }
}

impl Tls {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fail = |name: &str, rule: &str| Err((name.to_owned(), rule.to_owned()));
        match (self.listen.is_empty(), self.cert.is_empty(), self.key.is_empty()) {
            (_, true, false) => fail("tls.cert", "must name the certificate of tls.key"),
            (_, false, true) => fail("tls.key", "must name the key of tls.cert"),
            (false, true, true) => {
                fail("tls.cert", "TLS needs a certificate: set tls.cert and tls.key")
            }
            (true, false, false) => fail(
                "tls.listen",
                "there is a certificate, and nowhere to show it: add an address such as 0.0.0.0:443",
            ),
            (true, true, true) | (false, false, false) => Ok(()),
        }
    }
}

impl Proxies {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        for (index, text) in self.trusted.iter().enumerate() {
            if let Err(rule) = text.parse::<crate::front::Network>() {
                return Err((format!("proxies.trusted[{index}]"), rule));
            }
        }
        if self.protocol && self.trusted.is_empty() {
            let rule = "without proxies.trusted nobody may speak the PROXY protocol";
            return Err(("proxies.protocol".into(), rule.into()));
        }
        Ok(())
    }
}
