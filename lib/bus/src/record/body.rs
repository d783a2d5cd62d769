//! The body of each kind of batch.

use model::{
    AlertEvents, Batch, FileId, Floats, ForgetFiles, Labels, LineDeletes, LogBatch, LogColumns, MetricBatch, Origin,
    Sample, SeriesSamples,
};

use super::wire::{Malformed, Reader, Runs, Writer};
use super::{RICH_VERSION, SERIES_VERSION, VERSION};
use super::{rich, sets};

const METRICS: u8 = 0;
const LOGS: u8 = 1;
const FORGET_FILES: u8 = 2;
const ALERTS: u8 = 3;
const DELETES: u8 = 4;
const LINE_DELETES: u8 = 5;

const PUSHED: u8 = 0;
const TAILED: u8 = 1;

/// The version that a batch is written in.
pub fn version(batch: &Batch) -> u8 {
    match batch {
        Batch::Metrics(_) => SERIES_VERSION,
        Batch::Deletes(_) => RICH_VERSION,
        Batch::Logs(_) | Batch::ForgetFiles(_) | Batch::Alerts(_) | Batch::LineDeletes(_) => VERSION,
    }
}

/// What a body is of, and how many labels its series have.
pub struct Written {
    pub kind: u8,
    pub labels: usize,
}

/// Writes a batch's body.
pub fn write(batch: &Batch, writer: &mut Writer) -> Written {
    let mut labels = 0;
    let kind = match batch {
        Batch::Metrics(batch) => {
            labels = write_metrics(batch, writer);
            METRICS
        }
        Batch::Logs(batch) => {
            write_logs(batch, writer);
            LOGS
        }
        Batch::ForgetFiles(batch) => {
            writer.string(&batch.tenant);
            writer.unsigned(batch.files.len() as u64);
            batch.files.iter().for_each(|file| writer.raw(&file.0.to_le_bytes()));
            FORGET_FILES
        }
        Batch::Alerts(batch) => {
            writer.string(&batch.tenant);
            writer.unsigned(batch.events.len() as u64);
            batch.events.iter().for_each(|event| writer.string(event));
            ALERTS
        }
        Batch::Deletes(batch) => {
            rich::write_deletes(batch, writer);
            DELETES
        }
        Batch::LineDeletes(batch) => {
            [&batch.tenant, &batch.id, &batch.query].into_iter().for_each(|text| writer.string(text));
            [batch.start_ns, batch.end_ns, batch.created_ms].into_iter().for_each(|number| writer.signed(number));
            LINE_DELETES
        }
    };
    Written { kind, labels }
}

pub fn read(version: u8, kind: u8, mut reader: Reader<'_>) -> Result<Batch, Malformed> {
    let tenant = reader.string()?.to_owned();
    let batch = match kind {
        METRICS if version == SERIES_VERSION => Batch::Metrics(read_metrics(tenant, &mut reader)?),
        METRICS => {
            let mut batch = read_older_metrics(tenant, &mut reader)?;
            if version == RICH_VERSION {
                rich::read(&mut batch, &mut reader)?;
            }
            Batch::Metrics(batch)
        }
        DELETES if version == RICH_VERSION => Batch::Deletes(rich::read_deletes(tenant, &mut reader)?),
        LOGS => Batch::Logs(read_logs(tenant, &mut reader)?),
        FORGET_FILES => {
            let count = reader.count(16)?;
            let files = (0..count).map(|_| reader.array().map(|id| FileId(u128::from_le_bytes(id))));
            Batch::ForgetFiles(ForgetFiles { tenant, files: files.collect::<Result<_, _>>()? })
        }
        ALERTS => {
            let count = reader.count(1)?;
            let events = (0..count).map(|_| reader.string().map(str::to_owned));
            Batch::Alerts(AlertEvents { tenant, events: events.collect::<Result<_, _>>()? })
        }
        LINE_DELETES => {
            let (id, query) = (reader.string()?.to_owned(), reader.string()?.to_owned());
            let (start_ns, end_ns, created_ms) = (reader.signed()?, reader.signed()?, reader.signed()?);
            Batch::LineDeletes(LineDeletes { id, tenant, query, start_ns, end_ns, created_ms })
        }
        _ => return Err("the kind of batch is not known"),
    };
    reader.finish()?;
    Ok(batch)
}

