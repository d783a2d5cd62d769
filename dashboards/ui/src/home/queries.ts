// What home asks for. Names are node_exporter's and cAdvisor's, which the agent uses.

import { type Alert, alerts } from '../api/alertmanager';
import { type Status, status } from '../api/binnacle';
import { type Range, ifThere } from '../api/http';
import { logRange } from '../api/loki';
import { type Series, instantQuery, rangeQuery, value } from '../api/prometheus';
import type { Drawn } from '../chart/chart';

const RATE = '[1m]';
const REAL_DISK = 'fstype!~"tmpfs|devtmpfs|ramfs|overlay|squashfs"';
const CPU_BUSY = `1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}${RATE}))`;
const MEMORY_USED = '1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes';
const DISK_USED = `max by (instance) (1 - node_filesystem_avail_bytes{${REAL_DISK}} / node_filesystem_size_bytes{${REAL_DISK}})`;

export const LINES = '{filename=~".+"}';

interface Asked {
  query: string;
  name: (labels: Record<string, string>) => string;
}

const constant = (query: string, name: string): Asked => ({ query, name: () => name });

const PANELS = {
  cpu: [{ query: `100 * sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}${RATE})) / scalar(count(node_cpu_seconds_total{mode="idle"}))`, name: (labels) => labels.mode ?? '' }],
  memory: [constant('sum(node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)', 'used'), constant('sum(node_memory_Cached_bytes + node_memory_Buffers_bytes)', 'cache')],
  disk: [constant(`sum(rate(node_disk_read_bytes_total${RATE}))`, 'read'), constant(`sum(rate(node_disk_written_bytes_total${RATE}))`, 'written')],
  network: [
    constant(`sum(rate(node_network_receive_bytes_total{device!="lo"}${RATE}))`, 'received'),
    constant(`sum(rate(node_network_transmit_bytes_total{device!="lo"}${RATE}))`, 'sent'),
  ],
  containers: [{ query: 'topk(6, container_memory_working_set_bytes{id!="/"})', name: containerName }],
} satisfies Record<string, Asked[]>;

export type Panel = keyof typeof PANELS;

/** Where a panel's title leads. */
export const queryOf = (panel: Panel): string => PANELS[panel][0]!.query;

export function containerName(labels: Record<string, string>): string {
  if (labels.pod) return `${labels.namespace}/${labels.pod}/${labels.container ?? ''}`;
  return (labels.id ?? 'container').replace(/^\/system\.slice\//, '');
}

async function panel(asked: Asked[], range: Range, signal: AbortSignal): Promise<Drawn[]> {
  const results = await Promise.all(asked.map(({ query }) => rangeQuery(query, range, { signal })));
  return results.flatMap(({ series }, i) => series.map((one) => ({ ...one, name: asked[i]!.name(one.labels) })));
}

export interface Charts extends Record<Panel | 'lines', Drawn[]> {
  range: Range;
  /** The histogram's own: its bars are wider than points. */
  lineRange: Range;
}

export async function loadCharts(range: Range, lineRange: Range, signal: AbortSignal): Promise<Charts> {
  const names = Object.keys(PANELS) as Panel[];
  const volume = ifThere(logRange(`sum by (level) (count_over_time(${LINES} [${lineRange.step}s]))`, lineRange, signal), { series: [], notes: [] });
  const [counted, ...panels] = await Promise.all([volume, ...names.map((name) => panel(PANELS[name], range, signal))]);
  const lines = counted.series.map((one) => ({ ...one, name: one.labels.level || 'none' }));
  return { ...(Object.fromEntries(names.map((name, i) => [name, panels[i]])) as Record<Panel, Drawn[]>), lines, range, lineRange };
}

export interface Node {
  name: string;
  /** Shares of one. */
  cpu: number;
  memory: number;
  disk: number;
}

export interface Glance {
  nodes: Node[];
  uptime: number;
  load: number;
  cores: number;
  memory: number;
  pods: number;
  alerts: Alert[];
  status: Status;
  targetsDown: number;
  dropped: number;
}

const byInstance = (series: Series[]): Map<string, number> =>
  new Map(series.map((one) => [one.labels.instance ?? one.labels.node ?? '', one.points[0]?.[1] ?? NaN]));

async function loadNodes(): Promise<Node[]> {
  const [cpu, memory, disk] = (await Promise.all([CPU_BUSY, MEMORY_USED, DISK_USED].map((query) => instantQuery(query)))).map(({ series }) => byInstance(series));
  const names = [...new Set([...cpu!.keys(), ...memory!.keys()])].sort();
  return names.map((name) => ({ name, cpu: cpu!.get(name) ?? NaN, memory: memory!.get(name) ?? NaN, disk: disk!.get(name) ?? NaN }));
}

export async function loadGlance(): Promise<Glance> {
  const [nodes, uptime, load, cores, memory, pods, firing, state, targetsDown, dropped] = await Promise.all([
    loadNodes(),
    value('time() - max(node_boot_time_seconds)'),
    value('sum(node_load1)'),
    value('count(node_cpu_seconds_total{mode="idle"})'),
    value('sum(node_memory_MemTotal_bytes)'),
    value('count(count by (namespace, pod) (container_memory_working_set_bytes{pod!=""}))'),
    ifThere(alerts(), []),
    status(),
    value('count(up == 0)'),
    value('sum(increase(binnacle_agent_lines_total{stage="dropped"}[1h]))').catch(() => NaN),
  ]);
  return { nodes, uptime, load, cores, memory, pods, alerts: firing, status: state, targetsDown: targetsDown || 0, dropped: dropped || 0 };
}
