//! The API server: where it is, who we are to it, and reading lists and watches of one kind of objects.

use std::path::Path;
use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;
use service::client::{HttpClient, chain};
use service::config::KubernetesRole;
use service::http_config::{Authorization, HttpConfig};

use super::kubeconfig;
use super::objects::{Failure, List, Object, Told, Versioned};
use crate::discovery::{MAX_ANSWER_BYTES, join_host_port};
use crate::scrape::escape;

const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Objects of one page.
const PAGE: usize = 500;
/// A watch ends by itself after this, and goes on where it was.
const WATCH_SECONDS: u64 = 300;
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// What is silent for so long is not there any more: a watch ends by itself before.
const READ_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// Longer lines of a watch end it.
const MAX_LINE_BYTES: usize = 16 << 20;
const GONE: u16 = 410;

pub struct Api {
    server: String,
    client: HttpClient,
    /// The namespace we are in, where we are in one.
    pub own_namespace: Option<String>,
}

/// A kind of objects, in one namespace or everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub label_selector: String,
    pub field_selector: String,
}

impl Resource {
    pub fn everywhere(kind: Kind) -> Resource {
        Resource { kind, namespace: None, label_selector: String::new(), field_selector: String::new() }
    }

    pub fn pods_of(node: &str) -> Resource {
        Resource { field_selector: format!("spec.nodeName={node}"), ..Resource::everywhere(Kind::Pod) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Node,
    Namespace,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Event,
}

impl Kind {
    pub fn of_role(role: KubernetesRole) -> Kind {
        match role {
            KubernetesRole::Node => Kind::Node,
            KubernetesRole::Pod => Kind::Pod,
            KubernetesRole::Service => Kind::Service,
            KubernetesRole::Endpoints => Kind::Endpoints,
            KubernetesRole::EndpointSlice => Kind::EndpointSlice,
            KubernetesRole::Ingress => Kind::Ingress,
        }
    }

    fn path(self) -> (&'static str, &'static str) {
        match self {
            Kind::Node => ("api/v1", "nodes"),
            Kind::Namespace => ("api/v1", "namespaces"),
            Kind::Pod => ("api/v1", "pods"),
            Kind::Service => ("api/v1", "services"),
            Kind::Endpoints => ("api/v1", "endpoints"),
            Kind::EndpointSlice => ("apis/discovery.k8s.io/v1", "endpointslices"),
            Kind::Ingress => ("apis/networking.k8s.io/v1", "ingresses"),
            Kind::Event => ("api/v1", "events"),
        }
    }

    /// As Prometheus' counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Namespace => "namespace",
            Kind::Pod => "pod",
            Kind::Service => "service",
            Kind::Endpoints => "endpoints",
            Kind::EndpointSlice => "endpointslice",
            Kind::Ingress => "ingress",
            Kind::Event => "event",
        }
    }
}

/// Why reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// What was known is too old: list again.
    Gone,
    Failed(String),
}

fn failed(error: impl ToString) -> ApiError {
    ApiError::Failed(error.to_string())
}

/// One change that a watch tells.
#[derive(Debug)]
pub enum Change<T> {
    Set(T),
    Removed(T),
    /// Nothing but how far it has come.
    Bookmark(String),
}

impl<T: Versioned> Change<T> {
    /// From where a watch goes on after this.
    pub fn version(&self) -> &str {
        match self {
            Change::Set(object) | Change::Removed(object) => &object.meta().resource_version,
            Change::Bookmark(version) => version,
        }
    }
}

/// Objects of a list.
#[derive(Debug)]
pub struct Page<T> {
    pub objects: Vec<T>,
    /// Of the whole list: where a watch goes on from.
    pub version: String,
    pub is_first: bool,
    pub is_last: bool,
}

impl Api {
    pub(super) fn new(server: &str, config: HttpConfig, own_namespace: Option<String>) -> Api {
        let server = server.trim_end_matches('/').to_owned();
        Api { server, client: HttpClient::new(config), own_namespace }
    }

    /// The server named so, that of a kubeconfig, or that of the cluster we run in.
    pub fn open(server: &str, kubeconfig: Option<&Path>, http: HttpConfig) -> Result<Api, String> {
        if !server.is_empty() {
            return Ok(Api::new(server, http, None));
        }
        match kubeconfig {
            Some(path) => kubeconfig::open(path),
            None => in_cluster(Path::new(ACCOUNT_DIR)),
        }
    }

