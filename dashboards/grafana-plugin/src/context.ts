// Lines around one: of the same stream, whatever their level and whatever was searched for.

import { type LogRowContextOptions, LogRowContextQueryDirection, type LogRowModel } from '@grafana/data';
import { originOf } from '../../ui/src/explore/context-origin';
import type { BinnacleQuery } from './types';

const DAY_NS = 86_400_000_000_000n;
const DEFAULT_LIMIT = 20;

export function contextRequest(row: LogRowModel, known: string[], options: LogRowContextOptions = {}): { query: BinnacleQuery; params: Record<string, string> } {
  const at = BigInt(row.timeEpochNs);
  const isForward = options.direction === LogRowContextQueryDirection.Forward;
  const expr = originOf(row.labels, known);
  // The end is exclusive; the line itself is none of its neighbours, but others of its instant are.
  const [start, end] = isForward ? [at, at + DAY_NS] : [at - DAY_NS, at];
  const limit = String(options.limit ?? DEFAULT_LIMIT);
  return {
    query: { refId: `log-context-${row.dataFrame.refId ?? 'A'}`, kind: 'logs', expr },
    params: { query: expr, start: String(start), end: String(end), limit, direction: isForward ? 'forward' : 'backward' },
  };
}
