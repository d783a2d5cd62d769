// The lines of a query: the newest of the window, older ones page by page, and while it is live what comes after them.

import { useEffect, useRef, useState } from 'preact/hooks';
import { type Line, PAGE_LINES, after, logLines, nsOf, tail } from '../api/loki';
import type { Window } from '../state/time';

/** Lines kept on the page; older ones fall off while tailing. */
const MAX_KEPT = 100_000;
/** What arrives is shown this often. */
const SHOW_MS = 150;
/** Lines that scrolling to the top adds. */
const OLDER_LINES = 1000;

export interface Lines {
  lines: Line[];
  state: 'loading' | 'loaded' | 'live' | 'reconnecting' | 'connecting' | 'failed';
  error?: string;
  /** Whether there are none before the first shown. */
  isAll: boolean;
  /** Arrived while paused. */
  waiting: number;
  isPaused: boolean;
  pause: (paused: boolean) => void;
  loadOlder: () => void;
}

/** Lines with those that arrived: streams arrive side by side, so a few may belong before the last ones known. */
export function inOrder(old: Line[], arrived: Line[]): Line[] {
  const more = [...arrived].sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0));
  let keep = old.length;
  while (keep > 0 && more.length > 0 && old[keep - 1]!.ns > more[0]!.ns) keep -= 1;
  const mixed = [...old.slice(keep), ...more].sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0));
  return [...old.slice(0, keep), ...mixed];
}

const keyOf = (line: Line): string => `${line.text}\u0000${JSON.stringify(line.labels)}`;

/** The lines of an older page that are not among `known` yet: pages share the instant at which they meet. */
export function unknownOf(page: Line[], known: Line[]): Line[] {
  const edge = known[0]?.ns;
  if (edge === undefined || page.at(-1)?.ns !== edge) return page;
  const seen = new Map<string, number>();
  for (const line of known) {
    if (line.ns !== edge) break;
    seen.set(keyOf(line), (seen.get(keyOf(line)) ?? 0) + 1);
  }
  return page.filter((line) => {
    const left = line.ns === edge ? (seen.get(keyOf(line)) ?? 0) : 0;
    if (left > 0) seen.set(keyOf(line), left - 1);
    return left === 0;
  });
}

/** Asks for pages until there are `limit` lines or no more; says whether there are no more. */
async function loadPages(query: string, startNs: string, endNs: string, limit: number, signal: AbortSignal, onPage: (page: Line[]) => void): Promise<boolean> {
  let [end, got] = [endNs, 0];
  let last: Line[] = [];
  while (got < limit) {
    // The line at which pages meet comes again.
    const size = Math.min(PAGE_LINES, limit - got + Math.min(1, last.length));
    const page = await logLines(query, { start: startNs, end }, size, false, signal);
    if (signal.aborted) return false;
    const fresh = unknownOf(page, last);
    got += fresh.length;
    onPage(fresh);
    if (page.length < size || fresh.length === 0) return true;
    last = fresh;
    end = after(fresh[0]!.ns);
  }
  return false;
}

export function useLines(query: string, window: Window, limit: number, live: boolean, turn: number): Lines {
  const [lines, setLines] = useState<Line[]>([]);
  const [state, setState] = useState<Lines['state']>('loading');
  const [error, setError] = useState<string>();
  const [isAll, setAll] = useState(false);
  const [waiting, setWaiting] = useState(0);
  const [isPaused, setPaused] = useState(false);
  const arrived = useRef<Line[]>([]);
  const paused = useRef(false);
  const control = useRef<AbortController | undefined>(undefined);
  const span = useRef({ start: '0', isBusy: false });
  const fixed = window.name ?? `${window.from}-${window.to}`;

  const show = () => {
    if (paused.current || arrived.current.length === 0) return;
    const more = arrived.current;
    arrived.current = [];
    setWaiting(0);
    setLines((old) => inOrder(old, more).slice(-MAX_KEPT));
  };

  useEffect(() => {
    const abort = new AbortController();
    control.current = abort;
    const now = Date.now();
    const [from, to] = window.name ? [now - (window.to - window.from), now] : [window.from, window.to];
    // While live the tail takes over where the search ends; else what is stamped a little ahead belongs to it too.
    const end = nsOf(to + (window.name && !live ? 1000 : 0));
    span.current = { start: nsOf(from), isBusy: true };
    arrived.current = [];
    setState('loading');
    setError(undefined);
    setAll(false);
    let isFirst = true;
    const onPage = (page: Line[]) => {
      if (abort.signal.aborted) return;
      const replaces = isFirst;
      isFirst = false;
      setLines((old) => (replaces ? page : [...page, ...old]));
      setState((old) => (old === 'loading' ? (live ? 'connecting' : 'loaded') : old));
    };
    loadPages(query, span.current.start, end, limit, abort.signal, onPage).then(
      (isAll) => abort.signal.aborted || setAll(isAll),
      (failure: Error) => abort.signal.aborted || (setError(failure.message), setState('failed'), stop()),
    ).finally(() => (span.current.isBusy = false));
    const onTail = (more: Line[]) => {
      arrived.current = [...arrived.current, ...more].slice(-MAX_KEPT);
      if (paused.current) setWaiting(arrived.current.length);
    };
    const closeTail = live ? tail(query, end, onTail, (next) => abort.signal.aborted || setState(next as Lines['state'])) : () => {};
    const timer = live ? setInterval(show, SHOW_MS) : 0;
    const stop = () => {
      closeTail();
      clearInterval(timer);
    };
    return () => {
      abort.abort();
      stop();
    };
  }, [query, fixed, limit, live, turn]);

  const loadOlder = () => {
    const first = lines[0];
    const signal = control.current!.signal;
    if (!first || isAll || span.current.isBusy || lines.length >= MAX_KEPT) return;
    span.current.isBusy = true;
    const { start } = span.current;
    logLines(query, { start, end: after(first.ns) }, OLDER_LINES, false, signal)
      .then((page) => {
        if (signal.aborted) return;
        const fresh = unknownOf(page, lines);
        if (page.length < OLDER_LINES || fresh.length === 0) setAll(true);
        setLines((old) => [...fresh, ...old]);
      })
      .catch((failure: Error) => signal.aborted || setError(failure.message))
      .finally(() => (span.current.isBusy = false));
  };
  const pause = (next: boolean) => {
    paused.current = next;
    setPaused(next);
    show();
  };
  return { lines, state, error, isAll, waiting, isPaused, pause, loadOlder };
}

/** Lines around one, of the same origin whatever their level: some before, it, some after. */
export async function around(selector: string, line: Line, before: number, behind: number): Promise<Line[]> {
  const DAY_MS = 86_400_000;
  const [older, newer] = await Promise.all([
    logLines(selector, { start: nsOf(line.at - DAY_MS), end: line.ns }, before),
    logLines(selector, { start: line.ns, end: nsOf(Math.max(line.at + DAY_MS, Number(after(line.ns).slice(0, -6)))) }, behind + 1, true),
  ]);
  return [...older, ...newer];
}
