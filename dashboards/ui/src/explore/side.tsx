// Beside the lines: their fields with counts, or their patterns. Counted in small portions, so that the page never stalls.

import { useEffect, useState } from 'preact/hooks';
import type { Line } from '../api/loki';
import { levelColour } from '../chart/colours';
import { count } from '../state/format';
import { type Counted, FieldCounts, topValues } from './fields';
import type { OnField } from './line';
import { type Pattern, PatternCounts } from './patterns';

const PORTION_LINES = 1000;
const TOP_VALUES = 8;
const SHOWN_PATTERNS = 60;

interface Counter<T> {
  take: (lines: Line[]) => void;
  sorted: () => T[];
}

/** Feeds lines to a counter portion by portion, then tells. */
function useCounted<T>(lines: Line[], make: () => Counter<T>): T[] {
  const [result, setResult] = useState<T[]>([]);
  useEffect(() => {
    const counter = make();
    let next = 0;
    let timer = 0;
    const portion = () => {
      counter.take(lines.slice(next, next + PORTION_LINES));
      next += PORTION_LINES;
      if (next < lines.length) timer = window.setTimeout(portion, 0);
      else setResult(counter.sorted());
    };
    // A live tail brings lines several times a second: counting waits until they pause, or a moment.
    timer = window.setTimeout(portion, lines.length > 5000 ? 400 : 60);
    return () => clearTimeout(timer);
  }, [lines]);
  return result;
}

function FieldCount({ counted, total, onField }: { counted: Counted; total: number; onField: OnField }) {
  const [open, setOpen] = useState(false);
  const values = open ? topValues(counted, TOP_VALUES) : [];
  return (
    <li>
      <button type="button" class="bare wide" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="name">{counted.name}</span>
        <span class="note">{counted.isMany ? 'many' : counted.values.size}</span>
      </button>
      {open && (
        <ul class="values">
          {values.map(([value, lines]) => (
            <li key={value}>
              <button type="button" class="bare wide" title={`${count(lines)} lines; only these`} onClick={() => onField(counted.name, value, true, counted.parser)}>
                <span class="share" style={{ width: `${(100 * lines) / Math.max(1, counted.lines)}%` }} />
                <span class="name">{value || '""'}</span>
                <span class="note">{count(lines)}</span>
              </button>
              <button type="button" class="bare" aria-label={`Without ${counted.name} ${value}`} title="without these" onClick={() => onField(counted.name, value, false, counted.parser)}>−</button>
            </li>
          ))}
          <li class="note">in {count(counted.lines)} of {count(total)} lines</li>
        </ul>
      )}
    </li>
  );
}

export function Fields({ lines, onField }: { lines: Line[]; onField: OnField }) {
  const counted = useCounted(lines, () => new FieldCounts());
  const groups: [string, Counted[]][] = [
    ['Labels', counted.filter(({ parser }) => !parser)],
    ['Fields', counted.filter(({ parser }) => parser)],
  ];
  return (
    <>
      {groups.map(([title, all]) => all.length > 0 && (
        <section key={title} aria-label={title}>
          <h3>{title}</h3>
          <ul class="fields">{all.map((one) => <FieldCount key={`${one.parser}${one.name}`} counted={one} total={lines.length} onField={onField} />)}</ul>
        </section>
      ))}
    </>
  );
}

function Spark({ pattern }: { pattern: Pattern }) {
  const most = Math.max(...pattern.spark, 1);
  return (
    <svg class="spark" viewBox={`0 0 ${pattern.spark.length * 3} 16`} preserveAspectRatio="none" aria-hidden="true">
      {pattern.spark.map((lines, i) => <rect key={i} x={i * 3} width={2.4} y={16 - (15 * lines) / most} height={(15 * lines) / most} fill={levelColour(pattern.level) ?? 'var(--accent)'} />)}
    </svg>
  );
}

export function Patterns({ lines, onPattern }: { lines: Line[]; onPattern: (operator: string, text: string) => void }) {
  const [from, to] = [lines[0]?.at ?? 0, lines.at(-1)?.at ?? 0];
  const found = useCounted(lines, () => new PatternCounts(from, to));
  return (
    <section aria-label="Patterns">
      <h3>{found.length === 1 ? 'One pattern' : `${found.length} patterns`}</h3>
      <ol class="patterns">
        {found.slice(0, SHOWN_PATTERNS).map((pattern) => (
          <li key={pattern.text}>
            <div><b>{count(pattern.lines)}</b><Spark pattern={pattern} /></div>
            <code>{pattern.text.split('<_>').flatMap((piece, i) => (i ? [<i key={i}>…</i>, piece] : [piece]))}</code>
            <div class="bar">
              <button type="button" class="link" onClick={() => onPattern('|>', pattern.text)}>only these</button>
              <button type="button" class="link" onClick={() => onPattern('!>', pattern.text)}>without these</button>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}
