//! The agent: what runs on every node. It tails logs, collects host and container metrics, scrapes targets, and ships all
//! of it over a [`bus::Producer`].
pub mod logs;
