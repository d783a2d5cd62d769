// Explore: a PromQL expression as a graph and a table.

import { useState } from 'preact/hooks';
import { metricNames, query, queryRange } from '../api';
import { Chart } from '../chart';
import { labelText, short } from '../format';
import { useLoad } from '../load';
import { rangeEndingNow } from '../range';
import { setParams } from '../route';

const FIRST = 'sum by (mode) (rate(node_cpu_seconds_total[1m]))';
const MAX_DRAWN = 30;

async function evaluate(expr: string, rangeName: string) {
  const range = rangeEndingNow(rangeName);
  const [series, now] = await Promise.all([queryRange(expr, range), query(expr)]);
  return { range, series, now };
}

export function Explore({ range, q }: { range: string; q: string | null }) {
  const expr = q ?? FIRST;
  const [text, setText] = useState(expr);
  const names = useLoad(metricNames, []);
  const { data, error, reload } = useLoad(() => evaluate(expr, range), [expr, range], 15_000);
  const run = (event: Event) => {
    event.preventDefault();
    setParams({ q: text });
    reload();
  };
  return (
    <>
      <h1>Explore metrics</h1>
      <form class="bar" onSubmit={run}>
        <input
          class="query"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          list="metric-names"
          aria-label="PromQL expression"
          spellcheck={false}
          autocomplete="off"
        />
        <datalist id="metric-names">{names.data?.map((name) => <option key={name} value={name} />)}</datalist>
        <button type="submit">Run</button>
      </form>
      {error && <p class="error" role="alert">{error}</p>}
      {data && (
        <>
          <Chart
            title={`${data.series.length} series`}
            series={data.series.slice(0, MAX_DRAWN)}
            name={(labels) => labelText(labels)}
            format={short}
            range={data.range}
            height={320}
          />
          {data.series.length > MAX_DRAWN && <p class="note">the first {MAX_DRAWN} of {data.series.length} series are drawn</p>}
          <table class="card">
            <thead><tr><th>Series</th><th class="number">Value now</th></tr></thead>
            <tbody>
              {data.now.slice(0, 500).map((one) => (
                <tr key={labelText(one.labels)}>
                  <td><code>{labelText(one.labels)}</code></td>
                  <td class="number">{short(one.points[0]?.[1] ?? NaN)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </>
  );
}
