//! Family M, the API server: how it is asked, every fault at every request, and what a fault may not lead to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Credential, Effect, Fault, User};
use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node, POD_PATH};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::Verb;
use crate::spec::code::TRY_AGAIN;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M50",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "ADD asks for the pod once and for each attachment once, writes the status in one request, and all of it over one connection.",
        section: "multus: API server",
        cases: &[
            case("requests", few_requests),
            case("permissions", few_permissions),
        ],
    },
    Requirement {
        id: "M51",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The server is known by the kubeconfig's authority, the client by token, by token file read anew for each call, or by certificate; no secret is told.",
        section: "multus: kubeconfig",
        cases: &[
            case("token file", token_file),
            case("certificate", client_certificate),
            case("foreign authority", foreign_authority),
            case("expired token", expired_token),
        ],
    },
    Requirement {
        id: "M52",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "After one fault at any request, ADD either attaches all networks of the pod or is refused and undone: a pod never starts with fewer networks.",
        section: "multus: API server",
        cases: &[
            case("401", |t| one_fault(t, &Effect::Answer(401, None))),
            case("403", |t| one_fault(t, &Effect::Answer(403, None))),
            case("404", |t| one_fault(t, &Effect::Answer(404, None))),
            case("409", |t| one_fault(t, &Effect::Answer(409, None))),
            case("429", |t| one_fault(t, &Effect::Answer(429, Some(1)))),
            case("500", |t| one_fault(t, &Effect::Answer(500, None))),
            case("503", |t| one_fault(t, &Effect::Answer(503, None))),
            case("delay", |t| {
                one_fault(t, &Effect::Delay(Duration::from_secs(4)))
            }),
            case("dropped", |t| one_fault(t, &Effect::Drop)),
            case("dropped after the work", |t| {
                one_fault(t, &Effect::DropApplied)
            }),
            case("dropped in the answer", |t| {
                one_fault(t, &Effect::DropMidway)
            }),
            case("no JSON", |t| {
                one_fault(t, &Effect::Garbage("<html>gateway</html>".into()))
            }),
            case("other JSON", |t| {
                one_fault(t, &Effect::Garbage("[]".into()))
            }),
        ],
    },
    Requirement {
        id: "M53",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A fault that passes is not the pod's: a read that was answered 429, 500 or 503, or not at all, is repeated, and ADD succeeds.",
        section: "multus: API server",
        cases: &[
            case("429", |t| passes(t, &Effect::Answer(429, Some(1)))),
            case("500", |t| passes(t, &Effect::Answer(500, None))),
            case("503", |t| passes(t, &Effect::Answer(503, None))),
            case("dropped", |t| passes(t, &Effect::Drop)),
            case("conflict", status_conflict),
            case("slow", slow),
        ],
    },
    Requirement {
        id: "M54",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A server that stays away fails the ADD in time, before any delegate runs, with code 11 where trying again helps.",
        section: "multus: API server",
        cases: &[
            case("401", |t| stays(t, &Effect::Answer(401, None), &[])),
            case("403", |t| stays(t, &Effect::Answer(403, None), &[])),
            case("404", |t| stays(t, &Effect::Answer(404, None), &[])),
            case("429", |t| {
                stays(t, &Effect::Answer(429, None), &[TRY_AGAIN])
            }),
            case("500", |t| {
                stays(t, &Effect::Answer(500, None), &[TRY_AGAIN])
            }),
            case("503", |t| {
                stays(t, &Effect::Answer(503, None), &[TRY_AGAIN])
            }),
            case("silent", |t| {
                stays(t, &Effect::Delay(Duration::from_secs(30)), &[TRY_AGAIN])
            }),
            case("dropped", |t| stays(t, &Effect::Drop, &[TRY_AGAIN])),
            case("down", down),
        ],
    },
    Requirement {
        id: "M55",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "DEL deletes everything whatever the API server does, and does not wait for it.",
        section: "multus: DEL",
        cases: &[
            case("401", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(401, None)))
            }),
            case("403", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(403, None)))
            }),
            case("404", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(404, None)))
            }),
            case("409", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(409, None)))
            }),
            case("429", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(429, Some(30))))
            }),
            case("500", |t| {
                del_in_spite_of(t, Some(&Effect::Answer(500, None)))
            }),
            case("silent", |t| {
                del_in_spite_of(t, Some(&Effect::Delay(Duration::from_secs(30))))
            }),
            case("dropped", |t| del_in_spite_of(t, Some(&Effect::Drop))),
            case("no JSON", |t| {
                del_in_spite_of(t, Some(&Effect::Garbage("x".into())))
            }),
            case("down", |t| del_in_spite_of(t, None)),
        ],
    },
    Requirement {
        id: "M56",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "An ADD is for the pod with the UID that the runtime says, unless it is a static pod; a pod that isn't there is an error.",
        section: "multus: CNI_ARGS",
        cases: &[
            case("other UID", other_uid),
            case("static pod", static_pod),
            case("no pod", no_pod),
            case("no CNI_ARGS", no_args),
        ],
    },
];

