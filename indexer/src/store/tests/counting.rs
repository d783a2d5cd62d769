//! Counts must be those of the lines themselves, whether blocks are opened for them or not.

use proptest::prelude::*;
use query::{QueryError, Visit};

use super::super::counts::{Cell, Counts, CountsBuilder, Row};
use super::*;

const MINUTE_NS: i64 = 60_000_000_000;

/// Counts line by line.
struct OneByOne<'a>(&'a LogStore);

impl Lines for OneByOne<'_> {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        self.0.select(request, visit)
    }
}

/// Lines and bytes by labels, metadata as far as it is told apart by, and edge.
type Counted = BTreeMap<(Labels, Labels, usize), (u64, u64)>;

fn counted(store: &dyn Lines, request: &LineSelect<'_>, edges: &[i64]) -> Counted {
    let mut counted = Counted::new();
    let tallied = store.tally(request, edges, true, &mut |tally| {
        let names: Option<Vec<&str>> = request.told_by.map(|names| names.iter().map(String::as_str).collect());
        let metadata = names.map_or(tally.metadata.clone(), |names| tally.metadata.only(&names));
        let (lines, bytes) = counted.entry((tally.labels.clone(), metadata, tally.edge)).or_default();
        (*lines, *bytes) = (*lines + tally.lines, *bytes + tally.bytes);
        ControlFlow::Continue(())
    });
    tallied.expect("tallied");
    counted
}

fn request<'a>(matchers: &'a [Matcher], told_by: Option<&'a [String]>, start_ns: i64, end_ns: i64) -> LineSelect<'a> {
    LineSelect { start_ns, end_ns, told_by, ..all(matchers, false, &[]) }
}

/// Lines at these instants (ns after noon), of streams `a` and `b`, with levels, and trace identifiers if wanted.
fn batch(lines: &[(i64, u8)], with_traces: bool) -> Arc<Batch> {
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.extend(["a", "b"].map(stream));
    for (n, (t_ns, kind)) in lines.iter().enumerate() {
        let level = ["", "info", "warn", "error"][usize::from(*kind) % 4];
        let trace = if with_traces { format!("{n}-{t_ns}") } else { String::new() };
        batch.metadata.push(Labels::from_pairs([("level", level), ("trace", trace.as_str())]));
        let text = format!("line {n} {}", "x".repeat(usize::from(*kind)));
        batch.push(u32::from(kind % 2), NOON_NS + t_ns, &text, batch.metadata.len() as u32 - 1, 0);
    }
    Arc::new(Batch::Logs(batch))
}

/// Instants on, beside and between minutes.
fn instant() -> impl Strategy<Value = i64> {
    (0i64..5, prop_oneof![Just(0), Just(-1), Just(1), 0..MINUTE_NS]).prop_map(|(minute, ns)| minute * MINUTE_NS + ns)
}

proptest! {
    #[test]
    fn counts_are_those_of_the_lines(
        published in prop::collection::vec(prop::collection::vec((instant(), any::<u8>()), 0..300), 1..5),
        unpublished in prop::collection::vec((instant(), any::<u8>()), 0..20),
        is_merged in any::<bool>(),
        with_traces in any::<bool>(),
        edges in prop::collection::btree_set(instant(), 1..6),
        told_by in prop::option::of(prop::sample::subsequence(vec!["level", "trace"], 0..=2)),
        bounds in (instant(), instant()),
    ) {
        let store = open(&FakeDisk::new());
        for (offset, lines) in (0..).zip(&published) {
            store.apply(0, offset, &batch(lines, with_traces));
            store.publish().expect("published");
        }
        if is_merged {
            store.merge().expect("merged");
        }
        store.apply(0, published.len() as u64, &batch(&unpublished, with_traces));
        let matchers = [Matcher::new("app", MatchOp::Regex, ".+").expect("good")];
        let told_by: Option<Vec<String>> = told_by.map(|names| names.into_iter().map(str::to_owned).collect());
        let request = request(&matchers, told_by.as_deref(), NOON_NS + bounds.0, NOON_NS + bounds.1);
        let edges: Vec<i64> = edges.into_iter().map(|edge| NOON_NS + edge).collect();
        prop_assert_eq!(counted(&store, &request, &edges), counted(&OneByOne(&store), &request, &edges));
    }
}

