//! Labels of a tailed file: its name, the node, and what Kubernetes' paths tell about pod and container.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Labels, LabelsBuilder};

use super::parse::Stream;

/// The label sets of a file's streams, by [`Stream::index`].
pub fn streams(name: &Path, node: &str, added: &BTreeMap<String, String>) -> Vec<Labels> {
    let mut base = LabelsBuilder::default();
    base.set("filename", name.display().to_string()).set("node", node);
    for (label, value) in kubernetes(name) {
        base.set(label, value);
    }
    for (label, value) in added {
        base.set(label.as_str(), value.as_str());
    }
    let of = |stream: Stream| {
        let mut labels = base.clone();
        labels.set("stream", stream.name());
        labels.build()
    };
    Stream::ALL.map(of).to_vec()
}

/// `…/pods/NAMESPACE_POD_UID/CONTAINER/N.log` or `…/containers/POD_NAMESPACE_CONTAINER-ID.log`.
fn kubernetes(path: &Path) -> Vec<(&'static str, &str)> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        [.., "pods", pod, container, _] => {
            let mut fields = pod.split('_');
            let (Some(namespace), Some(pod), Some(_)) = (fields.next(), fields.next(), fields.next()) else {
                return Vec::new();
            };
            vec![("namespace", namespace), ("pod", pod), ("container", container)]
        }
        [.., "containers", file] => {
            let mut fields = file.strip_suffix(".log").unwrap_or("").split('_');
            let (Some(pod), Some(namespace), Some(rest)) = (fields.next(), fields.next(), fields.next()) else {
                return Vec::new();
            };
            let container = rest.rsplit_once('-').map_or(rest, |(container, _)| container);
            vec![("namespace", namespace), ("pod", pod), ("container", container)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, stream: Stream, expected: &str) {
        let added = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(streams(Path::new(path), "n1", &added)[stream.index()].to_string(), expected);
    }

    #[test]
    fn paths_tell_pod_and_container() {
        check("/var/log/x.log", Stream::Unnamed, r#"{env="prod", filename="/var/log/x.log", node="n1"}"#);
        check(
            "/var/log/pods/shop_cart-1_9f-uid/app/0.log",
            Stream::Stdout,
            r#"{container="app", env="prod", filename="/var/log/pods/shop_cart-1_9f-uid/app/0.log", namespace="shop", node="n1", pod="cart-1", stream="stdout"}"#,
        );
        check(
            "/var/log/containers/cart-1_shop_app-0123abcd.log",
            Stream::Stderr,
            r#"{container="app", env="prod", filename="/var/log/containers/cart-1_shop_app-0123abcd.log", namespace="shop", node="n1", pod="cart-1", stream="stderr"}"#,
        );
    }
}
