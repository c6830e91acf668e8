//! TLS: whom to trust, the handshake, and what was wrong in words.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::opening::Failure;
use crate::stream::Stream;

/// Whose certificates are taken: of the authorities that this machine trusts, and of some more.
pub(crate) struct Trust {
    extra: Vec<CertificateDer<'static>>,
    /// Made when the first `wss://` address is connected to; sessions are resumed through it.
    connector: OnceCell<TlsConnector>,
}

impl Trust {
    pub(crate) fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self { extra, connector: OnceCell::new() }
    }

    /// Shakes hands.
    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
    ) -> Result<Stream, Failure> {
        let Endpoint { host, port, .. } = endpoint;
        let failed = |why: String| Failure::new("tls_failed", format!("{host}:{port}: {why}"));
        let name = ServerName::try_from(host.clone())
            .map_err(|_| failed("this is no name that a certificate could be for".to_owned()))?;
        let connector = self.connector.get_or_try_init(|| self.connector()).await;
        let secured = connector.map_err(failed)?.connect(name, stream).await;
        let secured = secured.map_err(|error| failed(explain(&error)))?;
        Ok(Stream::Tls(Box::new(secured)))
    }

    async fn connector(&self) -> Result<TlsConnector, String> {
        // It reads hundreds of files.
        let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let native = native.await.map(|native| native.certs).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(native);
        for certificate in &self.extra {
            let added = roots.add(certificate.clone());
            added.map_err(|error| format!("the certificate to trust is no good: {error}"))?;
        }
        if roots.is_empty() {
            return Err("this machine has no certificates of authorities \
                        (Debian: ca-certificates), and none were given"
                .to_owned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The certificates in a PEM file's text.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// What a handshake failed of.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(certificate)) => match certificate {
            // The latter: of one with the same name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is of no authority that is trusted here".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            CertificateError::Other(other)
                if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
            {
                "its certificate is one of an authority (CA:TRUE), not one of a server".to_owned()
            }
            other => format!("its certificate is not good: {other}"),
        },
        Some(Error::InvalidMessage(_)) => "it does not speak TLS here".to_owned(),
        Some(other) => format!("TLS: {other}"),
        None => format!("TLS: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::certificates;

    #[test]
    fn a_file_without_certificates_is_refused() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert!(certificates(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