/// What the counts are for: windows that begin and end at minutes need no block, even if all of them are damaged.
#[test]
fn counts_by_the_minute_open_no_block() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    let lines: Vec<(i64, u8)> = (0..600).map(|n| (n * MINUTE_NS / 60, n as u8)).collect();
    store.apply(0, 0, &batch(&lines, true));
    store.publish().expect("published");
    let matchers = [Matcher::new("app", MatchOp::Regex, ".+").expect("good")];
    let told_by = ["level".to_owned()];
    let all = |told_by| request(&matchers, told_by, NOON_NS, NOON_NS + 10 * MINUTE_NS);
    let minutes: Vec<i64> = (0..=10).map(|minute| NOON_NS + minute * MINUTE_NS).collect();
    let before: Vec<i64> = minutes.iter().map(|edge| edge - 1).collect();
    let expected = [&minutes, &before].map(|edges| counted(&OneByOne(&store), &all(Some(&told_by)), edges));
    let blocks: Vec<_> = store.snapshot("t").segments.iter().map(|segment| segment.entry.dir_name()).collect();
    for dir in blocks {
        disk.corrupt(&Path::new("/logs").join(dir).join("blocks"), 1).expect("there");
    }
    let damaged = [&minutes, &before].map(|edges| counted(&store, &all(Some(&told_by)), edges));
    assert_eq!(damaged, expected);
    assert_eq!(expected[0].values().map(|(lines, _)| lines).sum::<u64>(), 600);
    // Traces are not counted beforehand.
    assert!(counted(&store, &all(None), &minutes).values().map(|(lines, _)| lines).sum::<u64>() < 600);
}

fn golden_block() -> super::super::block::Block {
    let lines = [(0, "one", "info"), (1, "two", "info"), (2, "three", ""), (MINUTE_NS, "four", "warn")];
    super::super::block::tests::block(&lines.map(|(t_ns, text, level)| (NOON_NS + t_ns, text, level)))
}

fn encoded() -> Vec<u8> {
    let mut builder = CountsBuilder::default();
    builder.add_block(&golden_block());
    builder.encode()
}

fn read(bytes: &[u8]) -> std::io::Result<(Vec<Labels>, Option<Row>)> {
    let disk = FakeDisk::new();
    let path = Path::new("/dir/counts");
    disk.create_dir_all(Path::new("/dir")).expect("created");
    disk.create(path).and_then(|mut file| file.append(bytes)).expect("written");
    let counts = Counts::open(disk.open(path)?)?;
    let row = counts.rows().row(0, 4, (NOON_NS, NOON_NS + MINUTE_NS))?;
    Ok((counts.sets, row))
}

/// The file `counts`, for ever; the fixture was written from the format's page.
#[test]
fn golden() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/counts-v1.bin");
    let sets = ["", "info", "warn"].map(|level| Labels::from_pairs([("level", level)]));
    let cell =
        |first, last, set, lines, bytes| Cell { first_ns: NOON_NS + first, last_ns: NOON_NS + last, set, lines, bytes };
    let cells = vec![
        cell(0, 0, 1, 1, 3),
        cell(1, MINUTE_NS - 1, 0, 1, 5),
        cell(1, MINUTE_NS - 1, 1, 1, 3),
        cell(MINUTE_NS, MINUTE_NS, 2, 1, 4),
    ];
    let (found, row) = read(&std::fs::read(path).expect("the fixture")).expect("counts");
    assert_eq!((found.as_slice(), row), (&sets[..], Some(Row { left_out: 0, cells })));
    assert_eq!(encoded(), std::fs::read(path).expect("the fixture"));
}

#[test]
fn counts_that_are_cut_are_refused() {
    let good = encoded();
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "cut at {length}");
    }
}

proptest! {
    #[test]
    fn any_content_is_read_or_refused(at in 0usize..40, byte in any::<u8>(), more in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = encoded();
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        bytes.extend(more);
        let _ = read(&bytes);
    }
}
