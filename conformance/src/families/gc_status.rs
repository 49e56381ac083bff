//! Family S: GC and STATUS, the verbs of 1.1.0.

use serde_json::json;

use super::add::with_ranges;
use crate::attachment::Attachment;
use crate::call::Call;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::spec::code::{
    INCOMPATIBLE_VERSION, INVALID_CONFIG, INVALID_ENVIRONMENT, NOT_AVAILABLE,
    NOT_AVAILABLE_LIMITED, OWN,
};
use crate::spec::{Kind, Must, Should, V0_1_0, V1_0_0, V1_1_0, Verb};
use crate::spy::{Lines, Spy};
use crate::stage::UPLINK;
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "S1",
        levels: &[(V0_1_0..=V1_0_0, Must)],
        kinds: Kind::ALL,
        sentence: "GC and STATUS with a configuration older than 1.1.0 are refused.",
        section: "GC; STATUS",
        cases: &[
            case("GC-01", |t| too_old(t, Verb::Gc)),
            case("GC-01/status", |t| too_old(t, Verb::Status)),
        ],
    },
    Requirement {
        id: "S2",
        levels: &[(V1_1_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "GC removes what this network holds for attachments that are not in the list, and nothing else.",
        section: "GC",
        cases: &[
            case("GC-02", collects_the_stale),
            case("GC-02/none valid", collects_all),
        ],
    },
    Requirement {
        id: "S3",
        levels: &[(V1_1_0..=V1_1_0, Must)],
        kinds: Kind::LEASING,
        sentence: "GC without a list collects nothing: absent doesn't mean that none is valid. The list's older name is honoured.",
        section: "GC",
        cases: &[
            case("GC-03", older_name_of_the_list),
            case("GC-04", no_list),
        ],
    },
    Requirement {
        id: "S4",
        levels: &[(V1_1_0..=V1_1_0, Must)],
        // What multus hands on is in M71 and M72: its delegates get requests of their own.
        kinds: &[Kind::Interface],
        sentence: "GC and STATUS are handed on to delegates, with the same list, and their errors are passed back.",
        section: "Delegated plugins",
        cases: &[
            case("GC-05", |t| handed_on(t, Verb::Gc)),
            case("ST-04", |t| handed_on(t, Verb::Status)),
        ],
    },
    Requirement {
        id: "S5",
        levels: &[(V1_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "STATUS of a plugin that is ready succeeds without a word, and needs neither a pod nor `CNI_PATH`.",
        section: "STATUS",
        cases: &[case("ST-01", ready), case("ST-02", ready_without_path)],
    },
    Requirement {
        id: "S6",
        levels: &[(V1_1_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "STATUS is code 50 or 51 when the plugin could know that ADD can't work.",
        section: "STATUS",
        cases: &[
            case("ST-03/master", master_is_missing),
            case("ST-03/delegate", delegate_is_missing),
            case("ST-03/pool", pool_is_exhausted),
        ],
    },
];

fn too_old(t: &Trial, verb: Verb) -> Verdict {
    let attachment = t.attachment()?;
    let call = if verb == Verb::Gc {
        attachment.gc(&[])
    } else {
        attachment.call(verb)
    };
    // A plugin from before 1.1.0 doesn't know the verb at all, nor that it needs no pod.
    let call = call
        .with("CNI_CONTAINERID", &attachment.container)
        .with("CNI_NETNS", &attachment.pod.path)
        .with("CNI_IFNAME", &attachment.ifname);
    let older = [INCOMPATIBLE_VERSION, INVALID_ENVIRONMENT, OWN];
    let codes = if t.plugin.claims(V1_1_0) {
        &older[..1]
    } else {
        &older
    };
    t.run(&call)?.refused(codes).map(drop)
}

/// Two attachments to one network: the first lives, the second has gone without its DEL, as after a crash of the node.
fn living_and_stale<'t>(t: &'t Trial) -> Result<(Attachment<'t>, Attachment<'t>), Stop> {
    let mut living = t.attachment()?;
    living.add()?;
    let mut stale = living.sibling()?;
    stale.add()?;
    stale.pod.vanish();
    if living.leases()?.is_empty() || stale.leases()?.is_empty() {
        return Err(skip(
            "the plugin keeps nothing in its store that GC could collect",
        ));
    }
    Ok((living, stale))
}

fn collects_the_stale(t: &Trial) -> Verdict {
    let (living, stale) = living_and_stale(t)?;
    // Other subnets: some kinds of link refuse an address that another link of the master has.
    let mut elsewhere = t.attachment()?;
    with_ranges(
        &mut elsewhere,
        json!([[{ "subnet": "10.86.0.0/24" }]]),
        json!([]),
    )?;
    elsewhere.add()?;
    // The network of another name in the same store is none of this GC's business.
    let mut neighbour = living.sibling()?;
    let name: serde_json::Value = format!("{}-too", living.network()).into();
    neighbour.config["name"] = name.clone();
    neighbour.maker()["name"] = name;
    // What multus remembers is filed by container alone: two networks of it can't share that folder.
    if let Some(folder) = neighbour.config["cniDir"].as_str() {
        neighbour.config["cniDir"] = format!("{folder}-too").into();
    }
    with_ranges(
        &mut neighbour,
        json!([[{ "subnet": "10.87.0.0/24" }]]),
        json!([]),
    )?;
    neighbour.add()?;
    let answer = t.run(&living.gc(&[&living]))?;
    answer.success()?;
    ensure!(answer.document.is_none(), "GC printed something on stdout");
    ensure!(
        stale.leases()?.is_empty(),
        "the stale attachment still has its lease"
    );
    ensure!(
        !living.leases()?.is_empty(),
        "the living attachment has lost its lease"
    );
    living.check()?;
    elsewhere.check()?;
    neighbour.check().map(drop)
}

fn collects_all(t: &Trial) -> Verdict {
    let (living, stale) = living_and_stale(t)?;
    t.run(&living.gc(&[]))?.success()?;
    let left = stale.leases()?.len() + living.leases()?.len();
    ensure!(
        left == 0,
        "{left} leases are left although the list is empty"
    );
    Ok(())
}

fn without_key(call: Call, key: &str) -> Call {
    call.edit(|config| {
        config.as_object_mut().and_then(|config| config.remove(key));
    })
}

fn older_name_of_the_list(t: &Trial) -> Verdict {
    let (living, _stale) = living_and_stale(t)?;
    let call = without_key(living.gc(&[&living]), "cni.dev/valid-attachments");
    t.run(&call)?.success()?;
    ensure!(
        !living.leases()?.is_empty(),
        "an attachment in the list of the older name was collected"
    );
    living.check().map(drop)
}

fn no_list(t: &Trial) -> Verdict {
    let (living, _stale) = living_and_stale(t)?;
    let answer = living.ask(Verb::Gc)?;
    if !answer.succeeded() {
        answer.refused(&[INVALID_CONFIG])?;
    }
    ensure!(
        !living.leases()?.is_empty(),
        "without a list everything was collected"
    );
    living.check().map(drop)
}

fn handed_on(t: &Trial, verb: Verb) -> Verdict {
    let mut spy = Spy::hire(t, "spy-ipam")?;
    let mut attachment = t.attachment()?;
    attachment.maker()["ipam"] = json!({ "type": "spy-ipam" });
    attachment.path.insert(0, spy.folder.clone());
    let call = if verb == Verb::Gc {
        attachment.gc(&[&attachment])
    } else {
        attachment.call(verb)
    };
    t.run(&call)?.success()?;
    let witnessed = spy.witnessed_verb(verb)?;
    ensure!(
        witnessed.len() == 1,
        "the delegate was called {} times with {verb}",
        witnessed.len()
    );
    let sent = serde_json::from_slice::<serde_json::Value>(&call.invocation(&t.plugin.file).stdin)
        .unwrap_or_default();
    ensure!(
        witnessed[0].config() == sent,
        "the delegate got another configuration: {}",
        witnessed[0].stdin
    );

    spy.says(verb, Lines::error(111, "no such luck"))?;
    t.run(&call)?
        .refused(&[111])?
        .names("no such luck")
        .map(drop)
}

fn ready(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let attachment = t.attachment()?;
    attachment.ask(Verb::Status)?.success()?;
    let variables = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
    let call = variables
        .iter()
        .fold(attachment.call(Verb::Status), |call, name| {
            call.without(name)
        });
    let answer = t.run(&call)?;
    answer.success()?;
    ensure!(
        answer.document.is_none(),
        "STATUS printed something on stdout"
    );
    Ok(())
}

fn ready_without_path(t: &Trial) -> Verdict {
    let attachment = if t.plugin.profile.delegates.is_empty() {
        t.attachment()?
    } else {
        t.attachment_to("l2")?
    };
    t.run(&attachment.call(Verb::Status).without("CNI_PATH"))?
        .success()
        .map(drop)
}

/// The attachment of which ADD can't work: STATUS has to say so.
fn not_ready(attachment: &Attachment) -> Verdict {
    attachment.ask(Verb::Add)?.refused(&[])?;
    attachment
        .ask(Verb::Status)?
        .refused(&[NOT_AVAILABLE, NOT_AVAILABLE_LIMITED])
        .map(drop)
}

fn master_is_missing(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    if !t.kind().attaches() || attachment.maker()["master"] != UPLINK {
        return Err(skip("the plugin has no master"));
    }
    if t.plugin.profile.chained {
        return Err(skip(
            "an earlier plugin of the list may be about to make the master",
        ));
    }
    attachment.maker()["master"] = "nobody".into();
    not_ready(&attachment)
}

fn delegate_is_missing(t: &Trial) -> Verdict {
    if !t.kind().attaches() {
        return Err(skip("the plugin has no delegate"));
    }
    t.needs_networks_in_config()?;
    let mut attachment = t.attachment()?;
    attachment.maker()["ipam"]["type"] = "nobody".into();
    not_ready(&attachment)
}

fn pool_is_exhausted(t: &Trial) -> Verdict {
    let mut first = t.attachment_to("small-pool")?;
    let mut second = first.sibling()?;
    first.add()?;
    second.add()?;
    not_ready(&first.sibling()?)
}
