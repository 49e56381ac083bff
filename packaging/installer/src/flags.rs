//! The command line: the flags of upstream's entrypoint under their names, so that the arguments of a DaemonSet keep
//! their meaning, and two of our own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cni::Version;
use lexopt::{Arg, Parser};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    Run(Box<Flags>),
}

/// How it is to be done. Paths are those that this program sees, unless they say "on the host".
#[derive(Debug, Clone)]
pub(crate) struct Flags {
    pub(crate) cni_bin_dir: PathBuf,
    pub(crate) cni_conf_dir: PathBuf,
    pub(crate) cni_version: Option<Version>,
    pub(crate) force_cni_version: bool,
    /// `None`: generate it.
    pub(crate) multus_conf_file: Option<PathBuf>,
    pub(crate) multus_bin_file: Option<PathBuf>,
    pub(crate) plugin_dir: PathBuf,
    pub(crate) multus_cni_conf_dir: PathBuf,
    pub(crate) skip_multus_binary_copy: bool,
    /// On the host.
    pub(crate) multus_kubeconfig_file_host: String,
    pub(crate) multus_master_cni_file_name: Option<String>,
    pub(crate) namespace_isolation: bool,
    pub(crate) global_namespaces: String,
    pub(crate) multus_autoconfig_dir: PathBuf,
    pub(crate) multus_log_to_stderr: bool,
    pub(crate) multus_log_level: String,
    /// On the host.
    pub(crate) multus_log_file: String,
    pub(crate) override_network_name: bool,
    pub(crate) cleanup_config_on_exit: bool,
    pub(crate) skip_config_watch: bool,
    pub(crate) rename_conf_file: bool,
    /// On the host.
    pub(crate) readiness_indicator_file: String,
    /// On the host.
    pub(crate) additional_bin_dir: String,
    pub(crate) service_account_dir: PathBuf,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            cni_bin_dir: "/host/opt/cni/bin".into(),
            cni_conf_dir: "/host/etc/cni/net.d".into(),
            cni_version: None,
            force_cni_version: false,
            multus_conf_file: None,
            multus_bin_file: None,
            plugin_dir: "/opt/cni/bin".into(),
            multus_cni_conf_dir: "/host/etc/cni/multus/net.d".into(),
            skip_multus_binary_copy: false,
            multus_kubeconfig_file_host: "/etc/cni/net.d/multus.d/multus.kubeconfig".into(),
            multus_master_cni_file_name: None,
            namespace_isolation: false,
            global_namespaces: String::new(),
            multus_autoconfig_dir: "/host/etc/cni/net.d".into(),
            multus_log_to_stderr: true,
            multus_log_level: String::new(),
            multus_log_file: String::new(),
            override_network_name: false,
            cleanup_config_on_exit: false,
            skip_config_watch: false,
            rename_conf_file: false,
            readiness_indicator_file: String::new(),
            additional_bin_dir: String::new(),
            service_account_dir: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

/// What `--help` prints. The manual page and the completions for shells are made from the same file.
pub(crate) const HELP: &str = include_str!("help.txt");

/// The levels that multus knows.
const LOG_LEVELS: [&str; 4] = ["debug", "verbose", "error", "panic"];

/// Reads the command line; the first argument is the program. Nothing has been touched when it fails.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut flags = Flags::default();
    let mut parser = Parser::from_iter(arguments);
    loop {
        let name = match parser.next().map_err(|e| format!("{e}; see --help"))? {
            None => break,
            Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Command::Help),
            Some(Arg::Long("version")) => return Ok(Command::Version),
            Some(Arg::Long(name)) => name.to_owned(),
            Some(other) => return Err(format!("{}; see --help", other.unexpected())),
        };
        flags.set(&name, &mut parser)?;
    }
    flags.check()?;
    Ok(Command::Run(Box::new(flags)))
}

