//! The web UI, embedded in the binary: `ui/` is its source, `grafana/` holds dashboards for Grafana.

pub mod api;
