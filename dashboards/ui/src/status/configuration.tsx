// The configuration that is in force, and the flags.

import { configText, flags } from '../api/prometheus';
import { useLoad } from '../state/load';

async function load() {
  const [config, all] = await Promise.all([configText(), flags()]);
  return { config, flags: all };
}

export function Configuration() {
  const { data, error } = useLoad(load, []);
  if (!data) return error ? <p class="error" role="alert">{error}</p> : <p class="empty">asking…</p>;
  return (
    <>
      <section class="card yaml">
        <div class="bar"><h2>Configuration</h2><button type="button" onClick={() => void navigator.clipboard?.writeText(data.config)}>Copy</button></div>
        <pre tabIndex={0}>{data.config.trim() || '# none: this machine’s logs and metrics were found by themselves'}</pre>
      </section>
      <section class="card scroll">
        <table>
          <thead><tr><th>Flag</th><th>Value</th></tr></thead>
          <tbody>{Object.entries(data.flags).map(([name, value]) => <tr key={name}><td><code>--{name}</code></td><td><code>{value}</code></td></tr>)}</tbody>
        </table>
      </section>
    </>
  );
}
