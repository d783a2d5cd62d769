//! What is read of Kubernetes' objects; the rest of them is left where it comes from.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

/// `null`, where a list or a text should be, is nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_meta])* #[serde(deserialize_with = "or_default")] pub $field: $type,)*
        }
    };
}

object!(
    Meta {
        name: String,
        namespace: String,
        uid: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        owner_references: Vec<Owner>,
        resource_version: String,
        creation_timestamp: String,
    }
);
object!(Owner { kind: String, name: String, controller: bool });
object!(
    /// Any kind that is looked at: each has its own of these fields.
    Object {
        metadata: Meta,
        spec: Spec,
        status: Status,
        subsets: Vec<Subset>,
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<Port>,
    }
);
object!(
    Spec {
        node_name: String,
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        #[serde(rename = "providerID")]
        provider_id: String,
        r#type: String,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        external_name: String,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: String,
        ports: Vec<Port>,
        ingress_class_name: String,
        rules: Vec<Rule>,
        tls: Vec<IngressTls>,
    }
);
object!(
    Container {
        name: String,
        image: String,
        restart_policy: String,
        ports: Vec<Port>,
    }
);
object!(Port { name: String, port: u32, container_port: u32, protocol: String, app_protocol: String });
object!(
    Status {
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
        phase: String,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
        init_container_statuses: Vec<ContainerStatus>,
        ephemeral_container_statuses: Vec<ContainerStatus>,
        addresses: Vec<NodeAddress>,
        daemon_endpoints: DaemonEndpoints,
    }
);
object!(Condition { r#type: String, status: String });
object!(ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    state: ContainerState,
    last_state: ContainerState,
});
object!(ContainerState { terminated: Option<Box<Terminated>> });
object!(Terminated {
    exit_code: i32,
    reason: String,
    message: String,
    finished_at: String,
    #[serde(rename = "containerID")]
    container_id: String,
});
object!(NodeAddress { r#type: String, address: String });
object!(DaemonEndpoints { kubelet_endpoint: KubeletEndpoint });
object!(KubeletEndpoint {
    #[serde(rename = "Port")]
    port: u32,
});
object!(
    Subset {
        addresses: Vec<Address>,
        not_ready_addresses: Vec<Address>,
        ports: Vec<Port>,
    }
);
object!(Address { ip: String, hostname: String, node_name: String, target_ref: Reference });
object!(Reference { kind: String, name: String, namespace: String });
object!(
    Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: String,
        node_name: String,
        zone: String,
        target_ref: Reference,
        deprecated_topology: BTreeMap<String, String>,
    }
);
object!(
    EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
);
object!(Rule { host: String, http: RuleHttp });
object!(
    RuleHttp {
        paths: Vec<RulePath>,
    }
);
object!(RulePath { path: String });
object!(
    IngressTls {
        hosts: Vec<String>,
    }
);
/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct List<T> {
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: ListMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub items: Vec<T>,
}

object!(ListMeta { resource_version: String, r#continue: String });

object!(
    /// An `Event` of the core group: something happened to an object.
    Event {
        metadata: Meta,
        involved_object: Reference,
        reason: String,
        message: String,
        r#type: String,
        source: EventSource,
        reporting_component: String,
        count: u64,
        series: EventSeries,
        event_time: String,
        first_timestamp: String,
        last_timestamp: String,
    }
);
object!(EventSource { component: String, host: String });
object!(EventSeries { count: u64, last_observed_time: String });

/// An object of any kind: all have a version.
pub trait Versioned: DeserializeOwned + Default + Send {
    fn meta(&self) -> &Meta;
}

impl Versioned for Object {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Versioned for Event {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub struct Told<'a> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(borrow)]
    pub object: &'a serde_json::value::RawValue,
}

/// What an `ERROR` says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Failure {
    pub code: u16,
    pub message: String,
}

impl Object {
    pub fn key(&self) -> String {
        key(&self.metadata.namespace, &self.metadata.name)
    }
}

/// `namespace/name`, or the name alone.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
