//! Deletions: which samples are to be forgotten. They cover what came before them in their partition: the head forgets at
//! once, frozen heads and parts keep them beside them, reads skip what they cover, and merges leave it out.

use std::sync::Arc;

use bus::partition_for;
use model::{Deletes, Labels, MatchOp, Matcher, matches_all};
use serde::{Deserialize, Serialize};

use super::columns::{self, Samples};

/// One deletion in one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Deletion {
    selectors: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    partitions: u32,
    partition: u32,
}

/// As the manifest holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Name, operator and value of each matcher.
    selectors: Vec<Vec<(String, String, String)>>,
    start_ms: i64,
    end_ms: i64,
    partitions: u32,
    partition: u32,
}

impl From<Deletion> for Stored {
    fn from(deletion: Deletion) -> Stored {
        let Deletion { selectors, start_ms, end_ms, partitions, partition } = deletion;
        let matcher = |one: Matcher| (one.name, one.op.as_str().to_owned(), one.value);
        let selectors = selectors.into_iter().map(|all| all.into_iter().map(matcher).collect()).collect();
        Stored { selectors, start_ms, end_ms, partitions, partition }
    }
}

impl TryFrom<Stored> for Deletion {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Deletion, String> {
        let Stored { selectors, start_ms, end_ms, partitions, partition } = stored;
        let matcher = |(name, op, value): (String, String, String)| {
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let op = ops.into_iter().find(|known| known.as_str() == op).ok_or("an operator is not known")?;
            Matcher::new(name, op, value).map_err(|error| error.to_string())
        };
        let selectors = selectors.into_iter().map(|all| all.into_iter().map(matcher).collect());
        let selectors = selectors.collect::<Result<_, String>>()?;
        Ok(Deletion { selectors, start_ms, end_ms, partitions, partition })
    }
}

impl Deletion {
    pub fn of(deletes: &Deletes) -> Deletion {
        let Deletes { selectors, start_ms, end_ms, partitions, partition, .. } = deletes.clone();
        Deletion { selectors, start_ms, end_ms, partitions, partition }
    }

    pub fn selectors(&self) -> &[Vec<Matcher>] {
        &self.selectors
    }

    pub fn reaches(&self, min_ms: i64, max_ms: i64) -> bool {
        self.start_ms <= max_ms && self.end_ms >= min_ms
    }

    /// Whether it is for this series.
    pub fn covers(&self, tenant: &str, labels: &Labels) -> bool {
        self.is_home(tenant, labels) && self.selectors.iter().any(|matchers| matches_all(matchers, labels))
    }

    /// Whether the series is of this deletion's partition.
    pub fn is_home(&self, tenant: &str, labels: &Labels) -> bool {
        self.partitions <= 1 || partition_for(labels.partition_hash(tenant), self.partitions) == self.partition
    }
}

/// The ranges that are deleted of a series.
pub fn ranges_of(deletions: &[Arc<Deletion>], tenant: &str, labels: &Labels) -> Vec<(i64, i64)> {
    let covering = deletions.iter().filter(|deletion| deletion.covers(tenant, labels));
    covering.map(|deletion| (deletion.start_ms, deletion.end_ms)).collect()
}

/// Takes ranges out of columns.
pub fn remove_all(columns: &mut Samples, ranges: &[(i64, i64)]) {
    ranges.iter().for_each(|(start_ms, end_ms)| columns::remove(columns, *start_ms, *end_ms));
}
