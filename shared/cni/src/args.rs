//! `CNI_ARGS`: `K=V;K=V`, as the originals read it.

use crate::{Code, Error};

/// The pairs of `CNI_ARGS` that a plugin knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs(Vec<(String, String)>);

impl CniArgs {
    /// Reads the pairs whose keys are `known` (letter case counts) and `IgnoreUnknown`. When a key comes twice
    /// the last one wins: Multus sends duplicates.
    ///
    /// Errors, code 4: a pair that is not `K=V`, an unknown key without `IgnoreUnknown=1|true`.
    pub fn parse(text: &str, known: &[&str]) -> Result<CniArgs, Error> {
        let refuse = |why: String| {
            Error::new(Code::InvalidEnvironment, format!("ARGS: {why}")).details("CNI_ARGS")
        };
        let mut pairs = Vec::new();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|_| !text.is_empty()) {
            let mut parts = pair.split('=');
            let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(refuse(format!("invalid pair {pair:?}")));
            };
            if key == "IgnoreUnknown" {
                ignore_unknown = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => {
                        let why = format!("boolean unmarshal error: invalid input {value}");
                        return Err(refuse(format!(
                            "error parsing value of pair {pair:?}: {why}"
                        )));
                    }
                };
            } else if known.contains(&key) {
                pairs.push((key.to_owned(), value.to_owned()));
            } else {
                unknown.push(format!("{pair:?}"));
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(refuse(format!("unknown args [{}]", unknown.join(" "))));
        }
        Ok(CniArgs(pairs))
    }

    /// The value of a known key; an empty value counts as not given.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rfind(|(k, _)| k == key)?;
        (!value.is_empty()).then_some(value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_pairs_pass_when_ignored() {
        let text = "IgnoreUnknown=true;K8S_POD_NAME=x;IP=10.0.0.5;K8S_POD_NAME=x;IgnoreUnknown=1;IP=10.0.0.6";
        let args = CniArgs::parse(text, &["IP"]).unwrap();
        assert_eq!(args.get("IP"), Some("10.0.0.6"));
        assert_eq!(args.get("K8S_POD_NAME"), None);
        assert_eq!(CniArgs::parse("", &[]).unwrap(), CniArgs::default());
        assert_eq!(CniArgs::parse("IP=", &["IP"]).unwrap().get("IP"), None);
    }

    #[test]
    fn everything_else_is_refused_with_the_originals_words() {
        let msg = |text| CniArgs::parse(text, &["IP"]).unwrap_err().msg;
        assert_eq!(msg("IP=10.0.0.5;"), r#"ARGS: invalid pair """#);
        assert_eq!(msg("foo"), r#"ARGS: invalid pair "foo""#);
        assert_eq!(msg("IP=a=b"), r#"ARGS: invalid pair "IP=a=b""#);
        assert_eq!(msg("A=x;B=y"), r#"ARGS: unknown args ["A=x" "B=y"]"#);
        assert_eq!(msg("ip=x"), r#"ARGS: unknown args ["ip=x"]"#);
        let yes = r#"ARGS: error parsing value of pair "IgnoreUnknown=yes": boolean unmarshal error: invalid input yes"#;
        assert_eq!(msg("IgnoreUnknown=yes"), yes);
    }
}
