// Every view's state lives in the URL's hash: `#/explore?q={job="x"}&range=1h`.

import { useEffect, useState } from 'preact/hooks';

export interface Route {
  view: string;
  params: URLSearchParams;
}

export type Changes = Record<string, string | undefined>;

/** Shown wherever one goes. */
const KEPT = ['range', 'from', 'to', 'tenant'];

export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#\/?/, '');
  const mark = text.indexOf('?');
  const path = mark < 0 ? text : text.slice(0, mark);
  return { view: path || 'home', params: new URLSearchParams(mark < 0 ? '' : text.slice(mark + 1)) };
}

export function formatRoute(view: string, params: Changes): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value) query.set(name, value);
  }
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ''}`;
}

/** A link to a view that keeps the time that is looked at. */
export function linkTo(view: string, params: Changes = {}): string {
  const now = parseRoute(location.hash).params;
  const kept = Object.fromEntries(KEPT.map((name) => [name, now.get(name) ?? undefined]));
  return formatRoute(view, { ...kept, ...params });
}

/** Whose data the page shows; the default tenant's where none is named. */
export const tenant = (): string | undefined => parseRoute(location.hash).params.get('tenant') ?? undefined;

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const onChange = () => setRoute(parseRoute(location.hash));
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  return route;
}

/** Changes some parameters of the current view. What a person would go back to is a step of the history. */
export function setParams(changes: Changes, history: 'step' | 'same' = 'same'): void {
  const { view, params } = parseRoute(location.hash);
  const next = formatRoute(view, { ...Object.fromEntries(params), ...changes });
  if (next === location.hash) return;
  if (history === 'step') location.hash = next;
  else location.replace(next);
}
