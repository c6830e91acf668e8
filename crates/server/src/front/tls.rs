//! TLS: the certificate that is shown, replaced when its files change, and the handshake.

use super::{Counts, Ends};
use crate::config::Tls as Files;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at. Two looks have to see the same, so that a certificate is not
/// taken while its key is still being written.
const LOOK: Duration = Duration::from_secs(2);

/// A certificate with its chain, or a key, is not longer.
const FILE_BYTES: u64 = 1 << 20;

/// What is read of a request without TLS.
const REQUEST_BYTES: usize = 16 << 10;

/// What is sent to whoever speaks HTTP where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 106\r\nConnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\
    \"detail\":\"TLS is spoken here: use https or wss.\"}";

/// What TLS connections share.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    counts: Arc<Counts>,
}

/// How handshakes and changes of the files ended, since the start.
#[derive(Debug, Default)]
pub(crate) struct TlsCounts {
    handshakes: [AtomicU64; Handshake::ALL.len()],
    reloaded: AtomicU64,
    refused: AtomicU64,
    /// When the certificate that is shown expires, seconds since 1970.
    not_after_s: AtomicU64,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// It is a session.
    Accepted,
    /// The peer broke it off, spoke nonsense, or has no version or cipher in common with us.
    Failed,
    /// It took longer than `limits.handshake`.
    Timeout,
    /// The peer speaks HTTP without TLS.
    Plain,
}

impl Handshake {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Accepted, "accepted"),
        (Self::Failed, "failed"),
        (Self::Timeout, "timeout"),
        (Self::Plain, "plain"),
    ];
}

/// The certificate that is shown to everybody, whatever name they ask for.
#[derive(Debug)]
struct Certificate {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
}

/// A certificate that was read and goes with its key.
struct Loaded {
    key: CertifiedKey,
    validity: Validity,
}

/// Where a certificate stands in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    not_after_s: u64,
    now: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    Within,
    Over,
}

/// What tells one state of the files from another.
type Look = [Option<(SystemTime, u64, u64)>; 2];

/// What was seen of the files so far.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// What they were when they were last read.
    tried: Look,
    last: Option<Look>,
}

impl Tls {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// A sentence that names the setting. An expired certificate is no error, but for a line in the
    /// log: clients refuse it, and whatever does not look at it goes on.
    pub(crate) fn new(files: &Files, counts: Arc<Counts>) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let Loaded { key, validity } = load(files, &provider)?;
        match validity.now {
            Moment::Within => {}
            Moment::Before => {
                tracing::warn!(file = %files.cert, "the certificate is not valid yet");
            }
            Moment::Over => tracing::warn!(file = %files.cert, "the certificate has expired"),
        }
        let certificate =
            Arc::new(Certificate { files: files.clone(), current: RwLock::new(Arc::new(key)) });
        counts.tls.not_after_s.store(validity.not_after_s, Relaxed);
        let config = server_config(provider, certificate.clone());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, certificate, counts })
    }

    /// Shakes hands; `None` if nothing came of it, which is counted.
    pub(super) async fn accept(
        &self,
        mut stream: TcpStream,
        ends: Ends,
        until: Instant,
    ) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        let accepted = timeout_at(until, async {
            // What comes after a header of the PROXY protocol was not waited for yet.
            // Anything else that is no handshake gets an alert.
            if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
                // What is left unread would have the kernel reset the connection under the answer.
                let _ = stream.read(&mut vec![0; REQUEST_BYTES]).await?;
                stream.write_all(NOT_TLS).await?;
                return Ok(Err(stream));
            }
            self.acceptor.accept(stream).await.map(Ok)
        });
        let (outcome, accepted) = match accepted.await {
            Ok(Ok(Ok(stream))) => (Handshake::Accepted, Some(stream)),
            Ok(Ok(Err(_plain))) => {
                tracing::debug!(peer = %ends.peer, "HTTP came where TLS is spoken");
                (Handshake::Plain, None)
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %ends.peer, %error, "TLS handshake failed");
                (Handshake::Failed, None)
            }
            Err(_) => {
                tracing::debug!(peer = %ends.peer, "TLS handshake took too long");
                (Handshake::Timeout, None)
            }
        };
        self.counts.tls.handshakes[outcome as usize].fetch_add(1, Relaxed);
        accepted
    }

    /// Takes the files again whenever they change, or SIGHUP says so, until `stop` changes.
    pub(crate) async fn watch(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be caught");
            return;
        };
        let mut seen = Seen { tried: look(&self.certificate.files), last: None };
        loop {
            let told = tokio::select! {
                _ = stop.changed() => return,
                _ = hangups.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let tls = self.clone();
            // A disk may take its time; the front's threads have more to do.
            let looked = tokio::task::spawn_blocking(move || tls.look(seen, told)).await;
            seen = looked.unwrap_or(seen);
        }
    }

    /// Looks at the files once, and takes them if they have changed and do so no longer.
    fn look(&self, Seen { tried, last }: Seen, told: bool) -> Seen {
        let now = look(&self.certificate.files);
        let settled = last == Some(now);
        if told || (settled && now != tried) {
            self.reload();
            return Seen { tried: now, last: Some(now) };
        }
        Seen { tried, last: Some(now) }
    }

    /// Takes the files if they are good; keeps what it has if they are not.
    fn reload(&self) {
        let Certificate { files, current } = &*self.certificate;
        let TlsCounts { reloaded, refused, not_after_s, .. } = &self.counts.tls;
        let loaded = load(files, self.acceptor.config().crypto_provider());
        let loaded = loaded.and_then(|loaded| match loaded.validity.now {
            Moment::Within => Ok(loaded),
            Moment::Before => Err(format!("tls.cert: {}: it is not valid yet", files.cert)),
            Moment::Over => Err(format!("tls.cert: {}: it has expired", files.cert)),
        });
        match loaded {
            Ok(Loaded { key, validity }) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                not_after_s.store(validity.not_after_s, Relaxed);
                reloaded.fetch_add(1, Relaxed);
                tracing::info!(file = %files.cert, "certificate replaced");
            }
            Err(error) => {
                refused.fetch_add(1, Relaxed);
                tracing::warn!(%error, "the new certificate is not taken; the old one stays");
            }
        }
    }
}

