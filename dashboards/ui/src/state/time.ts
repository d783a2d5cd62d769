// The time that a view shows: a length that ends now, or a fixed window; and the zone it is shown in.

import { useState } from 'preact/hooks';
import type { Range } from '../api/http';
import { setParams, useRoute } from './route';

export const RANGES: Record<string, number> = {
  '5m': 300, '15m': 900, '30m': 1800, '1h': 3600, '3h': 10_800, '6h': 21_600, '12h': 43_200,
  '24h': 86_400, '2d': 172_800, '7d': 604_800, '30d': 2_592_000,
};
export const DEFAULT_RANGE = '15m';

/** Steps that give round ticks. */
const STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
/** Metrics are collected every 15 s; a much finer step shows nothing new. */
const MIN_STEP_SECONDS = 5;
/** A point for every so many pixels. */
const PIXELS_PER_POINT = 3;

/** Unix milliseconds; `name` where it is a length that ends now. */
export interface Window {
  from: number;
  to: number;
  name?: string;
}

/** A length like `90m`, in seconds; undefined if it is none. */
export function parseLength(text: string): number | undefined {
  const found = /^(\d+)(s|m|h|d|w)$/.exec(text);
  if (!found) return undefined;
  const units: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
  return Number(found[1]) * units[found[2]!]! || undefined;
}

export function windowOf(params: URLSearchParams, nowMs = Date.now()): Window {
  const from = Number(params.get('from'));
  const to = Number(params.get('to'));
  if (from > 0 && to > from) return { from, to };
  const asked = params.get('range') ?? '';
  const name = parseLength(asked) ? asked : DEFAULT_RANGE;
  return { from: nowMs - parseLength(name)! * 1000, to: nowMs, name };
}

/** What to ask the server for, so that a graph of this width has a point for every few pixels. */
export function rangeOf(window: Window, widthPx: number, minStep = MIN_STEP_SECONDS): Range {
  const length = (window.to - window.from) / 1000;
  const points = Math.max(40, Math.floor(widthPx / PIXELS_PER_POINT));
  const step = STEPS.find((step) => step >= minStep && length / step <= points) ?? Math.ceil(length / points / 86_400) * 86_400;
  // Aligned to the step, so that the graph does not jitter as it moves.
  const end = Math.ceil(window.to / 1000 / step) * step;
  const start = Math.floor(window.from / 1000 / step) * step;
  return { start, end, step };
}

export function showWindow(from: number, to: number): void {
  setParams({ from: String(Math.floor(from)), to: String(Math.ceil(to)), range: undefined }, 'step');
}

export function showLength(name: string): void {
  setParams({ range: name, from: undefined, to: undefined }, 'step');
}

/** Moves the window by a part of its length, not past now. */
export function shiftWindow(window: Window, by: number, nowMs = Date.now()): void {
  const length = window.to - window.from;
  const to = Math.min(window.to + by * length, nowMs);
  showWindow(to - length, to);
}

/** Twice the length, around the same middle. */
export function widenWindow(window: Window, nowMs = Date.now()): void {
  const length = window.to - window.from;
  const to = Math.min(window.to + length / 2, nowMs);
  showWindow(to - 2 * length, to);
}

let zone: 'local' | 'utc' = 'local';
/** Whether times are shown in UTC; set by the frame, read by everything that prints a time. */
export const isUtc = (): boolean => zone === 'utc';
export function useZone(): ['local' | 'utc', () => void] {
  const { params } = useRoute();
  const [kept, setKept] = useState(localStorage.getItem('zone') === 'utc' ? 'utc' : 'local');
  zone = (params.get('tz') ?? kept) === 'utc' ? 'utc' : 'local';
  const toggle = () => {
    const next = isUtc() ? 'local' : 'utc';
    localStorage.setItem('zone', next);
    setKept(next);
    setParams({ tz: params.has('tz') ? next : undefined });
  };
  return [zone, toggle];
}
