// Lines before and after one, from where it comes, whatever was searched for.

import { useState } from 'preact/hooks';
import { type Line, labelNames } from '../api/loki';
import { clock } from '../state/format';
import { useLoad } from '../state/load';
import { around } from './use-lines';

/** Not part of where a line comes from. */
const NOT_ORIGIN = new Set(['level', 'detected_level', 'truncated']);
const FIRST = 6;
const MORE = 20;

/** The stream of a line; labels that a query's pipeline made are none of it. */
export function originOf(labels: Record<string, string>, known: string[]): string {
  const own = Object.entries(labels).filter(([name]) => known.includes(name) && !NOT_ORIGIN.has(name));
  return `{${own.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(', ')}}`;
}

export function Context({ line }: { line: Line }) {
  const [before, setBefore] = useState(FIRST);
  const [behind, setBehind] = useState(FIRST);
  const { data, error } = useLoad(async () => around(originOf(line.labels, await labelNames()), line, before, behind), [line.id, before, behind]);
  return (
    <div class="context" role="group" aria-label="Lines around it">
      <button type="button" class="link" onClick={() => setBefore(before + MORE)}>↑ more before</button>
      {error && <p class="error">{error}</p>}
      <ol>
        {data?.map((one) => (
          <li key={one.id} class={one.ns === line.ns && one.text === line.text ? 'here' : ''}>
            <time>{clock(one.at)}</time> {one.text}
          </li>
        ))}
      </ol>
      <button type="button" class="link" onClick={() => setBehind(behind + MORE)}>↓ more after</button>
    </div>
  );
}
