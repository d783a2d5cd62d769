//! Where targets come from: Prometheus' `*_sd_configs`.

use std::path::Path;

use model::DurationMs;
use serde::Deserialize;

use super::http_fields::with_http;

/// `file_sd_configs`: groups of targets in files that others write.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSd {
    /// Paths; the last part may hold one `*`.
    pub files: Vec<String>,
    pub refresh_interval: DurationMs,
}

impl Default for FileSd {
    fn default() -> Self {
        FileSd { files: Vec::new(), refresh_interval: DurationMs(300_000) }
    }
}

with_http!(
    /// `http_sd_configs`: groups of targets that a server answers with.
    HttpSd {
        url: String = String::new(),
        refresh_interval: DurationMs = DurationMs(60_000),
    }
);

/// `dns_sd_configs`: targets are what names resolve to.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSd {
    pub names: Vec<String>,
    #[serde(rename = "type")]
    pub record: RecordType,
    /// For records without a port.
    pub port: u16,
    pub refresh_interval: DurationMs,
}

impl Default for DnsSd {
    fn default() -> Self {
        DnsSd { names: Vec::new(), record: RecordType::Srv, port: 0, refresh_interval: DurationMs(30_000) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesRole {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

with_http!(
    /// `kubernetes_sd_configs`: objects of a cluster as targets.
    KubernetesSd {
        /// Empty: that of the pod we run in.
        api_server: String = String::new(),
        role: Option<KubernetesRole> = None,
        kubeconfig_file: Option<std::path::PathBuf> = None,
        namespaces: KubernetesNamespaces = KubernetesNamespaces::default(),
        selectors: Vec<KubernetesSelector> = Vec::new(),
        attach_metadata: AttachMetadata = AttachMetadata::default(),
    }
);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesNamespaces {
    pub own_namespace: bool,
    pub names: Vec<String>,
}

/// Asks the API server for some objects of a role only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSelector {
    pub role: Option<KubernetesRole>,
    pub label: String,
    pub field: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachMetadata {
    pub node: bool,
    pub namespace: bool,
}

/// All ways of discovery that a job asks for, beside `static_configs`.
#[derive(Debug, Clone, Default)]
pub struct SdConfigs {
    pub file: Vec<FileSd>,
    pub http: Vec<HttpSd>,
    pub dns: Vec<DnsSd>,
    pub kubernetes: Vec<KubernetesSd>,
}

impl SdConfigs {
    pub fn validate(&self, base: &Path) -> Result<(), String> {
        for file in &self.file {
            if file.files.is_empty() {
                return Err("file service discovery config must contain at least one path name".to_owned());
            }
            if let Some(path) = file.files.iter().find(|path| !is_file_pattern(path)) {
                return Err(format!("path name {path:?} is not valid for file discovery"));
            }
        }
        for http in &self.http {
            if http.url.is_empty() {
                return Err("URL is missing".to_owned());
            }
            check_url(&http.url)?;
            http.http(base)?;
        }
        for dns in &self.dns {
            if dns.names.is_empty() {
                return Err("DNS-SD config must contain at least one SRV record name".to_owned());
            }
            if dns.port == 0 && matches!(dns.record, RecordType::A | RecordType::Aaaa | RecordType::Mx | RecordType::Ns)
            {
                return Err("a port is required in DNS-SD configs for all record types except SRV".to_owned());
            }
        }
        self.kubernetes.iter().try_for_each(|kubernetes| kubernetes.validate(base))
    }
}

impl KubernetesSd {
    fn validate(&self, base: &Path) -> Result<(), String> {
        let Some(role) = self.role else {
            return Err("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)".to_owned());
        };
        self.http(base)?;
        if !self.api_server.is_empty() {
            check_url(&self.api_server)?;
            if self.kubeconfig_file.is_some() {
                return Err("cannot use 'kubeconfig_file' and 'api_server' simultaneously".to_owned());
            }
            if self.namespaces.own_namespace {
                return Err("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously".to_owned());
            }
        }
        for selector in &self.selectors {
            let allowed: &[KubernetesRole] = match role {
                KubernetesRole::Endpoints => {
                    &[KubernetesRole::Endpoints, KubernetesRole::Pod, KubernetesRole::Service, KubernetesRole::Node]
                }
                KubernetesRole::EndpointSlice => {
                    &[KubernetesRole::EndpointSlice, KubernetesRole::Pod, KubernetesRole::Service, KubernetesRole::Node]
                }
                KubernetesRole::Pod => &[KubernetesRole::Pod, KubernetesRole::Node],
                _ => std::slice::from_ref(&role),
            };
            if !selector.role.is_some_and(|role| allowed.contains(&role)) {
                return Err("a selector's role does not go with the role of the discovery".to_owned());
            }
        }
        Ok(())
    }
}

/// `.json`, `.yml` or `.yaml`; one `*` at most, in the last part.
fn is_file_pattern(path: &str) -> bool {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let has_kind = [".json", ".yml", ".yaml"].iter().any(|end| name.ends_with(end) && name.len() > end.len());
    has_kind && !dir.contains('*') && name.matches('*').count() <= 1
}

pub(super) fn check_url(url: &str) -> Result<(), String> {
    match url.split_once("://") {
        Some(("http" | "https", rest)) if !rest.starts_with('/') && !rest.is_empty() => Ok(()),
        Some(("http" | "https", _)) => Err(format!("host is missing in URL {url:?}")),
        _ => Err(format!("URL scheme must be 'http' or 'https' in {url:?}")),
    }
}
