//! What every service shares at its edges: configuration files, the HTTP plumbing, self-metrics, logging.
//!
//! No storage and no query knowledge lives here. axum appears only here and in the `api` modules.

pub mod body;
pub mod client;
pub mod config;
pub mod grpc;
pub mod http;
pub mod http_config;
mod jwt;
pub mod logging;
pub mod metrics;
mod named_server;
mod target;
pub mod work;
