//! Chains of plugins: what each is sent, in which order, and what happens when one fails.

use std::thread;
use std::time::{Duration, Instant};

use cni::json::Object;
use cni::{Attachment, Code, Error, Network, Success};
use invoke::{NotAdded, Parameters, ResultCache, Runtime};

use crate::bin::Bin;

/// Notes its verb and type, keeps its stdin and environment, and answers.
const RECORD: &str = r#"t=$(basename $0); echo $CNI_COMMAND $t >> $d/calls
    cat > $d/$CNI_COMMAND.$t.stdin; env | grep ^CNI_ | sort > $d/$CNI_COMMAND.$t.env
    [ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}'
    exit 0"#;

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[
    {"type":"one","big":123456789012345678901,"capabilities":{"mac":true}},
    {"type":"two","capabilities":{"mac":false,"ips":true}},{"type":"three"}]}"#;

fn bin(name: &str) -> Bin {
    ["one", "two", "three"]
        .into_iter()
        .fold(Bin::new(name), |bin, kind| bin.script(kind, RECORD))
}

fn runtime(bin: &Bin) -> Runtime {
    Runtime {
        path: bin.path().to_owned(),
        cache: ResultCache::new(bin.path()),
        limit: Duration::from_secs(20),
        callers: "above:me".into(),
    }
}

fn add_error(runtime: &Runtime, net: &Network, of: &Parameters) -> Error {
    let failed = runtime.add(net, of).unwrap_err();
    assert!(failed.taken_back);
    failed.error
}

fn network(text: &str) -> Network {
    Network::parse(text.as_bytes()).unwrap()
}

