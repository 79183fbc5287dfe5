//! How TLS servers are verified, and how we say who we are: certificates and keys from PEM files.

use crate::PlatformError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a client needs for TLS. The default trusts the system's authorities and has no certificate of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files with our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have, if not the one in the URL.
    pub server_name: Option<String>,
    /// Whether any certificate will do. Then nobody knows who answers.
    pub insecure: bool,
}

impl Tls {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        self.ca_file.iter().chain(identity).map(PathBuf::as_path)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing, is no PEM, or holds nothing of what is needed.
    pub fn client_config(&self) -> Result<ClientConfig, PlatformError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| reading("TLS versions", error))?;
        let builder = builder.with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain_file, key_file)) => {
                let chain = certificates(chain_file)?;
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| unfit("read a private key from", key_file, error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unfit("use the certificate in", chain_file, error))?
            }
        };
        if self.insecure {
            config.dangerous().set_certificate_verifier(Arc::new(Anyone(algorithms)));
        }
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, PlatformError> {
        let mut roots = RootCertStore::empty();
        if self.insecure {
            return Ok(roots);
        }
        match &self.ca_file {
            Some(file) => {
                for certificate in certificates(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| unfit("use an authority in", file, error))?;
                }
            }
            None => {
                // One that cannot be read takes nothing from the others.
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = roots.add_parsable_certificates(found.certs);
                if added == 0 {
                    let what = "the system's authorities (package ca-certificates); or set ca_file";
                    return Err(reading(what, "none found"));
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PlatformError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| unfit("read certificates from", file, error));
    match all {
        Ok(all) if all.is_empty() => Err(unfit("read certificates from", file, "none in it")),
        all => all,
    }
}

fn unfit(attempt: &'static str, file: &Path, cause: impl ToString) -> PlatformError {
    PlatformError::file(attempt, file)(io::Error::other(cause.to_string()))
}

fn reading(what: &'static str, cause: impl ToString) -> PlatformError {
    PlatformError::Reading { what, cause: cause.to_string() }
}

/// Takes any certificate, but still wants the server to hold its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The provider of cryptography that all of this program uses.
pub fn provider() -> CryptoProvider {
    ring::default_provider()
}
