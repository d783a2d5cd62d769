// What only Binnacle tells: the bus, the files that the agent follows, tenants, long work.

import { get, request } from './http';

export interface Topic {
  topic: string;
  start: number;
  end: number;
  retained_bytes: number;
  refused: number;
}
export interface Store {
  part: string;
  topic: string;
  applied: number;
  /** Records of the topic that are not applied yet; null where the bus does not say. */
  behind: number | null;
}
export interface TailedFile {
  path: string;
  format: string;
  offset: number;
  size: number;
}
export interface Status {
  version: string;
  node: string;
  uptime_seconds: number;
  bus: Topic[];
  stores: Store[];
  files: TailedFile[];
}

export interface TenantStats {
  tenant: string;
  active_series: number;
  samples: number;
  sample_bytes: number;
  lines: number;
  text_bytes: number;
  line_bytes: number;
}
export interface Work {
  id: string;
  kind: string;
  detail: string;
  done: number;
  /** 0 where it is not known. */
  total: number;
  unit: string;
  state: 'running' | 'done' | 'failed';
  error: string;
  began_ms: number;
  changed_ms: number;
}

export const tenants = async (): Promise<TenantStats[]> => (await get<{ tenants: TenantStats[] }>('binnacle/v1/tenants')).tenants;
export const work = async (): Promise<Work[]> => (await get<{ work: Work[] }>('binnacle/v1/work')).work;
/** Publishes every head, merges, and lets the bus go of what is published. */
export async function flush(): Promise<void> {
  await request('-/flush', { method: 'POST' });
}
export const status = (): Promise<Status> => get('binnacle/v1/status');
