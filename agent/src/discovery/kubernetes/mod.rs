//! `kubernetes_sd_configs`: objects of a cluster as targets, kept up to date by lists and watches.
//!
//! Each kind of object that a role needs is listed and watched ([`crate::kubernetes`]); what is known stays where that fails.
//! One source of targets is one object of the role; it is made anew when that object changes, or one that it tells
//! of (its service, its pods, its node, its namespace).

mod labels;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::Labels;
use service::config::{KubernetesRole, KubernetesSd};
use tokio::sync::mpsc;

use super::{Found, Provider};
use crate::kubernetes::objects::{Object, key};
use crate::kubernetes::{self, Api, Change, Enough, Kind, Listener, Resource};

/// Changes that may wait to be taken in: a watch is not read further until they are.
const MAX_PENDING: usize = 1000;

pub struct Cluster {
    config: KubernetesSd,
    base: PathBuf,
}

impl Cluster {
    pub fn new(config: KubernetesSd, base: &Path) -> Cluster {
        Cluster { config, base: base.to_owned() }
    }

    /// What has to be read for the role.
    fn resources(&self, role: KubernetesRole, own_namespace: Option<&str>) -> Vec<Resource> {
        let attach = self.config.attach_metadata;
        let kinds: &[Kind] = match role {
            KubernetesRole::Node => &[Kind::Node],
            KubernetesRole::Pod => &[Kind::Pod],
            KubernetesRole::Service => &[Kind::Service],
            KubernetesRole::Ingress => &[Kind::Ingress],
            KubernetesRole::Endpoints => &[Kind::Endpoints, Kind::Service, Kind::Pod],
            KubernetesRole::EndpointSlice => &[Kind::EndpointSlice, Kind::Service, Kind::Pod],
        };
        let mut namespaces: Vec<Option<String>> = self.config.namespaces.names.iter().cloned().map(Some).collect();
        if self.config.namespaces.own_namespace {
            namespaces.extend(own_namespace.map(|name| Some(name.to_owned())));
        }
        if namespaces.is_empty() {
            namespaces.push(None);
        }
        let resource = |kind: Kind, namespace: Option<String>| {
            let of_kind = |role: Option<KubernetesRole>| role.is_some_and(|role| Kind::of_role(role) == kind);
            let selector = self.config.selectors.iter().find(|selector| of_kind(selector.role));
            let (label, field) =
                selector.map_or(Default::default(), |selector| (selector.label.clone(), selector.field.clone()));
            Resource { kind, namespace, label_selector: label, field_selector: field }
        };
        let mut resources = Vec::new();
        for kind in kinds {
            let everywhere = [None];
            let places = if *kind == Kind::Node { &everywhere[..] } else { &namespaces[..] };
            resources.extend(places.iter().map(|namespace| resource(*kind, namespace.clone())));
        }
        let has_pods = kinds.contains(&Kind::Pod);
        if attach.node && has_pods {
            resources.push(resource(Kind::Node, None));
        }
        if attach.namespace && role != KubernetesRole::Node {
            resources.push(resource(Kind::Namespace, None));
        }
        resources
    }

    async fn open(&self, found: &Found) -> Api {
        let KubernetesSd { api_server, kubeconfig_file, .. } = &self.config;
        let kubeconfig = kubeconfig_file.as_ref().map(|path| self.base.join(path));
        let open = || Api::open(api_server, kubeconfig.as_deref(), self.config.http(&self.base)?);
        let failed = |error: &str| {
            found.counters.kubernetes_failures.inc();
            tracing::error!(error, "kubernetes_sd_configs");
        };
        kubernetes::open(open, failed).await
    }
}

