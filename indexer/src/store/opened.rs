//! A block while a query reads it: of the head, or of a segment, opened as far as was needed.

use std::sync::Arc;

use model::Labels;
use query::{AnyOf, LineSelect};

use super::block::{Block, BlockLine};
use super::erasure::Erasers;
use super::error::StoreError;
use super::head::HeadBlock;
use super::segment::{Opened, Segment};
use super::stored::StoredBlock;
use super::text::{Malformed, Needle, retain};

/// Where a block is.
#[derive(Clone)]
pub enum Place {
    Head(Arc<HeadBlock>),
    Segment(Arc<Segment>, u32),
}

/// What lines must hold: a needle of each of these.
pub struct Sought(Vec<Vec<Needle>>);

impl Sought {
    pub fn new(request: &LineSelect<'_>) -> Sought {
        let needles = |any: &AnyOf| any.texts.iter().map(|text| Needle::new(text, any.ignore_case)).collect();
        let words = request.words.iter().map(|word| vec![Needle::of_word(word)]);
        Sought(request.contains.iter().map(needles).chain(words).collect())
    }
}

enum Content {
    Head(Arc<HeadBlock>),
    Whole(Box<Block>),
    Stored(Box<StoredBlock>, Arc<Segment>, u32),
}

pub struct OpenBlock {
    content: Content,
    /// The lines that are wanted, by time, ties in order of arrival.
    pub lines: Vec<u32>,
}

/// A reason of a block that is not what was written, or an error on the way to it.
struct Failure(Result<StoreError, Malformed>);

impl From<Malformed> for Failure {
    fn from(reason: Malformed) -> Failure {
        Failure(Err(reason))
    }
}

impl OpenBlock {
    /// Opens a block and finds the lines in `start_ns..end_ns` that hold what is sought.
    pub fn open(place: Place, start_ns: i64, end_ns: i64, sought: &Sought) -> Result<OpenBlock, StoreError> {
        let content = match place {
            Place::Head(head) => Content::Head(head),
            Place::Segment(segment, number) => match segment.open_block(number)? {
                Opened::Whole(block) => Content::Whole(block),
                Opened::Stored(block) => Content::Stored(block, segment, number),
            },
        };
        let mut opened = OpenBlock { content, lines: Vec::new() };
        let times = opened.times();
        let is_sorted = times.is_sorted();
        let in_range = |t_ns: &i64| (start_ns..end_ns).contains(t_ns);
        let all = 0..times.len() as u32;
        let mut lines: Vec<u32> = match times.iter().all(in_range) {
            true => all.collect(),
            false => all.filter(|line| in_range(&times[*line as usize])).collect(),
        };
        for needles in &sought.0 {
            if lines.is_empty() {
                break;
            }
            let held = opened.held(needles)?;
            retain(&mut lines, |line| held[line as usize]);
        }
        if !is_sorted {
            lines.sort_by_key(|line| times[*line as usize]);
        }
        opened.lines = lines;
        Ok(opened)
    }

    /// Takes out of its lines those that were erased.
    pub fn erase(&mut self, erasers: &mut Erasers<'_>) -> Result<(), StoreError> {
        let (mut kept, mut buffer) = (Vec::with_capacity(self.lines.len()), String::new());
        for line in &self.lines {
            let t_ns = self.times()[*line as usize];
            let (metadata, text) = self.line(*line, &mut buffer)?;
            if !erasers.erase(BlockLine { t_ns, text, metadata }) {
                kept.push(*line);
            }
        }
        self.lines = kept;
        Ok(())
    }

    pub fn times(&self) -> &[i64] {
        match &self.content {
            Content::Head(head) => head.block.times(),
            Content::Whole(block) => block.times(),
            Content::Stored(block, ..) => block.times(),
        }
    }

    fn body(&self) -> Body<'_> {
        match &self.content {
            Content::Head(head) => Body::Whole(&head.block),
            Content::Whole(block) => Body::Whole(block),
            Content::Stored(block, segment, number) => Body::Stored(StoredBody { block, segment, number: *number }),
        }
    }

    /// For each line whether it holds one of the needles.
    fn held(&self, needles: &[Needle]) -> Result<Vec<bool>, StoreError> {
        let mut held = vec![false; self.times().len()];
        match self.body() {
            Body::Whole(block) => {
                for needle in needles.iter().filter(|needle| needle.is_in(block.text().as_bytes())) {
                    for (held, text) in held.iter_mut().zip(block.texts()) {
                        *held = *held || needle.is_in(text.as_bytes());
                    }
                }
            }
            Body::Stored(body) => {
                for needle in needles {
                    let found = body.block.find(needle, |from| body.tail(from), &mut |line| held[line as usize] = true);
                    found.map_err(|failure| body.error(failure))?;
                }
            }
        }
        Ok(held)
    }

    /// A line's metadata and its text, which may be written into `buffer`.
    pub fn line<'a>(&'a self, line: u32, buffer: &'a mut String) -> Result<(&'a Labels, &'a str), StoreError> {
        match self.body() {
            Body::Whole(block) => {
                let line = block.line(line as usize);
                Ok((line.metadata, line.text))
            }
            Body::Stored(body) => {
                let read = body.block.line(line as usize, |from| body.tail(from), buffer);
                read.map_err(|failure| body.error(failure))?;
                Ok((body.metadata(line)?, buffer))
            }
        }
    }

    /// The sets of structured metadata that its lines have.
    pub fn metadata_sets(&self) -> Result<&[Labels], StoreError> {
        match self.body() {
            Body::Whole(block) => Ok(block.metadata_sets()),
            Body::Stored(body) => body.block.metadata_sets().map_err(|reason| body.error(reason.into())),
        }
    }

    pub fn metadata(&self, line: u32) -> Result<&Labels, StoreError> {
        match self.body() {
            Body::Whole(block) => Ok(block.line(line as usize).metadata),
            Body::Stored(body) => body.metadata(line),
        }
    }

    /// The length of a line's text.
    pub fn text_bytes(&self, line: u32) -> Result<u32, StoreError> {
        match self.body() {
            Body::Whole(block) => Ok(block.line(line as usize).text.len() as u32),
            Body::Stored(body) => {
                let texts = body.block.texts().map_err(|reason| body.error(reason.into()))?;
                Ok(texts.line_bytes(line as usize) as u32)
            }
        }
    }
}

enum Body<'a> {
    Whole(&'a Block),
    Stored(StoredBody<'a>),
}

#[derive(Clone, Copy)]
struct StoredBody<'a> {
    block: &'a StoredBlock,
    segment: &'a Segment,
    number: u32,
}

impl<'a> StoredBody<'a> {
    fn tail(&self, from: usize) -> Result<Vec<u8>, Failure> {
        self.segment.tail(self.number, from).map_err(|error| Failure(Ok(error)))
    }

    fn metadata(&self, line: u32) -> Result<&'a Labels, StoreError> {
        self.block.metadata(line as usize).map_err(|reason| self.error(reason.into()))
    }

    fn error(&self, Failure(failure): Failure) -> StoreError {
        failure.unwrap_or_else(|reason| self.segment.corrupt(self.number, reason))
    }
}
