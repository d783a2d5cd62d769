//! Labels of a tailed file: its name, the node, what Kubernetes' paths and the kubelet tell about pod and container, what
//! the configuration adds, and what relabelling makes of it all.
//!
//! Relabelling sees `__path__` and, where the kubelet was asked, `__meta_kubernetes_*` as Prometheus names them; labels that
//! begin with `__` are gone after it. `__tenant__`, set there, names the tenant.

use std::path::Path;

use model::{Labels, LabelsBuilder, relabel};

use super::discover::Source;
use super::parse::Stream;

/// What a file's lines are called, and whose they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Naming {
    pub tenant: String,
    /// Label sets by [`Stream::index`].
    pub streams: Vec<Labels>,
}

/// A file's place in Kubernetes, as its path tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub uid: &'a str,
    pub container: &'a str,
}

/// Names a file; `None` where relabelling drops it. `found` are labels that somebody else knows of.
pub fn naming(name: &Path, node: &str, default_tenant: &str, source: &Source, found: &Labels) -> Option<Naming> {
    let mut base = LabelsBuilder::default();
    let path = name.display().to_string();
    base.set("filename", path.as_str()).set("node", node).set("__path__", path);
    if let Some(place) = kubernetes(name) {
        base.set("namespace", place.namespace).set("pod", place.pod).set("container", place.container);
    }
    named(base, default_tenant, source, found)
}

/// Adds what is known to a set, relabels it, and finds the tenant.
pub fn named(mut base: LabelsBuilder, default_tenant: &str, source: &Source, found: &Labels) -> Option<Naming> {
    for label in found {
        base.set(label.name.clone(), label.value.clone());
    }
    for (label, value) in &source.labels {
        base.set(label.as_str(), value.as_str());
    }
    let labels = relabel(&base.build(), &source.relabel)?;
    let template = labels.get("__tenant__").map(str::to_owned).or(source.tenant.clone());
    let tenant = template.map(|template| expand(&template, &labels)).filter(|tenant| service::http::is_tenant(tenant));
    let kept = labels.iter().filter(|label| !label.name.starts_with("__"));
    let base = Labels::from_pairs(kept.map(|label| (label.name.clone(), label.value.clone()))).to_builder();
    let of = |stream: Stream| {
        let mut labels = base.clone();
        labels.set("stream", stream.name());
        labels.build()
    };
    let streams = Stream::ALL.map(of).to_vec();
    Some(Naming { tenant: tenant.unwrap_or_else(|| default_tenant.to_owned()), streams })
}

/// A text with `${label}` replaced by the label's value.
pub fn expand(template: &str, labels: &Labels) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        out.push_str(labels.get(name).unwrap_or(""));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `…/pods/NAMESPACE_POD_UID/CONTAINER/N.log` or `…/containers/POD_NAMESPACE_CONTAINER-ID.log`.
pub fn kubernetes(path: &Path) -> Option<Place<'_>> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        [.., "pods", pod, container, _] => {
            let mut fields = pod.split('_');
            let (namespace, pod, uid) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Place { namespace, pod, uid, container })
        }
        [.., "containers", file] => {
            let mut fields = file.strip_suffix(".log").unwrap_or("").split('_');
            let (pod, namespace, rest) = (fields.next()?, fields.next()?, fields.next()?);
            let container = rest.rsplit_once('-').map_or(rest, |(container, _)| container);
            Some(Place { namespace, pod, uid: "", container })
        }
        _ => None,
    }
}

/// By which lines are counted for a limit.
pub fn limit_key(by: service::config::RateLimitBy, labels: &Labels, path: &Path) -> String {
    use service::config::RateLimitBy;
    let label = |name: &str| labels.get(name).unwrap_or("");
    match by {
        RateLimitBy::Namespace if !label("namespace").is_empty() => label("namespace").to_owned(),
        RateLimitBy::Pod if !label("pod").is_empty() => format!("{}/{}", label("namespace"), label("pod")),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use service::config::LogSource;

    use super::*;

    fn check(source: &str, path: &str, stream: Stream, expected: Option<(&str, &str)>) {
        let source: LogSource = serde_json::from_str(source).expect("a good source");
        let source = Source::new(&source).expect("a good source");
        let named = naming(Path::new(path), "n1", "default", &source, &Labels::default());
        let got = named.map(|named| (named.tenant, named.streams[stream.index()].to_string()));
        assert_eq!(got.as_ref().map(|(tenant, labels)| (tenant.as_str(), labels.as_str())), expected);
    }

    #[test]
    fn paths_tell_pod_and_container() {
        let added = r#"{"labels": {"env": "prod"}}"#;
        let labels = r#"{env="prod", filename="/var/log/x.log", node="n1"}"#;
        check(added, "/var/log/x.log", Stream::Unnamed, Some(("default", labels)));
        check(
            added,
            "/var/log/pods/shop_cart-1_9f-uid/app/0.log",
            Stream::Stdout,
            Some((
                "default",
                r#"{container="app", env="prod", filename="/var/log/pods/shop_cart-1_9f-uid/app/0.log", namespace="shop", node="n1", pod="cart-1", stream="stdout"}"#,
            )),
        );
        check(
            added,
            "/var/log/containers/cart-1_shop_app-0123abcd.log",
            Stream::Stderr,
            Some((
                "default",
                r#"{container="app", env="prod", filename="/var/log/containers/cart-1_shop_app-0123abcd.log", namespace="shop", node="n1", pod="cart-1", stream="stderr"}"#,
            )),
        );
    }

    #[test]
    fn relabelling_names_drops_and_chooses_the_tenant() {
        let pod = "/var/log/pods/shop_cart-1_9f-uid/app/0.log";
        let short =
            r#"{"tenant": "t-${namespace}", "relabel_configs": [{"action": "labelkeep", "regex": "namespace|__.*"}]}"#;
        check(short, pod, Stream::Unnamed, Some(("t-shop", r#"{namespace="shop"}"#)));
        let drop = r#"{"relabel_configs": [{"source_labels": ["namespace"], "regex": "shop", "action": "drop"}]}"#;
        check(drop, pod, Stream::Unnamed, None);
        let named = r#"{"relabel_configs": [{"source_labels": ["__path__"], "regex": ".*/(c[^/]+)\\.log", "target_label": "__tenant__"},
            {"action": "labeldrop", "regex": "filename|node"}]}"#;
        check(named, "/var/log/cart.log", Stream::Unnamed, Some(("cart", "{}")));
        // What is no tenant's name must not stop the lines.
        check(
            r#"{"tenant": "${pod}"}"#,
            "/x.log",
            Stream::Unnamed,
            Some(("default", r#"{filename="/x.log", node="n1"}"#)),
        );
        assert_eq!(expand("a${x}b${y", &Labels::from_pairs([("x", "1")])), "a1b${y");
    }
}
