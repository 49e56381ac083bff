//! Being a runtime (spec section 3): a network's plugins in order, each with its own request, and the result cache.

use std::time::Duration;

use cni::json::Object;
use cni::{Attachment, Code, Error, Network, PluginConf, Success, Verb, Version, names};

use crate::cache::written;
use crate::{CALLERS, Delegate, ResultCache};

/// How plugins are called. It may be used from several threads at once.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Where plugins are found, colon separated. They get it as their `CNI_PATH`.
    pub path: String,
    /// Where results are kept between an ADD and its DEL.
    pub cache: ResultCache,
    /// How long one plugin may take for one verb. Past it the plugin and what it has started are ended.
    pub limit: Duration,
    /// The plugins above, and the one that this is in: see [`crate::called_by`].
    pub callers: String,
}

/// One attachment: what the plugins of a network are called with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// `CNI_CONTAINERID`, a valid identifier.
    pub container_id: String,
    /// `CNI_NETNS`; may be empty for DEL.
    pub netns: String,
    /// `CNI_IFNAME`, a valid interface name.
    pub ifname: String,
    /// The pairs of `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What may become `runtimeConfig`: each plugin gets the members whose keys it declares as `capabilities`.
    pub capability_args: Object,
}

/// Why an attachment was not made.
#[derive(Debug, Clone, PartialEq)]
pub struct NotAdded {
    /// What failed.
    pub error: Error,
    /// Whether nothing of it is left: false when a DEL of the roll-back failed too, and has to be run again.
    pub taken_back: bool,
}

/// Before anything was run.
impl From<Error> for NotAdded {
    fn from(error: Error) -> NotAdded {
        NotAdded {
            error,
            taken_back: true,
        }
    }
}

/// Who only passes the error on needs no more.
impl From<NotAdded> for Error {
    fn from(e: NotAdded) -> Error {
        e.error
    }
}

impl Parameters {
    /// Judges the container's id and the interface's name. Code 4.
    pub fn check(&self) -> Result<(), Error> {
        names::container_id(&self.container_id)?;
        names::ifname(&self.ifname)
    }

    fn args(&self) -> String {
        let pairs: Vec<String> = self.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(";")
    }
}

impl Runtime {
    /// Attaches: ADD of every plugin in order, each with the result of the one before as `prevResult`. The result of
    /// the last one is put into the cache and returned.
    ///
    /// When a plugin fails, or its answer is unusable, DEL of it and of those before it has been run in reverse before
    /// this returns. Errors: code 1, 4 or 7 when network or parameters are invalid (nothing was run); the plugin's
    /// own code and details; 11 for a plugin that took too long.
    pub fn add(&self, network: &Network, of: &Parameters) -> Result<Success, NotAdded> {
        of.check()?;
        let delegates = self.ready(network)?;
        let mut result: Option<Success> = None;
        for (index, (plugin, delegate)) in network.plugins.iter().zip(&delegates).enumerate() {
            let prev = result.as_ref().map(|r| written(r, &network.cni_version));
            let request = request(network, plugin, of, prev);
            let added = self
                .run(delegate, Verb::Add, &request, of)
                .and_then(|stdout| delegate.read_result(&stdout, &network.cni_version));
            match added {
                Ok(next) => result = Some(next),
                Err(e) => {
                    return Err(NotAdded {
                        taken_back: self.take_back(network, of, index, is_refusal(&e)),
                        error: in_list(network, plugin, Verb::Add, e),
                    });
                }
            }
        }
        let result = result.unwrap_or_default();
        if let Err(error) = self.cache.write(network, of, &result) {
            let taken_back = self.take_back(network, of, network.plugins.len(), false);
            return Err(NotAdded { error, taken_back });
        }
        Ok(result)
    }

    /// Whether an ADD of this network could be started, without starting it. Errors: as [`Runtime::add`] gives before
    /// it has run anything; 999 for a plugin that is not there.
    pub fn judge(&self, network: &Network) -> Result<(), Error> {
        self.ready(network).map(drop)
    }

    /// The network's plugins, all of them found.
    fn ready(&self, network: &Network) -> Result<Vec<Delegate>, Error> {
        names::network(&network.name)?;
        version_for(Verb::Add, network)?;
        let find = |plugin: &PluginConf| {
            Delegate::find(&plugin.kind, &self.path, self.limit)
                .map_err(|e| in_list(network, plugin, Verb::Add, e))
        };
        network.plugins.iter().map(find).collect()
    }

