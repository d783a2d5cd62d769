//! The real binary, from outside.

mod agent_logs;
mod alert_kill;
mod alert_receiver;
mod alert_scenarios;
mod alert_stage;
mod alerting;
mod bad_input;
mod dashboards;
mod deploy;
mod differential;
mod expressions;
mod first_start;
mod grafana;
mod harness;
mod intake;
mod kafka;
mod logql;
mod loki_api;
mod lose_nothing;
mod otlp;
mod page;
mod push;
mod reload;
mod remote_write;
mod smtp;
