// What lines carry beside their labels: fields of JSON and logfmt lines, and how often each value comes. No drawing here.

import type { Line } from '../api/loki';

export type Parser = 'json' | 'logfmt';

export interface Field {
  name: string;
  value: string;
  /** What finds it in the line; none for a label. */
  parser?: Parser;
}

const MAX_FIELDS = 100;
const MAX_DEPTH = 3;

function flatten(value: unknown, prefix: string, depth: number, into: Field[]): void {
  if (into.length >= MAX_FIELDS) return;
  if (value !== null && typeof value === 'object' && !Array.isArray(value) && depth < MAX_DEPTH) {
    for (const [name, inner] of Object.entries(value)) {
      const safe = name.replace(/\W/g, '_');
      flatten(inner, prefix ? `${prefix}_${safe}` : safe, depth + 1, into);
    }
  } else if (prefix && !Array.isArray(value)) {
    into.push({ name: prefix, value: String(value), parser: 'json' });
  }
}

/** The object that a line is, if it is one. */
export function jsonOf(text: string): object | undefined {
  if (!text.startsWith('{') || !text.trimEnd().endsWith('}')) return undefined;
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}

const PAIR = /(?:^|\s)([a-zA-Z_][\w.]*)=("(?:[^"\\]|\\.)*"|[^\s"]+)/g;

export function fieldsOf(text: string): Field[] {
  const object = jsonOf(text);
  const found: Field[] = [];
  if (object) {
    flatten(object, '', 0, found);
    return found;
  }
  for (const [, name, value] of text.matchAll(PAIR)) {
    if (found.length >= MAX_FIELDS) break;
    found.push({ name: name!.replace(/\W/g, '_'), value: value!.startsWith('"') ? value!.slice(1, -1) : value!, parser: 'logfmt' });
  }
  // One pair may be prose; two are a format.
  return found.length > 1 ? found : [];
}

export interface Counted {
  name: string;
  parser?: Parser;
  lines: number;
  values: Map<string, number>;
  /** More different values than are told apart. */
  isMany: boolean;
}

const MAX_VALUES = 500;
const MAX_NAMES = 200;

/** Counts fields, a part of the lines at a time. */
export class FieldCounts {
  readonly byName = new Map<string, Counted>();
  private add({ name, value, parser }: Field): void {
    const key = parser ? `${parser} ${name}` : name;
    let counted = this.byName.get(key);
    if (!counted) {
      if (this.byName.size >= MAX_NAMES) return;
      counted = { name, parser, lines: 0, values: new Map(), isMany: false };
      this.byName.set(key, counted);
    }
    counted.lines += 1;
    const seen = counted.values.get(value);
    if (seen !== undefined || counted.values.size < MAX_VALUES) counted.values.set(value, (seen ?? 0) + 1);
    else counted.isMany = true;
  }
  take(lines: Line[]): void {
    for (const line of lines) {
      for (const name in line.labels) this.add({ name, value: line.labels[name]! });
      for (const field of fieldsOf(line.text)) if (!(field.name in line.labels)) this.add(field);
    }
  }
  /** Labels first, then fields; those that more lines have before. */
  sorted(): Counted[] {
    const rank = (one: Counted) => (one.parser ? 1 : 0);
    return [...this.byName.values()].sort((a, b) => rank(a) - rank(b) || b.lines - a.lines || a.name.localeCompare(b.name));
  }
}

export const topValues = (counted: Counted, n: number): [string, number][] =>
  [...counted.values].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, n);
