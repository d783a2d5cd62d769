//! What the kubelet knows of this node's pods: labels, annotations, owners.
//!
//! # Contracts
//! - The kubelet's `/pods` is asked every [`INTERVAL`], and soon after a file of an unknown pod was found. Nobody waits for it:
//!   lines are named by their file's path at once, and have more labels from when the kubelet has answered.
//! - A pod that is gone is kept in mind for [`KEPT`], since its last lines come after it; at most [`MAX_PODS`] are.
//! - A kubelet that does not answer changes nothing of what is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Labels, LabelsBuilder};
use parking_lot::Mutex;
use serde::Deserialize;
use service::config::KubernetesMetadata;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::enrich::Place;

const INTERVAL: Duration = Duration::from_secs(30);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const KEPT: Duration = Duration::from_secs(3600);
const MAX_PODS: usize = 10_000;
const MAX_BODY_BYTES: usize = 64 << 20;

/// The pods known, shared by all who name files.
#[derive(Clone, Default)]
pub struct Pods(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<HashMap<(String, String), Known>>,
    /// Somebody asked for a pod that is not known.
    wanted: Notify,
    /// Told when something new is known.
    listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

struct Known {
    uid: String,
    labels: Labels,
    seen: Instant,
}

#[derive(Deserialize)]
struct PodList {
    #[serde(default)]
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    labels: HashMap<String, String>,
    #[serde(default)]
    annotations: HashMap<String, String>,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
}

impl Pods {
    /// What is known of the pod that a file belongs to.
    pub fn labels(&self, place: &Place<'_>) -> Option<Labels> {
        let known = self.0.known.lock();
        let found = known.get(&(place.namespace.to_owned(), place.pod.to_owned()));
        // Static pods: the kubelet's uid in the path is the hash of their configuration, which `/pods` repeats as an
        // annotation; a name is theirs alone anyway. Of other pods an older one of the same name may be remembered.
        let found = found.filter(|pod| {
            place.uid.is_empty() || pod.uid == place.uid || pod.labels.get(CONFIG_HASH) == Some(place.uid)
        });
        let labels = found.map(|pod| pod.labels.clone());
        drop(known);
        if labels.is_none() {
            self.0.wanted.notify_one();
        }
        labels
    }

    /// Calls back whenever more is known.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.0.listeners.lock().push(Box::new(listener));
    }

    /// Asks until `stop`.
    pub async fn run(self, config: KubernetesMetadata, stop: CancellationToken) {
        let client = match client(&config) {
            Ok(client) => client,
            Err(error) => return tracing::error!(error, "the kubelet is not asked about pods"),
        };
        let interval = config.interval.map_or(INTERVAL, |interval| interval.as_std()).max(MIN_INTERVAL);
        let mut has_warned = false;
        loop {
            match ask(&client, &config).await {
                Ok(list) => {
                    has_warned = false;
                    self.take(list, &config);
                }
                Err(error) if !has_warned => {
                    has_warned = true;
                    tracing::warn!(error, "the kubelet does not tell about pods; asking again");
                }
                Err(error) => tracing::debug!(error, "the kubelet does not tell about pods"),
            }
            let wanted = async {
                tokio::time::sleep(MIN_INTERVAL).await;
                self.0.wanted.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = wanted => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn take(&self, list: PodList, config: &KubernetesMetadata) {
        let now = Instant::now();
        let mut known = self.0.known.lock();
        let mut is_new = false;
        for pod in list.items {
            let labels = labels_of(&pod, config);
            let key = (pod.metadata.namespace, pod.metadata.name);
            is_new |= known.get(&key).is_none_or(|before| before.labels != labels);
            known.insert(key, Known { uid: pod.metadata.uid, labels, seen: now });
        }
        known.retain(|_, pod| now.duration_since(pod.seen) < KEPT);
        if known.len() > MAX_PODS {
            known.retain(|_, pod| pod.seen == now);
        }
        drop(known);
        if is_new {
            self.0.listeners.lock().iter().for_each(|listener| listener());
        }
    }
}

const CONFIG_HASH: &str = "__meta_kubernetes_pod_annotation_kubernetes_io_config_hash";

/// Labels as Prometheus' discovery names them, and those that were chosen under their own names.
fn labels_of(pod: &Pod, config: &KubernetesMetadata) -> Labels {
    let mut labels = LabelsBuilder::default();
    let Metadata { name, namespace, uid, labels: own, annotations, owner_references } = &pod.metadata;
    labels.set("__meta_kubernetes_namespace", namespace.as_str()).set("__meta_kubernetes_pod_name", name.as_str());
    labels.set("__meta_kubernetes_pod_uid", uid.as_str());
    labels.set("__meta_kubernetes_pod_node_name", pod.spec.node_name.as_str());
    let mut add = |kind: &str, values: &HashMap<String, String>, chosen: &[String]| {
        for (key, value) in values {
            let key_name = sanitized(key);
            labels.set(format!("__meta_kubernetes_pod_{kind}_{key_name}"), value.as_str());
            if chosen.iter().any(|pattern| matches(pattern, key)) {
                labels.set(key_name, value.as_str());
            }
        }
    };
    add("label", own, &config.labels);
    add("annotation", annotations, &config.annotations);
    if let Some(owner) = owner_references.iter().find(|owner| owner.controller).or(owner_references.first()) {
        let (kind, owner) = workload(owner, own);
        labels.set("__meta_kubernetes_pod_controller_kind", kind).set("__meta_kubernetes_pod_controller_name", owner);
        labels.set("workload", owner).set("workload_type", kind.to_lowercase());
    }
    labels.build()
}

/// A replica set whose name ends with the template's hash is a deployment's.
fn workload<'a>(owner: &'a Owner, labels: &HashMap<String, String>) -> (&'a str, &'a str) {
    let hash = labels.get("pod-template-hash").filter(|_| owner.kind == "ReplicaSet");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    deployment.map_or((&owner.kind, &owner.name), |name| ("Deployment", name))
}

fn sanitized(key: &str) -> String {
    key.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_")
}

/// `*` stands for any run of characters, once.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        Some((begin, end)) => key.len() >= begin.len() + end.len() && key.starts_with(begin) && key.ends_with(end),
        None => pattern == key,
    }
}

