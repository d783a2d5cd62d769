//! Which pod and container a group belongs to: its path holds their ids (under the systemd and the cgroupfs driver alike),
//! and the names of the kubelet's log directories tell what those ids are called.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Pods by UID and containers by id, as `/var/log/{pods,containers}` name them.
#[derive(Debug, Default)]
pub struct Names {
    /// UID to namespace and pod.
    pods: HashMap<String, [String; 2]>,
    /// Id to namespace, pod and container.
    containers: HashMap<String, [String; 3]>,
}

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

impl Names {
    pub fn read(rootfs: &Path) -> Names {
        let list = |dir: &str| {
            let entries = fs::read_dir(rootfs.join(dir)).into_iter().flatten().flatten().take(MAX_ENTRIES);
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        };
        let mut names = Names::default();
        for pod in list("var/log/pods") {
            if let [namespace, pod, uid] = pod.split('_').collect::<Vec<_>>()[..] {
                names.pods.insert(uid.to_owned(), [namespace.to_owned(), pod.to_owned()]);
            }
        }
        for file in list("var/log/containers") {
            let stem = file.strip_suffix(".log").unwrap_or(&file);
            if let [pod, namespace, rest] = stem.split('_').collect::<Vec<_>>()[..]
                && let Some((container, id)) = rest.rsplit_once('-')
            {
                let named = [namespace.to_owned(), pod.to_owned(), container.to_owned()];
                names.containers.insert(id.to_owned(), named);
            }
        }
        names
    }

    /// Labels of a group; none for one that is not a pod's or a container's.
    pub fn of(&self, id: &str) -> Vec<(&'static str, String)> {
        let parts: Vec<&str> = id.split('/').filter(|part| !part.is_empty()).collect();
        let mut labels = Vec::new();
        let container = parts.last().and_then(|part| container_id(part));
        if let Some([namespace, pod]) = parts.iter().find_map(|part| self.pods.get(&pod_uid(part)?)) {
            labels.extend([("namespace", namespace.clone()), ("pod", pod.clone())]);
        }
        if let Some([namespace, pod, container]) = container.as_ref().and_then(|id| self.containers.get(id)) {
            labels = vec![("namespace", namespace.clone()), ("pod", pod.clone()), ("container", container.clone())];
        }
        labels.extend(container.map(|id| ("name", id)));
        labels
    }
}

/// The pod's group that a container's group lies in.
pub fn pod_group(id: &str) -> Option<&str> {
    let ends = id.match_indices('/').map(|(at, _)| at).skip(1).chain([id.len()]);
    ends.map(|end| &id[..end]).find(|group| group.rsplit('/').next().and_then(pod_uid).is_some())
}

/// `kubepods-burstable-pod1234_ab.slice` or `pod1234-ab`.
fn pod_uid(part: &str) -> Option<String> {
    let stem = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match stem.rsplit_once("-pod") {
        Some((_, uid)) if stem.starts_with("kubepods") => uid,
        _ => stem.strip_prefix("pod")?,
    };
    let is_uid = uid.len() >= 32 && uid.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b'-' | b'_'));
    is_uid.then(|| uid.replace('_', "-"))
}

/// `cri-containerd-<64 hex>.scope`, `docker-<64 hex>.scope`, or the bare 64 hex digits.
fn container_id(part: &str) -> Option<String> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let id = stem.rsplit('-').next()?;
    (id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, expected: &[(&'static str, &str)]) {
        let (uid, hex) = ("0123456789ab-cdef-0123-4567-89abcdef0123", "ab".repeat(32));
        let names = Names {
            pods: HashMap::from([(uid.to_owned(), ["shop".to_owned(), "cart".to_owned()])]),
            containers: HashMap::from([(hex, ["shop".to_owned(), "cart".to_owned(), "app".to_owned()])]),
        };
        let got = names.of(id);
        assert_eq!(got.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected, "{id}");
    }

    #[test]
    fn groups_know_their_pod_and_container() {
        let hex = "ab".repeat(32);
        let named = [("namespace", "shop"), ("pod", "cart"), ("container", "app"), ("name", hex.as_str())];
        let slice = "/kubepods.slice/kubepods-burstable-pod0123456789ab_cdef_0123_4567_89abcdef0123.slice";
        check(&format!("{slice}/cri-containerd-{hex}.scope"), &named);
        check(slice, &named[..2]);
        check(&format!("/kubepods/pod0123456789ab-cdef-0123-4567-89abcdef0123/{hex}"), &named);
        check("/system.slice/ssh.service", &[]);
        assert_eq!(pod_group(&format!("{slice}/cri-containerd-{hex}.scope")), Some(slice));
        assert_eq!(pod_group(slice), Some(slice));
        assert_eq!(pod_group("/system.slice/ssh.service"), None);
    }
}
