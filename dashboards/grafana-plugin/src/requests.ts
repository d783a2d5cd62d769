// What is asked of the server for a query: addresses, parameters, steps. No I/O.

import type { AdHocVariableFilter, ScopedVars } from '@grafana/data';
import { givesLines, logPart, volumeQuery, withMatcher } from '../../ui/src/explore/language';
import { type BinnacleQuery, DEFAULT_LINES, MAX_LINES } from './types';

/** Metrics are collected this often. */
const SCRAPE_SECONDS = 15;
const MAX_POINTS = 11_000;

/** Seconds between points, for so many of them. */
export function stepOf(fromMs: number, toMs: number, intervalMs: number): number {
  const least = Math.ceil((toMs - fromMs) / 1000 / MAX_POINTS);
  return Math.max(1, least, Math.round(intervalMs / 1000));
}

/** Variables that expressions know by Grafana's name. */
export function builtIn(fromMs: number, toMs: number, step: number): ScopedVars {
  const rate = Math.max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS);
  const range = Math.max(1, Math.round((toMs - fromMs) / 1000));
  const all: Record<string, string> = {
    __interval: `${step}s`, __interval_ms: String(step * 1000), __rate_interval: `${rate}s`, __auto: `${step}s`,
    __range: `${range}s`, __range_s: String(range), __range_ms: String(range * 1000),
  };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, { text: value, value }]));
}

const escapeString = (text: string): string => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"');
const escapeRegex = (text: string): string => escapeString(text.replace(/[\\^$*+?.()|[\]{}]/g, '\\$&'));

/** A variable's value within an expression: alternatives of a regular expression where it may have several. */
export function writeVariable(value: string | string[], variable: { multi?: boolean; includeAll?: boolean }): string {
  if (!variable.multi && !variable.includeAll) return escapeString(String(value));
  if (typeof value === 'string') return escapeRegex(value);
  const all = value.map(escapeRegex);
  return all.length === 1 ? all[0]! : `(${all.join('|')})`;
}

/** Dashboard-wide filters, in every selector. */
export function withFilters(query: BinnacleQuery, filters: AdHocVariableFilter[] = []): string {
  const language = query.kind === 'logs' ? 'logql' : 'promql';
  return filters.reduce((expr, { key, operator, value }) => withMatcher(expr, language, `${key}${operator}${JSON.stringify(value)}`), query.expr);
}

/** Whether an expression has exactly this matcher, or a field filter of the same meaning. */
export function queryHas(expr: string, key: string, value: string, isEqual = true): boolean {
  const operator = isEqual ? '=' : '!=';
  const literal = JSON.stringify(value).replace(/[\\^$*+?.()|[\]{}]/g, '\\$&');
  const name = key.replace(/[\\^$*+?.()|[\]{}]/g, '\\$&');
  return new RegExp(`(^|[\\s{,|])${name}\\s*${operator}\\s*${literal}`).test(expr);
}

export type Asked =
  | { path: 'api/v1/query_range' | 'loki/api/v1/query_range'; params: Record<string, string>; gives: 'series' | 'lines' | 'volume' }
  | { path: 'api/v1/query' | 'loki/api/v1/query'; params: Record<string, string>; gives: 'series' };

export const linesOf = (query: BinnacleQuery, configured?: number): number => Math.min(MAX_LINES, query.maxLines || configured || DEFAULT_LINES);

/** The request of one query whose variables are filled in. */
export function requestOf(query: BinnacleQuery, fromMs: number, toMs: number, step: number, maxLines?: number): Asked {
  const end = String(toMs / 1000);
  // Points stand at multiples of the step, so that refreshing does not move them.
  const aligned = { start: String(Math.floor(fromMs / 1000 / step) * step), end: String(Math.ceil(toMs / 1000 / step) * step), step: String(step) };
  if (query.kind === 'alerts') {
    return { path: 'api/v1/query_range', params: { query: `ALERTS{${[query.expr.replace(/^\{|\}$/g, '').trim(), 'alertstate="firing"'].filter(Boolean).join(', ')}}`, ...aligned }, gives: 'series' };
  }
  if (query.kind === 'metrics') {
    if (query.instant) return { path: 'api/v1/query', params: { query: query.expr, time: end }, gives: 'series' };
    return { path: 'api/v1/query_range', params: { query: query.expr, ...aligned }, gives: 'series' };
  }
  if (query.supplementary === 'volume') {
    return { path: 'loki/api/v1/query_range', params: { query: volumeQuery(logPart(query.expr), step), ...aligned }, gives: 'volume' };
  }
  const expr = query.supplementary === 'sample' ? logPart(query.expr) : query.expr;
  if (!givesLines(expr)) {
    if (query.instant) return { path: 'loki/api/v1/query', params: { query: expr, time: end }, gives: 'series' };
    return { path: 'loki/api/v1/query_range', params: { query: expr, ...aligned }, gives: 'series' };
  }
  return {
    path: 'loki/api/v1/query_range',
    params: { query: expr, start: `${Math.floor(fromMs)}000000`, end: `${Math.ceil(toMs)}000000`, limit: String(linesOf(query, maxLines)), direction: 'backward' },
    gives: 'lines',
  };
}
