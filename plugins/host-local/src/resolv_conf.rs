//! `resolvConf`: name resolution for the pod out of a resolv.conf(5) file.

use std::fs;
use std::path::Path;

use cni::{Dns, Error};

use crate::files::failed;

/// Reads the file; an empty path is no file and says nothing. Code 5 when it can't be read.
pub(crate) fn read(path: &str) -> Result<Dns, Error> {
    if path.is_empty() {
        return Ok(Dns::default());
    }
    let text = fs::read(path).map_err(|e| failed("open", Path::new(path), &e))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let key = words.next().unwrap_or_default();
        match (key.as_str(), words.next()) {
            ("nameserver", Some(server)) => dns.nameservers.push(server),
            ("domain", Some(domain)) => dns.domain = domain,
            ("search", Some(first)) => dns.search.extend([first].into_iter().chain(words)),
            ("options", Some(first)) => dns.options.extend([first].into_iter().chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        let text = "# nameserver 9.9.9.9\n;x y\n nameserver 10.0.0.1 extra\nnameserver fd00::1\nnameserver\n\
                    domain a.example\ndomain b.example\nsearch x y\nsearch z\noptions ndots:5\toptions2\nfoo bar\n";
        let dns = parse(text);
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(dns.domain, "b.example");
        assert_eq!(dns.search, ["x", "y", "z"]);
        assert_eq!(dns.options, ["ndots:5", "options2"]);
        assert!(parse("").is_empty());
    }
}
