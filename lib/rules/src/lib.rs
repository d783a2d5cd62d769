//! Rules: recording and alerting rules over any query engine, in groups that are evaluated on a schedule.
//!
//! Prometheus' rule files work unchanged; a group may say `type: logs`, then its expressions are LogQL.
//! What a rule asks, where recorded samples go and who hears of alerts are three traits that the process fills.
//!
//! # One evaluation of a group, at slot `ts`
//! Rules run in order, each seeing what the ones before recorded; those that need nothing of each other run at once. Per rule: query at `ts − query_offset` → hand alerts
//! that are due to the notifier → append samples (recorded series, `ALERTS`, `ALERTS_FOR_STATE`, stale markers of
//! series that vanished), durable when the append returns. `for` survives a restart by `ALERTS_FOR_STATE`.

mod alerting;
mod file;
mod group;
mod lines;
mod manager;
mod notify;
mod order;
mod schedule;
mod seams;
mod status;
mod unit;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Alert, Labels, SeriesSamples};
use query::Element;

pub use alerting::State;
pub use file::{FileError, GroupSpec, Kind, RuleSpec, files, load_files, parse};
pub use lines::LogLine;
pub use manager::{Manager, Options};
pub use status::{AlertStatus, GroupStatus, RuleStatus, Stats};
pub use unit::{UnitOptions, UnitOutcome, run_unit_tests};

/// Answers expressions. A scalar counts as one element without labels.
pub trait Evaluator: Send + Sync {
    fn instant<'a>(
        &'a self,
        tenant: &'a str,
        kind: Kind,
        expr: &'a str,
        t_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>>;

    /// The newest lines that a LogQL expression counts at an instant, of those that have an element's labels; at most
    /// `limit`, the newest first.
    fn lines<'a>(
        &'a self,
        _tenant: &'a str,
        _expr: &'a str,
        _labels: &'a Labels,
        _t_ms: i64,
        _limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogLine>, String>> {
        futures::future::ready(Err("there is no log store in this process".to_owned())).boxed()
    }
}

/// Takes recorded samples; they are durable when it returns.
pub trait Appender: Send + Sync {
    fn append<'a>(&'a self, tenant: &'a str, series: Vec<SeriesSamples>) -> BoxFuture<'a, Result<(), String>>;
}

/// Takes alerts; an error means that none was taken, and they come again.
pub trait Notifier: Send + Sync {
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>>;
}
