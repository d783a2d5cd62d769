// Whose data is looked at; shown once there is more than one tenant.

import { tenants } from './api/binnacle';
import { ifThere } from './api/http';
import { Menu } from './parts/menu';
import { useLoad } from './state/load';
import { setParams, tenant } from './state/route';

const REFRESH_MS = 60_000;
export const DEFAULT_TENANT = 'default';

export const showTenant = (name: string): void => setParams({ tenant: name === DEFAULT_TENANT ? undefined : name }, 'step');

export function TenantPicker() {
  const { data } = useLoad(() => ifThere(tenants(), []), [], REFRESH_MS);
  const shown = tenant() ?? DEFAULT_TENANT;
  const names = [...new Set([...(data ?? []).map(({ tenant }) => tenant), shown])].sort();
  if (names.length < 2) return null;
  return (
    <Menu label="Tenant" button={shown}>
      {(close) => (
        <ul class="tenants">
          {names.map((name) => (
            <li key={name}><button type="button" aria-pressed={name === shown} onClick={() => (showTenant(name), close())}>{name}</button></li>
          ))}
        </ul>
      )}
    </Menu>
  );
}