fn parameters() -> Parameters {
    Parameters {
        container_id: "c1".into(),
        netns: "/run/netns/pod".into(),
        ifname: "eth0".into(),
        args: vec![
            ("IgnoreUnknown".into(), "1".into()),
            ("A".into(), "b".into()),
        ],
        capability_args: Object::parse(br#"{"mac":"m","ips":["i"]}"#).unwrap(),
    }
}

#[test]
fn add_in_order_and_del_in_reverse_with_all_that_belongs() {
    let bin = bin("order");
    let (runtime, net) = (runtime(&bin), network(LIST));
    let result = runtime.add(&net, &parameters()).unwrap();
    assert_eq!(result.ips.len(), 1);
    assert_eq!(bin.read("calls"), "ADD one\nADD two\nADD three\n");
    assert_eq!(
        bin.read("ADD.one.stdin"),
        r#"{"type":"one","big":123456789012345678901,"capabilities":{"mac":true},"name":"net","cniVersion":"1.0.0","runtimeConfig":{"mac":"m"}}"#
    );
    let second = Object::parse(bin.read("ADD.two.stdin").as_bytes()).unwrap();
    assert_eq!(second.get("runtimeConfig"), Some(r#"{"ips":["i"]}"#));
    let prev = second.get("prevResult").unwrap();
    assert!(prev.contains("10.0.0.2/24"), "{prev}");
    assert_eq!(
        bin.read("ADD.three.env"),
        format!(
            "CNI_ARGS=IgnoreUnknown=1;A=b\nCNI_CALLERS=above:me\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n\
             CNI_NETNS=/run/netns/pod\nCNI_PATH={}\n",
            bin.path()
        )
    );
    runtime.check(&net, &parameters()).unwrap();
    runtime.del(&net, &parameters()).unwrap();
    let calls = bin.read("calls");
    assert!(
        calls.ends_with("CHECK three\nDEL three\nDEL two\nDEL one\n"),
        "{calls}"
    );
    assert!(bin.read("DEL.one.stdin").contains("prevResult"));
    assert!(runtime.cache.all().unwrap().is_empty());
    let gone = runtime.check(&net, &parameters()).unwrap_err();
    assert!(gone.msg.contains("no result is kept"), "{gone}");
}

#[test]
fn a_failure_in_the_middle_takes_back_what_ran_and_only_that() {
    let fail = r#"echo $CNI_COMMAND two >> $d/calls; [ $CNI_COMMAND = DEL ] && exit 1
        echo '{"code":11,"msg":"later","details":"d"}'; exit 1"#;
    let bin = bin("middle").script("two", fail);
    let failed = runtime(&bin).add(&network(LIST), &parameters());
    let NotAdded { error, taken_back } = failed.unwrap_err();
    assert!(!taken_back, "a DEL failed");
    assert_eq!(bin.read("calls"), "ADD one\nADD two\nDEL two\nDEL one\n");
    assert_eq!(
        (
            error.code.number(),
            error.msg.as_str(),
            error.details.as_str()
        ),
        (11, r#"plugin type="two" failed (add): later"#, "d")
    );
    assert!(runtime(&bin).cache.all().unwrap().is_empty());
}

#[test]
fn a_plugin_that_refuses_add_and_del_alike_has_done_nothing() {
    let refuse = r#"echo '{"code":7,"msg":"no master"}'; exit 1"#;
    let bin = bin("refuses").script("three", refuse);
    let error = add_error(&runtime(&bin), &network(LIST), &parameters());
    assert_eq!(error.code.number(), 7);
    assert_eq!(bin.read("calls"), "ADD one\nADD two\nDEL two\nDEL one\n");
}

#[test]
fn a_plugin_that_is_not_there_stops_the_list_before_it_starts() {
    let bin = Bin::new("absent").script("one", RECORD);
    let error = add_error(&runtime(&bin), &network(LIST), &parameters());
    assert!(
        error.msg.contains(r#"failed to find plugin "two""#),
        "{error}"
    );
    assert_eq!(bin.read("calls"), "");
}

#[test]
fn del_goes_on_past_failures_and_keeps_what_is_needed_to_try_again() {
    let bin = bin("goes-on");
    let (runtime, net) = (runtime(&bin), network(LIST));
    runtime.add(&net, &parameters()).unwrap();
    let fail = r#"echo '{"code":5,"msg":"stuck"}'; exit 1"#;
    let bin = bin.script("two", fail);
    let error = runtime.del(&net, &parameters()).unwrap_err();
    assert_eq!(error.msg, r#"plugin type="two" failed (delete): stuck"#);
    assert!(bin.read("calls").ends_with("DEL three\nDEL one\n"));
    assert_eq!(runtime.cache.all().unwrap().len(), 1);
}

#[test]
fn before_0_4_0_del_has_no_prev_result_and_check_does_not_exist() {
    let bin = bin("old");
    let (runtime, net) = (
        runtime(&bin),
        network(r#"{"cniVersion":"0.3.1","name":"net","type":"one"}"#),
    );
    runtime.add(&net, &parameters()).unwrap();
    let error = runtime.check(&net, &parameters()).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
    runtime.del(&net, &parameters()).unwrap();
    assert!(!bin.read("DEL.one.stdin").contains("prevResult"));
    assert_eq!(bin.read("calls"), "ADD one\nDEL one\n");
}

#[test]
fn what_can_not_be_called_is_refused_before_anything_runs() {
    let bin = bin("refused");
    let runtime = runtime(&bin);
    let code = |text: &str, of: &Parameters| add_error(&runtime, &network(text), of).code;
    let bad_id = Parameters {
        container_id: "../c".into(),
        ..parameters()
    };
    let bad_name = Parameters {
        ifname: "a/b".into(),
        ..parameters()
    };
    assert_eq!(
        code(r#"{"type":"one"}"#, &parameters()),
        Code::InvalidConfig
    );
    assert_eq!(
        code(r#"{"type":"one","name":"../x"}"#, &parameters()),
        Code::InvalidConfig
    );
    assert_eq!(code(LIST, &bad_id), Code::InvalidEnvironment);
    assert_eq!(code(LIST, &bad_name), Code::InvalidEnvironment);
    let future = r#"{"type":"one","name":"n","cniVersion":"9.9.9"}"#;
    assert_eq!(code(future, &parameters()), Code::IncompatibleVersion);
    let traversal = r#"{"type":"../one","name":"n"}"#;
    assert_eq!(code(traversal, &parameters()), Code::InvalidConfig);
    assert_eq!(bin.read("calls"), "");
}

#[test]
fn answers_that_are_none_are_taken_back() {
    for (name, answer) in [
        ("empty", ""),
        ("null", "null"),
        ("noise", "done\n{}"),
        ("foreign", r#"{"cniVersion":"9.9.9"}"#),
        ("mangled", r#"{"ips":[{"address":"10.0.0.300/24"}]}"#),
    ] {
        let body = format!("echo $CNI_COMMAND >> $d/calls; echo '{answer}'");
        let bin = Bin::new(&format!("none-{name}")).script("one", &body);
        let net = network(r#"{"type":"one","name":"n","cniVersion":"1.0.0"}"#);
        runtime(&bin).add(&net, &parameters()).unwrap_err();
        assert_eq!(bin.read("calls"), "ADD\nDEL\n", "{name}");
    }
}

#[test]
fn an_empty_result_is_a_result() {
    let body = r#"[ $CNI_COMMAND = DEL ] || echo "{\"cniVersion\":\"0.2.0\"}""#;
    let bin = Bin::new("nothing").script("one", body);
    let net = network(r#"{"type":"one","name":"n","cniVersion":"0.2.0"}"#);
    let result = runtime(&bin).add(&net, &parameters()).unwrap();
    assert_eq!(result, Success::default());
    runtime(&bin).del(&net, &parameters()).unwrap();
}

#[test]
fn a_plugin_that_hangs_is_ended_with_all_it_started_and_taken_back() {
    let body = r#"echo $CNI_COMMAND >> $d/calls; [ $CNI_COMMAND = DEL ] && exit 0
        (sleep 3; touch $d/survivor) & sleep 600"#;
    let bin = Bin::new("hang").script("one", body);
    let runtime = Runtime {
        limit: Duration::from_millis(700),
        ..runtime(&bin)
    };
    let net = network(r#"{"type":"one","name":"n","cniVersion":"1.0.0"}"#);
    let start = Instant::now();
    let error = add_error(&runtime, &net, &parameters());
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(
        error.msg.contains("ADD did not answer within 700ms"),
        "{error}"
    );
    assert_eq!(bin.read("calls"), "ADD\nDEL\n");
    thread::sleep(Duration::from_millis(3500));
    assert!(!bin.0.join("survivor").exists(), "its child lives on");
}

#[test]
fn gc_takes_down_what_is_not_listed_and_tells_the_plugins() {
    let bin = bin("gc");
    let runtime = runtime(&bin);
    let text = LIST.replace("1.0.0", "1.1.0");
    let net = network(&text);
    let of = |id: &str| Parameters {
        container_id: id.into(),
        ..parameters()
    };
    for id in ["live", "stale"] {
        runtime.add(&net, &of(id)).unwrap();
    }
    let other = network(r#"{"type":"one","name":"other","cniVersion":"1.1.0"}"#);
    runtime.add(&other, &of("elsewhere")).unwrap();
    let live = Attachment {
        container_id: "live".into(),
        ifname: "eth0".into(),
    };
    runtime.gc(&net, &[live]).unwrap();
    let calls = bin.read("calls");
    let tail = "DEL three\nDEL two\nDEL one\nGC one\nGC two\nGC three\n";
    assert!(calls.ends_with(tail), "{calls}");
    assert!(bin.read("DEL.one.env").contains("CNI_CONTAINERID=stale"));
    let sent = Object::parse(bin.read("GC.one.stdin").as_bytes()).unwrap();
    let list = r#"[{"containerID":"live","ifname":"eth0"}]"#;
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(sent.get(key), Some(list));
    }
    let left = runtime.cache.all().unwrap();
    let mut ids: Vec<String> = left
        .into_iter()
        .map(|c| c.parameters.container_id)
        .collect();
    ids.sort();
    assert_eq!(ids, ["elsewhere", "live"]);
}

#[test]
fn status_is_the_plugins_own_and_only_asked_since_1_1_0() {
    let bin = Bin::new("status").script(
        "one",
        r#"echo '{"code":50,"msg":"no master","details":"x"}'; exit 1"#,
    );
    let net = |version: &str| {
        network(&format!(
            r#"{{"type":"one","name":"n","cniVersion":"{version}"}}"#
        ))
    };
    let error = runtime(&bin).status(&net("1.1.0")).unwrap_err();
    assert_eq!((error.code.number(), error.msg.as_str()), (50, "no master"));
    runtime(&bin).status(&net("1.0.0")).unwrap();
}

#[test]
fn several_threads_use_one_runtime() {
    let bin = bin("threads");
    let (runtime, net) = (runtime(&bin), network(LIST));
    thread::scope(|scope| {
        for n in 0..4 {
            let (runtime, net) = (&runtime, &net);
            scope.spawn(move || {
                let of = Parameters {
                    container_id: format!("c{n}"),
                    ..parameters()
                };
                runtime.add(net, &of).unwrap();
                runtime.del(net, &of).unwrap();
            });
        }
    });
    assert_eq!(bin.read("calls").lines().count(), 4 * 6);
}
