// Prometheus' API: queries, names, rules, targets, and what the store tells of itself.

import { type Answer, type Labels, type Range, encode, get, request } from './http';

/** `[seconds, value]`. */
export type Point = [number, number];

/** Lower and upper bound and how many observations lie between. */
export type Bucket = [number, number, number];

export interface Series {
  labels: Labels;
  /** In rising time. */
  points: Point[];
  /** Of native histograms. */
  histograms?: [number, Bucket[]][];
}

export interface Stats {
  timings: { evalTotalTime: number; execTotalTime: number; execQueueTime?: number };
  samples: { totalQueryableSamples: number; peakSamples: number; samplesRead?: number };
}

export interface Result {
  series: Series[];
  stats?: Stats;
  notes: string[];
}

interface RawHistogram {
  count: string;
  sum: string;
  buckets?: [number, string, string, string][];
}
interface RawSeries {
  metric: Labels;
  value?: [number, string];
  values?: [number, string][];
  histogram?: [number, RawHistogram];
  histograms?: [number, RawHistogram][];
}
interface RawResult {
  resultType: string;
  result: RawSeries[] | [number, string];
  stats?: Stats;
}

const bucketsOf = (raw: RawHistogram): Bucket[] =>
  (raw.buckets ?? []).map(([, low, high, count]) => [Number(low), Number(high), Number(count)]);

export function readSeries(raw: RawSeries): Series {
  const values = raw.values ?? (raw.value ? [raw.value] : []);
  const histograms = raw.histograms ?? (raw.histogram ? [raw.histogram] : []);
  const series: Series = { labels: raw.metric, points: values.map(([t, value]) => [t, Number(value)]) };
  if (histograms.length > 0) {
    series.histograms = histograms.map(([t, one]) => [t, bucketsOf(one)]);
    // A histogram's line in a graph is how much it counted.
    if (values.length === 0) series.points = histograms.map(([t, one]) => [t, Number(one.count)]);
  }
  return series;
}

export function readResult(answer: Answer<RawResult>): Result {
  const { resultType, result, stats } = answer.data;
  const notes = [...(answer.warnings ?? []), ...(answer.infos ?? [])];
  if (resultType === 'scalar') {
    return { series: [readSeries({ metric: {}, value: result as [number, string] })], stats, notes };
  }
  return { series: resultType === 'string' ? [] : (result as RawSeries[]).map(readSeries), stats, notes };
}

interface Asked {
  limit?: number;
  stats?: boolean;
  signal?: AbortSignal;
}

export async function rangeQuery(query: string, range: Range, asked: Asked = {}): Promise<Result> {
  const params = { query, ...range, limit: asked.limit, stats: asked.stats ? 'true' : undefined };
  return readResult(await get('api/v1/query_range', params, asked.signal));
}

export async function instantQuery(query: string, time?: number, asked: Asked = {}): Promise<Result> {
  const params = { query, time, limit: asked.limit, stats: asked.stats ? 'true' : undefined };
  return readResult(await get('api/v1/query', params, asked.signal));
}

/** The first value of an instant query, or NaN. */
export async function value(query: string, time?: number): Promise<number> {
  return (await instantQuery(query, time)).series[0]?.points[0]?.[1] ?? NaN;
}

export const listing = async (path: string, params = {}, signal?: AbortSignal): Promise<string[]> =>
  (await get<Answer<string[]>>(`api/v1/${path}`, params, signal)).data ?? [];

export type Metadata = Record<string, { type: string; help: string; unit: string }[]>;
export const metadata = async (): Promise<Metadata> => (await get<Answer<Metadata>>('api/v1/metadata')).data;

/** A node of a parsed expression, as `parse_query` tells it. */
export interface PlanNode {
  type: string;
  [field: string]: unknown;
}
export const parseQuery = async (query: string, signal?: AbortSignal): Promise<PlanNode> =>
  (await get<Answer<PlanNode>>('api/v1/parse_query', { query }, signal)).data;
