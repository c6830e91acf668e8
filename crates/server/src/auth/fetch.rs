//! One request for a JWK Set over HTTPS.

use clarion_token::jwks::{self, KeySet};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest set, bytes.
const BODY_BYTES: usize = 64 << 10;
/// The longest head of an answer, bytes.
const HEAD_BYTES: usize = 16 << 10;

/// Where a JWK Set is: `https://`, or `http://` of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

/// What was fetched, and for how long it says that it is good.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) set: KeySet,
    pub(crate) max_age: Option<Duration>,
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str =
            "is no address of keys: write https://host/path, or http:// for this machine";
        let uri: Uri = text.parse().map_err(|_| RULE)?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or(RULE)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            // Who can change the answer on its way can be anybody here.
            Some("http") if is_local(&host) => false,
            Some("http") => return Err("http:// is for this machine only: write https://"),
            _ => return Err(RULE),
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { host, port, tls, uri })
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Asks once. Redirects are not followed; the whole may take `time`.
///
/// # Errors
/// What went wrong, in words of ours: nothing of the answer is in it.
pub(crate) async fn fetch(source: &Source, time: Duration) -> Result<Fetched, String> {
    let asked = tokio::time::timeout(time, ask(source));
    asked.await.unwrap_or_else(|_| Err(format!("no answer within {} ms", time.as_millis())))
}

async fn ask(source: &Source) -> Result<Fetched, String> {
    let stream = TcpStream::connect((source.host.as_str(), source.port));
    let stream = stream.await.map_err(|error| format!("no connection: {error}"))?;
    if !source.tls {
        // `localhost` could be said to be anywhere.
        let local = stream.peer_addr().is_ok_and(|addr| addr.ip().is_loopback());
        return if local { exchange(source, stream).await } else { Err("it is not here".into()) };
    }
    let name = ServerName::try_from(source.host.clone()).map_err(|_| "the host has no name")?;
    let tls = TlsConnector::from(Arc::new(trust()?));
    let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    exchange(source, stream).await
}

/// The authorities that this machine trusts. Read anew each time: it is rare, and they change.
fn trust() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this machine has no certificates of authorities (Debian: ca-certificates)".into()
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| format!("TLS: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange<S>(source: &Source, stream: S) -> Result<Fetched, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| {
        // What hyper says of a peer's answer repeats none of it.
        format!("HTTP: {error}")
    };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = source.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, source.uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("clarion/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the address cannot be asked for")?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("answered {}, and redirects are not followed", status.as_u16()));
        }
        if status != StatusCode::OK {
            return Err(format!("answered {}", status.as_u16()));
        }
        let max_age = max_age(answer.headers());
        let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => failed(*error),
            Err(_) => format!("the answer is longer than {BODY_BYTES} bytes"),
        })?;
        let text =
            String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is not UTF-8")?;
        let set = jwks::read(&text).map_err(|error| error.to_string())?;
        Ok(Fetched { set, max_age })
    };
    let mut answer = pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => return answer,
        // It is over when the peer has sent everything and closed; what that was is still to be read,
        // and what was wrong with it is told there.
        _ = connection => {}
    }
    answer.await
}

/// For how long an answer may be kept (RFC 9111 section 5.2); 0 if it may not be.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in values.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => age = value.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://id.example/.well-known/jwks.json",
            "https://id.example:8443/keys?a=b",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]:80/keys",
        ] {
            assert!(good.parse::<Source>().is_ok(), "{good}");
        }
        for bad in [
            "id.example/keys",
            "/keys",
            "",
            "ftp://id.example/keys",
            "https://ada:secret@id.example/keys",
            "http://id.example/keys",
            "http://localhost.evil.example/keys",
            "http://127.0.0.1.evil.example/keys",
            "http://10.0.0.1/keys",
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_may_be_kept() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(of("public, max-age=300"), Some(300));
        assert_eq!(of("Max-Age=\"7\""), Some(7));
        assert_eq!(of("max-age=300, no-store"), Some(0));
        assert_eq!(of("public"), None);
        assert_eq!(of("max-age=soon"), None);
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