impl Flags {
    fn set(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        match name {
            "plugin-dir" => self.plugin_dir = path(name, parser)?,
            "multus-bin-file" => self.multus_bin_file = Some(path(name, parser)?),
            "skip-multus-binary-copy" => self.skip_multus_binary_copy = switch(name, parser)?,
            "cni-bin-dir" => self.cni_bin_dir = path(name, parser)?,
            "cni-conf-dir" => self.cni_conf_dir = path(name, parser)?,
            "multus-autoconfig-dir" => self.multus_autoconfig_dir = path(name, parser)?,
            "multus-cni-conf-dir" => self.multus_cni_conf_dir = path(name, parser)?,
            "service-account-dir" => self.service_account_dir = path(name, parser)?,
            "multus-conf-file" => {
                let file = path(name, parser)?;
                self.multus_conf_file = (file != Path::new("auto")).then_some(file);
            }
            "multus-master-cni-file-name" => {
                self.multus_master_cni_file_name =
                    Some(text(name, parser)?).filter(|t| !t.is_empty());
            }
            "cni-version" => self.cni_version = version(&text(name, parser)?)?,
            "force-cni-version" => self.force_cni_version = switch(name, parser)?,
            "rename-conf-file" => self.rename_conf_file = switch(name, parser)?,
            "cleanup-config-on-exit" => self.cleanup_config_on_exit = switch(name, parser)?,
            "skip-config-watch" => self.skip_config_watch = switch(name, parser)?,
            "multus-kubeconfig-file-host" => self.multus_kubeconfig_file_host = text(name, parser)?,
            "override-network-name" => self.override_network_name = switch(name, parser)?,
            "namespace-isolation" => self.namespace_isolation = switch(name, parser)?,
            "global-namespaces" => self.global_namespaces = text(name, parser)?,
            "readiness-indicator-file" => self.readiness_indicator_file = text(name, parser)?,
            "additional-bin-dir" => self.additional_bin_dir = text(name, parser)?,
            "multus-log-level" => self.multus_log_level = text(name, parser)?.to_ascii_lowercase(),
            "multus-log-file" => self.multus_log_file = text(name, parser)?,
            "multus-log-to-stderr" => self.multus_log_to_stderr = switch(name, parser)?,
            "skip-tls-verify" => {
                if switch(name, parser)? {
                    return Err("--skip-tls-verify is refused: multus always verifies the API server by the \
                                service account's ca.crt; remove the flag"
                        .to_owned());
                }
            }
            _ => return Err(format!("there is no flag --{name}; see --help")),
        }
        Ok(())
    }

    /// What one flag alone does not show.
    fn check(&self) -> Result<(), String> {
        if !self.multus_log_level.is_empty()
            && !LOG_LEVELS.contains(&self.multus_log_level.as_str())
        {
            let level = &self.multus_log_level;
            return Err(format!(
                "--multus-log-level {level}: there are {}",
                LOG_LEVELS.join(", ")
            ));
        }
        if self.force_cni_version && self.cni_version.is_none() {
            return Err("--force-cni-version needs a --cni-version".to_owned());
        }
        if let Some(name) = &self.multus_master_cni_file_name
            && name.contains('/')
        {
            return Err(format!(
                "--multus-master-cni-file-name {name}: a name in --multus-autoconfig-dir, not a path"
            ));
        }
        Ok(())
    }

    /// The folders whose changes matter.
    pub(crate) fn folders_to_watch(&self) -> Vec<&Path> {
        match &self.multus_conf_file {
            Some(file) => vec![file.parent().unwrap_or(Path::new("/"))],
            None => vec![
                &self.multus_autoconfig_dir,
                &self.cni_conf_dir,
                &self.service_account_dir,
            ],
        }
    }
}

fn value(name: &str, parser: &mut Parser) -> Result<OsString, String> {
    parser
        .value()
        .map_err(|_| format!("--{name} needs a value"))
}

fn path(name: &str, parser: &mut Parser) -> Result<PathBuf, String> {
    let path = PathBuf::from(value(name, parser)?);
    match path.as_os_str().is_empty() {
        true => Err(format!("--{name} needs a value")),
        false => Ok(path),
    }
}

fn text(name: &str, parser: &mut Parser) -> Result<String, String> {
    let text = value(name, parser)?.into_string();
    text.map_err(|bytes| format!("--{name} {}: no UTF-8", bytes.display()))
}

fn version(text: &str) -> Result<Option<Version>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    Version::parse(text).map(Some).ok_or_else(|| {
        let all = Version::ALL.map(Version::as_str).join(", ");
        format!("--cni-version {text}: there are {all}")
    })
}

/// A flag that is on or off, with the spellings of Go: a value is given with `=` only.
fn switch(name: &str, parser: &mut Parser) -> Result<bool, String> {
    let Some(value) = parser.optional_value() else {
        return Ok(true);
    };
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(format!("--{name}={}: true or false", value.display())),
    }
}
