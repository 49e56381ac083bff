//! From environment variables and stdin to a valid request.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cni::json::{ReadError, Value};
use cni::{Code, Error, NetConf, Verb, Version, names};
use serde::de::DeserializeOwned;

use crate::Call;

/// The `CNI_*` variables as they were found; not set and empty are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) command: String,
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    pub(crate) path: String,
    /// `CNI_NETNS_OVERRIDE`: the pod's namespace may be the plugin's own.
    pub(crate) netns_override: String,
}

impl Environment {
    /// Which verb is asked for. Code 4.
    pub(crate) fn verb(&self) -> Result<Verb, Error> {
        if self.command.is_empty() {
            let why = "required env variables [CNI_COMMAND] missing";
            return Err(Error::new(Code::InvalidEnvironment, why));
        }
        Verb::parse(&self.command).ok_or_else(|| {
            let why = format!("unknown CNI_COMMAND: {}", self.command);
            Error::new(Code::InvalidEnvironment, why)
        })
    }

    /// Checks the variables that `verb` needs and names all that are missing or invalid. Code 4.
    fn check(&self, verb: Verb) -> Result<(), Error> {
        let attaches = matches!(verb, Verb::Add | Verb::Del | Verb::Check);
        let enters = matches!(verb, Verb::Add | Verb::Check);
        let needed = [
            ("CNI_CONTAINERID", &self.container_id, attaches),
            ("CNI_NETNS", &self.netns, enters),
            ("CNI_IFNAME", &self.ifname, attaches),
        ];
        let missing: Vec<&str> = needed
            .iter()
            .filter(|(_, value, needed)| *needed && value.is_empty())
            .map(|(name, ..)| *name)
            .collect();
        let mut errors = Vec::new();
        if attaches && !self.container_id.is_empty() {
            errors.extend(names::container_id(&self.container_id).err());
        }
        if attaches && !self.ifname.is_empty() {
            errors.extend(names::ifname(&self.ifname).err());
        }
        if !missing.is_empty() {
            let list = missing.join(",");
            let why = format!("required env variables [{list}] missing");
            errors.push(Error::new(Code::InvalidEnvironment, why));
        }
        match errors.len() {
            1 => Err(errors.remove(0)),
            _ => Error::join(errors),
        }
    }

    /// Refuses to work on the namespace this process runs in: what would be changed there is the host's.
    ///
    /// Code 4 with the originals' words. A namespace that can't be looked at is the verb's own affair.
    fn guard_own_namespace(&self) -> Result<(), Error> {
        let overridden =
            self.netns_override == "1" || self.netns_override.eq_ignore_ascii_case("true");
        if overridden || self.netns.is_empty() {
            return Ok(());
        }
        let identity = |path: &str| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        match (identity(&self.netns), identity("/proc/self/ns/net")) {
            (Some(pod), Some(own)) if pod == own => {
                let why = "plugin's netns and netns from CNI_NETNS should not be the same";
                let error = Error::new(Code::InvalidEnvironment, why);
                Err(error.details(format!("CNI_NETNS={}", self.netns)))
            }
            _ => Ok(()),
        }
    }
}

/// A request on its way to being valid. It exists before the checks, because an error has to say the version.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// `cniVersion` as the configuration has it; empty until it could be read.
    pub(crate) cni_version: String,
}

impl Request {
    /// Reads the document, and the version out of it, if they can be read.
    pub(crate) fn open(&mut self, stdin: &[u8]) -> Result<Value, ReadError> {
        let document = Value::parse(stdin)?;
        if let Ok(key) = document.read::<VersionKey>() {
            self.cni_version = key.cni_version;
        }
        Ok(document)
    }

