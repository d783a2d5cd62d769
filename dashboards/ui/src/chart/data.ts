// Series laid over one time axis, piled up, and picked apart into buckets. No drawing here.

import type uPlot from 'uplot';
import type { Bucket, Series } from '../api/prometheus';

/** Lays series over one time axis; instants that a series lacks are null. */
export function align(series: Series[]): uPlot.AlignedData {
  const instants = new Set<number>();
  for (const { points } of series) for (const [t] of points) instants.add(t);
  const times = [...instants].sort((a, b) => a - b);
  const place = new Map(times.map((t, i) => [t, i]));
  const columns = series.map(({ points }) => {
    const column: (number | null)[] = Array.from(times, () => null);
    for (const [t, value] of points) if (Number.isFinite(value)) column[place.get(t)!] = value;
    return column;
  });
  return [times, ...columns];
}

/** Puts in instants with no data where the steps between points are missing, so that no line bridges a gap. */
export function withGaps(data: uPlot.AlignedData, step: number): uPlot.AlignedData {
  const [times, ...columns] = data;
  const kept: number[] = [];
  const from: number[] = [];
  for (let i = 0; i < times.length; i += 1) {
    if (i > 0 && times[i]! - times[i - 1]! > step * 1.5) {
      kept.push(times[i - 1]! + step);
      from.push(-1);
    }
    kept.push(times[i]!);
    from.push(i);
  }
  if (kept.length === times.length) return data;
  return [kept, ...columns.map((column) => from.map((i) => (i < 0 ? null : column[i]!)))];
}

/** Adds each series to the ones before it, for stacked areas. */
export function stack(data: uPlot.AlignedData): uPlot.AlignedData {
  const [times, ...columns] = data;
  const sums = times.map(() => 0);
  const stacked = columns.map((column) => sums.map((_, i) => (sums[i] = (sums[i] ?? 0) + ((column[i] as number) ?? 0))));
  return [times, ...stacked];
}

export interface Heat {
  times: number[];
  /** Bounds of rows, rising. */
  rows: [number, number][];
  /** `cells[row][column]`. */
  cells: number[][];
  max: number;
}

/** Cumulative `le` series as counts between their bounds. */
function fromClassic(series: Series[]): Map<number, Bucket[]> {
  const sorted = series
    .map((one) => ({ bound: Number(one.labels.le === '+Inf' ? Infinity : one.labels.le), at: new Map(one.points) }))
    .filter(({ bound }) => !Number.isNaN(bound))
    .sort((a, b) => a.bound - b.bound);
  const times = [...new Set(series.flatMap(({ points }) => points.map(([t]) => t)))];
  return new Map(
    times.map((t) => {
      let below = 0;
      let low = 0;
      const buckets = sorted.map(({ bound, at }): Bucket => {
        const total = at.get(t) ?? below;
        const bucket: Bucket = [low, bound, Math.max(0, total - below)];
        below = Math.max(below, total);
        low = bound;
        return bucket;
      });
      return [t, buckets];
    }),
  );
}

function fromNative(series: Series[]): Map<number, Bucket[]> {
  const all = new Map<number, Bucket[]>();
  for (const one of series) {
    for (const [t, buckets] of one.histograms ?? []) all.set(t, [...(all.get(t) ?? []), ...buckets]);
  }
  return all;
}

/** Whether a heatmap can be drawn of these: series with `le`, or native histograms. */
export const hasBuckets = (series: Series[]): boolean => series.some((one) => one.labels.le !== undefined || one.histograms);

/** Histograms over time as a grid. */
export function heat(series: Series[]): Heat {
  const isNative = series.some(({ histograms }) => histograms);
  const columns = isNative ? fromNative(series) : fromClassic(series.filter(({ labels }) => labels.le !== undefined));
  const times = [...columns.keys()].sort((a, b) => a - b);
  const bounds = new Map<string, [number, number]>();
  for (const buckets of columns.values()) for (const [low, high] of buckets) bounds.set(`${low}:${high}`, [low, high]);
  const rows = [...bounds.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const place = new Map(rows.map(([low, high], i) => [`${low}:${high}`, i]));
  const cells = rows.map(() => times.map(() => 0));
  let max = 0;
  times.forEach((t, column) => {
    for (const [low, high, counted] of columns.get(t)!) {
      const row = cells[place.get(`${low}:${high}`)!]!;
      row[column] = (row[column] ?? 0) + counted;
      max = Math.max(max, row[column]!);
    }
  });
  return { times, rows, cells, max };
}
