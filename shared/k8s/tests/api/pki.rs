//! Certificates of a cluster that exists for one test.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, valid now.
    pub(crate) fn certify(&self, names: &[&str]) -> Certified {
        self.sign(names, &KeyPair::generate().unwrap(), false)
    }

    /// A certificate for these names that is not valid any more.
    pub(crate) fn certify_expired(&self, names: &[&str]) -> Certified {
        self.sign(names, &KeyPair::generate().unwrap(), true)
    }

    /// A certificate for a key (PKCS#8).
    pub(crate) fn certify_key(&self, pkcs8: &str) -> Certified {
        self.sign(&["client"], &KeyPair::from_pem(pkcs8).unwrap(), false)
    }

    fn sign(&self, names: &[&str], key: &KeyPair, expired: bool) -> Certified {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 2, 3);
        }
        Certified {
            certificate: params.signed_by(key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
