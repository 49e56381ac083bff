//! How an API server is reached: its address, what proves that it is the right one, and what proves who we are.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderValue;
use serde::Deserialize;

use crate::clock::{from_unix, rfc3339};
use crate::error::Error;
use crate::kubeconfig;
use crate::server::Server;
use crate::tls::{Pem, Tls};

/// Where a pod finds the credentials of its service account: `token` and `ca.crt`.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Address, trust and credentials, read and checked; nothing has been connected yet.
///
/// Token files are read at this moment: a process that starts later has the token of later.
#[derive(Clone)]
pub struct Access {
    pub(crate) server: Server,
    /// `None` for `http`, where no credentials are sent.
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Option<Token>,
    /// For people: where all this is from.
    pub(crate) from: String,
}

/// A bearer token.
#[derive(Clone)]
pub(crate) struct Token {
    /// `Bearer ...`, which no log shows.
    pub(crate) header: HeaderValue,
    /// For people: the file it is from.
    from: String,
    /// When it expires, if it says so.
    expires: Option<SystemTime>,
}

impl Access {
    /// Reads a kubeconfig, YAML or JSON, and takes the cluster and the user of its `current-context`.
    ///
    /// Refused, with what to do instead: `insecure-skip-tls-verify` and a cluster without its own authority (TLS is
    /// always verified), `proxy-url`, plugins (`exec`, `auth-provider`), passwords and impersonation.
    pub fn kubeconfig(path: &Path) -> Result<Access, Error> {
        kubeconfig::read(path)
            .map_err(|msg| Error::access(format!("kubeconfig {}: {msg}", path.display())))
    }

    /// The service account of the pod this runs in. `host` and `port` are what the pod finds in
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`; `folder` is usually [`SERVICE_ACCOUNT`].
    pub fn in_cluster(host: &str, port: u16, folder: &Path) -> Result<Access, Error> {
        let from = format!("service account {}", folder.display());
        let read = || {
            let url = match host.contains(':') {
                true => format!("https://[{host}]:{port}"),
                false => format!("https://{host}:{port}"),
            };
            let server = Server::parse(&url, true).map_err(|e| format!("{url:?}: {e}"))?;
            let authority = folder.join("ca.crt");
            let authority = Pem {
                bytes: read_file(&authority)?,
                from: authority.display().to_string(),
            };
            Ok(Access {
                tls: Some(Tls::new(&server.host, &authority, None)?),
                token: Some(Token::read(&folder.join("token"))?),
                server,
                from: from.clone(),
            })
        };
        read().map_err(|msg: String| Error::access(format!("{from}: {msg}")))
    }

    /// What a 401 is about, for people.
    pub(crate) fn advice_unauthorized(&self) -> String {
        let Some(token) = &self.token else {
            return match &self.tls {
                Some(_) => format!(
                    "{} has no token; is its client certificate still valid?",
                    self.from
                ),
                None => format!(
                    "no credentials are sent over http; use https in {}",
                    self.from
                ),
            };
        };
        match token.expires {
            Some(end) if end <= SystemTime::now() => format!(
                "the token of {} expired at {}; whoever writes that file has stopped renewing it",
                token.from,
                rfc3339(end)
            ),
            _ => format!("the token of {} is not accepted; renew it", token.from),
        }
    }

    /// What a 403 is about, for people.
    pub(crate) fn advice_forbidden(&self) -> String {
        format!(
            "the account of {} lacks this right: see its ClusterRole",
            self.from
        )
    }
}

impl Token {
    /// Reads a token from its file. White space around it is not part of it.
    pub(crate) fn read(path: &Path) -> Result<Token, String> {
        let bytes = read_file(path)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{}: no text", path.display()))?;
        Token::new(&text, path.display().to_string())
    }

    pub(crate) fn new(text: &str, from: String) -> Result<Token, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("{from}: the token is empty"));
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| format!("{from}: the token has characters that no token has"))?;
        header.set_sensitive(true);
        Ok(Token {
            header,
            from,
            expires: expiry(text),
        })
    }
}

/// When a token expires, if it is a JSON Web Token (RFC 7519) that says so. Only told to people.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let payload = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    from_unix(claims.exp)
}

/// Reads a file that is named in an error.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Without credentials.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({} by {})", self.server, self.from)
    }
}
