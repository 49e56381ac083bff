//! What is put on the node and kept there.

use std::fs;
use std::path::{Path, PathBuf};

use cni::Network;

use crate::config::{self, Config};
use crate::flags::Flags;
use crate::kubeconfig::{self, Server};
use crate::primary::{self, Primary};
use crate::{files, say};

/// An installation.
pub(crate) struct Installer<'a> {
    flags: &'a Flags,
    /// Plugins to copy and what they are to be called, read before anything is written.
    plugins: Vec<PathBuf>,
    /// The configuration that shall be there.
    config: Option<Config>,
    server: Option<Server>,
    /// What was wrong at the last look, told once.
    trouble: String,
}

impl<'a> Installer<'a> {
    /// Looks at everything that is given and changes nothing yet.
    pub(crate) fn new(flags: &'a Flags) -> Result<Installer<'a>, String> {
        need_folder("--cni-conf-dir", &flags.cni_conf_dir)?;
        let mut plugins = Vec::new();
        if !flags.skip_multus_binary_copy {
            need_folder("--cni-bin-dir", &flags.cni_bin_dir)?;
            plugins = match &flags.multus_bin_file {
                Some(file) if file.is_file() => vec![file.clone()],
                Some(file) => {
                    return Err(format!(
                        "--multus-bin-file {}: there is no such file",
                        file.display()
                    ));
                }
                None => files::list(&flags.plugin_dir).map_err(|e| format!("--plugin-dir: {e}"))?,
            };
            if plugins.is_empty() {
                return Err(format!(
                    "--plugin-dir {}: there are no plugins",
                    flags.plugin_dir.display()
                ));
            }
        }
        let mut installer = Installer {
            flags,
            plugins,
            config: None,
            server: None,
            trouble: String::new(),
        };
        match &flags.multus_conf_file {
            Some(file) => {
                Network::parse(&files::read(file)?)
                    .map_err(|e| format!("{}: {e}", file.display()))?;
            }
            None => {
                need_folder("--multus-autoconfig-dir", &flags.multus_autoconfig_dir)?;
                let server = Server::from_environment()?;
                kubeconfig::text(&server, &flags.service_account_dir)?;
                primary::find(flags)?;
                installer.server = Some(server);
            }
        }
        Ok(installer)
    }

    /// Puts everything in its place. Without a primary configuration all but the configuration of multus.
    pub(crate) fn install(&mut self) -> Result<(), String> {
        self.copy_plugins()?;
        match &self.flags.multus_conf_file {
            Some(file) => self.copy_config(file),
            None => {
                files::make_folder(&self.flags.multus_cni_conf_dir)?;
                self.write_kubeconfig()?;
                let primary = primary::find(self.flags)?;
                self.put_in_front_of(primary)
            }
        }
    }

    /// Brings everything up to date after files have changed. What is only half there now, or can't be used, is told
    /// and leaves everything as it is: the next change may be for the better.
    pub(crate) fn follow(&mut self, arrived: bool) -> Result<(), String> {
        if let Some(file) = &self.flags.multus_conf_file {
            if arrived && !self.flags.skip_config_watch {
                let copied = self.copy_config(file);
                self.tell(copied);
            }
            return Ok(());
        }
        let written = self.write_kubeconfig();
        let followed = match self.config {
            Some(_) if self.flags.skip_config_watch => Ok(()),
            // A configuration that went may come back: a network provider replaces its own. Until another one
            // comes, pods need the network they know.
            Some(_) if !arrived => Ok(()),
            _ => primary::find(self.flags).and_then(|primary| self.put_in_front_of(primary)),
        };
        let stayed = self.keep_config();
        self.tell(written.and(followed).and(stayed));
        Ok(())
    }

    /// Removes what an installation that ends shall take with it.
    pub(crate) fn clean_up(&self) -> Result<(), String> {
        let Some(config) = self
            .config
            .as_ref()
            .filter(|_| self.flags.cleanup_config_on_exit)
        else {
            return Ok(());
        };
        let path = self.flags.cni_conf_dir.join(config.name);
        let fail = |e| format!("{}: {e}", path.display());
        match fs::read(&path) {
            Ok(bytes) if bytes == config.text.as_bytes() => {}
            Ok(_) => {
                say(&format!(
                    "{}: somebody has changed it, left alone",
                    path.display()
                ));
                return Ok(());
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        // First the other one gets its name back, so that the node is never without a configuration.
        let restored = self.restore_primary();
        files::remove(&path).map_err(fail)?;
        say(&format!("{}: removed", path.display()));
        restored
    }

    fn copy_plugins(&self) -> Result<(), String> {
        for plugin in &self.plugins {
            let target = self
                .flags
                .cni_bin_dir
                .join(plugin.file_name().unwrap_or_default());
            if files::write(&target, &files::read(plugin)?, 0o755)? {
                say(&format!("{}: installed", target.display()));
            }
        }
        Ok(())
    }

    /// Copies a configuration that somebody has written, after a look at it.
    fn copy_config(&self, file: &Path) -> Result<(), String> {
        let text = files::read(file)?;
        Network::parse(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let target = self
            .flags
            .cni_conf_dir
            .join(file.file_name().unwrap_or_default());
        if files::write(&target, &text, 0o600)? {
            say(&format!("{}: written", target.display()));
        }
        Ok(())
    }

    fn write_kubeconfig(&self) -> Result<(), String> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let text = kubeconfig::text(server, &self.flags.service_account_dir)?;
        let folder = self.flags.cni_conf_dir.join("multus.d");
        files::make_folder(&folder)?;
        let path = folder.join("multus.kubeconfig");
        if files::write(&path, text.as_bytes(), 0o600)? {
            say(&format!("{}: written", path.display()));
        }
        Ok(())
    }

    /// Writes the configuration for a primary one, if it is another than the last.
    fn put_in_front_of(&mut self, primary: Option<Primary>) -> Result<(), String> {
        let Some(primary) = primary else {
            if self.config.is_none() {
                let folder = self.flags.multus_autoconfig_dir.display();
                self.tell(Err(format!(
                    "{folder}: no configuration of a network yet, waiting for one"
                )));
            }
            return Ok(());
        };
        let config = config::generate(self.flags, &primary);
        if self.config.as_ref() != Some(&config) {
            self.write_config(&config)?;
            self.config = Some(config);
        }
        if self.flags.rename_conf_file && !ends_with_old(&primary.path) {
            rename(&primary.path, &with_old(&primary.path))?;
        }
        Ok(())
    }

    fn write_config(&self, config: &Config) -> Result<(), String> {
        let folder = &self.flags.cni_conf_dir;
        let path = folder.join(config.name);
        if files::write(&path, config.text.as_bytes(), 0o600)? {
            say(&format!("{}: written", path.display()));
        }
        // Its namesake of before would be taken first, or come back when this one is removed.
        for other in config::NAMES.iter().filter(|name| **name != config.name) {
            let other = folder.join(other);
            files::remove(&other).map_err(|e| format!("{}: {e}", other.display()))?;
        }
        let before = files::list(folder)?;
        let is_before = |p: &&PathBuf| {
            **p < path
                && p.extension()
                    .is_some_and(|e| e == "conf" || e == "conflist")
        };
        if let Some(first) = before.iter().find(is_before) {
            let (first, path) = (first.display(), path.display());
            say(&format!(
                "{first} comes before {path}: runtimes take that one, and multus is not called"
            ));
        }
        Ok(())
    }

    /// Writes the configuration again when somebody has removed it.
    fn keep_config(&self) -> Result<(), String> {
        match &self.config {
            Some(config) if !self.flags.cni_conf_dir.join(config.name).exists() => {
                self.write_config(config)
            }
            _ => Ok(()),
        }
    }

    fn restore_primary(&self) -> Result<(), String> {
        if !self.flags.rename_conf_file {
            return Ok(());
        }
        let Some(primary) = primary::find(self.flags)? else {
            return Ok(());
        };
        match ends_with_old(&primary.path) {
            true => rename(&primary.path, &primary.path.with_extension("")),
            false => Ok(()),
        }
    }

    /// Tells a trouble that is new, and that it is over.
    fn tell(&mut self, outcome: Result<(), String>) {
        let trouble = outcome.err().unwrap_or_default();
        if !trouble.is_empty() && trouble != self.trouble {
            say(&trouble);
        }
        self.trouble = trouble;
    }
}

fn need_folder(flag: &str, path: &Path) -> Result<(), String> {
    match path.is_dir() {
        true => Ok(()),
        false => Err(format!(
            "{flag} {}: there is no such folder",
            path.display()
        )),
    }
}

fn ends_with_old(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "old")
}

fn with_old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|e| format!("{}: {e}", from.display()))?;
    say(&format!("{} is {} now", from.display(), to.display()));
    Ok(())
}
