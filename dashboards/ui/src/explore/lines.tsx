// Log lines: how many over time, the lines themselves, what they are made of, and what arrives while one looks.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Range } from '../api/http';
import { type Line, logRange } from '../api/loki';
import { Chart, type Drawn } from '../chart/chart';
import { VirtualList } from '../parts/list';
import { Menu } from '../parts/menu';
import { count, short } from '../state/format';
import { useLoad } from '../state/load';
import { type Window, rangeOf, showWindow } from '../state/time';
import { type Format, download } from './export';
import { searchWords, toggleField, volumeQuery, withLineFilter } from './language';
import { LogLine, type OnField } from './line';
import { LIMITS, type PaneState, setPane } from './pane-state';
import { Plan } from './plan';
import { QueryBar } from './query-bar';
import { Fields, Patterns } from './side';
import { type Lines, useLines } from './use-lines';

const REFRESH_MS = 15_000;
/** Bars of the histogram. */
const BAR_PIXELS = 12;

function useVolume(text: string, window: Window, turn: number) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(box.current!.clientWidth), []);
  const fixed = window.name ?? `${window.from}-${window.to}`;
  const load = async (signal: AbortSignal): Promise<{ range: Range; series: Drawn[] }> => {
    const length = window.to - window.from;
    const now = window.name ? { from: Date.now() - length, to: Date.now() } : window;
    const range = rangeOf(now, (width * 3) / BAR_PIXELS, 1);
    if (!width) return { range, series: [] };
    const { series } = await logRange(volumeQuery(text, range.step), range, signal);
    return { range, series: series.map((one) => ({ ...one, name: one.labels.level || 'none' })) };
  };
  const volume = useLoad(load, [text, fixed, width, turn], window.name ? REFRESH_MS : 0);
  return { box, volume };
}

function LiveButton({ pane, lines, canBeLive }: { pane: PaneState; lines: Lines; canBeLive: boolean }) {
  if (!pane.live) {
    return <button type="button" disabled={!canBeLive} title={canBeLive ? '' : 'a fixed time has no news'} onClick={() => setPane(pane, { live: undefined })}>▶ Follow</button>;
  }
  return (
    <>
      <button type="button" class="live" aria-pressed={!lines.isPaused} data-key="p" onClick={() => lines.pause(!lines.isPaused)}>
        {lines.isPaused ? `▶ Go on${lines.waiting ? ` (${count(lines.waiting)} new)` : ''}` : `❚❚ ${lines.state === 'live' ? 'Live' : lines.state}`}
      </button>
      <button type="button" onClick={() => setPane(pane, { live: 'off' })}>Stop</button>
    </>
  );
}

function Toolbar({ pane, lines, canBeLive }: { pane: PaneState; lines: Lines; canBeLive: boolean }) {
  const toggle = (name: string, is: boolean, on: string | undefined, off: string | undefined, title: string) => (
    <button type="button" aria-pressed={is} onClick={() => setPane(pane, { [name]: is ? off : on })}>{title}</button>
  );
  const formats: [Format, string][] = [['txt', 'Text'], ['ndjson', 'JSON lines'], ['csv', 'CSV']];
  return (
    <div class="bar">
      <LiveButton pane={pane} lines={lines} canBeLive={canBeLive} />
      {toggle('wrap', pane.wrap, undefined, 'off', 'Wrap')}
      {toggle('pretty', pane.pretty, 'on', undefined, 'JSON')}
      {toggle('side', pane.side === 'fields', undefined, 'none', 'Fields')}
      {toggle('side', pane.side === 'patterns', 'patterns', 'none', 'Patterns')}
      <select aria-label="How many lines" value={String(pane.limit)} onChange={(event) => setPane(pane, { limit: event.currentTarget.value })}>
        {LIMITS.map((limit) => <option key={limit} value={limit}>{count(limit)} lines</option>)}
      </select>
      <Menu label="Export" button="Export">
        {(close) => (
          <ul class="choices">
            {formats.map(([id, title]) => <li key={id}><button type="button" class="bare wide" onClick={() => (close(), download(lines.lines, id))}>{title}</button></li>)}
          </ul>
        )}
      </Menu>
    </div>
  );
}