impl Provider for Cluster {
    fn run(self: Box<Self>, found: Arc<Found>) -> BoxFuture<'static, ()> {
        async move {
            let Some(role) = self.config.role else { return };
            let api = self.open(&found).await;
            let resources = self.resources(role, api.own_namespace.as_deref());
            let (sender, changes) = mpsc::channel(MAX_PENDING);
            let readers = resources.iter().enumerate().map(|(at, resource)| {
                let mut reader = Reader { at, resource, sender: sender.clone(), found: &found, listed: Vec::new() };
                let api = &api;
                async move { kubernetes::follow(api, resource, None, &mut reader).await }
            });
            let state = State { role, store: Store::default(), unlisted: (0..resources.len()).collect() };
            tokio::join!(futures::future::join_all(readers), state.run(changes, &resources, &found));
        }
        .boxed()
    }
}

/// What a reader tells.
enum Told {
    /// All objects of a resource there are, at once.
    Listed(Vec<Object>),
    Set(Object),
    Removed(Object),
}

/// Hands on what is read of one resource.
struct Reader<'a> {
    at: usize,
    resource: &'a Resource,
    sender: mpsc::Sender<(usize, Told)>,
    found: &'a Found,
    /// Of a list that is not read to its end.
    listed: Vec<Object>,
}

impl Listener<Object> for Reader<'_> {
    async fn told(&mut self, told: kubernetes::Told<Object>) -> Result<(), Enough> {
        match told {
            kubernetes::Told::Page(page) => {
                if page.is_first {
                    self.listed.clear();
                }
                self.listed.extend(page.objects);
                if page.is_last {
                    let listed = std::mem::take(&mut self.listed);
                    self.tell(Told::Listed(listed)).await?;
                }
            }
            kubernetes::Told::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Set(object) => self.tell(Told::Set(object)).await?,
                        Change::Removed(object) => self.tell(Told::Removed(object)).await?,
                        Change::Bookmark(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &str) {
        self.found.counters.kubernetes_failures.inc();
        tracing::warn!(error, kind = self.resource.kind.name(), "kubernetes_sd_configs: what was found stays");
    }
}

impl Reader<'_> {
    async fn tell(&self, told: Told) -> Result<(), Enough> {
        let event = match &told {
            Told::Listed(_) => "list",
            Told::Set(_) => "update",
            Told::Removed(_) => "delete",
        };
        let labels = vec![("role", self.resource.kind.name().to_owned()), ("event", event.to_owned())];
        self.found.counters.kubernetes_events.get_or_create(&labels).inc();
        self.sender.send((self.at, told)).await.map_err(|_| Enough)
    }
}

/// All objects that are known.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<(Kind, String), Object>,
}

impl Store {
    fn get(&self, kind: Kind, key: String) -> Option<&Object> {
        self.objects.get(&(kind, key))
    }

    pub fn node(&self, name: &str) -> Option<&Object> {
        self.get(Kind::Node, name.to_owned())
    }

    pub fn namespace(&self, name: &str) -> Option<&Object> {
        self.get(Kind::Namespace, name.to_owned())
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.get(Kind::Pod, key(namespace, name))
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.get(Kind::Service, key(namespace, name))
    }

    /// Keys of a kind that begin so.
    fn keys(&self, kind: Kind, prefix: &str) -> impl Iterator<Item = &str> {
        let range = self.objects.range((kind, prefix.to_owned())..);
        range
            .map(|((of, key), _)| (*of, key.as_str()))
            .take_while(move |(of, key)| *of == kind && key.starts_with(prefix))
            .map(|(_, key)| key)
    }
}

struct State {
    role: KubernetesRole,
    store: Store,
    /// Resources that have not been listed yet: until then targets would lack what they tell.
    unlisted: BTreeSet<usize>,
}

impl State {
    async fn run(mut self, mut changes: mpsc::Receiver<(usize, Told)>, resources: &[Resource], found: &Found) {
        while let Some((at, told)) = changes.recv().await {
            let was_listed = self.unlisted.is_empty();
            let mut dirty = self.take(&resources[at], told);
            self.unlisted.remove(&at);
            // What waits already is taken in at once.
            while let Ok((at, told)) = changes.try_recv() {
                dirty.extend(self.take(&resources[at], told));
                self.unlisted.remove(&at);
            }
            if !self.unlisted.is_empty() {
                continue;
            }
            if !was_listed {
                dirty = self.store.keys(Kind::of_role(self.role), "").map(str::to_owned).collect();
            }
            for key in &dirty {
                found.set(&format!("{}/{key}", Kind::of_role(self.role).name()), self.targets(key));
            }
        }
    }

