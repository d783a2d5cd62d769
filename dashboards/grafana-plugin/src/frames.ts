// Answers of the server as Grafana's frames. No I/O.

import { type DataFrame, DataFrameType, type DataLink, type Field, FieldType, type Labels } from '@grafana/data';
import type { BinnacleQuery } from './types';
import { searchWords } from '../../ui/src/explore/language';

export interface RawSeries {
  metric: Labels;
  value?: [number, string];
  values?: [number, string][];
}
export interface RawStream {
  stream: Labels;
  values: [string, string][];
}

const number = (text: string): number => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

export function seriesName(labels: Labels, legend?: string): string {
  if (legend) return legend.replace(/\{\{\s*([\w.]+)\s*\}\}/g, (_, name: string) => labels[name] ?? '');
  const { __name__: name = '', ...rest } = labels;
  const inner = Object.entries(rest).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return inner.length || !name ? `${name}{${inner.join(', ')}}` : name;
}

const pointsOf = (one: RawSeries): [number, string][] => one.values ?? (one.value ? [one.value] : []);

const field = (name: string, type: FieldType, values: unknown[], more: Partial<Field> = {}): Field => ({ name, type, values, config: {}, ...more });

/** A frame per series. */
export function seriesFrames(query: BinnacleQuery, result: RawSeries[], links: (labels: Labels) => DataLink[] = () => []): DataFrame[] {
  return result.map((one) => {
    const points = pointsOf(one);
    const config = { displayNameFromDS: seriesName(one.metric, query.legend), links: links(one.metric) };
    return {
      refId: query.refId,
      name: config.displayNameFromDS,
      length: points.length,
      meta: { type: DataFrameType.TimeSeriesMulti, preferredVisualisationType: 'graph', executedQueryString: query.expr },
      fields: [
        field('Time', FieldType.time, points.map(([t]) => t * 1000)),
        field('Value', FieldType.number, points.map(([, value]) => number(value)), { labels: one.metric, config }),
      ],
    };
  });
}

/** One frame with a column for every label. */
export function tableFrame(query: BinnacleQuery, result: RawSeries[]): DataFrame {
  const names = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const rows = result.flatMap((one) => pointsOf(one).map(([t, value]) => ({ t, value, labels: one.metric })));
  return {
    refId: query.refId,
    length: rows.length,
    meta: { preferredVisualisationType: 'table', executedQueryString: query.expr },
    fields: [
      field('Time', FieldType.time, rows.map(({ t }) => t * 1000)),
      ...names.map((name) => field(name, FieldType.string, rows.map(({ labels }) => labels[name] ?? ''), { config: { filterable: true } })),
      field('Value', FieldType.number, rows.map(({ value }) => number(value))),
    ],
  };
}

/** Cumulative buckets as the counts between their bounds, lowest first, as Grafana's heatmap wants them. */
export function heatmapFrames(query: BinnacleQuery, result: RawSeries[]): DataFrame[] {
  const sorted = result.filter(({ metric }) => metric.le !== undefined).sort((a, b) => number(a.metric.le!) - number(b.metric.le!));
  const frames = seriesFrames(query, sorted);
  let below = new Map<number, number>();
  frames.forEach((frame, i) => {
    const times = frame.fields[0]!.values as number[];
    const totals = frame.fields[1]!.values as number[];
    const here = new Map(times.map((t, k) => [t, totals[k]!]));
    frame.fields[1]!.values = times.map((t, k) => Math.max(0, totals[k]! - (below.get(t) ?? 0)));
    frame.fields[1]!.config.displayNameFromDS = sorted[i]!.metric.le;
    frame.name = sorted[i]!.metric.le;
    below = here;
  });
  return frames;
}

/** A name for a line that is the same whenever it is asked for: permalinks use it. */
function lineId(ns: string, text: string, labels: string): string {
  let hash = 5381;
  for (const part of [labels, text]) for (let i = 0; i < part.length; i += 1) hash = ((hash * 33) ^ part.charCodeAt(i)) >>> 0;
  return `${ns}_${hash.toString(36)}`;
}

export const levelOf = (labels: Labels): string => labels.level ?? labels.detected_level ?? '';

/** All lines in one frame, in the order in which they were asked for. */
export function linesFrame(query: BinnacleQuery, streams: RawStream[], limit: number, links: DataLink[] = []): DataFrame {
  const rows = streams.flatMap(({ stream, values }) => {
    const text = JSON.stringify(stream);
    return values.map(([ns, line]) => ({ ns, line, labels: stream, id: lineId(ns, line, text) }));
  });
  rows.sort((a, b) => (a.ns < b.ns ? 1 : a.ns > b.ns ? -1 : 0));
  const seen = new Map<string, number>();
  for (const row of rows) {
    const count = seen.get(row.id) ?? 0;
    seen.set(row.id, count + 1);
    if (count > 0) row.id = `${row.id}_${count}`;
  }
  return {
    refId: query.refId,
    length: rows.length,
    meta: {
      type: DataFrameType.LogLines,
      preferredVisualisationType: 'logs',
      custom: { searchWords: searchWords(query.expr).map(({ word }) => word), limit },
      executedQueryString: query.expr,
    },
    fields: [
      field('timestamp', FieldType.time, rows.map(({ ns }) => Number(ns.slice(0, -6))), { nanos: rows.map(({ ns }) => Number(ns.slice(-6))) }),
      field('body', FieldType.string, rows.map(({ line }) => line), { config: { links } }),
      field('severity', FieldType.string, rows.map(({ labels }) => levelOf(labels))),
      field('id', FieldType.string, rows.map(({ id }) => id)),
      field('labels', FieldType.other, rows.map(({ labels }) => labels)),
    ],
  };
}

const LEVEL_COLOURS: Record<string, string> = { critical: 'purple', error: 'red', warn: 'yellow', warning: 'yellow', info: 'green', debug: 'blue', trace: 'light-blue' };

/** Lines per level over time, drawn above the lines in Explore. */
export function volumeFrames(query: BinnacleQuery, result: RawSeries[], range: { from: number; to: number }, datasourceName: string): DataFrame[] {
  return seriesFrames(query, result).map((frame, i) => {
    const level = levelOf(result[i]!.metric) || 'unknown';
    const fixed = LEVEL_COLOURS[level] ?? 'text';
    frame.fields[1]!.config = {
      displayNameFromDS: level,
      color: { mode: 'fixed', fixedColor: fixed },
      custom: { drawStyle: 'bars', barAlignment: 0, lineWidth: 0, pointSize: 5, fillOpacity: 100, stacking: { mode: 'normal', group: 'A' } },
    };
    frame.meta = { ...frame.meta, custom: { logsVolumeType: 'FullRange', absoluteRange: range, datasourceName, sourceQuery: query } };
    return frame;
  });
}
