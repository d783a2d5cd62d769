//! Kubernetes' objects as targets, with the `__meta_kubernetes_*` labels that users' relabelling knows from Prometheus.

use std::collections::{BTreeMap, HashSet};

use model::{Labels, LabelsBuilder};

use super::super::join_host_port;
use super::Store;
use crate::kubernetes::objects::{Container, ContainerStatus, Meta, Object, Port, Reference};

const PREFIX: &str = "__meta_kubernetes_";
/// The label that names the service of an endpoint slice.
const SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// Labels of one target, without their prefix.
#[derive(Clone, Default)]
struct Target(LabelsBuilder);

impl Target {
    fn set(&mut self, name: &str, value: &str) -> &mut Target {
        self.0.set(format!("{PREFIX}{name}"), value);
        self
    }

    /// Labels or annotations: each with its value, and that it is there.
    fn set_map(&mut self, what: &str, map: &BTreeMap<String, String>) {
        for (name, value) in map {
            let name = sanitized(name);
            self.set(&format!("{what}_{name}"), value);
            self.set(&format!("{what}present_{name}"), "true");
        }
    }

    /// Name, labels and annotations of an object.
    fn set_meta(&mut self, role: &str, meta: &Meta) {
        self.set(&format!("{role}_name"), &meta.name);
        self.set_map(&format!("{role}_label"), &meta.labels);
        self.set_map(&format!("{role}_annotation"), &meta.annotations);
    }

    fn at(&self, address: &str) -> Target {
        let mut target = self.clone();
        target.0.set("__address__", address);
        target
    }

    fn build(self) -> Labels {
        self.0.build()
    }
}

/// What is no letter or digit in a name is `_`.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn with_port(host: &str, port: u32) -> String {
    join_host_port(host, &port.to_string())
}

