//! One target's beat: when it is scraped, and what is done with what came.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::Producer;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::TargetStatus;
use super::counters::Counters;
use super::fetch::fetch;
use super::history::History;
use super::target::Target;

/// How long the last samples of a target may take.
const LAST_SHIPMENT: Duration = Duration::from_secs(2);
/// A scrape this near its beat, and within a hundredth of the interval, has the beat's time.
const TOLERANCE_MS: i64 = 5;

pub struct Loop {
    pub producer: Arc<dyn Producer>,
    pub history: History,
    pub counters: Counters,
    /// What is scraped, as the configuration has it now.
    pub target: watch::Receiver<Arc<Target>>,
    pub status: Arc<Mutex<TargetStatus>>,
}

/// Even moments: every interval, at an offset that is the target's own.
struct Beat {
    interval: Duration,
    next: Instant,
    next_ms: i64,
}

impl Beat {
    fn new(target: &Target, now: Instant, now_ms: i64) -> Beat {
        let interval_ms = (target.interval.as_millis() as i64).max(1);
        let wait_ms = interval_ms - (now_ms - target.offset_ms()).rem_euclid(interval_ms);
        let interval = Duration::from_millis(interval_ms as u64);
        Beat { interval, next: now + Duration::from_millis(wait_ms as u64), next_ms: now_ms + wait_ms }
    }

    /// The time of a scrape that begins now; the beat goes on to the next that is ahead.
    fn take(&mut self, now: Instant, now_ms: i64) -> i64 {
        let interval_ms = self.interval.as_millis() as i64;
        let missed = (now.saturating_duration_since(self.next).as_nanos() / self.interval.as_nanos()) as u32;
        let beat_ms = self.next_ms + interval_ms * i64::from(missed);
        let apart_ms = (now_ms - beat_ms).abs();
        self.next += self.interval * (missed + 1);
        // Where the clock was set, the beat is where it is now.
        self.next_ms = if apart_ms > interval_ms { now_ms } else { beat_ms } + interval_ms;
        if apart_ms <= TOLERANCE_MS.min(interval_ms / 100) { beat_ms } else { now_ms }
    }
}

impl Loop {
    /// Scrapes until `stop`; ends the series then, unless the whole `process` stops.
    pub async fn run(mut self, stop: CancellationToken, process: CancellationToken) {
        let mut beat = Beat::new(&self.history.target, Instant::now(), model::now_ms());
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(beat.next) => {}
                changed = self.target.changed() => {
                    if changed.is_ok() {
                        let target = self.target.borrow_and_update().clone();
                        if target.interval != self.history.target.interval {
                            beat = Beat::new(&target, Instant::now(), model::now_ms());
                        }
                        self.history.retarget(target);
                        continue;
                    }
                    break;
                }
                () = stop.cancelled() => break,
            }
            let t_ms = beat.take(Instant::now(), model::now_ms());
            tokio::select! {
                biased;
                () = self.scrape(t_ms) => {}
                () = stop.cancelled() => break,
            }
        }
        if process.is_cancelled() {
            return;
        }
        let batch = self.history.end(model::now_ms());
        crate::metrics::ship(self.producer.as_ref(), batch, "the end of a target", LAST_SHIPMENT).await;
    }

    async fn scrape(&mut self, t_ms: i64) {
        let (start, target) = (Instant::now(), self.history.target.clone());
        let fetched = tokio::time::timeout(target.timeout, fetch(&target, &self.counters)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("Get {:?}: context deadline exceeded", target.url)));
        let took = start.elapsed();
        let (batch, outcome) = self.history.scrape(fetched, t_ms, took);
        if let (Some(error), Some(path)) = (&outcome.error, &target.job.config.scrape_failure_log_file) {
            log_failure(path, &target, error);
        }
        {
            let mut status = self.status.lock();
            status.health = if outcome.error.is_none() { "up" } else { "down" };
            status.last_error = outcome.error.unwrap_or_default();
            status.last_scrape_ms = t_ms;
            status.last_scrape_duration_seconds = took.as_secs_f64();
            status.metadata = self.history.metadata.clone();
        }
        let samples = batch.sample_count() as u64;
        if !crate::metrics::ship(self.producer.as_ref(), batch, "a scrape", target.interval).await {
            self.counters.lost.get_or_create(&vec![("job", target.job.config.job_name.clone())]).inc_by(samples);
        }
    }
}

/// One JSON object a line, as Prometheus writes them.
fn log_failure(path: &Path, target: &Target, error: &str) {
    let line = serde_json::json!({
        "time": model::format_rfc3339_ms(model::now_ms()),
        "level": "ERROR",
        "msg": error,
        "job_name": target.job.config.job_name,
        "target": target.url,
    });
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        tracing::warn!(%error, path = %path.display(), "scrape_failure_log_file cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::{static_targets, targets};
    use super::*;

    #[test]
    fn moments_are_even() {
        let yaml = "scrape_configs: [{job_name: j, scrape_interval: 10s, static_configs: [{targets: ['h:1']}]}]";
        let config: service::config::Config = serde_saphyr::from_str(yaml).expect("good YAML");
        let job = super::super::Job::new(&config.global, &config.scrape_configs[0]).expect("a job");
        let job = Arc::new(job);
        let target = targets(&job, static_targets(&job.config)).kept.remove(0);
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut beat = Beat::new(&target, start, 1_000_003);
        let first_ms = beat.next_ms;
        assert!(first_ms > 1_000_003 && first_ms <= 1_010_003 && (first_ms - target.offset_ms()) % 10_000 == 0);
        let first = beat.next;
        assert_eq!(first - start, ms((first_ms - 1_000_003) as u64));
        assert_eq!(beat.take(first + ms(2), first_ms + 2), first_ms, "as good as on time");
        assert_eq!(beat.take(first + ms(10_500), first_ms + 10_500), first_ms + 10_500, "late is late");
        assert_eq!(beat.next, first + ms(20_000));
        assert_eq!(beat.take(first + ms(45_000), first_ms + 45_000), first_ms + 45_000);
        assert_eq!((beat.next, beat.next_ms), (first + ms(50_000), first_ms + 50_000), "what was missed is left out");
        assert_eq!(beat.take(first + ms(50_000), 7), 7);
        assert_eq!(beat.next_ms, 10_007, "the clock was set back");
    }
}
