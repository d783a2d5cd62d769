// Explore: one expression, or two above each other over one time.

import { useEffect } from 'preact/hooks';
import { linkTo, setParams } from '../state/route';
import type { Window } from '../state/time';
import { LogLines } from './lines';
import { Numbers } from './numbers';
import { type PaneState, readPane, setPane } from './pane-state';

const FIRST = 'sum by (mode) (rate(node_cpu_seconds_total[1m]))';
export const ALL_LINES = '{filename=~".+"}';

function Pane({ pane, window }: { pane: PaneState; window: Window }) {
  const run = (text: string) => setPane(pane, { q: text }, 'step');
  const view = { pane, window, onRun: run };
  return pane.isLines ? <LogLines {...view} /> : <Numbers {...view} />;
}

export function Explore({ params, window }: { params: URLSearchParams; window: Window }) {
  const top = readPane(params, '', FIRST);
  const isSplit = params.has('q2');
  const below = readPane(params, '2', ALL_LINES);
  useEffect(() => {
    document.title = `${top.text} · Binnacle`;
    return () => {
      document.title = 'Binnacle';
    };
  }, [top.text]);
  const split = () => setParams({ q2: top.isLines ? FIRST : ALL_LINES }, 'step');
  const unsplit = () => {
    const gone = [...params.keys()].filter((name) => name.endsWith('2'));
    setParams(Object.fromEntries(gone.map((name) => [name, undefined])), 'step');
  };
  return (
    <div class={`explore ${isSplit ? 'split' : ''}`}>
      <header class="title">
        <h1>Explore</h1>
        <a class="button" href={linkTo('explore', { q: ALL_LINES })}>All logs</a>
        <button type="button" onClick={isSplit ? unsplit : split} aria-pressed={isSplit}>{isSplit ? 'One pane' : 'Split'}</button>
      </header>
      <Pane key={`1${top.isLines}`} pane={top} window={window} />
      {isSplit && <Pane key={`2${below.isLines}`} pane={below} window={window} />}
    </div>
  );
}