export const formatQuery = async (query: string): Promise<string> =>
  (await get<Answer<string>>('api/v1/format_query', { query })).data;

export interface RuleAlert {
  labels: Labels;
  annotations: Labels;
  state: string;
  activeAt: string;
  value: string;
}
export interface Rule {
  name: string;
  query: string;
  type: string;
  health: string;
  lastError?: string;
  state?: string;
  duration?: number;
  keepFiringFor?: number;
  labels?: Labels;
  annotations?: Labels;
  alerts?: RuleAlert[];
  evaluationTime?: number;
  lastEvaluation?: string;
}
export interface RuleGroup {
  name: string;
  file: string;
  interval: number;
  /** `logs` for groups whose expressions are LogQL. */
  type?: string;
  rules: Rule[];
}
export const ruleGroups = async (): Promise<RuleGroup[]> =>
  (await get<Answer<{ groups: RuleGroup[] }>>('api/v1/rules')).data.groups;

export interface Target {
  discoveredLabels: Labels;
  labels: Labels;
  scrapePool: string;
  scrapeUrl: string;
  health: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  scrapeInterval: string;
}
export interface Targets {
  activeTargets: Target[];
  droppedTargets: { discoveredLabels: Labels; scrapePool?: string }[];
}
export const targets = async (): Promise<Targets> => (await get<Answer<Targets>>('api/v1/targets')).data;

export interface RelabelStep {
  rule: Record<string, unknown>;
  output: Labels;
  keep: boolean;
}
export const relabelSteps = async (scrapePool: string, labels: Labels): Promise<RelabelStep[]> =>
  (await get<Answer<{ steps: RelabelStep[] }>>('api/v1/targets/relabel_steps', { scrapePool, labels: JSON.stringify(labels) })).data.steps;

export interface Count {
  name: string;
  value: number;
}
export interface Cardinality {
  headStats: { numSeries: number; numLabelPairs: number; minTime: number; maxTime: number };
  seriesCountByMetricName: Count[];
  labelValueCountByLabelName: Count[];
  memoryInBytesByLabelName: Count[];
  seriesCountByLabelValuePair: Count[];
  /** Those whose samples nobody has read since `readSince`, in seconds. */
  seriesCountByUnreadMetricName: Count[];
  readSince: number;
  /** By the hour of their first sample of the day, in seconds. */
  seriesCountByFirstHour: { time: number; value: number }[];
}
export const cardinality = async (limit: number): Promise<Cardinality> =>
  (await get<Answer<Cardinality>>('api/v1/status/tsdb', { limit })).data;

export interface Block {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples: number; numSeries: number; numBytes?: number };
  tenant?: string;
}
export const blocks = async (): Promise<Block[]> =>
  (await get<Answer<{ blocks: Block[] }>>('api/v1/status/tsdb/blocks')).data.blocks;

export async function deleteSeries(selector: string, start: number, end?: number): Promise<void> {
  await request(`api/v1/admin/tsdb/delete_series?${encode({ 'match[]': selector, start, end }).toString()}`, { method: 'POST' });
}
/** Deletions are taken out of the files now, not with the next merges. */
export async function cleanTombstones(): Promise<void> {
  await request('api/v1/admin/tsdb/clean_tombstones', { method: 'POST' });
}
export async function snapshot(): Promise<string> {
  const answer = await request('api/v1/admin/tsdb/snapshot', { method: 'POST' });
  return ((await answer.json()) as Answer<{ name: string }>).data.name;
}

export const configText = async (): Promise<string> => (await get<Answer<{ yaml: string }>>('api/v1/status/config')).data.yaml;
export const flags = async (): Promise<Labels> => (await get<Answer<Labels>>('api/v1/status/flags')).data;
export const runtime = async (): Promise<Record<string, unknown>> =>
  (await get<Answer<Record<string, unknown>>>('api/v1/status/runtimeinfo')).data;
