// What runs, and how far each part is.

import { status } from '../api/binnacle';
import { type Series, cardinality, instantQuery, runtime } from '../api/prometheus';
import { bytes, count, duration, instant } from '../state/format';
import { useLoad } from '../state/load';

/** Counters that tell of loss or pressure; shown only when they are not zero. */
const TROUBLE = '{__name__=~"binnacle_.*(dropped|refused|failed|errors|rejected).*_total"} > 0';

async function load() {
  const [state, head, process, trouble] = await Promise.all([
    status(),
    cardinality(1),
    runtime().catch(() => ({})),
    instantQuery(TROUBLE).then(({ series }) => series, (): Series[] => []),
  ]);
  return { state, head, process: process as Record<string, unknown>, trouble };
}

export function Overview() {
  const { data, error } = useLoad(load, [], 5_000);
  if (!data) return error ? <p class="error" role="alert">{error}</p> : <p class="empty">asking…</p>;
  const { state, head, process, trouble } = data;
  const facts: [string, string][] = [
    ['Version', state.version], ['Node', state.node], ['Up for', duration(state.uptime_seconds)],
    ['Series in memory', count(head.headStats.numSeries)], ['Label pairs', count(head.headStats.numLabelPairs)],
    ['Metrics kept for', String(process.storageRetention ?? '–')], ['Runs in', String(process.CWD ?? '–')],
    ['Configuration', `${process.reloadConfigSuccess === false ? 'the last reload failed; in force since' : 'in force since'} ${instant(Date.parse(String(process.lastConfigTime)))}`],
  ];
  return (
    <>
      {error && <p class="error" role="alert">{error}</p>}
      <dl class="card facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {trouble.length > 0 && (
        <>
          <h2>Worth a look</h2>
          <ul class="card facts">{trouble.map((one) => <li key={JSON.stringify(one.labels)}><code>{one.labels.__name__}</code> {Object.entries(one.labels).filter(([name]) => !['__name__', 'instance', 'job'].includes(name)).map(([name, value]) => `${name}=${value} `)}<b>{count(one.points[0]?.[1] ?? 0)}</b></li>)}</ul>
        </>
      )}
      <h2>Bus</h2>
      <div class="card scroll">
        <table>
          <thead><tr><th>Topic</th><th class="number">First record</th><th class="number">Next record</th><th class="number">Kept</th><th class="number">Refused</th></tr></thead>
          <tbody>
            {state.bus.map((topic) => (
              <tr key={topic.topic}>
                <td>{topic.topic}</td><td class="number">{count(topic.start)}</td><td class="number">{count(topic.end)}</td>
                <td class="number">{bytes(topic.retained_bytes)}</td><td class={`number ${topic.refused ? 'error' : ''}`}>{count(topic.refused)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {state.bus.length === 0 && <p class="note">The bus is Kafka; its offsets are there.</p>}
      </div>
      <h2>Stores</h2>
      <div class="card scroll">
        <table>
          <thead><tr><th>Store</th><th class="number">Records applied</th><th class="number">Behind the bus</th></tr></thead>
          <tbody>
            {state.stores.map(({ part, applied, behind }) => (
              <tr key={part}><td>{part}</td><td class="number">{count(applied)}</td><td class="number">{behind === null ? 'not known' : behind ? count(behind) : 'up to date'}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