    /// Detaches: DEL of every plugin in reverse, with the cached result as `prevResult` from 0.4.0 on. A plugin that
    /// fails does not stop the others. The cache is cleared when none failed.
    ///
    /// Errors: code 1, 4 or 7 as for ADD; all that failed, with the first one's code.
    pub fn del(&self, network: &Network, of: &Parameters) -> Result<(), Error> {
        names::network(&network.name)?;
        of.check()?;
        let version = version_for(Verb::Del, network)?;
        let prev = match version >= Version::V0_4_0 {
            true => self.cached(network, of).unwrap_or_else(|e| {
                log::warn!("DEL without prevResult: {e}");
                None
            }),
            false => None,
        };
        let mut errors = Vec::new();
        for plugin in network.plugins.iter().rev() {
            let request = request(network, plugin, of, prev.clone());
            if let Err(e) = self.call(Verb::Del, &plugin.kind, &request, of) {
                errors.push(in_list(network, plugin, Verb::Del, e));
            }
        }
        if errors.is_empty() {
            return self.cache.remove(&network.name, of);
        }
        Error::join(errors)
    }

    /// Compares the world with the cached result: CHECK of every plugin in order, up to the first that fails.
    /// A network with `disableCheck` is not asked.
    ///
    /// Errors: code 1 below 0.4.0; no result is cached; the plugin's own.
    pub fn check(&self, network: &Network, of: &Parameters) -> Result<(), Error> {
        names::network(&network.name)?;
        of.check()?;
        version_for(Verb::Check, network)?;
        if network.disable_check {
            return Ok(());
        }
        let prev = self.cached(network, of)?;
        if prev.is_none() {
            let (name, ifname) = (&network.name, &of.ifname);
            let why = format!("no result is kept of an ADD of network {name:?} for {ifname:?}");
            return Err(Error::plugin(why));
        }
        for plugin in &network.plugins {
            let request = request(network, plugin, of, prev.clone());
            self.call(Verb::Check, &plugin.kind, &request, of)
                .map_err(|e| in_list(network, plugin, Verb::Check, e))?;
        }
        Ok(())
    }

    /// Takes down what the cache knows of this network and `valid` does not list, then tells each plugin of the
    /// network what is valid (from 1.1.0 on, unless `disableGC` is set). Goes on past failures.
    ///
    /// Errors: all that failed, with the first one's code.
    pub fn gc(&self, network: &Network, valid: &[Attachment]) -> Result<(), Error> {
        names::network(&network.name)?;
        if network.disable_gc {
            return Ok(());
        }
        let is_valid = |of: &Parameters| {
            let same = |a: &Attachment| a.container_id == of.container_id && a.ifname == of.ifname;
            valid.iter().any(same)
        };
        let known = self.cache.all()?.into_iter();
        let stale = known.filter(|c| c.network == network.name && !is_valid(&c.parameters));
        let mut errors = Vec::new();
        for cached in stale {
            let then = Network::parse(&cached.config).unwrap_or_else(|_| network.clone());
            errors.extend(self.del(&then, &cached.parameters).err());
        }
        if version_for(Verb::Gc, network).is_ok() {
            errors.extend(self.tell_valid(network, valid).err());
        }
        Error::join(errors)
    }

    /// Asks whether an ADD could work: STATUS of every plugin in order, up to the first that could not. Networks
    /// older than 1.1.0 have no STATUS and are not asked.
    ///
    /// Errors: the plugin's own, as it is (50, 51).
    pub fn status(&self, network: &Network) -> Result<(), Error> {
        names::network(&network.name)?;
        if version_for(Verb::Status, network).is_err() {
            return Ok(());
        }
        let nobody = Parameters::default();
        for plugin in &network.plugins {
            let request = request(network, plugin, &nobody, None);
            self.call(Verb::Status, &plugin.kind, &request, &nobody)?;
        }
        Ok(())
    }

    fn tell_valid(&self, network: &Network, valid: &[Attachment]) -> Result<(), Error> {
        let nobody = Parameters::default();
        let list: Vec<Object> = valid.iter().map(attachment).collect();
        let mut with = Object::default();
        // The second one is the name in the text of 1.1.0.
        with.set("cni.dev/valid-attachments", &list);
        with.set("cni.dev/attachments", &list);
        let mut errors = Vec::new();
        for plugin in &network.plugins {
            let request = plugin.request(network, &with);
            if let Err(e) = self.call(Verb::Gc, &plugin.kind, &request, &nobody) {
                errors.push(in_list(network, plugin, Verb::Gc, e));
            }
        }
        Error::join(errors)
    }

