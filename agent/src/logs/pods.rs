//! What is known of this node's pods beside their files' names: labels, annotations, owners.
//!
//! # Contracts
//! - The API server's pods of the node are watched; or the kubelet's `/pods` is asked every [`INTERVAL`], and soon after a file
//!   of an unknown pod was found. Nobody waits for it: lines are named by their file's path at once, and have more labels
//!   from when more is known.
//! - A pod that is gone is kept in mind for [`KEPT`], since its last lines come after it; at most [`MAX_PODS`] are.
//! - Who does not answer changes nothing of what is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Labels, LabelsBuilder};
use parking_lot::Mutex;
use service::config::KubernetesMetadata;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::enrich::Place;
use crate::kubernetes::objects::{List, Meta, Object, Owner, key};
use crate::kubernetes::{self, Change, Enough, Listener, Resource, Told};

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
    /// By `namespace/name`.
    known: Mutex<HashMap<String, Known>>,
    /// Somebody asked for a pod that is not known.
    wanted: Notify,
    /// Told when something new is known.
    listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

struct Known {
    uid: String,
    labels: Labels,
    /// Since when it is not there any more.
    gone: Option<Instant>,
}

impl Pods {
    /// What is known of the pod that a file belongs to.
    pub fn labels(&self, place: &Place<'_>) -> Option<Labels> {
        let known = self.0.known.lock();
        let found = known.get(&key(place.namespace, place.pod));
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

    /// Keeps up to date until `stop`.
    pub async fn run(self, config: KubernetesMetadata, node: String, stop: CancellationToken) {
        match &config.api {
            Some(api) if config.kubelet_url.is_empty() => {
                let watching = async {
                    let api = kubernetes::lines::open(api).await;
                    let mut watcher = Watcher { pods: &self, config: &config, listed: HashSet::new() };
                    kubernetes::follow(&api, &Resource::pods_of(&node), None, &mut watcher).await;
                };
                stop.run_until_cancelled(watching).await;
            }
            _ => self.ask_kubelet(&config, stop).await,
        }
    }

    async fn ask_kubelet(&self, config: &KubernetesMetadata, stop: CancellationToken) {
        let client = match client(config) {
            Ok(client) => client,
            Err(error) => return tracing::error!(error, "the kubelet is not asked about pods"),
        };
        let interval = config.interval.map_or(INTERVAL, |interval| interval.as_std()).max(MIN_INTERVAL);
        let mut has_warned = false;
        loop {
            match ask(&client, config).await {
                Ok(list) => {
                    has_warned = false;
                    let there = list.items.iter().map(Object::key).collect();
                    self.set(list.items, config);
                    self.keep(&there);
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

    /// These pods are there.
    fn set(&self, pods: Vec<Object>, config: &KubernetesMetadata) {
        let mut known = self.0.known.lock();
        let mut is_new = false;
        for pod in pods {
            let (key, labels) = (pod.key(), labels_of(&pod, config));
            is_new |= known.get(&key).is_none_or(|before| before.labels != labels);
            known.insert(key, Known { uid: pod.metadata.uid, labels, gone: None });
        }
        drop(known);
        if is_new {
            self.0.listeners.lock().iter().for_each(|listener| listener());
        }
    }

    /// All pods but these are gone.
    fn keep(&self, there: &HashSet<String>) {
        let mut known = self.0.known.lock();
        for (_, pod) in known.iter_mut().filter(|(key, _)| !there.contains(*key)) {
            pod.gone.get_or_insert_with(Instant::now);
        }
        forget(&mut known);
    }

    /// This pod is gone; another of its name may be there already.
    fn remove(&self, pod: &Object) {
        let mut known = self.0.known.lock();
        if let Some(known) = known.get_mut(&pod.key()).filter(|known| known.uid == pod.metadata.uid) {
            known.gone.get_or_insert_with(Instant::now);
        }
        forget(&mut known);
    }
}

/// Forgets who has been gone for long enough, or all who are gone where there are too many.
fn forget(known: &mut HashMap<String, Known>) {
    known.retain(|_, pod| pod.gone.is_none_or(|gone| gone.elapsed() < KEPT));
    if known.len() > MAX_PODS {
        known.retain(|_, pod| pod.gone.is_none());
    }
}

/// Hears of this node's pods from the API server.
struct Watcher<'a> {
    pods: &'a Pods,
    config: &'a KubernetesMetadata,
    listed: HashSet<String>,
}

impl Listener<Object> for Watcher<'_> {
    async fn told(&mut self, told: Told<Object>) -> Result<(), Enough> {
        match told {
            Told::Page(page) => {
                if page.is_first {
                    self.listed.clear();
                }
                self.listed.extend(page.objects.iter().map(Object::key));
                self.pods.set(page.objects, self.config);
                if page.is_last {
                    self.pods.keep(&std::mem::take(&mut self.listed));
                }
            }
            Told::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Set(pod) => self.pods.set(vec![pod], self.config),
                        Change::Removed(pod) => self.pods.remove(&pod),
                        Change::Bookmark(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(error, "the API server does not tell about pods; asking again");
    }
}

const CONFIG_HASH: &str = "__meta_kubernetes_pod_annotation_kubernetes_io_config_hash";

/// Labels as Prometheus' discovery names them, and those that were chosen under their own names.
pub fn labels_of(pod: &Object, config: &KubernetesMetadata) -> Labels {
    let mut labels = LabelsBuilder::default();
    let Meta { name, namespace, uid, labels: own, annotations, owner_references, .. } = &pod.metadata;
    labels.set("__meta_kubernetes_namespace", namespace.as_str()).set("__meta_kubernetes_pod_name", name.as_str());
    labels.set("__meta_kubernetes_pod_uid", uid.as_str());
    labels.set("__meta_kubernetes_pod_node_name", pod.spec.node_name.as_str());
    let mut add = |kind: &str, values: &BTreeMap<String, String>, chosen: &[String]| {
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
fn workload<'a>(owner: &'a Owner, labels: &BTreeMap<String, String>) -> (&'a str, &'a str) {
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

async fn ask(client: &reqwest::Client, config: &KubernetesMetadata) -> Result<List<Object>, String> {
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
        let list: List<Object> = serde_json::from_str(LIST).expect("a list");
        pods.set(list.items, &config);
        // Gone, and remembered.
        pods.keep(&HashSet::new());
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
