//! Reading in no order, on several threads: for counts ([`super::tally`]), and for whatever is put together by time later.
//!
//! Each block is read by itself. Only blocks of one pushed stream that come from different sources and overlap in time may
//! hold copies of a line; those are read one after the other, and a line counts where it is met first.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::Labels;
use parking_lot::Mutex;
use query::{LineSelect, LineVisitor, QueryError, SelectedLine, Visit};

use super::block::BlockLine;
use super::candidate::Candidate;
use super::head::line_hash;
use super::opened::{OpenBlock, Sought};

/// Threads that a query reads with at most.
const MAX_THREADS: usize = 8;

/// Does each job on one of so many threads; those after a failure or a break are left undone.
pub fn on_threads<J: Sync, W: Send>(
    jobs: &[J],
    workers: &mut [W],
    work: impl Fn(&mut W, &J) -> Result<Visit, QueryError> + Sync,
) -> Result<(), QueryError> {
    let (next, is_over, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let run = |worker: &mut W| {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            match work(worker, job) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(error) => {
                    is_over.store(true, Ordering::Relaxed);
                    failure.lock().get_or_insert(error);
                }
            }
        }
    };
    match workers {
        [] => {}
        [only] => run(only),
        _ if jobs.len() < 2 => run(&mut workers[0]),
        _ => std::thread::scope(|scope| {
            for worker in workers {
                scope.spawn(|| run(worker));
            }
        }),
    }
    failure.into_inner().map_or(Ok(()), Err)
}

/// So many threads are worth having for these jobs.
pub fn threads_for(jobs: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(jobs)
}

/// Opens blocks side by side; `None` for one that cannot be read.
pub fn open_all(
    candidates: Vec<Candidate>,
    request: &LineSelect<'_>,
    sought: &Sought,
) -> Vec<(Candidate, Option<OpenBlock>)> {
    if candidates.len() < 2 {
        return candidates.into_iter().map(|one| (one.clone(), one.open(request, sought))).collect();
    }
    let opened: Mutex<Vec<(usize, Option<OpenBlock>)>> = Mutex::default();
    let jobs: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
    let done = on_threads(&jobs, &mut vec![(); threads_for(jobs.len())], |(), (place, candidate)| {
        let block = candidate.open(request, sought);
        opened.lock().push((*place, block));
        Ok(ControlFlow::Continue(()))
    });
    assert!(done.is_ok(), "opening never fails as a whole");
    let mut opened = opened.into_inner();
    opened.sort_unstable_by_key(|(place, _)| *place);
    candidates.into_iter().zip(opened.into_iter().map(|(_, block)| block)).collect()
}

/// Blocks that must be read together, because they may hold copies of a line.
pub type Job = Vec<Candidate>;

/// Puts blocks of a pushed stream together that overlap and come from different sources.
pub fn jobs(candidates: Vec<Candidate>) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut by_stream: HashMap<Labels, Vec<Candidate>> = HashMap::new();
    for candidate in candidates {
        match candidate.pushed {
            true => by_stream.entry(candidate.labels.clone()).or_default().push(candidate),
            false => jobs.push(vec![candidate]),
        }
    }
    by_stream.into_values().for_each(|blocks| together(blocks, &mut jobs));
    jobs
}

/// So that no thread is left with a large one at the end.
pub fn largest_first(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by_cached_key(|job| std::cmp::Reverse(job.iter().map(|one| one.text_bytes).sum::<u64>()));
    jobs
}

/// Adds the jobs of one stream.
fn together(mut blocks: Vec<Candidate>, jobs: &mut Vec<Job>) {
    blocks.sort_by_key(|one| (one.min_ns, one.rank));
    // The first block of those that a block is read with.
    let mut leaders: Vec<usize> = (0..blocks.len()).collect();
    for i in 0..blocks.len() {
        let overlapping = (i + 1..blocks.len()).take_while(|j| blocks[*j].min_ns <= blocks[i].max_ns);
        for j in overlapping.filter(|j| blocks[*j].rank.0 != blocks[i].rank.0) {
            let (from, to) = (leaders[i].max(leaders[j]), leaders[i].min(leaders[j]));
            leaders.iter_mut().filter(|leader| **leader == from).for_each(|leader| *leader = to);
        }
    }
    let mut of_leader: HashMap<usize, Job> = HashMap::new();
    for (block, leader) in blocks.into_iter().zip(leaders) {
        of_leader.entry(leader).or_default().push(block);
    }
    jobs.extend(of_leader.into_values());
}

/// When a block's lines may have copies in another source: mostly a moment at its end, where the next segment begins.
fn shared_times(candidate: &Candidate, job: &Job) -> Vec<RangeInclusive<i64>> {
    let others = job.iter().filter(|other| other.rank.0 != candidate.rank.0);
    let shared = others.map(|other| candidate.min_ns.max(other.min_ns)..=candidate.max_ns.min(other.max_ns));
    shared.filter(|times| !times.is_empty()).collect()
}

/// Opens the blocks of a job one after the other, and leaves each line to the first that has it.
pub fn each_block(
    job: &Job,
    request: &LineSelect<'_>,
    sought: &Sought,
    mut visit: impl FnMut(&Candidate, &OpenBlock) -> Result<Visit, QueryError>,
) -> Result<Visit, QueryError> {
    let (mut seen, mut buffer) = (HashSet::new(), String::new());
    for candidate in job {
        candidate.check(request)?;
        let Some(mut opened) = candidate.open(request, sought) else { continue };
        let shared = shared_times(candidate, job);
        if !shared.is_empty() {
            let mut lines = std::mem::take(&mut opened.lines);
            let is_new = |line: &u32| {
                let t_ns = opened.times()[*line as usize];
                if !shared.iter().any(|times| times.contains(&t_ns)) {
                    return true;
                }
                match opened.line(*line, &mut buffer) {
                    Ok((metadata, text)) => seen.insert(line_hash(BlockLine { t_ns, text, metadata })),
                    Err(error) => {
                        candidate.report(&error);
                        false
                    }
                }
            };
            lines.retain(is_new);
            opened.lines = lines;
        }
        if !opened.lines.is_empty() && visit(candidate, &opened)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

pub fn scan(
    candidates: Vec<Candidate>,
    request: &LineSelect<'_>,
    visitors: &mut [LineVisitor<'_>],
) -> Result<(), QueryError> {
    let sought = Sought::new(request);
    on_threads(&largest_first(jobs(candidates)), visitors, |visitor, job| {
        let mut buffer = String::new();
        each_block(job, request, &sought, |candidate, opened| {
            for line in &opened.lines {
                let (metadata, text) = match opened.line(*line, &mut buffer) {
                    Ok(read) => read,
                    Err(error) => {
                        candidate.report(&error);
                        break;
                    }
                };
                let (labels, t_ns) = (&candidate.labels, opened.times()[*line as usize]);
                if visitor(SelectedLine { labels, metadata, t_ns, text }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    })
}
