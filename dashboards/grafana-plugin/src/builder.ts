// A query as the builder shows it: what, which, and what is done with it. No drawing.

import { blanked, selectorOf } from '../../ui/src/explore/language';
import type { BinnacleQuery } from './types';

export interface BuiltMatcher {
  name: string;
  operator: '=' | '!=' | '=~' | '!~';
  value: string;
}
export interface Built {
  metric: string;
  matchers: BuiltMatcher[];
  /** `rate`, `increase`, `count_over_time`, …; none for the values as they are. */
  overTime?: string;
  /** `5m` or `$__rate_interval`. */
  window: string;
  aggregation?: string;
  by: string[];
  /** Words that a line must have. */
  contains: string;
}

export const OVER_TIME = { metrics: ['rate', 'increase', 'delta', 'avg_over_time', 'max_over_time', 'min_over_time'], logs: ['count_over_time', 'rate', 'bytes_rate'] };
export const AGGREGATIONS = ['sum', 'avg', 'max', 'min', 'count'];

export const EMPTY: Built = { metric: '', matchers: [], window: '$__rate_interval', by: [], contains: '' };

const quoted = (text: string): string => JSON.stringify(text);

export function write(built: Built, kind: 'metrics' | 'logs'): string {
  const matchers = built.matchers.filter(({ name }) => name).map(({ name, operator, value }) => `${name}${operator}${quoted(value)}`);
  const braces = matchers.length || kind === 'logs' ? `{${matchers.join(', ')}}` : '';
  if (kind === 'metrics' && !built.metric && !matchers.length) return '';
  let expr = kind === 'metrics' ? `${built.metric}${braces}` : `${braces}${built.contains ? ` |= ${quoted(built.contains)}` : ''}`;
  if (built.overTime) expr = `${built.overTime}(${expr}${kind === 'logs' ? ' ' : ''}[${built.window}])`;
  if (built.aggregation) expr = `${built.aggregation} ${built.by.length ? `by (${built.by.join(', ')}) ` : ''}(${expr})`;
  return expr;
}

const MATCHER = /([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")/g;

/** The builder's view of an expression that it could have written; nothing for any other. */
export function read({ expr, kind }: Pick<BinnacleQuery, 'expr' | 'kind'>): Built | undefined {
  if (kind === 'alerts') return undefined;
  if (!expr.trim()) return EMPTY;
  const aggregated = /^(\w+)\s*(?:by\s*\(([^)]*)\)\s*)?\((.*)\)$/s.exec(expr.trim());
  const isAggregated = aggregated && AGGREGATIONS.includes(aggregated[1]!);
  const inner = isAggregated ? aggregated[3]! : expr.trim();
  const ranged = /^(\w+)\((.*)\[([^\]]+)\]\)$/s.exec(inner);
  const core = (ranged ? ranged[2]! : inner).trim();
  const selector = selectorOf(core);
  const code = blanked(core);
  const metric = /^([a-zA-Z_:][\w:]*)?/.exec(code)?.[0] ?? '';
  const contains = /\|=\s*("(?:[^"\\]|\\.)*")\s*$/.exec(core);
  const built: Built = {
    metric,
    matchers: [...selector.matchAll(MATCHER)].map(([, name, operator, value]) => ({ name: name!, operator: operator as BuiltMatcher['operator'], value: JSON.parse(value!) as string })),
    overTime: ranged?.[1],
    window: ranged?.[3] ?? EMPTY.window,
    aggregation: isAggregated ? aggregated[1] : undefined,
    by: isAggregated && aggregated[2] ? aggregated[2].split(',').map((name) => name.trim()).filter(Boolean) : [],
    contains: contains ? (JSON.parse(contains[1]!) as string) : '',
  };
  const bare = (text: string) => text.replace(/\s+/g, '');
  return bare(write(built, kind)) === bare(expr) ? built : undefined;
}
