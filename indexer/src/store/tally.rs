//! Counting lines between instants.
//!
//! Where all lines of a block count, its minutes are told beforehand ([`super::counts`]) and it is not opened, unless an
//! instant at which counts part falls within one of them. Other blocks are opened, on several threads.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::Labels;
use parking_lot::Mutex;
use query::{Edges, LineSelect, QueryError, Tally, Visit};

use super::candidate::{Candidate, check_deadline};
use super::counts::{Row, Rows};
use super::error::StoreError;
use super::opened::{OpenBlock, Place, Sought};
use super::segment::Segment;
use super::unordered::{Job, each_block, jobs, largest_first, on_threads, threads_for};

/// How lines are counted.
pub struct Asked<'a> {
    /// Rising; a line counts at the first that it is not behind.
    pub edges: &'a [i64],
    pub with_bytes: bool,
}

type Visitor<'a> = &'a mut (dyn FnMut(Tally<'_>) -> Visit + Send);

pub fn tally(
    candidates: Vec<Candidate>,
    request: &LineSelect<'_>,
    asked: &Asked<'_>,
    visit: Visitor<'_>,
) -> Result<(), QueryError> {
    let mut jobs = jobs(candidates);
    if request.contains.is_empty() && request.words.is_empty() {
        jobs = match told(jobs, request, asked, visit)? {
            ControlFlow::Continue(left) => left,
            ControlFlow::Break(()) => return Ok(()),
        };
    }
    let (jobs, sought) = (largest_first(jobs), Sought::new(request));
    let visit = Mutex::new((visit, ControlFlow::Continue(())));
    on_threads(&jobs, &mut vec![(); threads_for(jobs.len())], |(), job| {
        each_block(job, request, &sought, |candidate, opened| {
            let counted = count(opened, request, asked).unwrap_or_else(|error| {
                candidate.report(&error);
                Vec::new()
            });
            let (visit, state) = &mut *visit.lock();
            if state.is_continue() {
                *state = hand_out(&counted, &candidate.labels, visit);
            }
            Ok(*state)
        })
    })
}

/// Lines of a block that count at one edge.
struct Counted {
    metadata: Labels,
    edge: usize,
    lines: u64,
    bytes: u64,
}

fn hand_out(counted: &[Counted], labels: &Labels, visit: Visitor<'_>) -> Visit {
    counted.iter().try_for_each(|counted| {
        let Counted { metadata, edge, lines, bytes } = counted;
        visit(Tally { labels, metadata, edge: *edge, lines: *lines, bytes: *bytes })
    })
}

/// Hands out what is told of blocks beforehand, and answers the jobs of the others.
fn told(
    jobs: Vec<Job>,
    request: &LineSelect<'_>,
    asked: &Asked<'_>,
    visit: Visitor<'_>,
) -> Result<ControlFlow<(), Vec<Job>>, QueryError> {
    let (mut alone, mut left): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.len() == 1);
    // Rows are read in their order, and neighbours are of one stream.
    alone.sort_unstable_by_key(|job| job[0].rank);
    let mut alone = alone.into_iter().peekable();
    while let Some(job) = alone.next() {
        let Place::Segment(segment, _) = &job[0].place else {
            left.push(job);
            continue;
        };
        let segment = segment.clone();
        let mut of_segment = vec![job];
        while let Some(job) = alone.next_if(|job| is_in(&job[0], &segment)) {
            of_segment.push(job);
        }
        check_deadline(request.deadline)?;
        if told_of_segment(&segment, of_segment, request, asked, visit, &mut left).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(left))
}

fn is_in(candidate: &Candidate, segment: &Arc<Segment>) -> bool {
    matches!(&candidate.place, Place::Segment(of, _) if Arc::ptr_eq(of, segment))
}

fn told_of_segment(
    segment: &Segment,
    jobs: Vec<Job>,
    request: &LineSelect<'_>,
    asked: &Asked<'_>,
    visit: Visitor<'_>,
    left: &mut Vec<Job>,
) -> Visit {
    let Some(counts) = segment.counts() else {
        left.extend(jobs);
        return ControlFlow::Continue(());
    };
    let told_apart: Vec<bool> =
        counts.sets.iter().map(|set| set.iter().any(|label| request.may_be_told_by(&label.name))).collect();
    let (mut rows, mut edges) = (counts.rows(), Edges::new(asked.edges));
    for job in jobs {
        match counted_before(&mut rows, &job[0], request, &mut edges, &told_apart) {
            Some(counted) => hand_out(&counted, &job[0].labels, visit)?,
            None => left.push(job),
        }
    }
    ControlFlow::Continue(())
}

/// The counts of a block that need not be opened for them.
fn counted_before(
    rows: &mut Rows<'_>,
    candidate: &Candidate,
    request: &LineSelect<'_>,
    edges: &mut Edges<'_>,
    told_apart: &[bool],
) -> Option<Vec<Counted>> {
    let Place::Segment(_, block) = candidate.place else { return None };
    if !candidate.erasures.is_empty() || candidate.oldest_ns > candidate.min_ns {
        return None;
    }
    let row = rows.row(block, candidate.lines, (candidate.min_ns, candidate.max_ns));
    // The block itself tells what its row does not.
    let Row { left_out, cells } = row.inspect_err(|error| tracing::error!(%error, block, "a row of counts")).ok()??;
    if told_apart[left_out] {
        return None;
    }
    let mut counted: Vec<Counted> = Vec::new();
    for cell in cells {
        let [first, last] =
            [cell.first_ns, cell.last_ns].map(|t_ns| (request.start_ns..request.end_ns).contains(&t_ns));
        let edge = edges.of(cell.first_ns);
        if first != last || edge != edges.of(cell.last_ns) {
            return None;
        }
        if !first || edges.is_behind_all(edge) {
            continue;
        }
        let metadata = if told_apart[cell.set] { rows.counts.sets[cell.set].clone() } else { Labels::default() };
        add(&mut counted, Counted { metadata, edge, lines: cell.lines, bytes: cell.bytes });
    }
    Some(counted)
}

/// Adds to the counts at the same edge, which are among the last.
fn add(counted: &mut Vec<Counted>, more: Counted) {
    let of_edge = counted.iter_mut().rev().take_while(|before| before.edge == more.edge);
    match of_edge.into_iter().find(|before| before.metadata == more.metadata) {
        Some(same) => {
            same.lines += more.lines;
            same.bytes += more.bytes;
        }
        None => counted.push(more),
    }
}

/// Counts a block's lines by as much of their metadata as the request tells them apart by.
fn count(opened: &OpenBlock, request: &LineSelect<'_>, asked: &Asked<'_>) -> Result<Vec<Counted>, StoreError> {
    let is_told_apart = opened.metadata_sets()?.iter().flatten().any(|label| request.may_be_told_by(&label.name));
    let (mut edges, mut counted, times) = (Edges::new(asked.edges), Vec::new(), opened.times());
    let mut rest = opened.lines.as_slice();
    while let Some(first) = rest.first() {
        let edge = edges.of(times[*first as usize]);
        let Some(edge_ns) = asked.edges.get(edge) else { break };
        // They are in time order.
        let (at_edge, behind) = rest.split_at(rest.partition_point(|line| times[*line as usize] <= *edge_ns));
        match is_told_apart {
            true => count_sets(opened, at_edge, edge, asked, &mut counted)?,
            false => counted.push(Counted {
                metadata: Labels::default(),
                edge,
                lines: at_edge.len() as u64,
                bytes: text_bytes(opened, at_edge, asked)?,
            }),
        }
        rest = behind;
    }
    Ok(counted)
}

/// The bytes of lines, if they are asked for.
fn text_bytes(opened: &OpenBlock, lines: &[u32], asked: &Asked<'_>) -> Result<u64, StoreError> {
    match asked.with_bytes {
        true => lines.iter().map(|line| Ok(u64::from(opened.text_bytes(*line)?))).sum(),
        false => Ok(0),
    }
}

/// Counts lines that count at one edge by their metadata.
fn count_sets(
    opened: &OpenBlock,
    lines: &[u32],
    edge: usize,
    asked: &Asked<'_>,
    counted: &mut Vec<Counted>,
) -> Result<(), StoreError> {
    let mut places: HashMap<usize, usize> = HashMap::new();
    let mut last: Option<(usize, usize)> = None;
    for line in lines {
        let metadata = opened.metadata(*line)?;
        let set = metadata.address();
        let place = match last.filter(|(before, _)| *before == set) {
            Some((_, place)) => place,
            None => *places.entry(set).or_insert_with(|| {
                counted.push(Counted { metadata: metadata.clone(), edge, lines: 0, bytes: 0 });
                counted.len() - 1
            }),
        };
        last = Some((set, place));
        counted[place].lines += 1;
        counted[place].bytes += text_bytes(opened, &[*line], asked)?;
    }
    Ok(())
}
