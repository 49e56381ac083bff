//! The address of an API server.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// What a `server` URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Whether it is `https`.
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What comes before `/api`; empty or `/prefix`, without a slash at its end.
    pub(crate) prefix: String,
}

impl Server {
    /// Reads `https://host:port/prefix`. Without a scheme it is https if there is a certificate authority, as in
    /// client-go.
    pub(crate) fn parse(url: &str, has_authority: bool) -> Result<Server, String> {
        let (tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some((scheme, _)) => return Err(format!("scheme {scheme:?} is not https or http")),
            None => (has_authority, url),
        };
        if rest.contains(['?', '#', '@']) {
            return Err("a user, a query or a fragment has no place in it".into());
        }
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or("a ']' is missing")?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| format!("{host:?} is no IPv6 address"))?;
                (host, port)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(number) => number
                .parse()
                .map_err(|_| format!("{number:?} is no port (IPv6 addresses need brackets)"))?,
            None if !port.is_empty() => return Err(format!("{port:?} after the address")),
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() {
            return Err("it names no host".into());
        }
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
        {
            return Err(format!("{host:?} is no host"));
        }
        Ok(Server {
            tls,
            host: host.to_owned(),
            port,
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// Host and port as they stand in a URL: an IPv6 address in brackets.
    pub(crate) fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (url, written) in [
            ("https://10.96.0.1:6443", "https://10.96.0.1:6443"),
            ("https://[fd00::1]:6443/", "https://[fd00::1]:6443"),
            ("https://[fd00::1]", "https://[fd00::1]:443"),
            ("http://localhost", "http://localhost:80"),
            (
                "https://rancher.example/k8s/clusters/c-1/",
                "https://rancher.example:443/k8s/clusters/c-1",
            ),
            ("api.example:6443", "https://api.example:6443"),
        ] {
            assert_eq!(
                Server::parse(url, true).unwrap().to_string(),
                written,
                "{url}"
            );
        }
        assert!(!Server::parse("localhost:8080", false).unwrap().tls);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "https://",
            "ftp://h",
            "https://fd00::1:6443",
            "https://[fd00::1",
            "https://[x]:1",
            "https://h:99999",
            "https://h:",
            "https://[::1]6443",
            "https://u:p@h",
            "https://h/?x",
            "https://a b",
            "https://h\n:1",
        ] {
            assert!(Server::parse(url, true).is_err(), "{url:?}");
        }
    }
}
