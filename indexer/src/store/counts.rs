//! How many lines of a block are in each minute, by their metadata: what counting needs of most blocks without opening them.
//!
//! Time is divided at the minutes: a cell holds the lines of an instant that begins a minute, or those between two such
//! instants, so windows that begin or end at a minute, whichever side of it is theirs, are made of whole cells. Names of
//! metadata that have many values in a block are left out there; what tells lines apart by them must open the block, and so
//! must what asks for a block whose cells would be nearly as many as its lines.
//!
//! On disk (`docs/format/log-store.md`): a header that is read when the segment is opened, and a row for each block.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use disk::DiskReader;
use model::{Labels, varint};

use super::block::{Block, Reader, put_sets};
use super::header::{self, malformed};

const MINUTE_NS: i64 = 60_000_000_000;
/// Sets of metadata that a block's lines are told apart by.
const MAX_SETS: usize = 16;
/// A name with more values in a block is left out if the block has more sets than that.
const MAX_VALUES: usize = 8;
/// Sets of a segment; blocks that have others have no row.
const MAX_SEGMENT_SETS: usize = 4096;
/// A row has a cell for so many lines of its block at most, and some more.
const LINES_PER_CELL: usize = 8;
const SPARE_CELLS: usize = 8;
/// What a [`Rows`] reads at once.
const WINDOW_BYTES: usize = 16 << 10;
const MAX_BLOCKS: u64 = 1 << 24;

/// The lines of a block in one stretch of time with one set of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Both inclusive.
    pub first_ns: i64,
    pub last_ns: i64,
    /// The place of the set in [`Counts::sets`].
    pub set: usize,
    pub lines: u64,
    pub bytes: u64,
}

/// The number of the cell that an instant is in.
fn cell_of(t_ns: i64) -> i64 {
    2 * t_ns.div_euclid(MINUTE_NS) + i64::from(t_ns.rem_euclid(MINUTE_NS) != 0)
}

/// The first and last instant of a cell.
fn bounds_of(cell: i64) -> (i64, i64) {
    let begin_ns = cell.div_euclid(2).saturating_mul(MINUTE_NS);
    match cell.rem_euclid(2) {
        0 => (begin_ns, begin_ns),
        _ => (begin_ns + 1, begin_ns.saturating_add(MINUTE_NS - 1)),
    }
}

#[derive(Default)]
pub struct CountsBuilder {
    sets: Vec<Labels>,
    places: HashMap<Labels, u64>,
    row_bytes: Vec<u64>,
    rows: Vec<u8>,
}

impl CountsBuilder {
    pub fn add_block(&mut self, block: &Block) {
        let before = self.rows.len();
        let max_cells = block.len() / LINES_PER_CELL + SPARE_CELLS;
        let (projected, left_out) = projected(block.metadata_sets());
        if let Some(places) = projected.iter().chain([&left_out]).map(|set| self.place(set)).collect::<Option<Vec<_>>>()
        {
            let cells = cells(block, &places[..projected.len()]);
            if cells.len() <= max_cells {
                varint::put(&mut self.rows, places[projected.len()]);
                let mut last = cell_of(block.min_ns);
                for ((cell, set), (lines, bytes)) in cells {
                    for number in [(cell - last) as u64, set, lines, bytes] {
                        varint::put(&mut self.rows, number);
                    }
                    last = cell;
                }
            }
        }
        self.row_bytes.push((self.rows.len() - before) as u64);
    }

    fn place(&mut self, set: &Labels) -> Option<u64> {
        if self.sets.is_empty() {
            self.sets.push(Labels::default());
            self.places.insert(Labels::default(), 0);
        }
        if let Some(place) = self.places.get(set) {
            return Some(*place);
        }
        let place = self.sets.len();
        if place >= MAX_SEGMENT_SETS {
            return None;
        }
        self.sets.push(set.clone());
        self.places.insert(set.clone(), place as u64);
        Some(place as u64)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut header = Vec::new();
        put_sets(&self.sets, &mut header);
        varint::put(&mut header, self.row_bytes.len() as u64);
        self.row_bytes.iter().for_each(|bytes| varint::put(&mut header, *bytes));
        header::with_rows(&header, &self.rows)
    }
}

/// For each set of a block what its lines are told apart by, and the names that are left out, as a set.
fn projected(sets: &[Labels]) -> (Vec<Labels>, Labels) {
    if sets.len() <= MAX_SETS {
        return (sets.to_vec(), Labels::default());
    }
    let mut values: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for label in sets.iter().flatten() {
        let values = values.entry(&label.name).or_default();
        if values.len() <= MAX_VALUES {
            values.insert(&label.value);
        }
    }
    let mut kept: Vec<&str> = Vec::new();
    kept.extend(values.iter().filter(|(_, values)| values.len() <= MAX_VALUES).map(|(name, _)| *name));
    let mut projected: Vec<Labels> = sets.iter().map(|set| set.only(&kept)).collect();
    if projected.iter().collect::<HashSet<_>>().len() > MAX_SETS {
        kept.clear();
        projected.fill(Labels::default());
    }
    let left_out = values.keys().filter(|name| !kept.contains(name)).map(|name| (*name, "?"));
    (projected, Labels::from_pairs(left_out))
}

