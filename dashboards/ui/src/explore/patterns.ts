// Lines that differ only in numbers, ids and quoted words are one pattern.

import type { Line } from '../api/loki';

export interface Pattern {
  /** With `<_>` where lines differ; what LogQL's `|>` takes. */
  text: string;
  lines: number;
  /** How many lines in each part of the time shown. */
  spark: number[];
  level: string;
}

const SPARK_PARTS = 24;
const MAX_PATTERNS = 2000;
const MAX_CHARS = 300;

const VARIABLE = new RegExp(
  [
    /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,]*(?:Z|[+-]\d\d:?\d\d)?/, // instants
    /[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}/, // UUIDs
    /"(?:[^"\\]|\\.)*"/, // quoted words
    /(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?/, // addresses
    /\b0x[0-9a-fA-F]+\b/,
    /\b(?=[0-9a-f]*\d)[0-9a-f]{7,}\b/, // hashes
    /[-+]?\d+(?:[.:,]\d+)*(?:ns|µs|us|ms|s|m|h|%|[kKMG]i?B|B)?/, // numbers
  ].map(({ source }) => source).join('|'),
  'g',
);

export function patternOf(text: string): string {
  // Quoted words without a digit are as a rule the same in every line of a kind.
  const masked = text.slice(0, MAX_CHARS).replace(VARIABLE, (found) => (found.startsWith('"') && !/\d/.test(found) ? found : '<_>'));
  // Neighbours would be one capture to the server.
  return masked.replace(/<_>(?:<_>)+/g, '<_>') + (text.length > MAX_CHARS ? '<_>' : '');
}

/** Counts patterns, a part of the lines at a time. */
export class PatternCounts {
  private readonly byText = new Map<string, Pattern>();
  constructor(private readonly from: number, private readonly to: number) {}
  take(lines: Line[]): void {
    for (const line of lines) {
      const text = patternOf(line.text);
      let pattern = this.byText.get(text);
      if (!pattern) {
        if (this.byText.size >= MAX_PATTERNS) continue;
        pattern = { text, lines: 0, spark: Array.from({ length: SPARK_PARTS }, () => 0), level: line.labels.level ?? '' };
        this.byText.set(text, pattern);
      }
      pattern.lines += 1;
      const share = (line.at - this.from) / Math.max(1, this.to - this.from);
      const part = Math.min(SPARK_PARTS - 1, Math.max(0, Math.floor(share * SPARK_PARTS)));
      pattern.spark[part]! += 1;
    }
  }
  sorted(): Pattern[] {
    return [...this.byText.values()].sort((a, b) => b.lines - a.lines);
  }
}
