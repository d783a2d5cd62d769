// What each tenant has in the stores.

import { type TenantStats, tenants } from '../api/binnacle';
import { bytes, count } from '../state/format';
import { useLoad } from '../state/load';
import { tenant } from '../state/route';
import { DEFAULT_TENANT, showTenant } from '../tenant-picker';

const COLUMNS: [string, (stats: TenantStats) => string][] = [
  ['Active series', ({ active_series }) => count(active_series)],
  ['Samples published', ({ samples }) => count(samples)],
  ['on disk', ({ sample_bytes }) => bytes(sample_bytes)],
  ['Lines', ({ lines }) => count(lines)],
  ['as text', ({ text_bytes }) => bytes(text_bytes)],
  ['on disk', ({ line_bytes }) => bytes(line_bytes)],
];

export function Tenants() {
  const { data, error } = useLoad(tenants, [], 10_000);
  if (!data) return error ? <p class="error" role="alert">{error}</p> : <p class="empty">asking…</p>;
  const shown = tenant() ?? DEFAULT_TENANT;
  return (
    <>
      {error && <p class="error" role="alert">{error}</p>}
      <div class="card scroll" role="region" aria-label="Tenants">
        <table>
          <thead><tr><th>Tenant</th>{COLUMNS.map(([title], i) => <th class="number" key={i}>{title}</th>)}<th /></tr></thead>
          <tbody>
            {data.map((stats) => (
              <tr key={stats.tenant}>
                <td>{stats.tenant}</td>
                {COLUMNS.map(([, format], i) => <td class="number" key={i}>{format(stats)}</td>)}
                <td>{stats.tenant === shown ? <span class="note">shown</span> : <button type="button" class="link" onClick={() => showTenant(stats.tenant)}>Show</button>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="note">A request names its tenant in the header <code>X-Scope-OrgID</code>. Rules and alerts are the default tenant’s.</p>
    </>
  );
}