    /// Makes a valid call out of the environment and the bytes of stdin, or says what is wrong with them.
    pub(crate) fn validate<C: DeserializeOwned>(
        &mut self,
        env: Environment,
        verb: Verb,
        stdin: Vec<u8>,
    ) -> Result<Call<C>, Error> {
        let document = self.open(&stdin);
        env.check(verb)?;
        let document = document.map_err(|e| {
            Error::new(
                Code::Decoding,
                format!("error unmarshall network config: {e}"),
            )
        })?;
        let net = NetConf::read(&document)?;
        let version = Version::for_verb(verb, &net.cni_version)?;
        if matches!(verb, Verb::Add | Verb::Del) {
            env.guard_own_namespace()?;
        }
        let conf = document
            .read()
            .map_err(|e| Error::new(Code::Decoding, format!("failed to load netconf: {e}")))?;
        if verb == Verb::Check && !net.has_prev_result() {
            return Err(Error::config("required prevResult missing"));
        }
        Ok(Call {
            verb,
            container_id: env.container_id,
            netns: env.netns,
            ifname: env.ifname,
            args: env.args,
            path: env.path,
            version,
            net,
            conf,
            stdin,
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionKey {
    cni_version: String,
}

/// The `cniVersion` that an answer to VERSION repeats: the request's if it is one of ours, else the newest.
pub(crate) fn version_to_repeat(stdin: &[u8]) -> Version {
    let key = Value::parse(stdin).and_then(|document| document.read::<VersionKey>());
    match key {
        Ok(key) if !key.cni_version.is_empty() => Version::parse(&key.cni_version),
        _ => None,
    }
    .unwrap_or(Version::NEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Conf {
        mtu: i64,
    }

    fn environment(command: &str) -> Environment {
        Environment {
            command: command.into(),
            container_id: "c1".into(),
            netns: "/run/netns/pod".into(),
            ifname: "eth0".into(),
            ..Environment::default()
        }
    }

    fn validate(env: Environment, stdin: &str) -> Result<Call<Conf>, Error> {
        let verb = env.verb()?;
        Request::default().validate(env, verb, stdin.into())
    }

    const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","MTU":9}"#;

    #[test]
    fn a_valid_request() {
        let call = validate(environment("ADD"), CONF).unwrap();
        assert_eq!(
            (call.container_id.as_str(), call.ifname.as_str()),
            ("c1", "eth0")
        );
        assert_eq!((call.version, call.conf.mtu), (Version::V1_1_0, 9));
        assert_eq!(call.stdin, CONF.as_bytes());
    }

    #[test]
    fn every_missing_and_every_invalid_variable_is_named() {
        let mut env = environment("ADD");
        env.container_id = "../c".into();
        env.netns = String::new();
        env.ifname = "a:b".into();
        let error = validate(env, CONF).unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(error.msg.contains(name), "{error}");
        }
        let bare = Environment {
            command: "CHECK".into(),
            ..Environment::default()
        };
        let msg = validate(bare, CONF).unwrap_err().msg;
        assert_eq!(
            msg,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"
        );
    }

    #[test]
    fn each_verb_needs_its_own_variables() {
        let mut env = environment("DEL");
        env.netns = String::new();
        assert!(validate(env, CONF).is_ok(), "DEL without CNI_NETNS");
        for verb in ["GC", "STATUS"] {
            let env = Environment {
                command: verb.into(),
                ..Environment::default()
            };
            assert!(validate(env, CONF).is_ok(), "{verb}");
        }
        assert!(
            validate(environment("add"), CONF)
                .unwrap_err()
                .msg
                .contains("CNI_COMMAND")
        );
        assert!(
            validate(environment(""), CONF)
                .unwrap_err()
                .msg
                .contains("CNI_COMMAND")
        );
    }

    #[test]
    fn check_needs_a_prev_result() {
        assert_eq!(
            validate(environment("CHECK"), CONF).unwrap_err().code,
            Code::InvalidConfig
        );
        let with = r#"{"cniVersion":"1.1.0","name":"net","prevResult":{}}"#;
        assert!(validate(environment("CHECK"), with).is_ok());
    }

    #[test]
    fn documents_that_can_not_be_served() {
        let code = |stdin| {
            validate(environment("ADD"), stdin)
                .unwrap_err()
                .code
                .number()
        };
        assert_eq!(code(""), 6);
        assert_eq!(code("{"), 6);
        assert_eq!(code("null"), 6);
        assert_eq!(code(r#"{"name":"n","mtu":"x"}"#), 6);
        assert_eq!(code("{}"), 7);
        assert_eq!(code(r#"{"name":"n","cniVersion":"9.9.9"}"#), 1);
    }

    #[test]
    fn the_plugins_own_namespace_is_refused_before_any_work() {
        for command in ["ADD", "DEL"] {
            let mut env = environment(command);
            env.netns = "/proc/self/ns/net".into();
            let error = validate(env.clone(), CONF).unwrap_err();
            assert!(error.msg.contains("should not be the same"), "{error}");
            env.netns_override = "TRUE".into();
            assert!(validate(env, CONF).is_ok());
        }
    }

    #[test]
    fn an_error_says_the_version_of_the_request() {
        let mut request = Request::default();
        let env = environment("CHECK");
        let stdin = r#"{"cniVersion":"0.3.1","name":"net"}"#;
        let refused = request.validate::<Conf>(env, Verb::Check, stdin.into());
        assert_eq!(refused.unwrap_err().code, Code::IncompatibleVersion);
        assert_eq!(request.cni_version, "0.3.1");
    }

    #[test]
    fn version_repeats_a_version_that_is_known() {
        assert_eq!(
            version_to_repeat(br#"{"cniVersion":"0.3.1"}"#),
            Version::V0_3_1
        );
        for other in [
            "",
            "{{{",
            "{}",
            r#"{"cniVersion":"9.9.9"}"#,
            r#"{"cniVersion":5}"#,
        ] {
            assert_eq!(
                version_to_repeat(other.as_bytes()),
                Version::NEWEST,
                "{other}"
            );
        }
    }
}
