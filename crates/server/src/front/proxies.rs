//! Who the client is behind a proxy: the PROXY protocol, `X-Forwarded-For` and `Forwarded`.
//!
//! Only a peer in `proxies.trusted` is believed. Of a chain of addresses the rightmost counts that
//! is not itself one of those: what stands left of it is that client's to invent.

use super::Network;
use crate::config;
use crate::config::ProxyHeader;
use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are believed; a longer chain is malformed.
const HOPS_MAX: usize = 32;
/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LINE_BYTES: usize = 107;
/// The longest header of version 2 behind its 16 fixed bytes; proxies add what they know of TLS.
const ADDITIONS_BYTES: usize = 4_096;

/// Whose word is taken, and how it is given.
#[derive(Debug)]
pub(crate) struct Proxies {
    trusted: Vec<Network>,
    protocol: bool,
    header: ProxyHeader,
}

/// A header of a trusted proxy that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a proxy calls a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Address(IpAddr),
    /// The proxy does not know, or does not tell.
    Unknown,
}

/// Reads one item of a header.
type Parse = fn(&str) -> Result<Named, Malformed>;

impl Proxies {
    /// `settings` were checked.
    pub(crate) fn new(settings: &config::Proxies) -> Self {
        let parse = |text: &String| text.parse().expect("the settings were checked");
        Self {
            trusted: settings.trusted.iter().map(parse).collect(),
            protocol: settings.protocol,
            header: settings.header,
        }
    }

    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// Whether a connection of `peer` begins with a header of the PROXY protocol.
    pub(super) fn speaks_protocol(&self, peer: IpAddr) -> bool {
        self.protocol && self.trusts(peer)
    }