    /// Takes a change in; answers which objects of the role it touches.
    fn take(&mut self, resource: &Resource, told: Told) -> HashSet<String> {
        let kind = resource.kind;
        let mut touched = HashSet::new();
        match told {
            Told::Listed(objects) => {
                let prefix = resource.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
                let mut gone: HashSet<String> = self.store.keys(kind, &prefix).map(str::to_owned).collect();
                for object in objects {
                    let key = object.key();
                    gone.remove(&key);
                    self.set(kind, key, object, &mut touched);
                }
                gone.into_iter().for_each(|key| self.remove(kind, key, &mut touched));
            }
            Told::Set(object) => self.set(kind, object.key(), object, &mut touched),
            Told::Removed(object) => self.remove(kind, object.key(), &mut touched),
        }
        touched
    }

    fn set(&mut self, kind: Kind, key: String, object: Object, touched: &mut HashSet<String>) {
        self.touch(kind, &key, touched);
        self.store.objects.insert((kind, key), object);
    }

    fn remove(&mut self, kind: Kind, key: String, touched: &mut HashSet<String>) {
        self.touch(kind, &key, touched);
        self.store.objects.remove(&(kind, key));
    }

    /// Which objects of the role tell of this one.
    fn touch(&self, kind: Kind, key: &str, touched: &mut HashSet<String>) {
        let own = Kind::of_role(self.role);
        if kind == own {
            touched.insert(key.to_owned());
            return;
        }
        let namespace = match kind {
            Kind::Node => "",
            Kind::Namespace => key,
            _ => key.split_once('/').map_or("", |(namespace, _)| namespace),
        };
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        let tells = |candidate: &&str| {
            let object = self.store.objects.get(&(own, (*candidate).to_owned()));
            object.is_some_and(|object| kind == Kind::Namespace || tells_of(object, own, kind, name, &self.store))
        };
        touched.extend(self.store.keys(own, &prefix).filter(tells).map(str::to_owned));
    }

    fn targets(&self, key: &str) -> Vec<Labels> {
        let Some(object) = self.store.get(Kind::of_role(self.role), key.to_owned()) else { return Vec::new() };
        match self.role {
            KubernetesRole::Node => labels::node(object),
            KubernetesRole::Pod => labels::pod(object, &self.store),
            KubernetesRole::Service => labels::service(object, &self.store),
            KubernetesRole::Endpoints => labels::endpoints(object, &self.store),
            KubernetesRole::EndpointSlice => labels::endpoint_slice(object, &self.store),
            KubernetesRole::Ingress => labels::ingress(object, &self.store),
        }
    }
}

/// Whether an object's targets carry what another's, of its namespace, says.
fn tells_of(object: &Object, own: Kind, kind: Kind, name: &str, store: &Store) -> bool {
    let addresses = || object.subsets.iter().flat_map(|s| s.addresses.iter().chain(&s.not_ready_addresses));
    let references = || addresses().map(|a| &a.target_ref).chain(object.endpoints.iter().map(|e| &e.target_ref));
    let nodes = || addresses().map(|a| &a.node_name).chain(object.endpoints.iter().map(|e| &e.node_name));
    match kind {
        Kind::Service if own == Kind::Endpoints => object.metadata.name == name,
        Kind::Service => object.metadata.labels.values().any(|value| value == name),
        Kind::Pod => references().any(|reference| reference.kind == "Pod" && reference.name == name),
        Kind::Node if own == Kind::Pod => object.spec.node_name == name,
        Kind::Node => {
            let namespace = object.metadata.namespace.as_str();
            let of_pod = |pod: &str| store.pod(namespace, pod).is_some_and(|pod| pod.spec.node_name == name);
            nodes().any(|node| node == name) || references().any(|reference| of_pod(&reference.name))
        }
        _ => false,
    }
}
