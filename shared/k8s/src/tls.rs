//! The TLS side of access: who is trusted, who we are, and what a failed handshake means.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
};

use crate::clock::{from_unix, rfc3339};

/// PEM text and where it is from.
#[derive(Clone)]
pub(crate) struct Pem {
    pub(crate) bytes: Vec<u8>,
    /// For people: `certificate-authority-data in FILE`.
    pub(crate) from: String,
}

/// A client certificate with its chain, and its key.
pub(crate) struct Identity {
    pub(crate) certificate: Pem,
    pub(crate) key: Pem,
}

/// Everything a handshake needs.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    /// What the server's certificate has to be for.
    pub(crate) name: ServerName<'static>,
    /// Where the trusted authority is from.
    authority: String,
    /// Where the client certificate is from.
    identity: Option<String>,
}

impl Tls {
    /// Puts the parts together; fails where one of them can't be used.
    pub(crate) fn new(
        name: &str,
        authority: &Pem,
        identity: Option<&Identity>,
    ) -> Result<Tls, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is neither a host name nor an address"))?;
        let trusted = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots(authority)?);
        let mut config = match identity {
            None => trusted.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| {
                    format!("{}: no private key (PKCS#1, PKCS#8 or SEC1, PEM)", key.from)
                })?;
                trusted.with_client_auth_cert(chain, secret).map_err(|e| {
                    format!(
                        "{} and {} can't be used together: {e}",
                        certificate.from, key.from
                    )
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A process makes one connection; nobody comes back with a ticket.
        config.resumption = Resumption::disabled();
        Ok(Tls {
            config: Arc::new(config),
            name,
            authority: authority.from.clone(),
            identity: identity.map(|i| i.certificate.from.clone()),
        })
    }

    /// What a refusal means and what to do about it.
    pub(crate) fn explain(&self, refusal: &Error) -> String {
        let name = self.name.to_str();
        match refusal {
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                    "the server's certificate is not signed by the authority of {}; is it another cluster's?",
                    self.authority
                ),
                CertificateError::Expired => "the server's certificate has expired".to_owned(),
                CertificateError::ExpiredContext { not_after, .. } => format!(
                    "the server's certificate expired at {}, if the clock of this host is right",
                    time(*not_after)
                ),
                CertificateError::NotValidYet => {
                    "the server's certificate is not valid yet".to_owned()
                }
                CertificateError::NotValidYetContext { not_before, .. } => format!(
                    "the server's certificate is valid from {}, if the clock of this host is right",
                    time(*not_before)
                ),
                CertificateError::NotValidForName => {
                    format!(
                        "the server's certificate is not for {name:?}; set tls-server-name to a name it is for"
                    )
                }
                CertificateError::NotValidForNameContext { presented, .. } => format!(
                    "the server's certificate is not for {name:?} but for {}; set tls-server-name to a name it is for",
                    presented.join(", ")
                ),
                other => format!("the server's certificate can't be trusted: {other}"),
            },
            Error::AlertReceived(alert) if is_about_certificates(*alert) => match &self.identity {
                Some(from) => {
                    format!("the server did not accept the client certificate of {from}: {alert:?}")
                }
                None => format!("the server asks for a client certificate: {alert:?}"),
            },
            Error::InvalidMessage(_) => format!("the server does not speak TLS ({refusal})"),
            other => other.to_string(),
        }
    }
}

fn time(time: UnixTime) -> String {
    from_unix(time.as_secs()).map(rfc3339).unwrap_or_default()
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

/// The refusal of a handshake, if that is what is at the bottom of an error.
pub(crate) fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Error>() {
            return Some(refusal);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    match read {
        Ok(list) if list.is_empty() => Err(format!("{}: no certificate (PEM)", pem.from)),
        Ok(list) => Ok(list),
        Err(e) => Err(format!("{}: {e}", pem.from)),
    }
}

/// A bundle may hold certificates that can't be used here; one that can is enough.
fn roots(authority: &Pem) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates(authority)?);
    if usable == 0 {
        return Err(format!(
            "{}: no certificate that can be used",
            authority.from
        ));
    }
    Ok(store)
}
