//! The API server: where it is, who we are to it, and reading lists and watches of one kind of objects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde::Deserialize;
use service::client::{HttpClient, chain};
use service::config::{BasicAuth, KubernetesRole, KubernetesSd};
use service::http_config::{Authorization, HttpConfig};

use super::super::MAX_ANSWER_BYTES;
use super::objects::{Event, Failure, List, Object};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Node,
    Namespace,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
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
pub enum Change {
    Set(Object),
    Removed(Object),
    /// Nothing but how far it has come.
    Bookmark(String),
}

impl Api {
    pub fn open(config: &KubernetesSd, base: &Path) -> Result<Api, String> {
        if !config.api_server.is_empty() {
            let server = config.api_server.trim_end_matches('/').to_owned();
            return Ok(Api { server, client: HttpClient::new(config.http(base)?), own_namespace: None });
        }
        match &config.kubeconfig_file {
            Some(path) => of_kubeconfig(&base.join(path)),
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

    /// All objects of a resource, page by page, and the version that a watch goes on from.
    pub async fn list(&self, resource: &Resource, mut each: impl FnMut(Object)) -> Result<String, ApiError> {
        let mut next = String::new();
        loop {
            let query = format!("limit={PAGE}&continue={}", escape(&next));
            let page = tokio::time::timeout(LIST_TIMEOUT, self.page(&self.url(resource, &query))).await;
            let page = page.map_err(|_| failed(format!("no list within {LIST_TIMEOUT:?}")))??;
            page.items.into_iter().for_each(&mut each);
            next = page.metadata.r#continue;
            if next.is_empty() {
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn page(&self, url: &str) -> Result<List, ApiError> {
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
    /// The next change; `None` where the server has ended the watch.
    pub async fn next(&mut self) -> Result<Option<Change>, ApiError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.read) {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return change(&line).map(Some);
            }
            if self.read.len() > MAX_LINE_BYTES {
                return Err(failed(format!("a change is over {MAX_LINE_BYTES} bytes")));
            }
            match self.response.chunk().await.map_err(|error| failed(chain(&error)))? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// A line of a watch.
pub fn change(line: &[u8]) -> Result<Change, ApiError> {
    let event: Event = serde_json::from_slice(line).map_err(failed)?;
    let object = || serde_json::from_str::<Object>(event.object.get()).map_err(failed);
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" => Ok(Change::Set(object()?)),
        "DELETED" => Ok(Change::Removed(object()?)),
        "BOOKMARK" => Ok(Change::Bookmark(object()?.metadata.resource_version)),
        _ => {
            let failure: Failure = serde_json::from_str(event.object.get()).map_err(failed)?;
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
    let server = format!("https://{}", super::super::join_host_port(&host, &port));
    Ok(Api { server, client: HttpClient::new(config), own_namespace })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct KubeConfig {
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: String,
    client_key: Option<PathBuf>,
    client_key_data: String,
    username: String,
    password: String,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// The current context of a kubeconfig. Plugins that fetch credentials are not run.
fn of_kubeconfig(path: &Path) -> Result<Api, String> {
    let said = |reason: String| format!("{}: {reason}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    let file: KubeConfig = serde_saphyr::from_str(&text).map_err(|error| said(error.to_string()))?;
    let missing = |what: &str| said(format!("no {what} of the current context {:?}", file.current_context));
    let context = file.contexts.into_iter().find(|one| one.name == file.current_context);
    let context = context.ok_or_else(|| missing("context"))?.context;
    let cluster = file.clusters.into_iter().find(|one| one.name == context.cluster);
    let cluster = cluster.ok_or_else(|| missing("cluster"))?.cluster;
    let user = file.users.into_iter().find(|one| one.name == context.user);
    let user = user.map(|one| one.user).unwrap_or_default();
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(said("users with exec or auth-provider are not supported".to_owned()));
    }
    let decoded = |data: &str| {
        let bytes = STANDARD.decode(data.trim()).map_err(|error| said(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| said(error.to_string()))
    };
    let mut config = HttpConfig::default();
    config.tls_config.ca = decoded(&cluster.certificate_authority_data)?;
    config.tls_config.ca_file = cluster.certificate_authority;
    config.tls_config.insecure_skip_verify = cluster.insecure_skip_tls_verify;
    config.tls_config.server_name = cluster.tls_server_name;
    config.tls_config.cert = decoded(&user.client_certificate_data)?;
    config.tls_config.cert_file = user.client_certificate;
    config.tls_config.key = decoded(&user.client_key_data)?;
    config.tls_config.key_file = user.client_key;
    if !user.token.is_empty() || user.token_file.is_some() {
        config.authorization = Some(Authorization::bearer(user.token, user.token_file));
    } else if !user.username.is_empty() {
        config.basic_auth =
            Some(BasicAuth { username: user.username, password: user.password, ..BasicAuth::default() });
    }
    let config = config.check(path.parent().unwrap_or(Path::new(""))).map_err(said)?;
    let server = cluster.server.trim_end_matches('/').to_owned();
    Ok(Api { server, client: HttpClient::new(config), own_namespace: context.namespace })
}
