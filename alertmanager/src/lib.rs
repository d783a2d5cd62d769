//! The alert router: who hears of an alert, when, and how often.
//!
//! Alertmanager's configuration, API and semantics. What differs is where its memory lives: alerts, silences and the
//! log of notifications are events on the bus topic `alerts`, and everything here is a view of them.
//!
//! # The promise
//! A 2xx for an alert, a silence or an acknowledgement means its event is durable on the bus. What is about to be told is
//! durable before the first attempt, that it was taken after it. So `kill -9` loses nothing accepted, repeats at most the
//! notifications that were under way, under the same `Idempotency-Key`, and a resolved message comes for whatever may
//! have been told. A snapshot file carries the state and the next offset in one atomic write; a restart goes on there.
//!
//! # The parts
//! `config` → a tree of routes and receivers; `state` applies events, `snapshot` and `history` keep them; `dispatch`
//! groups alerts and keeps the timers; `members` and `peer` share groups among the routers of one topic; `inhibit`, `silence`, `time_interval` and `dedup` decide; `flush` puts them
//! together; `notify` delivers; `api` is Alertmanager's v2 and what we have beyond it.
//! All but `service`, `flush`, `notify` and `api` are synchronous and take the time as an argument.

mod api;
mod config;
mod dedup;
mod dispatch;
mod environment;
mod flush;
mod history;
mod index;
mod inhibit;
mod journal;
mod matchers;
mod members;
mod notify;
mod peer;
mod position;
mod posted;
mod route;
mod service;
mod silence;
mod snapshot;
mod state;
mod time_interval;
pub mod tool;

pub use config::{Config, ConfigError};
pub use matchers::MatcherMode;
pub use route::{Route, RouteOptions};
pub use service::{Alertmanager, AlertmanagerError, Options};
pub use silence::SilenceLimits;
