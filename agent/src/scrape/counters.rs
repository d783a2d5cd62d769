//! Scraping about itself, under the names that rules for Prometheus know.

use service::metrics::{Counter, CounterBy, Gauge, Metrics};

#[derive(Clone, Default)]
pub struct Counters {
    pub over_sample_limit: Counter,
    pub over_body_limit: Counter,
    pub over_label_limits: Counter,
    pub over_target_limit: Counter,
    pub over_bucket_limit: Counter,
    pub duplicates: Counter,
    pub out_of_bounds: Counter,
    pub reloads: Counter,
    /// Batches that the bus did not take in time, by what was lost.
    pub lost: CounterBy,
    pub targets: Gauge,
    pub pools: Gauge,
}

impl Counters {
    pub fn register(&self, metrics: &Metrics) {
        metrics.register_known(|registry| {
            let counters = [
                ("target_scrapes_exceeded_sample_limit", "Scrapes over sample_limit", &self.over_sample_limit),
                ("target_scrapes_exceeded_body_size_limit", "Scrapes over body_size_limit", &self.over_body_limit),
                ("target_scrape_pool_exceeded_label_limits", "Scrapes over a limit of labels", &self.over_label_limits),
                ("target_scrape_pool_exceeded_target_limit", "Jobs found over target_limit", &self.over_target_limit),
                (
                    "target_scrapes_exceeded_native_histogram_bucket_limit",
                    "Scrapes over native_histogram_bucket_limit",
                    &self.over_bucket_limit,
                ),
                ("target_scrapes_sample_duplicate_timestamp", "Samples that came twice in a scrape", &self.duplicates),
                ("target_scrapes_sample_out_of_bounds", "Samples too far ahead", &self.out_of_bounds),
                ("target_scrape_pool_reloads", "Changes of the configuration", &self.reloads),
            ];
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
        });
        metrics.register(|registry| {
            registry.register("agent_scrape_targets", "Targets that are scraped", self.targets.clone());
            registry.register("agent_scrape_jobs", "Scrape jobs", self.pools.clone());
            registry.register("agent_samples_lost", "Samples that the bus did not take", self.lost.clone());
        });
    }
}