/// Three networks, with a limit for the API server that tests can wait for.
fn hasty<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = Node::three_networks(t)?;
    node.runtime.config["timeouts"]["apiServer"] = 3.into();
    Ok(node)
}

fn few_requests(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    node.add()?;
    let requests = node.cluster.requests();
    let count = |method: &str, path: &str| {
        let meant = |request: &&crate::cluster::Request| {
            request.method == method && request.path.contains(path)
        };
        requests.iter().filter(meant).count()
    };
    for (method, path, most) in [
        ("GET", "/pods/", 1),
        ("GET", "/network-attachment-definitions/net-b", 1),
        ("GET", "/network-attachment-definitions/net-c", 1),
        ("PATCH", "/pods/", 1),
        ("PUT", "/pods/", 0),
    ] {
        let found = count(method, path);
        ensure!(
            found == most,
            "{method} {path} was asked {found} times, expected {most}"
        );
    }
    let connections: BTreeSet<_> = requests.iter().map(|request| request.connection).collect();
    ensure!(
        connections.len() == 1,
        "ADD took {} connections",
        connections.len()
    );
    node.cluster.forget_requests();
    node.del()?;
    let requests = node.cluster.requests().len();
    ensure!(
        requests <= 1,
        "DEL with everything in the cache made {requests} requests"
    );
    Ok(())
}

fn few_permissions(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    node.add()?;
    node.del()?;
    let allowed = [
        ("get", "pods"),
        ("get", "network-attachment-definitions"),
        ("patch", "pods/status"),
        ("create", "events"),
    ];
    for request in node.cluster.requests() {
        let Some((verb, resource)) = request.permission() else {
            continue;
        };
        ensure!(
            allowed.contains(&(verb, resource.as_str())),
            "{} {} needs the permission to {verb} {resource}",
            request.method,
            request.path
        );
    }
    Ok(())
}

fn token_file(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    let file = node.conf_dir.join("token");
    std::fs::write(&file, node.cluster.token())?;
    node.cluster
        .write_kubeconfig(&node.kubeconfig, &User::TokenFile(file.clone()))
        .map_err(fail)?;
    node.add()?;
    node.del()?;
    // The token is rotated as the kubelet does it, with the old one dying some time later.
    std::fs::write(&file, node.cluster.issue_token())?;
    node.cluster.revoke_token(node.cluster.token());
    node.add()?;
    node.del().map(drop)
}

fn client_certificate(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    let identity = node
        .cluster
        .issue_certificate("system:multus:node-1")
        .map_err(fail)?;
    node.cluster
        .write_kubeconfig(&node.kubeconfig, &User::Certificate(identity))
        .map_err(fail)?;
    node.add()?;
    let by_certificate =
        |request: &crate::cluster::Request| request.credential == Credential::Certificate;
    ensure!(
        node.cluster.requests().iter().all(by_certificate),
        "a request came without the certificate"
    );
    node.del().map(drop)
}

fn foreign_authority(t: &Trial) -> Verdict {
    let node = hasty(t)?;
    let other = Cluster::start().map_err(fail)?;
    let text = other.kubeconfig(&node.cluster.token_user());
    std::fs::write(
        &node.kubeconfig,
        text.replace(&other.url(), &node.cluster.url()),
    )?;
    node.ask(Verb::Add)?.refused(&[])?;
    node.expect_calls(&[])?;
    ensure!(
        node.cluster.requests().is_empty(),
        "a server with a certificate of another authority was asked"
    );
    Ok(())
}

fn expired_token(t: &Trial) -> Verdict {
    let node = hasty(t)?;
    node.cluster.revoke_token(node.cluster.token());
    let refusal = node.ask(Verb::Add)?.refused(&[])?;
    refusal.names("Unauthorized")?;
    let told = String::from_utf8_lossy(&refusal.answer.exchange.outcome.stdout).into_owned()
        + &String::from_utf8_lossy(&refusal.answer.exchange.outcome.stderr);
    ensure!(
        !told.contains(node.cluster.token()),
        "the token is in the error"
    );
    node.expect_calls(&[])
}

