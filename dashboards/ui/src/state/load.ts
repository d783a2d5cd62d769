// Loading data into a view: on change of what it depends on, and again every so often while somebody looks.

import { useEffect, useState } from 'preact/hooks';

export interface Loaded<T> {
  data?: T;
  error?: string;
  busy: boolean;
}

/** Runs `fetcher` now and every `everyMs` (0: once). Old answers never overwrite newer ones; errors keep the last data. */
export function useLoad<T>(
  fetcher: (signal: AbortSignal) => Promise<T>,
  deps: unknown[],
  everyMs = 0,
): Loaded<T> & { reload: () => void } {
  const [state, setState] = useState<Loaded<T>>({ busy: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    let timer = 0;
    const again = () => {
      if (everyMs > 0 && !control.signal.aborted) timer = window.setTimeout(run, everyMs);
    };
    let [asked, answered] = [false, false];
    const run = () => {
      // Nobody looks: wait until somebody does.
      if (document.hidden && asked) return again();
      asked = true;
      setState((old) => ({ ...old, busy: true }));
      fetcher(control.signal)
        .then(
          (data) => {
            if (control.signal.aborted) return;
            answered = true;
            setState({ data, busy: false });
          },
          // What answered another question is no answer to this one.
          (error: Error) => control.signal.aborted || setState((old) => ({ data: answered ? old.data : undefined, error: error.message, busy: false })),
        )
        .finally(again);
    };
    run();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [...deps, turn]);
  return { ...state, reload: () => setTurn((turn) => turn + 1) };
}

/** A value that is kept in this browser. */
export function useKept(name: string, initial: string): [string, (value: string) => void] {
  const [value, setValue] = useState(() => localStorage.getItem(name) ?? initial);
  const set = (next: string) => {
    localStorage.setItem(name, next);
    setValue(next);
  };
  return [value, set];
}