    /// DEL of the plugins up to `last` in reverse, after an ADD that failed there. What fails is only logged: the
    /// error to report is the ADD's. Returns whether nothing is left: none failed, or only the last one, which has
    /// refused its request both times and so has never done anything.
    fn take_back(
        &self,
        network: &Network,
        of: &Parameters,
        last: usize,
        was_refused: bool,
    ) -> bool {
        let mut all = true;
        let ran = network.plugins.iter().enumerate().take(last + 1);
        for (index, plugin) in ran.rev() {
            let request = request(network, plugin, of, None);
            if let Err(e) = self.call(Verb::Del, &plugin.kind, &request, of) {
                all &= index == last && was_refused && is_refusal(&e);
                let e = in_list(network, plugin, Verb::Del, e);
                log::warn!("roll-back of network {:?}: {e}", network.name);
            }
        }
        all
    }

    /// The cached result in the network's version.
    fn cached(&self, network: &Network, of: &Parameters) -> Result<Option<Object>, Error> {
        let Some(cached) = self.cache.read(&network.name, of)? else {
            return Ok(None);
        };
        let result = cached.result(&network.cni_version).map_err(|e| {
            let why = format!("the result kept of network {:?}: {e}", network.name);
            Error::new(Code::Decoding, why)
        })?;
        Ok(Some(written(&result, &network.cni_version)))
    }

    fn call(&self, verb: Verb, kind: &str, stdin: &[u8], of: &Parameters) -> Result<(), Error> {
        let delegate = Delegate::find(kind, &self.path, self.limit)?;
        self.run(&delegate, verb, stdin, of).map(drop)
    }

    fn run(
        &self,
        delegate: &Delegate,
        verb: Verb,
        stdin: &[u8],
        of: &Parameters,
    ) -> Result<Vec<u8>, Error> {
        let args = of.args();
        let environment = [
            ("CNI_COMMAND", verb.as_str()),
            ("CNI_CONTAINERID", &of.container_id),
            ("CNI_NETNS", &of.netns),
            ("CNI_IFNAME", &of.ifname),
            ("CNI_ARGS", &args),
            ("CNI_PATH", &self.path),
            (CALLERS, &self.callers),
        ];
        delegate.run(verb, stdin, &environment)
    }
}

/// What a plugin is sent: see [`PluginConf::request`].
fn request(
    network: &Network,
    plugin: &PluginConf,
    of: &Parameters,
    prev: Option<Object>,
) -> Vec<u8> {
    let mut with = Object::default();
    if let Some(prev) = prev {
        with.set("prevResult", &prev);
    }
    let config = plugin.runtime_config(&of.capability_args);
    if !config.is_empty() {
        with.set("runtimeConfig", &config);
    }
    plugin.request(network, &with)
}

/// The version a network's verb is served in. Code 1.
fn version_for(verb: Verb, network: &Network) -> Result<Version, Error> {
    let text = &network.cni_version;
    Version::for_verb(verb, text).map_err(|e| match Version::parse(text) {
        Some(_) => Error::new(
            Code::IncompatibleVersion,
            format!("configuration version {text:?} does not support the {verb} command"),
        ),
        None => e,
    })
}

/// Whether a plugin has found fault with its request, before any work.
fn is_refusal(e: &Error) -> bool {
    matches!(e.code.number(), 1 | 2 | 4 | 6 | 7)
}

fn attachment(valid: &Attachment) -> Object {
    let mut object = Object::default();
    object.set("containerID", &valid.container_id);
    object.set("ifname", &valid.ifname);
    object
}

/// In a list the error says which plugin it was.
fn in_list(network: &Network, plugin: &PluginConf, verb: Verb, e: Error) -> Error {
    let what = match verb {
        Verb::Add => "add",
        Verb::Del => "delete",
        Verb::Check => "check",
        Verb::Gc => "gc",
        Verb::Status => "status",
        Verb::Version => "version",
    };
    match network.is_list {
        true => e.context(format!("plugin {plugin} failed ({what})")),
        false => e,
    }
}