/** Up, down, j, k move through the lines; Enter opens one. */
function useSelection(lines: Line[], onOpen: (id: number) => void) {
  const [selected, setSelected] = useState<number>();
  const onKeyDown = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      const now = lines.findIndex((line) => line.id === selected);
      const next = lines[now < 0 ? lines.length - 1 : Math.min(lines.length - 1, Math.max(0, now + by))];
      setSelected(next?.id);
    } else if (event.key === 'Enter' && selected !== undefined && event.target === event.currentTarget) {
      onOpen(selected);
    }
  };
  return { selected, onKeyDown };
}

function Body({ pane, lines, onRun }: { pane: PaneState; lines: Lines; onRun: (text: string) => void }) {
  const [open, setOpen] = useState<Set<number>>(new Set());
  const words = useMemo(() => searchWords(pane.text), [pane.text]);
  const onOpen = (id: number) => {
    const next = new Set(open);
    if (!next.delete(id)) next.add(id);
    setOpen(next);
  };
  const onField: OnField = (name, value, isEqual, parser) => onRun(toggleField(pane.text, name, value, isEqual, parser));
  const { selected, onKeyDown } = useSelection(lines.lines, onOpen);
  const isQuiet = lines.lines.length === 0;
  return (
    <div class={`log ${pane.side === 'none' ? '' : 'with-side'}`} onKeyDown={onKeyDown}>
      {pane.side !== 'none' && (
        <aside class="card side" tabIndex={0} aria-label={pane.side === 'fields' ? 'Fields' : 'Patterns'}>
          {pane.side === 'fields' && <Fields lines={lines.lines} onField={onField} />}
          {pane.side === 'patterns' && <Patterns lines={lines.lines} onPattern={(operator, text) => onRun(withLineFilter(pane.text, operator, text))} />}
        </aside>
      )}
      <div class={`lines card ${pane.wrap ? 'wrap' : ''}`}>
        {isQuiet && <p class="empty">{lines.state === 'loading' ? 'asking…' : 'No line matches in this time.'}</p>}
        <VirtualList
          label="Log lines" class="tall" items={lines.lines} estimate={21} keyOf={(line) => line.id} follow={open.size === 0} focus={selected} onTop={lines.loadOlder}
          render={(line) => (
            <LogLine line={line} words={words} pretty={pane.pretty} open={open.has(line.id)} selected={line.id === selected} onOpen={() => onOpen(line.id)} onField={onField} />
          )}
        />
      </div>
    </div>
  );
}

export function LogLines({ pane, window, onRun }: { pane: PaneState; window: Window; onRun: (text: string) => void }) {
  const [turn, setTurn] = useState(0);
  const lines = useLines(pane.text, window, pane.limit, pane.live, turn);
  const { box, volume } = useVolume(pane.text, window, turn);
  const run = (text: string) => (text === pane.text ? setTurn(turn + 1) : onRun(text));
  return (
    <section class="pane" ref={box} aria-label={pane.suffix ? 'Second pane' : 'Pane'}>
      <QueryBar
        text={pane.text} language={pane.language} isPinned={pane.isPinned} label="Expression" error={lines.error} busy={lines.state === 'loading'}
        autoFocus={!pane.suffix} onRun={run} onLanguage={(language) => setPane(pane, { lang: language })}
      />
      {lines.error && <p class="error" role="alert">{lines.error}</p>}
      {volume.data && <Chart series={volume.data.series} format={short} range={volume.data.range} height={90} stacked bars onZoom={showWindow} />}
      <Toolbar pane={pane} lines={lines} canBeLive={Boolean(window.name)} />
      <Body pane={pane} lines={lines} onRun={onRun} />
      <p class="note" aria-live="polite">{count(lines.lines.length)} lines, newest last{lines.isAll ? '' : '; scroll up for older ones'}</p>
      <Plan text={pane.text} language="logql" range={volume.data?.range} isFaulty={Boolean(lines.error)} />
    </section>
  );
}
