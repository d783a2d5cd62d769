// Every view's state lives in the URL's hash: `#/logs?q={job="x"}&range=1h`.

import { useEffect, useState } from 'preact/hooks';

export interface Route {
  view: string;
  params: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path, query] = hash.replace(/^#\/?/, '').split('?', 2);
  return { view: path || 'home', params: new URLSearchParams(query ?? '') };
}

export function formatRoute(view: string, params: Record<string, string | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value) query.set(name, value);
  }
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ''}`;
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const onChange = () => setRoute(parseRoute(location.hash));
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  return route;
}

/** Changes some parameters of the current view without adding to the history. */
export function setParams(changes: Record<string, string | undefined>): void {
  const { view, params } = parseRoute(location.hash);
  const next = { ...Object.fromEntries(params), ...changes };
  location.replace(formatRoute(view, next));
}
