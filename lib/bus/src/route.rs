//! From a batch to records: which partition each part belongs to, cut to the record limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Batch, Deletes, ForgetFiles, Labels, LogBatch, METRIC_NAME, MetricBatch, Origin};

use crate::{BusError, Offset, Producer, Topic, partition_for, split};

/// The partition key of a tailed file.
pub fn file_partition(file: model::FileId, partitions: u32) -> u32 {
    partition_for(file.0 as u64, partitions)
}

/// Divides a batch among partitions and cuts it to records. Series go by their hash without `le`, tailed ranges by
/// their file, pushed lines by their stream; alerts stay together.
pub fn route(batch: Batch, partitions: u32) -> Vec<(u32, Batch)> {
    let parts = divide(batch, partitions).into_iter();
    parts.flat_map(|(partition, batch)| split(batch).into_iter().map(move |cut| (partition, cut))).collect()
}

fn divide(batch: Batch, partitions: u32) -> Vec<(u32, Batch)> {
    match batch {
        Batch::Metrics(batch) => by_series(batch, partitions),
        Batch::Logs(batch) => by_origin(batch, partitions),
        Batch::ForgetFiles(batch) => by_file(batch, partitions),
        Batch::Alerts(_) => vec![(0, batch)],
        Batch::Deletes(batch) => to_all(batch, partitions),
        Batch::LineDeletes(_) => (0..partitions).map(|partition| (partition, batch.clone())).collect(),
    }
}

/// Appends all records of a batch, at once, and returns when every one is durable. On an error some may be.
pub async fn append_all(producer: &dyn Producer, topic: Topic, batch: Batch) -> Result<Vec<(u32, Offset)>, BusError> {
    let parts = divide(batch, producer.partitions(topic)).into_iter();
    let appends = parts.map(|(partition, part)| append_part(producer, topic, partition, part));
    Ok(futures::future::try_join_all(appends).await?.concat())
}

/// Appends what is of one partition: as one record, which is what it mostly is, or else cut.
async fn append_part(
    producer: &dyn Producer,
    topic: Topic,
    partition: u32,
    part: Batch,
) -> Result<Vec<(u32, Offset)>, BusError> {
    let whole = Arc::new(part);
    match producer.append(topic, partition, whole.clone()).await {
        Err(BusError::TooLarge { .. }) => {}
        appended => return Ok(vec![(partition, appended?)]),
    }
    let cuts = split(Arc::unwrap_or_clone(whole)).into_iter();
    let appends =
        cuts.map(|cut| async move { Ok((partition, producer.append(topic, partition, Arc::new(cut)).await?)) });
    futures::future::try_join_all(appends).await
}

/// One copy for the series of each partition.
fn to_all(batch: Deletes, partitions: u32) -> Vec<(u32, Batch)> {
    let of = |partition| Batch::Deletes(Deletes { partitions, partition, ..batch.clone() });
    (0..partitions).map(|partition| (partition, of(partition))).collect()
}

fn by_series(batch: MetricBatch, partitions: u32) -> Vec<(u32, Batch)> {
    if partitions == 1 {
        return vec![(0, Batch::Metrics(batch))];
    }
    let mut parts: BTreeMap<u32, MetricBatch> = BTreeMap::new();
    for series in batch.series {
        let partition = partition_for(series.labels.partition_hash(&batch.tenant), partitions);
        let empty = || MetricBatch::new(batch.tenant.clone(), Vec::new());
        parts.entry(partition).or_insert_with(empty).series.push(series);
    }
    for metadata in batch.metadata {
        let partition =
            partition_for(Labels::from_pairs([(METRIC_NAME, metadata.name.as_str())]).hash(&batch.tenant), partitions);
        let empty = || MetricBatch::new(batch.tenant.clone(), Vec::new());
        parts.entry(partition).or_insert_with(empty).metadata.push(metadata);
    }
    parts.into_iter().map(|(partition, part)| (partition, Batch::Metrics(part))).collect()
}

fn by_origin(batch: LogBatch, partitions: u32) -> Vec<(u32, Batch)> {
    match batch.origin {
        Origin::Tailed { file, .. } => vec![(file_partition(file, partitions), Batch::Logs(batch))],
        Origin::Pushed if partitions == 1 => vec![(0, Batch::Logs(batch))],
        Origin::Pushed => by_stream(&batch, partitions),
    }
}

fn by_stream(batch: &LogBatch, partitions: u32) -> Vec<(u32, Batch)> {
    let homes: Vec<u32> =
        batch.streams.iter().map(|stream| partition_for(stream.hash(&batch.tenant), partitions)).collect();
    let mut parts: BTreeMap<u32, LogBatch> = BTreeMap::new();
    for line in batch.lines() {
        let part = parts.entry(homes[line.stream as usize]).or_insert_with(|| {
            let mut part = LogBatch::new(batch.tenant.clone(), Origin::Pushed);
            part.streams.clone_from(&batch.streams);
            part.metadata.clone_from(&batch.metadata);
            part
        });
        part.push(line.stream, line.t_ns, line.text, line.metadata, 0);
    }
    parts.into_iter().map(|(partition, part)| (partition, Batch::Logs(part))).collect()
}

fn by_file(batch: ForgetFiles, partitions: u32) -> Vec<(u32, Batch)> {
    let mut parts: BTreeMap<u32, Vec<model::FileId>> = BTreeMap::new();
    for file in batch.files {
        parts.entry(file_partition(file, partitions)).or_default().push(file);
    }
    let forget = |files| Batch::ForgetFiles(ForgetFiles { tenant: batch.tenant.clone(), files });
    parts.into_iter().map(|(partition, files)| (partition, forget(files))).collect()
}

#[cfg(test)]
mod tests {
    use model::{Sample, SeriesSamples};

    use super::*;

    #[test]
    fn every_series_and_line_goes_to_one_partition_and_none_is_lost() {
        let mut metrics = MetricBatch::new("t", Vec::new());
        let mut logs = LogBatch::new("t", Origin::Pushed);
        for i in 0..100u32 {
            let labels = Labels::from_pairs([("n", i.to_string())]);
            let samples = vec![Sample { t_ms: 1, value: f64::from(i) }];
            metrics.series.push(SeriesSamples::new(labels.clone(), samples));
            logs.streams.push(labels);
            logs.push(i, 1, "x", 0, 0);
        }
        let (mut series, mut lines) = (0, 0);
        for (partition, part) in route(Batch::Metrics(metrics), 3).into_iter().chain(route(Batch::Logs(logs), 3)) {
            match part {
                Batch::Metrics(part) => {
                    series += part.series.len();
                    assert!(part.series.iter().all(|s| partition_for(s.labels.partition_hash("t"), 3) == partition));
                }
                Batch::Logs(part) => {
                    lines += part.len();
                    let home = |stream: u32| partition_for(part.streams[stream as usize].hash("t"), 3);
                    assert!(part.lines().all(|line| home(line.stream) == partition));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!((series, lines), (100, 100));
    }

    #[test]
    fn the_buckets_of_a_histogram_stay_together() {
        let bucket = |le: &str| Labels::from_pairs([("__name__", "x_bucket"), ("le", le)]).partition_hash("t");
        assert_eq!(bucket("0.5"), bucket("+Inf"));
    }
}
