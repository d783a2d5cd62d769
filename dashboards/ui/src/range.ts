// The time range of a view: a length that ends now.

import type { Range } from './api';

export const RANGES: Record<string, number> = {
  '5m': 300,
  '15m': 900,
  '1h': 3600,
  '6h': 21600,
  '24h': 86400,
  '7d': 604800,
};

const MAX_POINTS = 300;
/** Metrics are collected this often; a finer step shows nothing new. */
const MIN_STEP_SECONDS = 15;

/** Start, end and step in seconds, aligned to the step so that the graph does not jitter as it moves. */
export function rangeEndingNow(name: string, nowMs = Date.now()): Range {
  const length = RANGES[name] ?? 3600;
  const step = Math.max(MIN_STEP_SECONDS, Math.ceil(length / MAX_POINTS));
  const end = Math.ceil(nowMs / 1000 / step) * step;
  return { start: end - length, end, step };
}