fn client(config: &KubernetesMetadata) -> Result<reqwest::Client, String> {
    let mut builder = service::http::client().timeout(TIMEOUT);
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.danger_accept_invalid_certs(config.insecure_skip_verify).build().map_err(|error| error.to_string())
}

async fn ask(client: &reqwest::Client, config: &KubernetesMetadata) -> Result<PodList, String> {
    let mut request = client.get(format!("{}/pods", config.kubelet_url.trim_end_matches('/')));
    if let Some(path) = &config.token_file {
        // Read each time: the token is renewed there.
        let token = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        request = request.bearer_auth(token.trim());
    }
    let mut response = request.send().await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(format!("the list of pods is over {MAX_BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"kind": "PodList", "items": [{"metadata": {"name": "cart-5d-x", "namespace": "shop", "uid": "u1",
        "labels": {"app.kubernetes.io/name": "cart", "pod-template-hash": "5d"}, "annotations": {"team": "red", "x": "y"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-5d", "controller": true}]},
        "spec": {"nodeName": "n1"}, "status": {}}]}"#;

    fn check(place: (&str, &str, &str), expected: Option<&str>) {
        let config = KubernetesMetadata {
            labels: vec!["app.kubernetes.io/*".to_owned()],
            annotations: vec!["team".to_owned()],
            ..KubernetesMetadata::default()
        };
        let pods = Pods::default();
        pods.take(serde_json::from_str(LIST).expect("a list"), &config);
        // Gone, and remembered.
        pods.take(PodList { items: Vec::new() }, &config);
        let (namespace, pod, uid) = place;
        let found = pods.labels(&Place { namespace, pod, uid, container: "c" });
        let shown = found.map(|labels| {
            let kept = labels.iter().filter(|label| !label.name.starts_with("__"));
            Labels::from_pairs(kept.map(|label| (label.name.clone(), label.value.clone()))).to_string()
        });
        assert_eq!(shown.as_deref(), expected, "{place:?}");
    }

    #[test]
    fn pods_are_known_by_name_and_uid() {
        let labels = r#"{app_kubernetes_io_name="cart", team="red", workload="cart", workload_type="deployment"}"#;
        check(("shop", "cart-5d-x", "u1"), Some(labels));
        check(("shop", "cart-5d-x", ""), Some(labels));
        check(("shop", "cart-5d-x", "another"), None);
        check(("other", "cart-5d-x", "u1"), None);
    }
}