    fn url(&self, resource: &Resource, query: &str) -> String {
        let (group, plural) = resource.kind.path();
        let namespace = resource.namespace.as_ref().map(|name| format!("namespaces/{name}/")).unwrap_or_default();
        let mut url = format!("{}/{group}/{namespace}{plural}?{query}", self.server);
        for (name, selector) in
            [("labelSelector", &resource.label_selector), ("fieldSelector", &resource.field_selector)]
        {
            if !selector.is_empty() {
                url += &format!("&{name}={}", escape(selector));
            }
        }
        url
    }

    async fn get(&self, url: &str) -> Result<Response, ApiError> {
        let client = self.client.client(|builder| builder.read_timeout(READ_TIMEOUT)).map_err(failed)?;
        let request = client.get(url).header("accept", "application/json");
        let request = self.client.authorized(request).await.map_err(failed)?;
        let response = request.send().await.map_err(|error| failed(chain(&error)))?;
        match response.status().as_u16() {
            200 => Ok(response),
            GONE => Err(ApiError::Gone),
            _ => Err(ApiError::Failed(format!("{url}: {}", response.status()))),
        }
    }

    /// The page of a list that `at` tells: none is the first. Answers the next one's, empty after the last.
    pub async fn page<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        at: &str,
    ) -> Result<(Page<T>, String), ApiError> {
        let url = self.url(resource, &format!("limit={PAGE}&continue={}", escape(at)));
        let list = tokio::time::timeout(LIST_TIMEOUT, self.list(&url)).await;
        let list: List<T> = list.map_err(|_| failed(format!("no list within {LIST_TIMEOUT:?}")))??;
        let List { metadata, items } = list;
        let (is_first, is_last) = (at.is_empty(), metadata.r#continue.is_empty());
        let page = Page { objects: items, version: metadata.resource_version, is_first, is_last };
        Ok((page, metadata.r#continue))
    }

    async fn list<T: DeserializeOwned>(&self, url: &str) -> Result<List<T>, ApiError> {
        let mut response = self.get(url).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(chain(&error)))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(failed(format!("a page is over {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(failed)
    }

    /// What changes after a version.
    pub async fn watch(&self, resource: &Resource, version: &str) -> Result<Watch, ApiError> {
        let query = format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            escape(version)
        );
        Ok(Watch { response: self.get(&self.url(resource, &query)).await?, read: Vec::new() })
    }
}

pub struct Watch {
    response: Response,
    read: Vec<u8>,
}

impl Watch {
    /// What has come since, one change at least; none where the server has ended the watch.
    pub async fn next<T: Versioned>(&mut self) -> Result<Vec<Change<T>>, ApiError> {
        loop {
            if let Some(end) = memchr::memrchr(b'\n', &self.read) {
                let rest = self.read.split_off(end + 1);
                let lines = std::mem::replace(&mut self.read, rest);
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
                let changes = lines.map(change).collect::<Result<Vec<_>, ApiError>>()?;
                if !changes.is_empty() {
                    return Ok(changes);
                }
            }
            if self.read.len() > MAX_LINE_BYTES {
                return Err(failed(format!("a change is over {MAX_LINE_BYTES} bytes")));
            }
            match self.response.chunk().await.map_err(|error| failed(chain(&error)))? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(Vec::new()),
            }
        }
    }
}

/// A line of a watch.
pub fn change<T: Versioned>(line: &[u8]) -> Result<Change<T>, ApiError> {
    let told: Told = serde_json::from_slice(line).map_err(failed)?;
    let object = || serde_json::from_str::<T>(told.object.get()).map_err(failed);
    match told.kind.as_str() {
        "ADDED" | "MODIFIED" => Ok(Change::Set(object()?)),
        "DELETED" => Ok(Change::Removed(object()?)),
        "BOOKMARK" => {
            let object = serde_json::from_str::<Object>(told.object.get()).map_err(failed)?;
            Ok(Change::Bookmark(object.metadata.resource_version))
        }
        _ => {
            let failure: Failure = serde_json::from_str(told.object.get()).map_err(failed)?;
            Err(if failure.code == GONE { ApiError::Gone } else { failed(failure.message) })
        }
    }
}

/// As any pod of the cluster: by the service account that is mounted.
fn in_cluster(account: &Path) -> Result<Api, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) else {
        return Err("not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".to_owned());
    };
    let mut config = HttpConfig {
        authorization: Some(Authorization::bearer(String::new(), Some(account.join("token")))),
        ..HttpConfig::default()
    };
    config.tls_config.ca_file = Some(account.join("ca.crt"));
    let own_namespace = std::fs::read_to_string(account.join("namespace")).ok().map(|name| name.trim().to_owned());
    let server = format!("https://{}", join_host_port(&host, &port));
    Ok(Api::new(&server, config, own_namespace))
}
