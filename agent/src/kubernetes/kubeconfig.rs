//! kubectl's file of clusters and who we are to them.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use service::config::BasicAuth;
use service::http_config::{Authorization, HttpConfig};

use super::api::Api;

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

/// The server of the current context. Plugins that fetch credentials are not run.
pub fn open(path: &Path) -> Result<Api, String> {
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
    Ok(Api::new(&cluster.server, config, context.namespace))
}