/// Writes series and their samples; answers how many labels they have.
fn write_metrics(batch: &MetricBatch, writer: &mut Writer) -> usize {
    writer.reserve(batch.series.len() * 32);
    writer.string(&batch.tenant);
    let labels = sets::write(batch.series.len(), batch.series.iter().map(|series| &series.labels), writer);
    // One walk over the series, which are larger than what is wanted of them.
    let (mut counts, mut steps) = (Runs::default(), Runs::default());
    let (mut values, mut before) = (Writer::default(), 0);
    values.reserve(batch.series.len() * 8);
    for series in &batch.series {
        counts.push(series.samples.len() as i64);
        for sample in &series.samples {
            steps.push(sample.t_ms.wrapping_sub(before));
            before = sample.t_ms;
            values.raw(&sample.value.to_bits().to_le_bytes());
        }
    }
    writer.unsigned(values.as_bytes().len() as u64 / 8);
    writer.raw(&counts.finish());
    writer.raw(&steps.finish());
    writer.raw(values.as_bytes());
    let is_rich = rich::is_rich(batch);
    writer.raw(&[u8::from(is_rich)]);
    if is_rich {
        rich::write(batch, writer);
    }
    labels
}

fn read_metrics(tenant: String, reader: &mut Reader<'_>) -> Result<MetricBatch, Malformed> {
    let sets = sets::read(reader)?;
    let sample_count = reader.count(8)?;
    let counts = read_counts(sets.len(), sample_count, reader)?;
    let (mut t_ms, mut times) = (0i64, Vec::with_capacity(sample_count));
    reader.runs(sample_count, |step| {
        t_ms = t_ms.wrapping_add(step);
        times.push(t_ms);
        Ok(())
    })?;
    let mut batch = MetricBatch::new(tenant, read_series(sets, counts, times, reader)?);
    match reader.array()? {
        [0] => {}
        [1] => rich::read(&mut batch, reader)?,
        _ => return Err("what follows the samples is not known"),
    }
    Ok(batch)
}

/// How many of all samples each series has.
fn read_counts(series: usize, samples: usize, reader: &mut Reader<'_>) -> Result<Vec<usize>, Malformed> {
    let mut counts = Vec::with_capacity(series);
    let mut left = samples;
    reader.runs(series, |count| {
        let count = usize::try_from(count).map_err(|_| "a series has a negative number of samples")?;
        left = left.checked_sub(count).ok_or("series have more samples than there are")?;
        counts.push(count);
        Ok(())
    })?;
    if left > 0 { Err("samples of no series") } else { Ok(counts) }
}

fn read_series(
    sets: Vec<Labels>,
    counts: Vec<usize>,
    times: Vec<i64>,
    reader: &mut Reader<'_>,
) -> Result<Vec<SeriesSamples>, Malformed> {
    let mut times = times.into_iter();
    let mut series = Vec::with_capacity(sets.len());
    for (labels, count) in sets.into_iter().zip(counts) {
        let mut samples = Floats::with_capacity(count);
        for t_ms in times.by_ref().take(count) {
            samples.push(Sample { t_ms, value: f64::from_bits(u64::from_le_bytes(reader.array()?)) });
        }
        series.push(SeriesSamples::new(labels, samples));
    }
    Ok(series)
}

/// Of versions 1 and 2.
fn read_older_metrics(tenant: String, reader: &mut Reader<'_>) -> Result<MetricBatch, Malformed> {
    let sets = reader.label_sets()?;
    let sample_count = reader.count(9)?;
    let counts = read_counts(sets.len(), sample_count, reader)?;
    let (mut t_ms, mut times) = (0i64, Vec::with_capacity(sample_count));
    for _ in 0..sample_count {
        t_ms = t_ms.wrapping_add(reader.signed()?);
        times.push(t_ms);
    }
    Ok(MetricBatch::new(tenant, read_series(sets, counts, times, reader)?))
}

