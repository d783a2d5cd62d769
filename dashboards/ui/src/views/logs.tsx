// Logs: a search over the past and a live tail that goes on from it.

import { useEffect, useRef, useState } from 'preact/hooks';
import { logLines, logVolume, tail, type Line } from '../api';
import { Chart } from '../chart';
import { clock, short } from '../format';
import { useLoad } from '../load';
import { rangeEndingNow } from '../range';
import { setParams } from '../route';

const ALL = '{filename=~".+"}';
const PAGE = 500;
/** Lines kept on the page while tailing; older ones fall off. */
const KEPT = 2000;

/** A selector with the words of the search box as a line filter. */
export function withSearch(selector: string, words: string): string {
  return words ? `${selector} |= ${JSON.stringify(words)}` : selector;
}

/** The label filter that a click on a label adds to the selector; a pipeline behind the selector stays. */
export function withLabel(query: string, name: string, value: string): string {
  const end = query.indexOf('}');
  if (end < 0) return query;
  const inner = query.slice(query.indexOf('{') + 1, end).trim();
  return `{${inner ? `${inner}, ` : ''}${name}=${JSON.stringify(value)}}${query.slice(end + 1)}`;
}

function Row({ line, onLabel }: { line: Line; onLabel: (name: string, value: string) => void }) {
  const [open, setOpen] = useState(false);
  const level = line.labels.level ?? line.labels.detected_level ?? '';
  const place = line.labels.pod ?? line.labels.filename?.split('/').at(-1) ?? '';
  return (
    <li class={`line ${level}`}>
      <button class="text" aria-expanded={open} onClick={() => setOpen(!open)}>
        <time>{clock(line.at)}</time>
        <span class="place">{place}</span>
        <span class="content">{line.text}</span>
      </button>
      {open && (
        <dl class="labels">
          {Object.entries(line.labels).map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd><button onClick={() => onLabel(name, value)} title="only lines with this">{value}</button></dd>
            </div>
          ))}
        </dl>
      )}
    </li>
  );
}

/** The lines of a query, and while `live` what arrives after them. */
function useLines(expr: string, range: string, live: boolean) {
  const [lines, setLines] = useState<Line[]>([]);
  const [state, setState] = useState('loading');
  const [error, setError] = useState<string>();
  useEffect(() => {
    let current = true;
    setState('loading');
    setError(undefined);
    const { start } = rangeEndingNow(range);
    const now = Math.ceil(Date.now() / 1000);
    logLines(expr, start, now, PAGE).then(
      (found) => {
        if (!current) return;
        setLines(found);
        // The tail may have come up first; then it knows better.
        setState((now) => (now !== 'loading' ? now : live ? 'connecting' : 'paused'));
      },
      (failure: Error) => current && (setError(failure.message), setState('failed')),
    );
    const add = (more: Line[]) => setLines((old) => [...old, ...more].slice(-KEPT));
    const stop = live ? tail(expr, (more) => current && add(more), (next) => current && setState(next)) : () => {};
    return () => {
      current = false;
      stop();
    };
  }, [expr, range, live]);
  return { lines, state, error };
}

export function Logs({ range, q, search, live }: { range: string; q: string | null; search: string | null; live: boolean }) {
  const selector = q ?? ALL;
  const expr = withSearch(selector, search ?? '');
  const [text, setText] = useState(selector);
  const [words, setWords] = useState(search ?? '');
  const { lines, state, error } = useLines(expr, range, live);
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => setText(selector), [selector]);
  useEffect(() => {
    if (live && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines, live]);
  const window = rangeEndingNow(range);
  const volume = useLoad(
    () => logVolume(`sum by (level) (count_over_time(${expr} [${window.step}s]))`, window),
    [expr, range],
    15_000,
  );
  const run = (event: Event) => {
    event.preventDefault();
    setParams({ q: text === ALL ? undefined : text, search: words || undefined });
  };
  return (
    <>
      <h1>Logs</h1>
      <form class="bar" onSubmit={run}>
        <input class="query" value={text} onInput={(e) => setText(e.currentTarget.value)} aria-label="LogQL query" spellcheck={false} />
        <input type="search" placeholder="search the text" value={words} onInput={(e) => setWords(e.currentTarget.value)} aria-label="Search" />
        <button type="submit">Search</button>
        <button type="button" class={live ? 'live' : ''} aria-pressed={live} onClick={() => setParams({ live: live ? 'off' : undefined })}>
          {live ? `❚❚ ${state === 'live' ? 'Live' : state}` : '▶ Follow'}
        </button>
      </form>
      {error && <p class="error" role="alert">{error}</p>}
      <Chart title="Lines over time" series={volume.data ?? []} name={(l) => l.level ?? 'none'} format={short} range={window} height={110} stacked bars />
      <ol class="lines card" ref={list} aria-label="Log lines" aria-live={live ? 'polite' : 'off'}>
        {lines.map((line) => (
          <Row key={line.id} line={line} onLabel={(name, value) => setParams({ q: withLabel(selector, name, value) })} />
        ))}
        {lines.length === 0 && state !== 'loading' && <li class="empty">no line matches in the last {range}</li>}
      </ol>
      <p class="note">{lines.length} lines shown; newest last</p>
    </>
  );
}
