// Numbers and instants for people.

import { isUtc } from './time';

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(value: number): string {
  if (!Number.isFinite(value)) return '–';
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < BINARY.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${BINARY[unit]}`;
}

export const bytesPerSecond = (value: number): string => `${bytes(value)}/s`;

export const percent = (value: number): string =>
  Number.isFinite(value) ? `${value.toFixed(value < 10 ? 1 : 0)} %` : '–';

export function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const magnitude = Math.abs(value);
  if (magnitude >= 1e12) return `${(value / 1e12).toFixed(1)}T`;
  if (magnitude >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (magnitude >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (magnitude >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return String(Number(value.toPrecision(4)));
}

/** Whole numbers with their thousands apart. */
export const count = (value: number): string => (Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '–');

export function seconds(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value < 1e-3) return `${short(value * 1e6)} µs`;
  return value < 1 ? `${short(value * 1e3)} ms` : `${short(value)} s`;
}

export function duration(seconds: number): string {
  const units: [number, string][] = [[86_400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
  const parts: string[] = [];
  let rest = Math.floor(seconds);
  for (const [size, name] of units) {
    if (rest >= size && parts.length < 2) {
      parts.push(`${Math.floor(rest / size)}${name}`);
      rest %= size;
    }
  }
  return parts.join(' ') || '0s';
}

/** The unit that a metric's name ends in, as the field names them. */
export function formatFor(query: string): (value: number) => string {
  const isRate = /\b(i?rate|deriv)\s*\(/.test(query);
  if (/_bytes(_total)?\b/.test(query) && !/\/[^/]*_bytes/.test(query)) return isRate ? bytesPerSecond : bytes;
  if (/histogram_quantile|_seconds\b(?!_total)/.test(query) && !isRate && !/time_seconds|timestamp/.test(query)) return seconds;
  return short;
}

const pad = (n: number, width = 2) => String(n).padStart(width, '0');

/** Year, month, day, hour, minute, second, millisecond in the chosen zone. */
function fields(ms: number): [number, number, number, number, number, number, number] {
  const at = new Date(ms);
  return isUtc()
    ? [at.getUTCFullYear(), at.getUTCMonth() + 1, at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds(), at.getUTCMilliseconds()]
    : [at.getFullYear(), at.getMonth() + 1, at.getDate(), at.getHours(), at.getMinutes(), at.getSeconds(), at.getMilliseconds()];
}

const date = (ms: number): string => {
  const [year, month, day] = fields(ms);
  return `${year}-${pad(month)}-${pad(day)}`;
};

/** `HH:MM:SS.mmm`, with the date where it is not today's. */
export function clock(ms: number, now = Date.now()): string {
  const [, , , hour, minute, second, milli] = fields(ms);
  const time = `${pad(hour)}:${pad(minute)}:${pad(second)}.${pad(milli, 3)}`;
  return date(ms) === date(now) ? time : `${date(ms)} ${time}`;
}

/** To the second, with the date where it is not today's. */
export const instant = (ms: number, now = Date.now()): string => clock(ms, now).replace(/\.\d+$/, '');

/** How long ago, or how far ahead. */
export function ago(ms: number, now = Date.now()): string {
  if (!(ms > 0)) return 'never';
  const gone = (now - ms) / 1000;
  return gone >= 0 ? `${duration(gone)} ago` : `in ${duration(-gone)}`;
}

/** A label for a time axis that spans `spanS` seconds: the date where days matter, seconds where they do. */
export function tick(at: number, spanS: number): string {
  const [, month, day, hour, minute, second] = fields(at * 1000);
  const time = `${pad(hour)}:${pad(minute)}`;
  if (spanS < 600) return `${time}:${pad(second)}`;
  if (spanS > 86_400 && hour === 0 && minute === 0) return `${pad(month)}-${pad(day)}`;
  return spanS > 86_400 ? `${pad(month)}-${pad(day)} ${time}` : time;
}

/** For `<input type="datetime-local">`, and back. */
export function toInput(ms: number): string {
  const [, , , hour, minute, second] = fields(ms);
  return `${date(ms)}T${pad(hour)}:${pad(minute)}:${pad(second)}`;
}
export const fromInput = (text: string): number => Date.parse(isUtc() ? `${text}Z` : text);

export function labelText(labels: Record<string, string>, hidden: string[] = []): string {
  const name = labels.__name__ ?? '';
  const rest = Object.entries(labels)
    .filter(([key]) => key !== '__name__' && !hidden.includes(key))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return rest.length || !name ? `${name}{${rest.join(', ')}}` : name;
}

/** Series named by what tells them apart: labels that all of them share are left out. */
export function shortNames(all: Record<string, string>[]): string[] {
  const first = all[0];
  if (!first || all.length === 1) return all.map((labels) => labelText(labels));
  const shared = Object.keys(first).filter((name) => all.every((labels) => labels[name] === first[name]));
  return all.map((labels) => {
    const rest = Object.entries(labels).filter(([name]) => !shared.includes(name));
    if (rest.length === 1 && rest[0]![0] !== '__name__') return rest[0]![1] || '""';
    return labelText(Object.fromEntries(rest));
  });
}
