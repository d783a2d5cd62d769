// Lines as files.

import type { Line } from '../api/loki';

export type Format = 'txt' | 'ndjson' | 'csv';

const TYPES: Record<Format, string> = { txt: 'text/plain', ndjson: 'application/x-ndjson', csv: 'text/csv' };
const cell = (text: string): string => `"${text.replace(/"/g, '""')}"`;
const time = (line: Line): string => `${new Date(line.at).toISOString().slice(0, -1)}${line.ns.slice(-6)}Z`;

export function write(lines: Line[], format: Format): string {
  switch (format) {
    case 'txt':
      return lines.map((line) => `${line.text}\n`).join('');
    case 'ndjson':
      return lines.map((line) => `${JSON.stringify({ time: time(line), line: line.text, labels: line.labels })}\n`).join('');
    case 'csv': {
      const names = [...new Set(lines.flatMap((line) => Object.keys(line.labels)))].sort();
      const rows = lines.map((line) => [time(line), line.text, ...names.map((name) => line.labels[name] ?? '')].map(cell).join(','));
      return `${[['time', 'line', ...names].map(cell).join(','), ...rows].join('\n')}\n`;
    }
  }
}

export function download(lines: Line[], format: Format): void {
  const url = URL.createObjectURL(new Blob([write(lines, format)], { type: TYPES[format] }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `lines.${format}`;
  link.click();
  URL.revokeObjectURL(url);
}
