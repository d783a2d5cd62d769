//! How containers of this node ended, as lines: their termination messages.
//!
//! They are read from the pod's status and not from the kubelet's files (`/dev/termination-log` within the container): the
//! status holds what the kubelet made of the file, bounded and with the log's end in its place where the pod asks for that,
//! and beside it the exit code, the reason and the time, also of containers that left no message (`OOMKilled`); and the files
//! are gone with the container.
//!
//! A line is the message, or the reason and exit code where there is none, at the time the container ended, in the
//! stream `{source="kubernetes-terminations", namespace, pod, container, node}` with the labels that lines of its pod have.
//! `reason`, `exit_code` and `container_id` are structured metadata. A container that ends several times between two
//! changes of its pod's status is told of as often as the status tells: once or twice.
//!
//! The cursor is what was told of pods that are still there: `UID/CONTAINER/ID` each, one a line.

use std::collections::{BTreeSet, HashSet};

use model::Labels;
use service::config::KubernetesMetadata;

use super::lines::Shipping;
use super::objects::{ContainerStatus, Object, Terminated};
use super::{Change, Enough, Listener, Told};
use crate::intake::Received;
use crate::logs::parse::Level;
use crate::logs::pods::labels_of;

pub struct Terminations {
    shipping: Shipping,
    config: KubernetesMetadata,
    told: BTreeSet<String>,
    /// Pods of a list that is not read to its end.
    listed: HashSet<String>,
}

impl Terminations {
    pub fn new(shipping: Shipping, config: &KubernetesMetadata, cursor: Option<&str>) -> Terminations {
        let told = cursor.unwrap_or("").lines().map(str::to_owned).collect();
        Terminations { shipping, config: config.clone(), told, listed: HashSet::new() }
    }

    /// Ships what was not told of these pods.
    async fn take(&mut self, pods: &[Object]) -> Result<(), Enough> {
        let (mut keys, mut lines) = (BTreeSet::new(), Vec::new());
        for pod in pods {
            for (container, ended) in endings(pod) {
                let key = key(pod, container, ended);
                if !self.told.contains(&key) && keys.insert(key) {
                    lines.push(line(pod, container, ended, &self.config));
                }
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.shipping.ship(lines).await?;
        self.told.extend(keys);
        self.save();
        Ok(())
    }

    /// Forgets what was told of pods that are gone.
    fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let before = self.told.len();
        self.told.retain(|key| is_there(key.split('/').next().unwrap_or("")));
        if self.told.len() != before {
            self.save();
        }
    }

    fn save(&self) {
        let told: Vec<&str> = self.told.iter().map(String::as_str).collect();
        self.shipping.save(&told.join("\n"));
    }
}

impl Listener<Object> for Terminations {
    async fn told(&mut self, told: Told<Object>) -> Result<(), Enough> {
        match told {
            Told::Page(page) => {
                if page.is_first {
                    self.listed.clear();
                }
                self.listed.extend(page.objects.iter().map(|pod| pod.metadata.uid.clone()));
                self.take(&page.objects).await?;
                if page.is_last {
                    let listed = std::mem::take(&mut self.listed);
                    self.retain(|uid| listed.contains(uid));
                }
            }
            Told::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Set(pod) => self.take(&[pod]).await?,
                        Change::Removed(pod) => {
                            let uid = pod.metadata.uid.clone();
                            self.take(&[pod]).await?;
                            self.retain(|other| other != uid);
                        }
                        Change::Bookmark(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(error, "the API server does not tell how containers ended; asking again");
    }
}

/// The endings that a pod's status tells of, the one before first.
fn endings(pod: &Object) -> impl Iterator<Item = (&ContainerStatus, &Terminated)> {
    let status = &pod.status;
    let all = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flat_map(|container| {
        let states = [&container.last_state, &container.state];
        states.into_iter().filter_map(move |state| Some((container, state.terminated.as_deref()?)))
    })
}

fn key(pod: &Object, container: &ContainerStatus, ended: &Terminated) -> String {
    let id = if ended.container_id.is_empty() { &ended.finished_at } else { &ended.container_id };
    format!("{}/{}/{id}", pod.metadata.uid, container.name)
}

fn line(pod: &Object, container: &ContainerStatus, ended: &Terminated, config: &KubernetesMetadata) -> Received {
    let mut labels = labels_of(pod, config).to_builder();
    labels.set("source", "kubernetes-terminations").set("node", pod.spec.node_name.as_str());
    labels.set("namespace", pod.metadata.namespace.as_str()).set("pod", pod.metadata.name.as_str());
    labels.set("container", container.name.as_str());
    let Terminated { exit_code, reason, message, finished_at, container_id } = ended;
    let message = message.trim_end_matches('\n');
    let text = match message {
        "" if reason.is_empty() => format!("exit code {exit_code}"),
        "" => format!("{reason} (exit code {exit_code})"),
        message => message.to_owned(),
    };
    let exit_code_text = exit_code.to_string();
    let metadata = [("reason", reason), ("exit_code", &exit_code_text), ("container_id", container_id)];
    Received {
        labels: labels.build(),
        metadata: Labels::from_pairs(metadata.map(|(name, value)| (name, value.as_str()))),
        level: Some(if *exit_code == 0 { Level::Info } else { Level::Error }),
        t_ns: model::parse_rfc3339_ns(finished_at),
        text,
    }
}