fn write_logs(batch: &LogBatch, writer: &mut Writer) {
    let columns = batch.columns();
    writer.reserve(columns.text.len() + batch.len() * 8);
    writer.string(&batch.tenant);
    match batch.origin {
        Origin::Pushed => writer.raw(&[PUSHED]),
        Origin::Tailed { file, start, end } => {
            writer.raw(&[TAILED]);
            writer.raw(&file.0.to_le_bytes());
            writer.unsigned(start);
            writer.unsigned(end.wrapping_sub(start));
        }
    }
    writer.label_sets(batch.streams.iter().chain(&batch.metadata));
    writer.unsigned(batch.streams.len() as u64);
    writer.unsigned(batch.len() as u64);
    writer.runs(columns.stream.iter().map(|stream| i64::from(*stream)));
    writer.runs(columns.metadata.iter().map(|set| i64::from(*set)));
    let mut before = 0;
    for t_ns in &columns.t_ns {
        writer.signed(t_ns.wrapping_sub(before));
        before = *t_ns;
    }
    lengths(&columns.text_end).for_each(|length| writer.unsigned(length));
    let beside_text = lengths(&columns.source_end).zip(lengths(&columns.text_end));
    writer.runs(beside_text.map(|(source, text)| source as i64 - text as i64));
    writer.raw(columns.text.as_bytes());
}

/// The differences of a column of ends.
fn lengths(ends: &[u32]) -> impl Iterator<Item = u64> {
    let mut before = 0;
    ends.iter().map(move |end| u64::from(end - std::mem::replace(&mut before, *end)))
}

fn read_origin(reader: &mut Reader<'_>) -> Result<Origin, Malformed> {
    match reader.array()? {
        [PUSHED] => Ok(Origin::Pushed),
        [TAILED] => {
            let file = FileId(u128::from_le_bytes(reader.array()?));
            let start = reader.unsigned()?;
            let end = start.checked_add(reader.unsigned()?).ok_or("a range ends past all files")?;
            Ok(Origin::Tailed { file, start, end })
        }
        _ => Err("the origin is not known"),
    }
}

fn read_logs(tenant: String, reader: &mut Reader<'_>) -> Result<LogBatch, Malformed> {
    let origin = read_origin(reader)?;
    let mut streams = reader.label_sets()?;
    let stream_count = usize::try_from(reader.unsigned()?).unwrap_or(usize::MAX);
    if stream_count > streams.len() {
        return Err("more streams than label sets");
    }
    let metadata = streams.split_off(stream_count);
    // A line takes at least a byte for its time and one for its length.
    let count = reader.count(2)?;
    let mut columns = LogColumns::default();
    reader.runs(count, |value| push_index(&mut columns.stream, value))?;
    reader.runs(count, |value| push_index(&mut columns.metadata, value))?;
    columns.t_ns.reserve_exact(count);
    let mut t_ns = 0i64;
    for _ in 0..count {
        t_ns = t_ns.wrapping_add(reader.signed()?);
        columns.t_ns.push(t_ns);
    }
    let mut text_bytes = 0u32;
    columns.text_end.reserve_exact(count);
    for _ in 0..count {
        let length = u32::try_from(reader.unsigned()?).map_err(|_| "a text is too long")?;
        text_bytes = text_bytes.checked_add(length).ok_or("a text is too long")?;
        columns.text_end.push(text_bytes);
    }
    columns.source_end = read_source_ends(&columns.text_end, reader)?;
    columns.text = reader.text(text_bytes as usize)?.to_owned();
    LogBatch::from_columns(tenant, origin, streams, metadata, columns)
}

/// A line's bytes in its file are written as what they have beyond its text.
fn read_source_ends(text_end: &[u32], reader: &mut Reader<'_>) -> Result<Vec<u32>, Malformed> {
    let mut text_lengths = lengths(text_end);
    let mut source_end = Vec::with_capacity(text_end.len());
    let mut end = 0i64;
    reader.runs(text_end.len(), |beside_text| {
        let length = beside_text.checked_add(text_lengths.next().unwrap_or(0) as i64);
        let length = length.filter(|length| *length >= 0).ok_or("a line of negative length")?;
        end = end.checked_add(length).ok_or("a line is too long")?;
        source_end.push(u32::try_from(end).map_err(|_| "a line is too long")?);
        Ok(())
    })?;
    Ok(source_end)
}

fn push_index(column: &mut Vec<u32>, value: i64) -> Result<(), Malformed> {
    column.push(u32::try_from(value).map_err(|_| "an index is out of range")?);
    Ok(())
}