/// The requests of an ADD that meets no fault.
fn requests_of_add(node: &mut Node) -> Result<u32, Stop> {
    node.cluster.heal();
    node.cluster.forget_requests();
    node.add()?;
    let count = node.cluster.requests().len();
    node.del()?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

fn one_fault(t: &Trial, effect: &Effect) -> Verdict {
    let mut node = hasty(t)?;
    let requests = requests_of_add(&mut node)?;
    for nth in 1..=requests {
        whole_or_nothing(t, &mut node, Fault::on("", "", effect.clone()).nth(nth))
            .map_err(|stop| stop.within(format!("{effect:?} at request {nth} of {requests}")))?;
    }
    t.note(format!("struck at each of {requests} requests"));
    Ok(())
}

fn whole_or_nothing(t: &Trial, node: &mut Node, fault: Fault) -> Verdict {
    node.forget_calls()?;
    node.cluster.heal();
    node.cluster.strike(fault);
    let answer = node.ask(Verb::Add)?;
    if answer.succeeded() {
        answer.result(t.version, t.kind())?;
        node.expect_calls(&["ADD spy-a eth0", "ADD spy-b net1", "ADD spy-c net2"])?;
        node.cluster.heal();
        node.del()?;
        node.everything_deleted()?;
        return node.nothing_remembered();
    }
    answer.refused(&[])?;
    node.everything_deleted()?;
    node.nothing_remembered()?;
    node.cluster.heal();
    node.del().map(drop)
}

fn passes(t: &Trial, effect: &Effect) -> Verdict {
    let mut node = hasty(t)?;
    for path in [
        POD_PATH,
        "/network-attachment-definitions/net-b",
        "/network-attachment-definitions/net-c",
    ] {
        node.cluster.heal();
        node.cluster
            .strike(Fault::on("GET", path, effect.clone()).nth(1));
        node.add().map_err(|stop| stop.within(path))?;
        node.del()?;
    }
    Ok(())
}

/// Somebody else changes the pod at the same time, again and again.
fn status_conflict(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    for method in ["PATCH", "PUT"] {
        node.cluster
            .strike(Fault::on(method, "/pods/", Effect::Answer(409, None)).times(2));
    }
    node.add()?;
    ensure!(
        !node.status()?.is_null(),
        "a conflict, and the status was not written"
    );
    node.del().map(drop)
}

/// A quarter of a second for each answer is too slow for versions that give up after that time.
fn slow(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    node.cluster
        .strike(Fault::on("", "", Effect::Delay(Duration::from_millis(400))));
    node.add()?;
    node.cluster.heal();
    node.del().map(drop)
}

fn stays(t: &Trial, effect: &Effect, codes: &[i64]) -> Verdict {
    let node = hasty(t)?;
    node.cluster.strike(Fault::on("", "", effect.clone()));
    fails_closed(&node, codes)
}

fn fails_closed(node: &Node, codes: &[i64]) -> Verdict {
    let started = Instant::now();
    node.ask(Verb::Add)?.refused(codes)?;
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(10),
        "ADD took {took:?} with a limit of 3 s for the API server"
    );
    node.expect_calls(&[])?;
    node.nothing_remembered()?;
    node.del()?;
    node.nothing_remembered()
}

/// Nobody listens at the port.
fn nobody_listens(node: &Node) -> Verdict {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = node.cluster.kubeconfig(&node.cluster.token_user());
    let text = text.replace(&node.cluster.url(), &format!("https://{free}"));
    Ok(std::fs::write(&node.kubeconfig, text)?)
}

fn down(t: &Trial) -> Verdict {
    let node = hasty(t)?;
    nobody_listens(&node)?;
    fails_closed(&node, &[TRY_AGAIN])
}

fn del_in_spite_of(t: &Trial, effect: Option<&Effect>) -> Verdict {
    let mut node = hasty(t)?;
    node.add()?;
    match effect {
        Some(effect) => node.cluster.strike(Fault::on("", "", effect.clone())),
        None => nobody_listens(&node)?,
    }
    let started = Instant::now();
    node.del()?;
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(5),
        "DEL took {took:?}, with all it needs in the cache"
    );
    node.everything_deleted()?;
    node.nothing_remembered()
}

/// Has the runtime mean another pod of the same name than the API server has.
fn mean_another_pod(node: &mut Node<'_>) {
    let args = &mut node.runtime.args;
    let end = args.find("K8S_POD_UID=").unwrap_or(args.len());
    args.truncate(end);
    args.push_str("K8S_POD_UID=");
    args.push_str(OTHER_UID);
}

const OTHER_UID: &str = "11111111-2222-4333-8444-555555555555";

fn other_uid(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    mean_another_pod(&mut node);
    node.ask(Verb::Add)?.refused(&[])?.names(OTHER_UID)?;
    node.expect_calls(&[])
}

fn static_pod(t: &Trial) -> Verdict {
    let mut node = hasty(t)?;
    mean_another_pod(&mut node);
    node.set_annotation("kubernetes.io/config.source", "file")?;
    node.add()?;
    node.del().map(drop)
}

fn no_pod(t: &Trial) -> Verdict {
    let node = hasty(t)?;
    node.cluster.remove(POD_PATH);
    node.ask(Verb::Add)?.refused(&[])?.names("samplepod")?;
    node.expect_calls(&[])?;
    node.nothing_remembered()
}

fn no_args(t: &Trial) -> Verdict {
    let node = hasty(t)?;
    let call = node.runtime.call(Verb::Add).without("CNI_ARGS");
    t.run(&call)?.refused(&[])?.names("K8S_POD_NAME")?;
    node.expect_calls(&[])?;
    Ok(())
}
