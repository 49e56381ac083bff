//! The server's authority, its own certificate, those of clients, and the kubeconfig files that hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A certificate authority made for one server.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "conformance-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a client. Kubernetes takes the common name for the user and the organizations for the groups.
    pub(super) fn client(&self, user: &str) -> Result<Identity, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A certificate for a server at this address.
    pub(super) fn server_identity(&self, address: IpAddr) -> Result<Identity, rcgen::Error> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        for address in [
            address,
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// How the server presents itself at this address, and whose certificates it believes.
    pub(super) fn server(&self, address: IpAddr) -> Result<ServerConfig, String> {
        let identity = self
            .server_identity(address)
            .map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .map_err(|error| error.to_string())?;
        // A client may show a certificate and need not: it may have a token.
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
            .map_err(|error| error.to_string())?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())
            .map_err(|error| error.to_string())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// How the user of a kubeconfig file says who it is.
#[derive(Clone, Debug)]
pub enum User {
    /// By this bearer token.
    Token(String),
    /// By the bearer token in this file.
    TokenFile(std::path::PathBuf),
    /// By this client certificate.
    Certificate(Identity),
    /// Not at all.
    Nobody,
}

/// The text of a kubeconfig file with one context, which is the current one.
pub(super) fn kubeconfig(server: &str, authority: &str, user: &User) -> String {
    let authority = STANDARD.encode(authority);
    let user = match user {
        User::Token(token) => format!("\n    token: \"{token}\""),
        User::TokenFile(file) => format!("\n    tokenFile: \"{}\"", file.display()),
        User::Certificate(identity) => format!(
            "\n    client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&identity.certificate),
            STANDARD.encode(&identity.key)
        ),
        User::Nobody => " {}".to_owned(),
    };
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: conformance
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: conformance
  user:{user}
contexts:
- name: conformance
  context:
    cluster: conformance
    user: conformance
current-context: conformance
"
    )
}
