// An expression that gives numbers, as a graph, a table or a heatmap. The server is asked for what is shown, no more: a
// graph's points fit its pixels, and at most [`MAX_DRAWN`] series are drawn.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Range } from '../api/http';
import { logInstant, logRange } from '../api/loki';
import { type Result, type Series, instantQuery, rangeQuery, value } from '../api/prometheus';
import { Chart, type Drawn } from '../chart/chart';
import { hasBuckets } from '../chart/data';
import { Heatmap } from '../chart/heatmap';
import { count, formatFor, shortNames } from '../state/format';
import { useLoad } from '../state/load';
import { type Window, parseLength, rangeOf, showWindow } from '../state/time';
import { type PaneState, type Shape, setPane } from './pane-state';
import { Plan } from './plan';
import { QueryBar } from './query-bar';
import { SeriesTable } from './series-table';

const MAX_DRAWN = 100;
/** Rows of a heatmap and of the series it is made of. */
const MAX_BUCKETS = 2000;
const COMPARISONS = ['1h', '1d', '7d'];
const REFRESH_MS = 15_000;

interface Found extends Result {
  range: Range;
  /** The same, earlier; moved to now. */
  before: Series[];
  /** How many series there are, where not all were given. */
  total: number;
}

const later = (series: Series[], seconds: number): Series[] =>
  series.map((one) => ({ ...one, points: one.points.map(([t, value]) => [t + seconds, value]) }));

async function load(pane: PaneState, window: Window, width: number, signal: AbortSignal): Promise<Found> {
  const range = rangeOf(window, width);
  const isLogs = pane.language === 'logql';
  if (pane.shape === 'table') {
    const at = window.name ? undefined : window.to / 1000;
    const found = isLogs ? await logInstant(pane.text, at, signal) : await instantQuery(pane.text, at, { stats: true, signal });
    return { ...found, range, before: [], total: found.series.length };
  }
  const limit = pane.shape === 'heatmap' ? MAX_BUCKETS : MAX_DRAWN;
  const ask = (range: Range) => (isLogs ? logRange(pane.text, range, signal) : rangeQuery(pane.text, range, { limit, stats: true, signal }));
  const shift = pane.compare && pane.shape === 'graph' ? (parseLength(pane.compare) ?? 0) : 0;
  const [found, earlier] = await Promise.all([
    ask(range),
    shift ? ask({ ...range, start: range.start - shift, end: range.end - shift }) : undefined,
  ]);
  const isCut = found.series.length >= limit && !isLogs;
  const total = isCut ? await value(`count(${pane.text})`, range.end).catch(() => NaN) : found.series.length;
  return { ...found, range, before: later(earlier?.series ?? [], shift), total: total || found.series.length };
}

/** Series with names that tell them apart; those of an earlier time say so. */
function drawn(found: Found, compare?: string): Drawn[] {
  const shown = found.series.slice(0, MAX_DRAWN);
  const names = shortNames(shown.map(({ labels }) => labels));
  const now = shown.map((one, i) => ({ ...one, name: names[i]! }));
  const earlier = found.before.slice(0, MAX_DRAWN);
  const earlierNames = shortNames(earlier.map(({ labels }) => labels));
  return [...now, ...earlier.map((one, i) => ({ ...one, name: `${earlierNames[i]!} (${compare} earlier)`, faded: true }))];
}

function ShapeBar({ pane }: { pane: PaneState }) {
  const shapes: [Shape, string][] = [['graph', 'Graph'], ['table', 'Table'], ['heatmap', 'Heatmap']];
  return (
    <div class="bar">
      <div class="segments" role="group" aria-label="Shape">
        {shapes.map(([id, title]) => (
          <button type="button" key={id} aria-pressed={pane.shape === id} onClick={() => setPane(pane, { show: id === 'graph' ? undefined : id })}>{title}</button>
        ))}
      </div>
      {pane.shape === 'graph' && (
        <>
          <button type="button" aria-pressed={pane.stacked} onClick={() => setPane(pane, { stack: pane.stacked ? undefined : 'on' })}>Stack</button>
          <label class="inline">
            Compare with
            <select value={pane.compare ?? ''} onChange={(event) => setPane(pane, { compare: event.currentTarget.value || undefined })}>
              <option value="">nothing</option>
              {COMPARISONS.map((length) => <option key={length} value={length}>{length} earlier</option>)}
            </select>
          </label>
        </>
      )}
    </div>
  );
}

function Shown({ pane, found, onRun }: { pane: PaneState; found: Found; onRun: (text: string) => void }) {
  const series = useMemo(() => drawn(found, pane.compare), [found]);
  const format = useMemo(() => formatFor(pane.text), [pane.text]);
  if (pane.shape === 'table') return <SeriesTable series={found.series} pane={pane} format={format} onRun={onRun} />;
  if (pane.shape === 'heatmap') return <Heatmap series={found.series} range={found.range} />;
  return (
    <>
      <Chart series={series} format={format} range={found.range} stacked={pane.stacked} height={pane.suffix || found.before.length ? 260 : 340} onZoom={showWindow} />
      {found.total > found.series.length && (
        <p class="note">
          {count(found.series.length)} of {count(found.total)} series are drawn.{' '}
          <button type="button" class="link" onClick={() => onRun(`topk(20, ${pane.text})`)}>Draw the top 20 at each moment</button>
          {' or '}
          <button type="button" class="link" onClick={() => setPane(pane, { show: 'table' })}>list all of them</button>
        </p>
      )}
      {hasBuckets(found.series) && <p class="note">These are buckets: <button type="button" class="link" onClick={() => setPane(pane, { show: 'heatmap' })}>show them as a heatmap</button></p>}
    </>
  );
}

export function Numbers({ pane, window, onRun }: { pane: PaneState; window: Window; onRun: (text: string) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const [turn, setTurn] = useState(0);
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(box.current!.clientWidth), []);
  const fixed = window.name ?? `${window.from}-${window.to}`;
  const asked = [pane.text, pane.language, pane.shape, pane.compare, fixed, width, turn];
  const state = useLoad(
    (signal) => (width ? load(pane, window.name ? { ...window, ...endingNow(window) } : window, width, signal) : new Promise<Found>(() => {})),
    asked,
    window.name ? REFRESH_MS : 0,
  );
  const run = (text: string) => (text === pane.text ? setTurn(turn + 1) : onRun(text));
  return (
    <section class="pane" ref={box} aria-label={pane.suffix ? 'Second pane' : 'Pane'}>
      <QueryBar
        text={pane.text} language={pane.language} isPinned={pane.isPinned} label="Expression" error={state.error} busy={state.busy}
        autoFocus={!pane.suffix} onRun={run} onLanguage={(language) => setPane(pane, { lang: language })}
      />
      {state.error && <p class="error" role="alert">{state.error}</p>}
      {state.data?.notes.map((note) => <p class="notice" key={note}>{note}</p>)}
      <ShapeBar pane={pane} />
      {state.data ? <Shown pane={pane} found={state.data} onRun={onRun} /> : !state.error && <p class="empty">asking…</p>}
      <Plan text={pane.text} language={pane.language} stats={state.data?.stats} range={state.data?.range} isFaulty={!state.data} />
    </section>
  );
}

/** A window of this length that ends at this moment: it was made when the page was drawn. */
function endingNow(window: Window): { from: number; to: number } {
  const now = Date.now();
  return { from: now - (window.to - window.from), to: now };
}