impl TlsCounts {
    /// Every outcome of handshakes with its count.
    pub(crate) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Handshake::ALL.into_iter().map(|(_, name)| name);
        names.zip(self.handshakes.iter().map(|count| count.load(Relaxed)))
    }

    /// How often changed files were taken, and how often not.
    pub(crate) fn reloads(&self) -> [(&'static str, u64); 2] {
        [("taken", self.reloaded.load(Relaxed)), ("refused", self.refused.load(Relaxed))]
    }

    /// When the certificate that is shown expires, seconds since 1970; 0 without one.
    pub(crate) fn not_after_s(&self) -> u64 {
        self.not_after_s.load(Relaxed)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// TLS 1.2 and 1.3, with what rustls takes for good: forward secrecy and AEAD ciphers only. Sessions
/// are resumed with tickets, which cost the server no memory.
fn server_config(provider: Arc<CryptoProvider>, certificate: Arc<Certificate>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("the provider has ciphers for both")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Without randomness for its key there are no tickets, and no sessions are resumed.
    if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
        config.ticketer = ticketer;
    }
    config
}

/// Reads both files; what they hold goes together.
fn load(files: &Files, provider: &CryptoProvider) -> Result<Loaded, String> {
    let in_cert = |what: &dyn fmt::Display| format!("tls.cert: {}: {what}", files.cert);
    let in_key = |what: &dyn fmt::Display| format!("tls.key: {}: {what}", files.key);
    let pem = read(&files.cert).map_err(|error| in_cert(&error))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| in_cert(&error))?;
    let Some(first) = chain.first() else {
        return Err(in_cert(&"there is no certificate in it"));
    };
    let validity = validity(first).map_err(|error| in_cert(&error))?;
    let pem = read(&files.key).map_err(|error| in_key(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| in_key(&error))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            in_key(&format_args!("it is not the key of {}", files.cert))
        }
        error => in_key(&error),
    })?;
    Ok(Loaded { key, validity })
}

/// A pipe would keep whoever reads it waiting, and a device never ends.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES {
        return Err(io::Error::other("it is no file of at most 1 MiB"));
    }
    std::fs::read(path)
}

/// Asks webpki, which says when a certificate ends only to refuse it.
fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, webpki::Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    let at = |time: UnixTime| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let usage = webpki::KeyUsage::server_auth();
        certificate.verify_for_usage(algorithms, &[], &[], time, usage, None, None).err()
    };
    let now = match at(UnixTime::now()) {
        Some(webpki::Error::CertNotValidYet { .. }) => Moment::Before,
        Some(webpki::Error::CertExpired { .. }) => Moment::Over,
        // It has no anchor here; its time was looked at before.
        _ => Moment::Within,
    };
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let not_after_s = match at(end_of_time) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        _ => 0,
    };
    Ok(Validity { not_after_s, now })
}

fn look(files: &Files) -> Look {
    [&files.cert, &files.key].map(|path| {
        let metadata = std::fs::metadata(Path::new(path)).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_http_has_the_right_length() {
        let text = std::str::from_utf8(NOT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
