//! Other programs beside ours: Prometheus, Alertmanager.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::end_to_end::harness::{full, wait_for};

/// A tool that comes with a peer which a variable names: it lies beside it, or below it where that is a wrapper.
pub fn tool(variable: &str, name: &str) -> Option<PathBuf> {
    let Some(peer) = std::env::var_os(variable).map(PathBuf::from) else {
        assert!(!full(), "make test sets {variable}");
        eprintln!("{variable} is not set: {name} is not tried (tests/setup/peers.sh)");
        return None;
    };
    let dir = peer.parent().unwrap_or(Path::new("."));
    let found = [dir.join(name), dir.join("usr/bin").join(name)].into_iter().find(|path| path.exists());
    Some(found.unwrap_or_else(|| panic!("there is no {name} beside {}", peer.display())))
}

/// What a tool prints; it must end well.
pub fn run(tool: &Path, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().expect("a tool starts");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}: {out}{error}", tool.display());
    out.into_owned()
}

/// One that runs until it is dropped.
pub struct Peer {
    child: Child,
    pub url: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts it with a command that takes the address to listen on, and waits until it is ready. One that ends by itself
    /// is tried on another port: somebody may have taken that one between its choice and its use.
    pub fn start(command: impl Fn(&str) -> Command) -> Peer {
        Peer::start_where("/-/ready", command)
    }

    /// The same, of one that is ready once a path answers.
    pub fn start_where(path: &str, command: impl Fn(&str) -> Command) -> Peer {
        loop {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
            let address = format!("127.0.0.1:{port}");
            let child = command(&address).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("a peer starts");
            let mut peer = Peer { child, url: format!("http://{address}") };
            let ready = format!("{}{path}", peer.url);
            let is_ready = || reqwest::blocking::get(&ready).is_ok_and(|answer| answer.status().is_success());
            let is_running = wait_for("a peer", || match peer.child.try_wait().expect("waitable") {
                Some(_) => Some(false),
                None => is_ready().then_some(true),
            });
            if is_running {
                return peer;
            }
        }
    }
}