    /// Who sent a request that came from `peer`; `None` for `peer` itself.
    ///
    /// # Errors
    /// A trusted proxy has written what cannot be read.
    pub(super) fn client(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<IpAddr>, Malformed> {
        let (name, parse): (_, Parse) = match self.header {
            ProxyHeader::None => return Ok(None),
            ProxyHeader::XForwardedFor => (X_FORWARDED_FOR, address),
            ProxyHeader::Forwarded => (FORWARDED, forwarded),
        };
        if !self.trusts(peer) {
            return Ok(None);
        }
        let mut client = None;
        let mut hops = 0;
        // Lines are one list, in their order. An address has no comma in it, and from the right no
        // quotation mark that a client has left open can swallow what the proxy added.
        for line in headers.get_all(name).iter().rev() {
            for item in line.as_bytes().rsplit(|&byte| byte == b',') {
                hops += 1;
                let item = std::str::from_utf8(item).map_err(|_| Malformed)?;
                match parse(item.trim())? {
                    _ if hops > HOPS_MAX => return Err(Malformed),
                    Named::Unknown => return Ok(client),
                    Named::Address(address) => client = Some(address),
                }
                if !client.is_some_and(|address| self.trusts(address)) {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }

    /// Reads the header of the PROXY protocol, and not a byte more: who the client is, `None` for
    /// the proxy itself (which looks whether we live) or for who has no address.
    ///
    /// # Errors
    /// `InvalidData` for what is no such header, and what the operating system says.
    pub(super) async fn header(&self, stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
        let invalid = || io::Error::new(ErrorKind::InvalidData, "no header of the PROXY protocol");
        // The shortest line of version 1 is longer.
        let mut start = [0; SIGNATURE.len()];
        stream.read_exact(&mut start).await?;
        let mut header = start.to_vec();
        if start == *SIGNATURE {
            let mut fixed = [0; 4];
            stream.read_exact(&mut fixed).await?;
            header.extend(fixed);
            let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
            if length > ADDITIONS_BYTES {
                return Err(invalid());
            }
            header.resize(header.len() + length, 0);
            let rest = header.len() - length;
            stream.read_exact(&mut header[rest..]).await?;
        } else if start.starts_with(b"PROXY ") {
            while !header.ends_with(b"\n") {
                if header.len() == LINE_BYTES {
                    return Err(invalid());
                }
                header.push(stream.read_u8().await?);
            }
        }
        source(&header).ok_or_else(invalid)
    }
}

/// What a whole header of the PROXY protocol says; `None` if it is none.
fn source(header: &[u8]) -> Option<Option<SocketAddr>> {
    use ppp::{HeaderResult, v1, v2};
    match HeaderResult::parse(header) {
        HeaderResult::V1(header) => Some(match header.ok()?.addresses {
            v1::Addresses::Tcp4(ends) => Some((ends.source_address, ends.source_port).into()),
            v1::Addresses::Tcp6(ends) => Some((ends.source_address, ends.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            Some(match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(ends) => Some((ends.source_address, ends.source_port).into()),
                v2::Addresses::IPv6(ends) => Some((ends.source_address, ends.source_port).into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            })
        }
    }
}

/// `192.0.2.1` or `2001:db8::1`; some proxies add a port, and then brackets.
fn address(text: &str) -> Result<Named, Malformed> {
    if text.eq_ignore_ascii_case("unknown") {
        return Ok(Named::Unknown);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()));
    address.map(Named::Address).map_err(|_| Malformed)
}

/// `for=192.0.2.1;proto=https` or `for="[2001:db8::1]:4711"`, RFC 7239.
fn forwarded(element: &str) -> Result<Named, Malformed> {
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=').ok_or(Malformed)?;
        if !name.trim().eq_ignore_ascii_case("for") {
            continue;
        }
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        // A name that the proxy made up, so as not to tell.
        return if value.starts_with('_') { Ok(Named::Unknown) } else { address(value) };
    }
    Ok(Named::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = vec!["10.0.0.0/8".into(), "2001:db8:1::/48".into()];
        Proxies::new(&config::Proxies { trusted, protocol: false, header })
    }

    fn client(
        header: ProxyHeader,
        peer: &str,
        lines: &[&str],
    ) -> Result<Option<String>, Malformed> {
        let name = if header == ProxyHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let client = proxies(header).client(peer.parse().unwrap(), &headers);
        client.map(|client| client.map(|address| address.to_string()))
    }

    fn x_forwarded_for(peer: &str, lines: &[&str]) -> Result<Option<String>, Malformed> {
        client(ProxyHeader::XForwardedFor, peer, lines)
    }

    fn is(address: &str) -> Result<Option<String>, Malformed> {
        Ok(Some(address.to_owned()))
    }

    // [7.proxy.chain]
    #[test]
    fn the_rightmost_counts_that_is_no_proxy() {
        let proxy = "10.0.0.1";
        assert_eq!(x_forwarded_for(proxy, &[]), Ok(None));
        assert_eq!(x_forwarded_for(proxy, &["192.0.2.1"]), is("192.0.2.1"));
        assert_eq!(x_forwarded_for(proxy, &["198.51.100.9, 192.0.2.1,10.9.9.9"]), is("192.0.2.1"));
        assert_eq!(x_forwarded_for(proxy, &["198.51.100.9", "192.0.2.1"]), is("192.0.2.1"));
        assert_eq!(x_forwarded_for(proxy, &["2001:db8::1,2001:db8:1::1"]), is("2001:db8::1"));
        assert_eq!(x_forwarded_for(proxy, &["192.0.2.1:4711"]), is("192.0.2.1"));
        assert_eq!(x_forwarded_for(proxy, &["[2001:db8::1]:4711"]), is("2001:db8::1"));
        assert_eq!(x_forwarded_for("::ffff:10.0.0.1", &["192.0.2.1"]), is("192.0.2.1"));
        // All are proxies: the first of them began it.
        assert_eq!(x_forwarded_for(proxy, &["10.0.0.3, 10.0.0.2"]), is("10.0.0.3"));
    }

    // [7.proxy.trusted]
    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(x_forwarded_for("192.0.2.66", &["127.0.0.1"]), Ok(None));
        assert_eq!(client(ProxyHeader::Forwarded, "192.0.2.66", &["for=127.0.0.1"]), Ok(None));
        assert_eq!(client(ProxyHeader::None, "10.0.0.1", &["192.0.2.1"]), Ok(None));
    }

    // [7.proxy.chain]
    #[test]
    fn what_a_client_made_up_is_not_even_read() {
        for garbage in ["rubbish", "\"", ",", ",,,", "for=\"", "\u{e9}", "1.2.3.4.5", "_x"] {
            let line = format!("{garbage}, 192.0.2.1");
            assert_eq!(x_forwarded_for("10.0.0.1", &[&line]), is("192.0.2.1"), "{garbage}");
            let line = format!("{garbage}, for=192.0.2.1");
            let client = client(ProxyHeader::Forwarded, "10.0.0.1", &[&line]);
            assert_eq!(client, is("192.0.2.1"), "{garbage}");
        }
    }

    // [7.proxy.malformed]
    #[test]
    fn what_a_proxy_cannot_have_written_is_malformed() {
        for line in ["", "rubbish", "192.0.2.1,", "192.0.2", "fe80::1%eth0", "\u{e9}", "[::1"] {
            assert_eq!(x_forwarded_for("10.0.0.1", &[line]), Err(Malformed), "{line:?}");
        }
        let long = ["10.0.0.2"; HOPS_MAX + 1].join(",");
        assert_eq!(x_forwarded_for("10.0.0.1", &[&long]), Err(Malformed));
        for line in ["", "192.0.2.1", "for", "for=rubbish", "for=\"192.0.2.1"] {
            let client = client(ProxyHeader::Forwarded, "10.0.0.1", &[line]);
            assert_eq!(client, Err(Malformed), "{line:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (line, expected) in [
            ("for=192.0.2.1", is("192.0.2.1")),
            ("For=\"[2001:db8::1]:4711\"", is("2001:db8::1")),
            ("for=\"[2001:db8::1]\"", is("2001:db8::1")),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", is("192.0.2.60")),
            ("proto=https; for=192.0.2.1:80", is("192.0.2.1")),
            ("for=192.0.2.9, for=198.51.100.17, for=10.1.1.1", is("198.51.100.17")),
            ("for=198.51.100.17, for=unknown", Ok(None)),
            ("for=_hidden", Ok(None)),
            ("proto=https", Ok(None)),
        ] {
            assert_eq!(client(ProxyHeader::Forwarded, "10.0.0.1", &[line]), expected, "{line}");
        }
    }

    // [7.proxy.protocol]
    #[test]
    fn both_versions_of_the_protocol_name_the_client() {
        let named = |text: &str| Some(Some(text.parse().unwrap()));
        let v1 = |line: &str| source(line.as_bytes());
        assert_eq!(v1("PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n"), named("192.0.2.1:4711"));
        assert_eq!(v1("PROXY TCP6 2001:db8::1 ::1 4711 80\r\n"), named("[2001:db8::1]:4711"));
        assert_eq!(v1("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ::1 1 2\r\n"), Some(None));
        for bad in ["GET / HTTP/1.1\r\n", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 a b c d\r\n"] {
            assert_eq!(v1(bad), None, "{bad}");
        }
        let v2 = |command: u8, family: u8, body: &[u8]| {
            let length = (body.len() as u16).to_be_bytes();
            source(&[SIGNATURE, [command, family].as_slice(), &length, body].concat())
        };
        let body = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        assert_eq!(v2(0x21, 0x11, &body), named("192.0.2.1:4711"));
        assert_eq!(v2(0x21, 0x11, &[&body[..], &[4, 0, 1, 9]].concat()), named("192.0.2.1:4711"));
        assert_eq!(v2(0x20, 0x00, &[]), Some(None), "LOCAL");
        assert_eq!(v2(0x21, 0x00, &[]), Some(None), "UNSPEC");
        assert_eq!(v2(0x31, 0x11, &body), None, "version 3");
        assert_eq!(v2(0x21, 0x11, &body[..4]), None, "too short");
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = source(&bytes);
            let _ = source(&[SIGNATURE, &bytes[..]].concat());
            let _ = source(&[b"PROXY TCP4 ", &bytes[..], b"\r\n"].concat());
            let text = String::from_utf8_lossy(&bytes);
            let (_, _) = (address(&text), forwarded(&text));
        }

        #[test]
        fn whatever_stands_before_it_the_proxys_item_counts(
            before in "[ -~]{0,40}",
            client_is in any_address().prop_filter("no proxy", |address| {
                !proxies(ProxyHeader::None).trusts(*address)
            }),
        ) {
            let line = format!("{before},{client_is}");
            prop_assert_eq!(x_forwarded_for("10.0.0.1", &[&line]), is(&client_is.to_string()));
            let line = match client_is {
                IpAddr::V4(address) => format!("{before},for={address}"),
                IpAddr::V6(address) => format!("{before},for=\"[{address}]\""),
            };
            let got = client(ProxyHeader::Forwarded, "10.0.0.1", &[&line]);
            prop_assert_eq!(got, is(&client_is.to_string()));
        }
    }
}
