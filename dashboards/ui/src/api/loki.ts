// Loki's API: lines, volumes, labels and the live tail.

import { type Answer, type Labels, type Range, TENANT_HEADER, encode, get, request, tenantHeaders } from './http';
import { type Result, readResult } from './prometheus';

export interface Line {
  /** Unique on the page. */
  id: number;
  /** Unix milliseconds. */
  at: number;
  /** Nanoseconds as text: numbers lose the last digits. */
  ns: string;
  text: string;
  labels: Labels;
}

interface RawStreams {
  stream: Labels;
  values: [string, string, ...unknown[]][];
}

/** The server gives at most this many lines at once. */
export const PAGE_LINES = 5000;

let lastId = 0;

/** Lines of an answer, oldest first. */
export function readLines(streams: RawStreams[]): Line[] {
  const lines = streams.flatMap(({ stream, values }) =>
    values.map(([ns, text]) => ({ id: (lastId += 1), at: Number(ns.slice(0, -6)), ns, text, labels: stream })),
  );
  // Nanoseconds of today have 19 digits, so text order is time order; the sort keeps ties as they came.
  return lines.sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0));
}

export interface Span {
  /** Nanoseconds as text, `end` exclusive. */
  start: string;
  end: string;
}

export const nsOf = (ms: number): string => `${Math.floor(ms)}000000`;

/** One nanosecond later; what ends there includes the given one. */
export const after = (ns: string): string => String(BigInt(ns) + 1n);

/** At most `limit` (and [`PAGE_LINES`]) lines of a query, oldest first: the last ones of the span, or `forward` its first. */
export async function logLines(query: string, span: Span, limit: number, forward = false, signal?: AbortSignal): Promise<Line[]> {
  const direction = forward ? 'forward' : 'backward';
  const params = { query, ...span, limit: Math.min(limit, PAGE_LINES), direction };
  const answer = await get<Answer<{ resultType: string; result: RawStreams[] }>>('loki/api/v1/query_range', params, signal);
  return readLines(answer.data.result);
}

/** A LogQL query that counts. */
export async function logRange(query: string, range: Range, signal?: AbortSignal): Promise<Result> {
  return readResult(await get('loki/api/v1/query_range', { query, ...range }, signal));
}

export async function logInstant(query: string, time?: number, signal?: AbortSignal): Promise<Result> {
  return readResult(await get('loki/api/v1/query', { query, time }, signal));
}

export const labelNames = async (): Promise<string[]> => (await get<Answer<string[]>>('loki/api/v1/labels')).data ?? [];
export const labelValues = async (name: string, query?: string): Promise<string[]> =>
  (await get<Answer<string[]>>(`loki/api/v1/label/${encodeURIComponent(name)}/values`, { query })).data ?? [];

export interface Volume {
  streams: number;
  chunks: number;
  entries: number;
  bytes: number;
}
export const volumeStats = (query: string, span: Span, signal?: AbortSignal): Promise<Volume> =>
  get('loki/api/v1/index/stats', { query, ...span }, signal);

/** Lines that are to be forgotten. */
export interface LineDeletion {
  request_id: string;
  query: string;
  /** Unix seconds. */
  start_time: number;
  end_time: number;
  created_at: number;
  /** `received` until merges have taken the lines off the disk. */
  status: string;
}
export const lineDeletions = (): Promise<LineDeletion[]> => get('loki/api/v1/delete');
export async function deleteLines(query: string, start: number, end?: number): Promise<void> {
  await request(`loki/api/v1/delete?${encode({ query, start, end }).toString()}`, { method: 'POST' });
}

/** Follows a log query from `startNs` on; returns what stops it. Reconnects by itself, at most once a second. */
export function tail(query: string, startNs: string, onLines: (lines: Line[]) => void, onState: (state: string) => void): () => void {
  const url = new URL('loki/api/v1/tail', location.href.split('#')[0]);
  url.protocol = url.protocol.replace('http', 'ws');
  url.searchParams.set('query', query);
  const whose = tenantHeaders()[TENANT_HEADER];
  if (whose) url.searchParams.set(TENANT_HEADER, whose);
  let stopped = false;
  let retry = 0;
  let socket: WebSocket;
  const open = (from: string) => {
    url.searchParams.set('start', from);
    socket = new WebSocket(url);
    socket.onopen = () => onState('live');
    socket.onmessage = (event) => {
      const lines = readLines((JSON.parse(event.data as string) as { streams?: RawStreams[] }).streams ?? []);
      const last = lines.at(-1);
      if (last) from = after(last.ns);
      onLines(lines);
    };
    socket.onclose = () => {
      if (stopped) return;
      onState('reconnecting');
      retry = window.setTimeout(() => open(from), 1000);
    };
  };
  open(startNs);
  return () => {
    stopped = true;
    clearTimeout(retry);
    socket.close();
  };
}
