//! `cni-conformance api-server`: the API server in memory, for demonstrations and for people.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::cli::ApiServer;
use crate::cluster::Cluster;
use crate::report;

/// Serves until SIGTERM, SIGINT or the end of the pipe on stdin.
///
/// # Errors
/// A sentence for the operator when it could not begin.
pub fn run(options: &ApiServer) -> Result<bool, String> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread begins, so that all of them leave the signals to the one that waits for them.
    signals
        .thread_block()
        .map_err(|errno| format!("signals can't be waited for: {errno}"))?;
    let cluster = Cluster::listen(options.listen)?;
    for file in &options.objects {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        cluster
            .apply(&text)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    cluster.write_kubeconfig(&options.kubeconfig, &cluster.token_user())?;
    let (end, ended) = mpsc::channel();
    // Anything else, such as /dev/null, was at its end from the start and says nothing.
    if stdin_is_pipe() {
        let end = end.clone();
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
            let _ = end.send(());
        });
    }
    thread::spawn(move || {
        let _ = signals.wait();
        let _ = end.send(());
    });
    let line = format!(
        "ready: {}, kubeconfig {}\n",
        cluster.url(),
        options.kubeconfig.display()
    );
    report::text(&line);
    let _ = ended.recv();
    Ok(true)
}

fn stdin_is_pipe() -> bool {
    fs::metadata("/dev/stdin").is_ok_and(|data| {
        let kind = data.file_type();
        kind.is_fifo() || kind.is_socket()
    })
}
