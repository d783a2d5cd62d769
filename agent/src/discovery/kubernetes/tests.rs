//! Against an API server of our own: lists in pages, watches that go on, versions that are too old.

use serde_json::{Value, json};

use super::super::tests::Bench;
use crate::kubernetes::tests::Server;

fn discover(server: &Server, rest: &str) -> Bench {
    let sd = format!("{{api_server: '{}', {rest}}}", server.url);
    let yaml = format!("scrape_configs: [{{job_name: j, kubernetes_sd_configs: [{sd}]}}]");
    Bench::start(&yaml, std::path::Path::new(""))
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": "u", "resourceVersion": "8",
            "labels": {"app.kubernetes.io/name": "cart"}, "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-1", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "main", "image": "i:1", "ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"}]}],
            "initContainers": [{"name": "init", "image": "i:2"}]},
        "status": {"podIP": ip, "hostIP": "10.0.0.1", "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "containerID": "containerd://c"}]},
    })
}

/// Labels of a target, under their common prefix, sorted.
fn target(address: &str, labels: &[(&str, &str)]) -> String {
    let labels = labels.iter().map(|(name, value)| (format!("__meta_kubernetes_{name}"), (*value).to_owned()));
    let address = ("__address__".to_owned(), address.to_owned());
    model::Labels::from_pairs(labels.chain([address])).to_string()
}

const OF_POD: [(&str, &str); 14] = [
    ("namespace", "shop"),
    ("pod_name", "cart-x"),
    ("pod_ip", "10.1.0.5"),
    ("pod_host_ip", "10.0.0.1"),
    ("pod_node_name", "n1"),
    ("pod_phase", "Running"),
    ("pod_ready", "true"),
    ("pod_uid", "u"),
    ("pod_controller_kind", "ReplicaSet"),
    ("pod_controller_name", "cart-1"),
    ("pod_label_app_kubernetes_io_name", "cart"),
    ("pod_labelpresent_app_kubernetes_io_name", "true"),
    ("pod_annotation_prometheus_io_scrape", "true"),
    ("pod_annotationpresent_prometheus_io_scrape", "true"),
];
const OF_MAIN: [(&str, &str); 7] = [
    ("pod_container_name", "main"),
    ("pod_container_image", "i:1"),
    ("pod_container_id", "containerd://c"),
    ("pod_container_init", "false"),
    ("pod_container_port_name", "web"),
    ("pod_container_port_number", "80"),
    ("pod_container_port_protocol", "TCP"),
];
const OF_INIT: [(&str, &str); 3] =
    [("pod_container_name", "init"), ("pod_container_image", "i:2"), ("pod_container_init", "true")];
const PODS: &str = "/api/v1/pods";

fn of_pod(address: &str, more: &[(&str, &str)]) -> String {
    target(address, &[&OF_POD[..], more].concat())
}

#[tokio::test]
async fn pods_come_and_go() {
    let server = Server::start(&[(PODS, pod("cart-x", "10.1.0.5")), (PODS, pod("no-ip", ""))]).await;
    let mut bench = discover(&server, "role: pod, selectors: [{role: pod, label: 'a=b'}]");
    let (main, init) = (of_pod("10.1.0.5:80", &OF_MAIN), of_pod("10.1.0.5", &OF_INIT));
    bench.check(&[&init, &main]).await;
    assert!(server.fake.asked.lock()[0].contains("labelSelector=a%3Db"));
    server.change(PODS, json!({"type": "DELETED", "object": pod("cart-x", "10.1.0.5")})).await;
    bench.check(&[]).await;
    server.change(PODS, json!({"type": "ADDED", "object": pod("cart-x", "10.1.0.5")})).await;
    bench.check(&[&init, &main]).await;
    // The version is too old: what is listed anew is what there is.
    server.fake.objects.lock().clear();
    server.change(PODS, json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}})).await;
    bench.check(&[]).await;
}

#[tokio::test]
async fn a_refused_watch_begins_with_a_list_again() {
    let server = Server::start(&[(PODS, pod("cart-x", "10.1.0.5"))]).await;
    server.fake.refusals.lock().extend([410, 500]);
    let mut bench = discover(&server, "role: pod");
    bench.check(&[&of_pod("10.1.0.5", &OF_INIT), &of_pod("10.1.0.5:80", &OF_MAIN)]).await;
    server.change(PODS, json!({"type": "DELETED", "object": pod("cart-x", "10.1.0.5")})).await;
    bench.check(&[]).await;
    assert_eq!(bench.discovery.counters.kubernetes_failures.get(), 1, "a version that is too old is no failure");
}

