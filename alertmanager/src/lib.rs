//! The alert router: who hears of an alert, when, and how often.
//!
//! Alertmanager's configuration, API and semantics. What differs is where its memory lives: alerts, silences and the
//! log of sent notifications are events on the bus topic `alerts`, and everything here is a view of them.
//!
//! # The promise
//! A 2xx for an alert or a silence means its event is durable on the bus. A notification counts as sent once its log
//! entry is durable there. So `kill -9` loses no accepted alert or silence and repeats at most the notifications that
//! were under way. A snapshot file carries the state and the next offset in one atomic write; a restart goes on there.
//!
//! # The parts
//! `config` → a [`route::Tree`] and receivers; `state` applies events; `dispatch` groups alerts and keeps the timers;
//! `mute` (inhibition, silences, time intervals) and `dedup` decide; `notify` delivers; `api` is Alertmanager's v2.
//! All but `service`, `notify` and `api` are synchronous and take the time as an argument.

mod api;
mod config;
mod dedup;
mod dispatch;
mod inhibit;
mod matchers;
mod notify;
mod route;
mod service;
mod silence;
mod state;
mod time_interval;

pub use config::{Config, ConfigError};
pub use service::{Alertmanager, AlertmanagerError, Options};
