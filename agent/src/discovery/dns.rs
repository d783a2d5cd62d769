//! `dns_sd_configs`: targets are what names resolve to.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::Labels;
use service::config::{DnsSd, RecordType};

use super::resolver::{Answer, Resolver};
use super::{Found, Provider, join_host_port, refresh};

pub struct Names {
    config: DnsSd,
    resolver: Resolver,
}

impl Names {
    pub fn new(config: DnsSd) -> Names {
        Names { config, resolver: Resolver::default() }
    }

    #[cfg(test)]
    pub fn with_resolver(config: DnsSd, resolver: Resolver) -> Names {
        Names { config, resolver }
    }
}

impl Provider for Names {
    fn run(self: Box<Self>, found: Arc<Found>) -> BoxFuture<'static, ()> {
        async move {
            let mut beat = tokio::time::interval(refresh(self.config.refresh_interval));
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                let look = |name: &String| {
                    let (name, resolver, record) = (name.clone(), &self.resolver, self.config.record);
                    async move {
                        let answers = resolver.look_up(&name, record).await;
                        (name, answers)
                    }
                };
                for (name, answers) in futures::future::join_all(self.config.names.iter().map(look)).await {
                    found.counters.dns_lookups.inc();
                    match answers {
                        Ok(answers) => {
                            found.set(&name, answers.iter().map(|one| target(&name, one, &self.config)).collect())
                        }
                        Err(error) => {
                            found.counters.dns_failures.inc();
                            found.counters.failed("dns");
                            tracing::warn!(error, name, "dns_sd_configs: what was found last stays");
                        }
                    }
                }
            }
        }
        .boxed()
    }
}

/// Names keep their final dot in meta labels and lose it in addresses.
fn target(name: &str, answer: &Answer, config: &DnsSd) -> Labels {
    let port = config.port.to_string();
    let rootless = |host: &str| host.trim_end_matches('.').to_owned();
    let mut labels = vec![("__meta_dns_name", name.to_owned())];
    let address = match answer {
        Answer::Address(ip) => join_host_port(&ip.to_string(), &port),
        Answer::Service { target, port } => {
            labels.push(("__meta_dns_srv_record_target", target.clone()));
            labels.push(("__meta_dns_srv_record_port", port.to_string()));
            join_host_port(&rootless(target), &port.to_string())
        }
        Answer::Host(host) => {
            let label = match config.record {
                RecordType::Mx => "__meta_dns_mx_record_target",
                _ => "__meta_dns_ns_record_target",
            };
            labels.push((label, host.clone()));
            join_host_port(&rootless(host), &port)
        }
    };
    labels.push(("__address__", address));
    Labels::from_pairs(labels)
}