#[tokio::test]
async fn nodes_and_services() {
    let node = json!({
        "metadata": {"name": "n1", "labels": {"zone": "a"}},
        "spec": {"providerID": "p://n1"},
        "status": {"addresses": [{"type": "Hostname", "address": "n1.test"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
    });
    let server = Server::start(&[("/api/v1/nodes", node)]).await;
    let of_node = target(
        "10.0.0.1:10250",
        &[
            ("node_name", "n1"),
            ("node_provider_id", "p://n1"),
            ("node_label_zone", "a"),
            ("node_labelpresent_zone", "true"),
            ("node_address_Hostname", "n1.test"),
            ("node_address_InternalIP", "10.0.0.1"),
        ],
    );
    let of_node = of_node.replace('}', ", instance=\"n1\"}");
    discover(&server, "role: node").check(&[&of_node]).await;
    let service = json!({
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.2.0.1", "loadBalancerIP": "1.2.3.4",
            "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]},
    });
    let server = Server::start(&[("/api/v1/namespaces/shop/services", service)]).await;
    let of_service = target(
        "cart.shop.svc:80",
        &[
            ("namespace", "shop"),
            ("service_name", "cart"),
            ("service_type", "LoadBalancer"),
            ("service_cluster_ip", "10.2.0.1"),
            ("service_loadbalancer_ip", "1.2.3.4"),
            ("service_port_name", "web"),
            ("service_port_number", "80"),
            ("service_port_protocol", "TCP"),
        ],
    );
    discover(&server, "role: service, namespaces: {names: [shop]}").check(&[&of_service]).await;
}

#[tokio::test]
async fn endpoints_carry_their_service_and_pods() {
    let reference = json!({"kind": "Pod", "name": "cart-x", "namespace": "shop"});
    let endpoints = json!({
        "metadata": {"name": "cart", "namespace": "shop"},
        "subsets": [{"addresses": [{"ip": "10.1.0.5", "nodeName": "n1", "targetRef": reference}],
            "ports": [{"name": "admin", "port": 90}]}],
    });
    let service = json!({"metadata": {"name": "cart", "namespace": "shop", "labels": {"team": "x"}}});
    let mut several = pod("cart-x", "10.1.0.5");
    several["spec"]["initContainers"] = json!(null);
    let server =
        Server::start(&[("/api/v1/endpoints", endpoints), ("/api/v1/services", service), (PODS, several)]).await;
    let mut bench = discover(&server, "role: endpoints");
    let common = [
        ("endpoints_name", "cart"),
        ("service_name", "cart"),
        ("service_label_team", "x"),
        ("service_labelpresent_team", "true"),
    ];
    let endpoint = [
        ("endpoint_port_name", "admin"),
        ("endpoint_port_protocol", "TCP"),
        ("endpoint_ready", "true"),
        ("endpoint_node_name", "n1"),
        ("endpoint_address_target_kind", "Pod"),
        ("endpoint_address_target_name", "cart-x"),
    ];
    // The pod's other port is a target too.
    let other = of_pod("10.1.0.5:80", &[&common[..], &OF_MAIN].concat());
    bench.check(&[&other, &of_pod("10.1.0.5:90", &[&common[..], &endpoint].concat())]).await;
    // Its pod is gone: what the endpoint itself says is left.
    server.change(PODS, json!({"type": "DELETED", "object": pod("cart-x", "10.1.0.5")})).await;
    bench.check(&[&target("10.1.0.5:90", &[&[("namespace", "shop")], &common[..], &endpoint].concat())]).await;
}

#[tokio::test]
async fn slices_and_ingresses() {
    let slice = json!({
        "metadata": {"name": "cart-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["2001:db8::1"], "conditions": {"ready": true, "serving": null}, "zone": "a"}],
        "ports": [{"name": "web", "port": 80, "protocol": "TCP", "appProtocol": "http"}],
    });
    let server = Server::start(&[("/apis/discovery.k8s.io/v1/endpointslices", slice)]).await;
    let of_slice = target(
        "[2001:db8::1]:80",
        &[
            ("namespace", "shop"),
            ("endpointslice_name", "cart-1"),
            ("endpointslice_label_kubernetes_io_service_name", "cart"),
            ("endpointslice_labelpresent_kubernetes_io_service_name", "true"),
            ("endpointslice_address_type", "IPv6"),
            ("endpointslice_port", "80"),
            ("endpointslice_port_name", "web"),
            ("endpointslice_port_protocol", "TCP"),
            ("endpointslice_port_app_protocol", "http"),
            ("endpointslice_endpoint_conditions_ready", "true"),
            ("endpointslice_endpoint_zone", "a"),
        ],
    );
    discover(&server, "role: endpointslice").check(&[&of_slice]).await;
    let ingress = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.test"]}], "rules": [
            {"host": "a.test", "http": {"paths": [{"path": "/x"}]}}, {"host": "b.a.test"}]},
    });
    let server = Server::start(&[("/apis/networking.k8s.io/v1/ingresses", ingress)]).await;
    let of_rule = |host: &str, scheme: &str, path: &str| {
        let labels = [
            ("namespace", "shop"),
            ("ingress_name", "web"),
            ("ingress_class_name", "nginx"),
            ("ingress_host", host),
            ("ingress_scheme", scheme),
            ("ingress_path", path),
        ];
        target(host, &labels)
    };
    let mut bench = discover(&server, "role: ingress");
    bench.check(&[&of_rule("a.test", "https", "/x"), &of_rule("b.a.test", "http", "/")]).await;
}
