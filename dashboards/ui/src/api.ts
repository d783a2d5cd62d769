// The only module that knows the server's addresses: Prometheus', Loki's and Alertmanager's APIs.

export type Labels = Record<string, string>;
export interface Series {
  labels: Labels;
  /** Unix seconds and values, in rising time. */
  points: [number, number][];
}
export interface Line {
  id: string;
  /** Unix milliseconds. */
  at: number;
  /** Nanoseconds as text: numbers lose the last digits. */
  ns: string;
  text: string;
  labels: Labels;
}
export interface Alert {
  fingerprint: string;
  labels: Labels;
  annotations: Labels;
  startsAt: string;
  status: { state: string; silencedBy: string[]; inhibitedBy: string[] };
  receivers: { name: string }[];
}
export interface Matcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}
export interface Silence {
  id: string;
  matchers: Matcher[];
  startsAt: string;
  endsAt: string;
  createdBy: string;
  comment: string;
  status: { state: string };
}
export interface RuleGroup {
  name: string;
  file: string;
  rules: { name: string; query: string; health: string; lastError?: string; state?: string; type: string; duration?: number }[];
}
export interface Target {
  labels: Labels;
  scrapeUrl: string;
  health: string;
  lastError: string;
  lastScrape: string;
}

export class ApiError extends Error {}

async function request(path: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(path, init);
  if (response.ok) return response;
  const text = await response.text();
  let message = text.trim() || `${response.status} ${response.statusText}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // Loki answers errors as plain text.
  }
  throw new ApiError(message);
}

async function json<T>(path: string, params: Record<string, string | number> = {}, signal?: AbortSignal): Promise<T> {
  const query = new URLSearchParams(Object.entries(params).map(([name, value]) => [name, String(value)]));
  const text = query.toString();
  const response = await request(text ? `${path}?${text}` : path, { signal });
  return response.json() as Promise<T>;
}

interface RawSeries {
  metric: Labels;
  value?: [number, string];
  values?: [number, string][];
}
interface Answer<T> {
  data: T;
}

const readSeries = (raw: RawSeries): Series => ({
  labels: raw.metric,
  points: (raw.values ?? (raw.value ? [raw.value] : [])).map(([t, value]) => [t, Number(value)]),
});

export interface Range {
  start: number;
  end: number;
  step: number;
}

export async function queryRange(expr: string, range: Range, signal?: AbortSignal): Promise<Series[]> {
  const answer = await json<Answer<{ result: RawSeries[] }>>('api/v1/query_range', { query: expr, ...range }, signal);
  return answer.data.result.map(readSeries);
}

export async function query(expr: string): Promise<Series[]> {
  const answer = await json<Answer<{ resultType: string; result: RawSeries[] | [number, string] }>>('api/v1/query', {
    query: expr,
  });
  const { resultType, result } = answer.data;
  if (resultType === 'scalar') return [readSeries({ metric: {}, value: result as [number, string] })];
  return resultType === 'string' ? [] : (result as RawSeries[]).map(readSeries);
}

export async function metricNames(): Promise<string[]> {
  return (await json<Answer<string[]>>('api/v1/label/__name__/values')).data;
}

interface RawStreams {
  stream: Labels;
  values: [string, string][];
}

let nextLine = 0;
function readLines(streams: RawStreams[]): Line[] {
  const lines = streams.flatMap(({ stream, values }) =>
    values.map(([ns, text]) => ({ id: String((nextLine += 1)), at: Number(ns.slice(0, -6)), ns, text, labels: stream })),
  );
  // Nanoseconds of today have 19 digits, so text order is time order; the sort keeps ties as they came.
  return lines.sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0));
}

/** Lines of a log query, oldest first. */
export async function logLines(expr: string, startS: number, endS: number, limit: number): Promise<Line[]> {
  const params = { query: expr, start: `${startS}000000000`, end: `${endS}000000000`, limit, direction: 'backward' };
  const answer = await json<Answer<{ result: RawStreams[] }>>('loki/api/v1/query_range', params);
  return readLines(answer.data.result);
}

export async function logVolume(expr: string, range: Range): Promise<Series[]> {
  const params = { query: expr, start: range.start, end: range.end, step: range.step };
  const answer = await json<Answer<{ result: RawSeries[] }>>('loki/api/v1/query_range', params);
  return answer.data.result.map(readSeries);
}

/** Follows a log query; returns what stops it. */
export function tail(expr: string, onLines: (lines: Line[]) => void, onState: (state: string) => void): () => void {
  const url = new URL('loki/api/v1/tail', location.href.split('#')[0]);
  url.protocol = url.protocol.replace('http', 'ws');
  url.searchParams.set('query', expr);
  url.searchParams.set('start', `${Date.now()}000000`);
  let stopped = false;
  let retry = 0;
  let socket: WebSocket;
  const open = () => {
    socket = new WebSocket(url);
    socket.onopen = () => onState('live');
    socket.onmessage = (event) => onLines(readLines((JSON.parse(event.data) as { streams: RawStreams[] }).streams ?? []));
    socket.onclose = () => {
      if (stopped) return;
      onState('reconnecting');
      retry = window.setTimeout(open, 1000);
    };
  };
  open();
  return () => {
    stopped = true;
    clearTimeout(retry);
    socket.close();
  };
}

export const alerts = (): Promise<Alert[]> => json('api/v2/alerts');
export const silences = (): Promise<Silence[]> => json('api/v2/silences');

export async function ruleGroups(): Promise<RuleGroup[]> {
  return (await json<Answer<{ groups: RuleGroup[] }>>('api/v1/rules')).data.groups;
}

export async function createSilence(silence: Omit<Silence, 'id' | 'status'>): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  await request('api/v2/silences', { method: 'POST', headers, body: JSON.stringify(silence) });
}

export async function expireSilence(id: string): Promise<void> {
  await request(`api/v2/silence/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

export async function targets(): Promise<Target[]> {
  return (await json<Answer<{ activeTargets: Target[] }>>('api/v1/targets')).data.activeTargets;
}

export interface Status {
  version: string;
  uptime_seconds: number;
  bus: { topic: string; start: number; end: number; retained_bytes: number }[];
  files: { path: string; format: string; offset: number; size: number }[];
}

export const status = (): Promise<Status> => json('binnacle/v1/status');
