//! Kubeconfig files: the one file that knows their keys.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::access::{Access, Token, read_file};
use crate::server::Server;
use crate::tls::{Identity, Pem, Tls};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    contexts: Option<Vec<NamedContext>>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: Option<Context>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: Option<Cluster>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<IgnoredAny>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<IgnoredAny>>,
    as_user_extra: Option<IgnoredAny>,
}

/// Reads the file and what it refers to. Errors don't name the file itself.
pub(crate) fn read(path: &Path) -> Result<Access, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let config = parse(&text)?;
    let wanted = filled(&config.current_context).ok_or("it has no current-context; set one")?;
    let context = config
        .contexts
        .into_iter()
        .flatten()
        .find(|c| c.name == wanted)
        .ok_or_else(|| format!("there is no context {wanted:?}, which current-context names"))?
        .context
        .unwrap_or_default();
    let name =
        filled(&context.cluster).ok_or_else(|| format!("context {wanted:?} names no cluster"))?;
    let cluster = config
        .clusters
        .into_iter()
        .flatten()
        .find(|c| c.name == name)
        .ok_or_else(|| format!("there is no cluster {name:?}, which context {wanted:?} names"))?
        .cluster
        .unwrap_or_default();
    let user = match filled(&context.user) {
        None => User::default(),
        Some(name) => config
            .users
            .into_iter()
            .flatten()
            .find(|u| u.name == name)
            .ok_or_else(|| format!("there is no user {name:?}, which context {wanted:?} names"))?
            .user
            .unwrap_or_default(),
    };
    Origin { path }.access(&cluster, &user)
}

/// JSON is read by the reader of JSON, which is faster; everything else is YAML.
fn parse(text: &str) -> Result<Kubeconfig, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    let read: Option<Kubeconfig> = yaml_serde::from_str(text).map_err(|e| e.to_string())?;
    read.ok_or_else(|| "it is empty".to_owned())
}

/// A string that says something.
fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

/// The file that entries are from: relative paths start at its folder.
struct Origin<'a> {
    path: &'a Path,
}

impl Origin<'_> {
    fn access(&self, cluster: &Cluster, user: &User) -> Result<Access, String> {
        let url = filled(&cluster.server).ok_or("the cluster has no server")?;
        let authority = self.pem(
            "certificate-authority",
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
        )?;
        let server =
            Server::parse(url, authority.is_some()).map_err(|e| format!("server {url:?}: {e}"))?;
        refuse_cluster(cluster)?;
        let from = self.path.display().to_string();
        if !server.tls {
            return Ok(Access {
                server,
                tls: None,
                token: None,
                from,
            });
        }
        refuse_user(user)?;
        let authority = authority.ok_or(
            "the cluster has no certificate-authority-data; the certificates of this host are not used, \
             so put the cluster's there (ConfigMap kube-root-ca.crt has them)",
        )?;
        let identity = self.identity(user)?;
        let name = filled(&cluster.tls_server_name).unwrap_or(&server.host);
        Ok(Access {
            tls: Some(Tls::new(name, &authority, identity.as_ref())?),
            token: self.token(user)?,
            server,
            from,
        })
    }

    /// `KEY-data`, or else the file that `KEY` names.
    fn pem(
        &self,
        key: &str,
        data: &Option<String>,
        file: &Option<String>,
    ) -> Result<Option<Pem>, String> {
        if let Some(data) = filled(data) {
            let from = format!("{key}-data in {}", self.path.display());
            let compact: String = data.split_whitespace().collect();
            let bytes = STANDARD
                .decode(compact)
                .map_err(|e| format!("{key}-data: no base64: {e}"))?;
            return Ok(Some(Pem { bytes, from }));
        }
        let Some(file) = filled(file) else {
            return Ok(None);
        };
        let path = self.beside(file);
        let bytes = read_file(&path).map_err(|e| format!("{key}: {e}"))?;
        let from = path.display().to_string();
        Ok(Some(Pem { bytes, from }))
    }

    fn identity(&self, user: &User) -> Result<Option<Identity>, String> {
        let certificate = self.pem(
            "client-certificate",
            &user.client_certificate_data,
            &user.client_certificate,
        )?;
        let key = self.pem("client-key", &user.client_key_data, &user.client_key)?;
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (Some(_), None) => {
                Err("the user has a client-certificate but no client-key".to_owned())
            }
            (None, Some(_)) => {
                Err("the user has a client-key but no client-certificate".to_owned())
            }
        }
    }

    /// The token of the file where there is one, since files are renewed; the text is for when there is no file.
    fn token(&self, user: &User) -> Result<Option<Token>, String> {
        let text =
            filled(&user.token).map(|text| Token::new(text, self.path.display().to_string()));
        match (filled(&user.token_file), text) {
            (None, text) => text.transpose(),
            (Some(file), None) => Token::read(&self.beside(file)).map(Some),
            (Some(file), Some(text)) => Token::read(&self.beside(file)).or(text).map(Some),
        }
    }

    fn beside(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }
}

fn refuse_cluster(cluster: &Cluster) -> Result<(), String> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("insecure-skip-tls-verify is refused, TLS is always verified: remove it and put the cluster's \
                    certificates into certificate-authority-data (ConfigMap kube-root-ca.crt has them); if only \
                    the name differs, set tls-server-name"
            .to_owned());
    }
    if filled(&cluster.proxy_url).is_some() {
        return Err(
            "proxy-url is not supported: name a server that can be reached directly".to_owned(),
        );
    }
    Ok(())
}

fn refuse_user(user: &User) -> Result<(), String> {
    let instead = "give the user a token, a tokenFile or a client certificate";
    if user.exec.is_some() {
        return Err(format!(
            "credential plugins (exec) are not run here: {instead}"
        ));
    }
    if user.auth_provider.is_some() {
        return Err(format!("auth-provider is not supported: {instead}"));
    }
    if filled(&user.username).is_some() || user.password.is_some() {
        return Err(format!(
            "username and password are not supported: {instead}"
        ));
    }
    let impersonates = filled(&user.impersonate).is_some()
        || filled(&user.as_uid).is_some()
        || user.as_groups.as_ref().is_some_and(|g| !g.is_empty())
        || user.as_user_extra.is_some();
    if impersonates {
        return Err(
            "impersonation (as, as-uid, as-groups, as-user-extra) is not supported: \
                    use an account that has the rights itself"
                .to_owned(),
        );
    }
    Ok(())
}
