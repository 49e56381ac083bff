//! The kubeconfig of multus, made from the service account of this pod. It holds the token itself, because plugins
//! run on the host, where the account's files are not.

use std::net::Ipv6Addr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::files;

/// The API server as a pod is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: String,
}

impl Server {
    /// Reads the environment that the kubelet gives to a pod.
    pub(crate) fn from_environment() -> Result<Server, String> {
        let variable = |name: &str| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place where this program reads it"
            )]
            let value = std::env::var(name).unwrap_or_default();
            value
        };
        let protocol = variable("KUBERNETES_SERVICE_PROTOCOL");
        let protocol = if protocol.is_empty() {
            "https"
        } else {
            &protocol
        };
        let (host, port) = (
            variable("KUBERNETES_SERVICE_HOST"),
            variable("KUBERNETES_SERVICE_PORT"),
        );
        if host.is_empty() || port.is_empty() {
            return Err(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: is this a pod?"
                    .to_owned(),
            );
        }
        Server::new(protocol, &host, &port)
    }

    fn new(protocol: &str, host: &str, port: &str) -> Result<Server, String> {
        if !["https", "http"].contains(&protocol) {
            return Err(format!(
                "KUBERNETES_SERVICE_PROTOCOL {protocol:?}: https or http"
            ));
        }
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(format!("KUBERNETES_SERVICE_PORT {port:?} is no port"));
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let host = match bare.parse::<Ipv6Addr>() {
            Ok(v6) => format!("[{v6}]"),
            Err(_)
                if host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) =>
            {
                host.to_owned()
            }
            Err(_) => return Err(format!("KUBERNETES_SERVICE_HOST {host:?} is no host")),
        };
        Ok(Server {
            url: format!("{protocol}://{host}:{port}"),
        })
    }
}

/// The text of the kubeconfig for the service account whose `token` and `ca.crt` are in `folder`.
pub(crate) fn text(server: &Server, folder: &Path) -> Result<String, String> {
    let (token, authority) = (folder.join("token"), folder.join("ca.crt"));
    let token_text = String::from_utf8(files::read(&token)?).unwrap_or_default();
    let token_text = token_text.trim();
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\".contains(&b);
    if token_text.is_empty() || !token_text.bytes().all(plain) {
        return Err(format!("{}: no token in it", token.display()));
    }
    let certificates = files::read(&authority)?;
    if !certificates
        .windows(27)
        .any(|w| w == b"-----BEGIN CERTIFICATE-----")
    {
        return Err(format!("{}: no certificate in it", authority.display()));
    }
    Ok(format!(
        "# Written by multus-installer, and again whenever the service account changes.\n\
         apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: local\n\
         \x20 cluster:\n\
         \x20   server: {}\n\
         \x20   certificate-authority-data: {}\n\
         users:\n\
         - name: multus\n\
         \x20 user:\n\
         \x20   token: \"{token_text}\"\n\
         contexts:\n\
         - name: multus-context\n\
         \x20 context:\n\
         \x20   cluster: local\n\
         \x20   user: multus\n\
         current-context: multus-context\n",
        server.url,
        STANDARD.encode(certificates),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_a_url() {
        let url = |host, port| Server::new("https", host, port).map(|s| s.url);
        assert_eq!(url("10.96.0.1", "443").unwrap(), "https://10.96.0.1:443");
        assert_eq!(url("fd00::1", "443").unwrap(), "https://[fd00::1]:443");
        assert_eq!(url("[fd00::1]", "443").unwrap(), "https://[fd00::1]:443");
        for (host, port) in [
            ("", "x"),
            ("h", "0"),
            ("h", "tcp://1"),
            ("a b", "1"),
            ("a\nb", "1"),
            ("fd00::x", "1"),
        ] {
            url(host, port).unwrap_err();
        }
        Server::new("ftp", "h", "1").unwrap_err();
    }
}
