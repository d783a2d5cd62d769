// Loading data into a view: on change of what it depends on, and again every so often.

import { useEffect, useState } from 'preact/hooks';

export interface Loaded<T> {
  data?: T;
  error?: string;
}

/** Runs `fetcher` now and every `everyMs` (0: once). Old answers never overwrite newer ones; errors keep the last data. */
export function useLoad<T>(fetcher: () => Promise<T>, deps: unknown[], everyMs = 0): Loaded<T> & { reload: () => void } {
  const [state, setState] = useState<Loaded<T>>({});
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let current = true;
    const run = () =>
      fetcher().then(
        (data) => current && setState({ data }),
        (error: Error) => current && setState((old) => ({ ...old, error: error.message })),
      );
    run();
    const timer = everyMs > 0 ? setInterval(run, everyMs) : 0;
    return () => {
      current = false;
      clearInterval(timer);
    };
  }, [...deps, turn]);
  return { ...state, reload: () => setTurn(turn + 1) };
}
