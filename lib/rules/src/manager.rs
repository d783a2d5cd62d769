//! Runs groups: one task each, at their slots; reloads without forgetting what is unchanged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, RelabelConfig};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::file::GroupSpec;
use crate::group::{Group, stale};
use crate::notify::AlertQueue;
use crate::schedule::{next_slot, slot_before};
use crate::seams::Seams;
use crate::status::{AlertStatus, GroupStatus, Stats};
use crate::{Appender, Evaluator, Notifier};

/// Groups evaluated at once.
const CONCURRENT_GROUPS: usize = 4;

pub struct Options {
    pub tenant: String,
    pub external_labels: Labels,
    pub external_url: String,
    pub alert_relabel: Vec<RelabelConfig>,
}

/// One running group; its task owns the state and gives it back when it ends.
struct Running {
    spec: GroupSpec,
    status: Arc<RwLock<GroupStatus>>,
    stop: CancellationToken,
    task: JoinHandle<Group>,
}

/// The seams, which a reload may exchange between two evaluations.
type Current = Arc<RwLock<Arc<Seams>>>;

pub struct Manager {
    seams: Current,
    notifier: Arc<dyn Notifier>,
    queue: Arc<AlertQueue>,
    permits: Arc<Semaphore>,
    running: Mutex<Vec<Running>>,
    reloading: tokio::sync::Mutex<()>,
}

impl Manager {
    pub fn new(
        evaluator: Arc<dyn Evaluator>,
        appender: Arc<dyn Appender>,
        notifier: Arc<dyn Notifier>,
        options: Options,
    ) -> Arc<Manager> {
        let stats = Arc::new(Stats::default());
        let Options { tenant, external_labels, external_url, alert_relabel } = options;
        let seams =
            Seams { evaluator, appender, stats: stats.clone(), tenant, external_labels, external_url, alert_relabel };
        Arc::new(Manager {
            seams: Arc::new(RwLock::new(Arc::new(seams))),
            notifier,
            queue: Arc::new(AlertQueue::new(stats)),
            permits: Arc::new(Semaphore::new(CONCURRENT_GROUPS)),
            running: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
        })
    }

    /// Hands alerts to the router until stopped; then ends all groups.
    pub async fn run(&self, stop: CancellationToken) {
        self.queue.run(self.notifier.clone(), stop).await;
        self.load(Vec::new(), false).await;
    }

    /// What alerts get on their way out, from the next evaluation on.
    pub fn set_outgoing(&self, external_labels: Labels, alert_relabel: Vec<RelabelConfig>) {
        let mut seams = self.seams.write();
        *seams = Arc::new(Seams { external_labels, alert_relabel, ..Seams::clone(&seams) });
    }

    fn seams(&self) -> Arc<Seams> {
        self.seams.read().clone()
    }

    /// Replaces the groups. Unchanged ones go on untouched; changed ones keep the state of rules that stayed; series of
    /// what is gone are marked stale.
    pub async fn reload(&self, specs: Vec<GroupSpec>) {
        self.load(specs, true).await;
    }

    async fn load(&self, specs: Vec<GroupSpec>, mark_stale: bool) {
        let _one_at_a_time = self.reloading.lock().await;
        let mut old: HashMap<(String, String), Running> =
            self.running.lock().drain(..).map(|r| (key(&r.spec), r)).collect();
        let mut gone: Vec<Labels> = Vec::new();
        let mut running = Vec::new();
        for spec in specs {
            match old.remove(&key(&spec)) {
                Some(same) if same.spec == spec => running.push(same),
                Some(changed) => {
                    let mut group = Group::new(spec);
                    gone.extend(changed.end().await.map(|state| group.adopt(state)).unwrap_or_default());
                    running.push(self.start(group));
                }
                None => running.push(self.start(Group::new(spec))),
            }
        }
        for (_, removed) in old {
            gone.extend(removed.end().await.map(|group| group.series()).unwrap_or_default());
        }
        *self.running.lock() = running;
        if mark_stale && !gone.is_empty() {
            let markers = stale(gone.iter(), model::now_ms());
            let seams = self.seams();
            if let Err(error) = seams.appender.append(&seams.tenant, markers).await {
                tracing::warn!(error, "series of removed rules could not be marked stale");
            }
        }
    }

    fn start(&self, group: Group) -> Running {
        let (spec, stop) = (group.spec.clone(), CancellationToken::new());
        let status = Arc::new(RwLock::new(group.status()));
        let work = run_group(
            group,
            self.seams.clone(),
            self.queue.clone(),
            self.permits.clone(),
            status.clone(),
            stop.clone(),
        );
        Running { spec, status, stop, task: tokio::spawn(work) }
    }

    pub fn groups(&self) -> Vec<GroupStatus> {
        self.running.lock().iter().map(|running| running.status.read().clone()).collect()
    }

    pub fn alerts(&self) -> Vec<AlertStatus> {
        self.groups().into_iter().flat_map(|group| group.rules).flat_map(|rule| rule.alerts).collect()
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.seams().stats.clone()
    }
}

fn key(spec: &GroupSpec) -> (String, String) {
    (spec.file.clone(), spec.name.clone())
}

impl Running {
    /// Lets the evaluation under way finish, and takes the state back.
    async fn end(self) -> Option<Group> {
        self.stop.cancel();
        self.task.await.inspect_err(|error| tracing::error!(%error, group = self.spec.name, "a rule group failed")).ok()
    }
}

async fn run_group(
    mut group: Group,
    seams: Current,
    queue: Arc<AlertQueue>,
    permits: Arc<Semaphore>,
    status: Arc<RwLock<GroupStatus>>,
    stop: CancellationToken,
) -> Group {
    let interval_ms = group.spec.interval_ms;
    let mut slot_ms = slot_before(&group.spec.file, &group.spec.name, interval_ms, model::now_ms()) + interval_ms;
    loop {
        let wait_ms = (slot_ms - model::now_ms()).max(0) as u64;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = stop.cancelled() => return group,
        }
        if let Ok(_permit) = permits.acquire().await {
            let seams = seams.read().clone();
            group.evaluate(slot_ms, &seams, &queue).await;
            *status.write() = group.status();
        }
        let (next_ms, missed) = next_slot(slot_ms, interval_ms, model::now_ms());
        seams.read().stats.count_missed(missed);
        slot_ms = next_ms;
    }
}

#[cfg(test)]
mod tests;
