// Lines before and after one, from where it comes, whatever was searched for.

import { useState } from 'preact/hooks';
import { type Line, labelNames } from '../api/loki';
import { clock } from '../state/format';
import { useLoad } from '../state/load';
import { originOf } from './context-origin';
import { around } from './use-lines';

const FIRST = 6;
const MORE = 20;

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
