// Home: this machine or cluster at a glance.

import { alerts, logVolume, query, queryRange, type Series } from '../api';
import { Chart } from '../chart';
import { bytes, bytesPerSecond, duration, percent, short } from '../format';
import { useLoad } from '../load';
import { rangeEndingNow } from '../range';
import { formatRoute } from '../route';

const REFRESH_MS = 15_000;
const RATE = '[1m]';

const CPU = `100 * sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}${RATE})) / scalar(count(node_cpu_seconds_total{mode="idle"}))`;
const MEMORY = 'node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes';
const DISK = [`sum(rate(node_disk_read_bytes_total${RATE}))`, `sum(rate(node_disk_written_bytes_total${RATE}))`];
const NETWORK = [
  `sum(rate(node_network_receive_bytes_total{device!="lo"}${RATE}))`,
  `sum(rate(node_network_transmit_bytes_total{device!="lo"}${RATE}))`,
];
const REAL = 'fstype!~"tmpfs|devtmpfs|ramfs|overlay|squashfs"';
const FULLEST = `100 * (1 - min(node_filesystem_avail_bytes{${REAL}} / node_filesystem_size_bytes{${REAL}}))`;
const CONTAINERS = 'topk(6, container_memory_working_set_bytes{id!="/"})';

/** Runs several queries and names each one's series. */
async function named(exprs: string[], names: string[], range: ReturnType<typeof rangeEndingNow>): Promise<Series[]> {
  const results = await Promise.all(exprs.map((expr) => queryRange(expr, range)));
  return results.flatMap((series, i) => series.map((one) => ({ ...one, labels: { name: names[i]! } })));
}

async function loadCharts(rangeName: string) {
  const range = rangeEndingNow(rangeName);
  const volume = `sum by (level) (count_over_time({filename=~".+"}[${range.step}s]))`;
  const [cpu, memory, disk, network, containers, lines] = await Promise.all([
    queryRange(CPU, range),
    named([MEMORY], ['used'], range),
    named(DISK, ['read', 'written'], range),
    named(NETWORK, ['received', 'sent'], range),
    queryRange(CONTAINERS, range),
    logVolume(volume, range),
  ]);
  return { range, cpu, memory, disk, network, containers, lines };
}

async function loadTiles() {
  const first = (series: Series[]) => series[0]?.points[0]?.[1] ?? NaN;
  const [up, load, total, free, firing, nodes] = await Promise.all([
    query('time() - max(node_boot_time_seconds)'),
    query('sum(node_load1)'),
    query('sum(node_memory_MemTotal_bytes)'),
    query(FULLEST),
    alerts(),
    query('count(node_uname_info)'),
  ]);
  const active = firing.filter((alert) => alert.status.state === 'active').length;
  return { up: first(up), load: first(load), total: first(total), full: first(free), active, nodes: first(nodes) };
}

function containerName(labels: Record<string, string>): string {
  return labels.pod ? `${labels.namespace}/${labels.pod}/${labels.container ?? ''}` : (labels.id ?? 'container');
}

function Tile(props: { label: string; value: string; href?: string; tone?: string }) {
  const content = (
    <>
      <span>{props.label}</span>
      <strong>{props.value}</strong>
    </>
  );
  const tone = `tile ${props.tone ?? ''}`;
  return props.href ? <a class={tone} href={props.href}>{content}</a> : <div class={tone}>{content}</div>;
}

export function Home({ range }: { range: string }) {
  const charts = useLoad(() => loadCharts(range), [range], REFRESH_MS);
  const tiles = useLoad(loadTiles, [], REFRESH_MS);
  const data = charts.data;
  const tile = tiles.data;
  const logs = formatRoute('logs', { range });
  return (
    <>
      <h1>This machine</h1>
      {charts.error && <p class="error" role="alert">{charts.error}</p>}
      <section class="tiles" aria-label="At a glance">
        <Tile label="Nodes" value={tile ? short(tile.nodes || 0) : '…'} />
        <Tile label="Up for" value={tile && Number.isFinite(tile.up) ? duration(tile.up) : '…'} />
        <Tile label="Load (1 min)" value={tile && Number.isFinite(tile.load) ? tile.load.toFixed(2) : '…'} />
        <Tile label="Fullest disk" value={tile ? percent(tile.full) : '…'} tone={tile && tile.full > 90 ? 'bad' : ''} />
        <Tile
          label="Firing alerts"
          value={tile ? String(tile.active) : '…'}
          href={formatRoute('alerts', {})}
          tone={tile?.active ? 'bad' : 'good'}
        />
      </section>
      {data ? (
        <section class="grid">
          <Chart title="CPU" series={data.cpu} name={(l) => l.mode ?? ''} format={percent} range={data.range} stacked />
          <Chart title="Memory" series={data.memory} name={(l) => l.name ?? ''} format={bytes} range={data.range} max={tile?.total} />
          <Chart title="Disk" series={data.disk} name={(l) => l.name ?? ''} format={bytesPerSecond} range={data.range} />
          <Chart title="Network" series={data.network} name={(l) => l.name ?? ''} format={bytesPerSecond} range={data.range} />
          <Chart title="Container memory" series={data.containers} name={containerName} format={bytes} range={data.range} />
          <a class="plain" href={logs} aria-label="Open the logs">
            <Chart title="Log lines by level" series={data.lines} name={(l) => l.level ?? 'none'} format={short} range={data.range} stacked bars />
          </a>
        </section>
      ) : (
        !charts.error && <p class="empty">loading…</p>
      )}
    </>
  );
}
