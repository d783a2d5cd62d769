//! Settings that have those of [`HttpConfig`](crate::http_config::HttpConfig) among their own.

/// A struct of settings with those of `HttpConfig` beside its own. They are fields like the others, so that a mistake in
/// them is refused with its line (what serde flattens loses its place).
macro_rules! with_http {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            pub basic_auth: Option<$crate::config::BasicAuth>,
            pub authorization: Option<$crate::http_config::Authorization>,
            pub oauth2: Option<$crate::http_config::OAuth2>,
            pub bearer_token: String,
            pub bearer_token_file: Option<std::path::PathBuf>,
            pub tls_config: $crate::http_config::TlsConfig,
            pub follow_redirects: bool,
            pub enable_http2: bool,
            pub proxy_url: Option<String>,
            pub no_proxy: String,
            pub proxy_from_environment: bool,
            pub proxy_connect_header: std::collections::BTreeMap<String, Vec<String>>,
            pub http_headers: std::collections::BTreeMap<String, $crate::http_config::Header>,
        }

        impl Default for $name {
            fn default() -> Self {
                let http = $crate::http_config::HttpConfig::default();
                $name {
                    $($field: $default,)*
                    basic_auth: http.basic_auth,
                    authorization: http.authorization,
                    oauth2: http.oauth2,
                    bearer_token: http.bearer_token,
                    bearer_token_file: http.bearer_token_file,
                    tls_config: http.tls_config,
                    follow_redirects: http.follow_redirects,
                    enable_http2: http.enable_http2,
                    proxy_url: http.proxy_url,
                    no_proxy: http.no_proxy,
                    proxy_from_environment: http.proxy_from_environment,
                    proxy_connect_header: http.proxy_connect_header,
                    http_headers: http.http_headers,
                }
            }
        }

        impl $name {
            /// How to connect, checked; files are relative to `base`.
            pub fn http(&self, base: &std::path::Path) -> Result<$crate::http_config::HttpConfig, String> {
                let http = $crate::http_config::HttpConfig {
                    basic_auth: self.basic_auth.clone(),
                    authorization: self.authorization.clone(),
                    oauth2: self.oauth2.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    proxy_url: self.proxy_url.clone(),
                    no_proxy: self.no_proxy.clone(),
                    proxy_from_environment: self.proxy_from_environment,
                    proxy_connect_header: self.proxy_connect_header.clone(),
                    http_headers: self.http_headers.clone(),
                };
                http.check(base)
            }
        }
    };
}

pub(crate) use with_http;