type Cells = BTreeMap<(i64, u64), (u64, u64)>;

/// Lines and bytes by cell and the place of the set; `places` is that of each set of the block.
fn cells(block: &Block, places: &[u64]) -> Cells {
    let mut cells = Cells::new();
    // Lines mostly rise: what is in the cell of the line before is added up by set.
    let (mut current, mut bounds, mut counted) = (0, (i64::MAX, i64::MIN), vec![(0u64, 0u64); places.len()]);
    let flush = |cells: &mut Cells, cell: i64, counted: &mut [(u64, u64)]| {
        for ((lines, bytes), place) in counted.iter_mut().zip(places).filter(|((lines, _), _)| *lines > 0) {
            let entry = cells.entry((cell, *place)).or_default();
            *entry = (entry.0 + *lines, entry.1 + *bytes);
            (*lines, *bytes) = (0, 0);
        }
    };
    for (line, set) in block.lines().zip(block.metadata()) {
        if line.t_ns < bounds.0 || line.t_ns > bounds.1 {
            flush(&mut cells, current, &mut counted);
            current = cell_of(line.t_ns);
            bounds = bounds_of(current);
        }
        let (lines, bytes) = &mut counted[*set as usize];
        (*lines, *bytes) = (*lines + 1, *bytes + line.text.len() as u64);
    }
    flush(&mut cells, current, &mut counted);
    cells
}

/// The counts of a segment's blocks.
pub struct Counts {
    reader: Arc<dyn DiskReader>,
    pub sets: Vec<Labels>,
    /// Where each row begins, and where the last ends.
    starts: Vec<u64>,
}

impl Counts {
    /// Reads the header; the file's checksum is the caller's matter.
    pub fn open(reader: Arc<dyn DiskReader>) -> io::Result<Counts> {
        let (header, rows_at) = header::read(reader.as_ref())?;
        let mut header = Reader { rest: &header };
        let sets = header.metadata_sets().map_err(malformed)?;
        let blocks = header.varint().map_err(malformed)?;
        if blocks > MAX_BLOCKS.min(header.rest.len() as u64) {
            return Err(malformed("counts of more blocks than they have rows"));
        }
        let (mut starts, mut at) = (vec![rows_at], rows_at);
        for _ in 0..blocks {
            at = at.saturating_add(header.varint().map_err(malformed)?);
            starts.push(at);
        }
        match at == reader.len()? {
            true => Ok(Counts { reader, sets, starts }),
            false => Err(malformed("counts of another length than they say")),
        }
    }

    pub fn rows(&self) -> Rows<'_> {
        Rows { counts: self, at: 0, bytes: Vec::new() }
    }
}

/// Reads rows, best in their order.
pub struct Rows<'a> {
    pub counts: &'a Counts,
    /// What is at hand of the file, from `at` on.
    at: u64,
    bytes: Vec<u8>,
}

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its names are those of metadata that lines are not told apart by.
    pub left_out: usize,
    pub cells: Vec<Cell>,
}

impl Rows<'_> {
    /// The row of a block that has `lines` from `min_ns` to `max_ns`, if there is one. An error says that it is not what was
    /// written.
    pub fn row(&mut self, block: u32, lines: u64, (min_ns, max_ns): (i64, i64)) -> io::Result<Option<Row>> {
        let bytes = self.bytes_of(block)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader { rest: bytes };
        let mut number = || reader.varint().map_err(malformed);
        let left_out = number()? as usize;
        let (mut cells, mut cell, mut counted) = (Vec::new(), cell_of(min_ns), 0u64);
        while counted < lines {
            cell = cell.saturating_add_unsigned(number()?);
            let [set, lines, bytes] = [number()?, number()?, number()?];
            let (first_ns, last_ns) = bounds_of(cell);
            let (first_ns, last_ns) = (first_ns.max(min_ns), last_ns.min(max_ns));
            counted = counted.saturating_add(lines);
            if lines == 0 || first_ns > last_ns {
                return Err(malformed("a count of no lines"));
            }
            cells.push(Cell { first_ns, last_ns, set: set as usize, lines, bytes });
        }
        let sets = self.counts.sets.len();
        let is_sound = counted == lines && left_out < sets && cells.iter().all(|cell| cell.set < sets);
        if is_sound { Ok(Some(Row { left_out, cells })) } else { Err(malformed("counts that do not fit the block")) }
    }

    fn bytes_of(&mut self, block: u32) -> io::Result<&[u8]> {
        let bounds = self.counts.starts.get(block as usize..block as usize + 2);
        let [from, to] = *bounds.ok_or_else(|| malformed("a block without counts"))? else { return Ok(&[]) };
        if from < self.at || to > self.at + self.bytes.len() as u64 {
            let end = self.counts.starts.last().copied().unwrap_or(to);
            let length = (to - from).max(WINDOW_BYTES as u64).min(end - from);
            self.bytes.resize(length as usize, 0);
            self.counts.reader.read_exact_at(from, &mut self.bytes)?;
            self.at = from;
        }
        Ok(&self.bytes[(from - self.at) as usize..(to - self.at) as usize])
    }
}
