// Whether the datasource works; if not, what is wrong with which part.

import type { TestDataSourceResponse } from '@grafana/data';
import { messageOf } from './errors';

const PARTS: [string, string][] = [
  ['metrics', 'api/v1/status/buildinfo'],
  ['logs', 'loki/api/v1/labels'],
  ['alerts', 'api/v2/status'],
];

export async function health(get: (path: string) => Promise<unknown>): Promise<TestDataSourceResponse> {
  const results = await Promise.allSettled(PARTS.map(([, path]) => get(path)));
  const faults = results.flatMap((result, i) => (result.status === 'rejected' ? [`${PARTS[i]![0]} (${PARTS[i]![1]}): ${messageOf(result.reason)}`] : []));
  if (faults.length === 0) return { status: 'success', message: 'Metrics, logs and alerts answer.' };
  if (faults.length === PARTS.length) {
    return { status: 'error', message: `Nothing answers at this address. Is it Binnacle's, as Grafana's server sees it, and does Binnacle listen on more than 127.0.0.1? ${faults[0]}` };
  }
  return { status: 'error', message: `Some parts do not answer. ${faults.join('; ')}` };
}