pub fn node(node: &Object) -> Vec<Labels> {
    let addresses = &node.status.addresses;
    let kinds = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
    let of_kind = |kind: &&str| addresses.iter().find(|address| address.r#type == **kind);
    let Some(address) = kinds.iter().find_map(of_kind) else { return Vec::new() };
    let mut target = Target::default();
    target.set_meta("node", &node.metadata);
    target.set("node_provider_id", &node.spec.provider_id);
    let mut seen = HashSet::new();
    for address in addresses.iter().filter(|address| seen.insert(&address.r#type)) {
        target.set(&format!("node_address_{}", sanitized(&address.r#type)), &address.address);
    }
    target.0.set("instance", node.metadata.name.as_str());
    let port = node.status.daemon_endpoints.kubelet_endpoint.port;
    vec![target.at(&with_port(&address.address, port)).build()]
}

pub fn service(service: &Object, store: &Store) -> Vec<Labels> {
    let (meta, spec) = (&service.metadata, &service.spec);
    let mut group = in_namespace(meta, store);
    group.set_meta("service", meta);
    let kind = if spec.r#type.is_empty() { "ClusterIP" } else { &spec.r#type };
    group.set("service_type", kind);
    match kind {
        "ExternalName" => group.set("service_external_name", &spec.external_name),
        _ => group.set("service_cluster_ip", &spec.cluster_ip),
    };
    if kind == "LoadBalancer" {
        group.set("service_loadbalancer_ip", &spec.load_balancer_ip);
    }
    let host = format!("{}.{}.svc", meta.name, meta.namespace);
    let target = |port: &Port| {
        let mut target = group.at(&with_port(&host, port.port));
        target.set("service_port_name", &port.name).set("service_port_number", &port.port.to_string());
        target.set("service_port_protocol", protocol(port));
        target.build()
    };
    spec.ports.iter().map(target).collect()
}

fn protocol(port: &Port) -> &str {
    if port.protocol.is_empty() { "TCP" } else { &port.protocol }
}

/// What all that is in a namespace has.
fn in_namespace(meta: &Meta, store: &Store) -> Target {
    let mut target = Target::default();
    target.set("namespace", &meta.namespace);
    if let Some(namespace) = store.namespace(&meta.namespace) {
        target.set_map("namespace_label", &namespace.metadata.labels);
        target.set_map("namespace_annotation", &namespace.metadata.annotations);
    }
    target
}

pub fn pod(pod: &Object, store: &Store) -> Vec<Labels> {
    if pod.status.pod_ip.is_empty() {
        return Vec::new();
    }
    let mut group = in_namespace(&pod.metadata, store);
    set_pod(&mut group, pod);
    set_node(&mut group, &pod.spec.node_name, store);
    let mut targets = Vec::new();
    for (container, is_init) in containers(pod) {
        let mut of_container = group.clone();
        set_container(&mut of_container, pod, container, is_init);
        if container.ports.is_empty() {
            targets.push(of_container.at(&pod.status.pod_ip).build());
        }
        for port in &container.ports {
            let mut target = of_container.at(&with_port(&pod.status.pod_ip, port.container_port));
            set_container_port(&mut target, port);
            targets.push(target.build());
        }
    }
    targets
}

fn containers(pod: &Object) -> impl Iterator<Item = (&Container, bool)> {
    let main = pod.spec.containers.iter().map(|container| (container, false));
    main.chain(pod.spec.init_containers.iter().map(|container| (container, true)))
}

fn set_pod(target: &mut Target, pod: &Object) {
    let (meta, status) = (&pod.metadata, &pod.status);
    target.set_meta("pod", meta);
    let ready = status.conditions.iter().find(|condition| condition.r#type == "Ready");
    let ready = ready.map_or("unknown".to_owned(), |condition| condition.status.to_lowercase());
    target.set("pod_ip", &status.pod_ip).set("pod_ready", &ready).set("pod_phase", &status.phase);
    target.set("pod_node_name", &pod.spec.node_name).set("pod_host_ip", &status.host_ip).set("pod_uid", &meta.uid);
    if let Some(owner) = meta.owner_references.iter().find(|owner| owner.controller) {
        target.set("pod_controller_kind", &owner.kind).set("pod_controller_name", &owner.name);
    }
}

fn set_node(target: &mut Target, name: &str, store: &Store) {
    if let Some(node) = store.node(name) {
        target.set_meta("node", &node.metadata);
    }
}

fn set_container(target: &mut Target, pod: &Object, container: &Container, is_init: bool) {
    let statuses = if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
    let status = statuses.iter().find(|status: &&ContainerStatus| status.name == container.name);
    target.set("pod_container_name", &container.name).set("pod_container_image", &container.image);
    target.set("pod_container_id", status.map_or("", |status| &status.container_id));
    target.set("pod_container_init", if is_init { "true" } else { "false" });
}

fn set_container_port(target: &mut Target, port: &Port) {
    target.set("pod_container_port_name", &port.name);
    target.set("pod_container_port_number", &port.container_port.to_string());
    target.set("pod_container_port_protocol", protocol(port));
}

/// The ports that endpoints told of their pods: the pods' others are targets too.
#[derive(Default)]
struct Backing<'a> {
    pods: Vec<(&'a Object, HashSet<u32>)>,
}

impl<'a> Backing<'a> {
    /// Adds what is known of the pod behind an endpoint.
    fn add(&mut self, target: &mut Target, reference: &Reference, namespace: &str, port: u32, store: &'a Store) {
        if reference.kind != "Pod" {
            return;
        }
        let namespace = if reference.namespace.is_empty() { namespace } else { &reference.namespace };
        let Some(pod) = store.pod(namespace, &reference.name) else { return };
        set_pod(target, pod);
        set_node(target, &pod.spec.node_name, store);
        let ports = |(container, is_init): (&'a Container, bool)| {
            container.ports.iter().map(move |port| (container, is_init, port))
        };
        if let Some((container, is_init, own)) =
            containers(pod).flat_map(ports).find(|(_, _, own)| own.container_port == port)
        {
            set_container(target, pod, container, is_init);
            set_container_port(target, own);
        }
        match self.pods.iter_mut().find(|(known, _)| known.metadata.name == pod.metadata.name) {
            Some((_, ports)) => drop(ports.insert(port)),
            None => self.pods.push((pod, HashSet::from([port]))),
        }
    }

    /// Targets of ports that no endpoint told.
    fn others(&self, group: &Target, store: &Store) -> Vec<Labels> {
        let mut targets = Vec::new();
        for (pod, told) in self.pods.iter().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
            for (container, is_init) in containers(pod) {
                for port in container.ports.iter().filter(|port| !told.contains(&port.container_port)) {
                    let mut target = group.at(&with_port(&pod.status.pod_ip, port.container_port));
                    set_pod(&mut target, pod);
                    set_node(&mut target, &pod.spec.node_name, store);
                    set_container(&mut target, pod, container, is_init);
                    set_container_port(&mut target, port);
                    targets.push(target.build());
                }
            }
        }
        targets
    }
}

fn set_service(group: &mut Target, namespace: &str, name: &str, store: &Store) {
    if let Some(service) = store.service(namespace, name) {
        group.set_meta("service", &service.metadata);
    }
}

fn set_reference(target: &mut Target, role: &str, reference: &Reference) {
    if !reference.kind.is_empty() {
        target.set(&format!("{role}_address_target_kind"), &reference.kind);
        target.set(&format!("{role}_address_target_name"), &reference.name);
    }
}

pub fn endpoints(endpoints: &Object, store: &Store) -> Vec<Labels> {
    let meta = &endpoints.metadata;
    let mut group = in_namespace(meta, store);
    group.set_meta("endpoints", meta);
    set_service(&mut group, &meta.namespace, &meta.name, store);
    let (mut targets, mut backing) = (Vec::new(), Backing::default());
    for subset in &endpoints.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|address| (address, "true"));
            let addresses = ready.chain(subset.not_ready_addresses.iter().map(|address| (address, "false")));
            for (address, ready) in addresses {
                let mut target = group.at(&with_port(&address.ip, port.port));
                target.set("endpoint_port_name", &port.name).set("endpoint_port_protocol", protocol(port));
                target.set("endpoint_ready", ready).set("endpoint_hostname", &address.hostname);
                target.set("endpoint_node_name", &address.node_name);
                set_reference(&mut target, "endpoint", &address.target_ref);
                set_node(&mut target, &address.node_name, store);
                backing.add(&mut target, &address.target_ref, &meta.namespace, port.port, store);
                targets.push(target.build());
            }
        }
    }
    targets.extend(backing.others(&group, store));
    targets
}

pub fn endpoint_slice(slice: &Object, store: &Store) -> Vec<Labels> {
    let meta = &slice.metadata;
    let mut group = in_namespace(meta, store);
    group.set_meta("endpointslice", meta);
    group.set("endpointslice_address_type", &slice.address_type);
    if let Some(service) = meta.labels.get(SLICE_SERVICE) {
        set_service(&mut group, &meta.namespace, service, store);
    }
    let (mut targets, mut backing) = (Vec::new(), Backing::default());
    let conditional = |value: Option<bool>| value.map_or(String::new(), |value| value.to_string());
    for port in &slice.ports {
        for endpoint in &slice.endpoints {
            for address in &endpoint.addresses {
                let mut target = group.at(&with_port(address, port.port));
                target.set("endpointslice_port", &port.port.to_string()).set("endpointslice_port_name", &port.name);
                target.set("endpointslice_port_protocol", protocol(port));
                target.set("endpointslice_port_app_protocol", &port.app_protocol);
                let conditions = &endpoint.conditions;
                for (name, value) in [
                    ("ready", conditions.ready),
                    ("serving", conditions.serving),
                    ("terminating", conditions.terminating),
                ] {
                    target.set(&format!("endpointslice_endpoint_conditions_{name}"), &conditional(value));
                }
                target.set("endpointslice_endpoint_hostname", &endpoint.hostname);
                target.set("endpointslice_endpoint_node_name", &endpoint.node_name);
                target.set("endpointslice_endpoint_zone", &endpoint.zone);
                for (name, value) in &endpoint.deprecated_topology {
                    let name = sanitized(name);
                    target.set(&format!("endpointslice_endpoint_topology_{name}"), value);
                    target.set(&format!("endpointslice_endpoint_topology_present_{name}"), "true");
                }
                set_reference(&mut target, "endpointslice", &endpoint.target_ref);
                set_node(&mut target, &endpoint.node_name, store);
                backing.add(&mut target, &endpoint.target_ref, &meta.namespace, port.port, store);
                targets.push(target.build());
            }
        }
    }
    targets.extend(backing.others(&group, store));
    targets
}

pub fn ingress(ingress: &Object, store: &Store) -> Vec<Labels> {
    let mut group = in_namespace(&ingress.metadata, store);
    group.set_meta("ingress", &ingress.metadata);
    group.set("ingress_class_name", &ingress.spec.ingress_class_name);
    let mut targets = Vec::new();
    for rule in &ingress.spec.rules {
        let has_tls = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts).any(|host| covers(host, &rule.host));
        let paths = rule.http.paths.iter().map(|path| if path.path.is_empty() { "/" } else { &path.path });
        let paths: Vec<&str> = if rule.http.paths.is_empty() { vec!["/"] } else { paths.collect() };
        for path in paths {
            let mut target = group.at(&rule.host);
            target.set("ingress_scheme", if has_tls { "https" } else { "http" });
            target.set("ingress_host", &rule.host).set("ingress_path", path);
            targets.push(target.build());
        }
    }
    targets
}

/// Whether a certificate's host, which may begin with `*.`, is for this one.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => pattern == host,
    }
}
