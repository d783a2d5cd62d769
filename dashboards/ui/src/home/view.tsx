// Home: this machine or cluster at a glance, and whatever is behind.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { Alert } from '../api/alertmanager';
import { Chart } from '../chart/chart';
import { ago, bytes, bytesPerSecond, count, duration, percent, short } from '../state/format';
import { useLoad } from '../state/load';
import { linkTo } from '../state/route';
import { type Window, rangeOf, showWindow } from '../state/time';
import { type Glance, LINES, type Node, type Panel, loadCharts, loadGlance, queryOf } from './queries';

const REFRESH_MS = 15_000;
const PHONE_PIXELS = 700;
const BAR_PIXELS = 12;
/** A file this far behind what it holds is worth a word. */
const BEHIND_BYTES = 1 << 20;
/** So many records on the bus, a request each, are not those of the last moment. */
const BEHIND_RECORDS = 100;
const SHOWN_NODES = 50;

function Tile(props: { label: string; value: string; detail?: string; href?: string; tone?: string }) {
  const content = (
    <>
      <span>{props.label}</span>
      <strong>{props.value}</strong>
      <em>{props.detail ?? ''}</em>
    </>
  );
  const tone = `tile ${props.tone ?? ''}`;
  return props.href ? <a class={tone} href={props.href}>{content}</a> : <div class={tone}>{content}</div>;
}

const share = (value: number): string => percent(100 * value);
const toneOf = (value: number): string => (value > 0.9 ? 'bad' : value > 0.75 ? 'warn' : '');

function Tiles({ glance }: { glance: Glance }) {
  const active = glance.alerts.filter((alert) => alert.status.state === 'active').length;
  const held = glance.alerts.length - active;
  const fullest = Math.max(...glance.nodes.map(({ disk }) => disk || 0));
  const many = glance.nodes.length > 1;
  return (
    <section class="tiles" aria-label="At a glance">
      <Tile label="Firing alerts" value={String(active)} detail={held ? `${held} held back` : 'none held back'} href={linkTo('alerts')} tone={active ? 'bad' : 'good'} />
      <Tile label={many ? 'Nodes' : 'Up for'} value={many ? count(glance.nodes.length) : duration(glance.uptime)} detail={many ? `longest up ${duration(glance.uptime)}` : glance.nodes[0]?.name} />
      <Tile label="Load" value={Number.isFinite(glance.load) ? glance.load.toFixed(2) : '–'} detail={`of ${count(glance.cores)} cores`} tone={toneOf(glance.load / glance.cores / 2)} />
      <Tile label="Memory" value={bytes(glance.memory)} detail={many ? 'all nodes' : `${share(glance.nodes[0]?.memory ?? NaN)} used`} tone={toneOf(glance.nodes[0]?.memory ?? 0)} />
      <Tile label="Fullest disk" value={share(fullest)} tone={toneOf(fullest)} detail="of its size used" />
      {glance.pods > 0 && <Tile label="Pods" value={count(glance.pods)} />}
    </section>
  );
}

/** What is not as far as it should be; nothing when all is well. */
export function behind(glance: Pick<Glance, 'status' | 'targetsDown' | 'dropped'>): { text: string; tab: string }[] {
  const late = glance.status.files.filter((file) => file.size - file.offset > BEHIND_BYTES);
  const lateBytes = late.reduce((sum, file) => sum + file.size - file.offset, 0);
  const refused = glance.status.bus.filter((topic) => topic.refused > 0);
  const found: { text: string; tab: string }[] = [];
  if (late.length) found.push({ text: `${late.length === 1 ? 'a log file is' : `${count(late.length)} log files are`} ${bytes(lateBytes)} behind`, tab: 'agent' });
  if (glance.targetsDown) found.push({ text: glance.targetsDown === 1 ? 'a target is down' : `${count(glance.targetsDown)} targets are down`, tab: 'targets' });
  if (glance.dropped) found.push({ text: `${count(glance.dropped)} lines were dropped in the last hour`, tab: 'agent' });
  for (const { part, behind } of glance.status.stores) {
    if (behind === null) found.push({ text: `the bus does not say how far ${part} is behind`, tab: 'overview' });
    else if (behind > BEHIND_RECORDS) found.push({ text: `${part} is ${count(behind)} records behind the bus`, tab: 'overview' });
  }
  for (const topic of refused) found.push({ text: `${topic.topic} refused ${count(topic.refused)} records`, tab: 'overview' });
  return found;
}

const RANK: Record<string, number> = { critical: 0, error: 1, warning: 2 };

function Firing({ alerts }: { alerts: Alert[] }) {
  const active = alerts.filter((alert) => alert.status.state === 'active');
  active.sort((a, b) => (RANK[a.labels.severity ?? ''] ?? 3) - (RANK[b.labels.severity ?? ''] ?? 3) || b.startsAt.localeCompare(a.startsAt));
  if (active.length === 0) return null;
  return (
    <section class="card attention" aria-label="Firing">
      {active.slice(0, 5).map((alert) => (
        <a key={alert.fingerprint} href={linkTo('alerts', { alert: alert.fingerprint })}>
          <span class={`dot ${alert.labels.severity ?? ''}`} />
          <strong>{alert.labels.alertname}</strong>
          <span>{alert.annotations.summary ?? alert.annotations.description ?? ''}</span>
          <time>{ago(Date.parse(alert.startsAt))}</time>
        </a>
      ))}
      {active.length > 5 && <a href={linkTo('alerts')}>and {active.length - 5} more</a>}
    </section>
  );
}

function Meter({ value }: { value: number }) {
  return (
    <span class={`meter ${toneOf(value)}`}>
      <i style={{ width: `${Math.min(100, 100 * (value || 0))}%` }} />
      <b>{share(value)}</b>
    </span>
  );
}

function Nodes({ nodes }: { nodes: Node[] }) {
  if (nodes.length < 2) return null;
  const busiest = [...nodes].sort((a, b) => Math.max(b.cpu, b.memory, b.disk) - Math.max(a.cpu, a.memory, a.disk));
  return (
    <div class="card scroll">
      <table>
        <thead><tr><th>Node</th><th>CPU</th><th>Memory</th><th>Disk</th></tr></thead>
        <tbody>
          {busiest.slice(0, SHOWN_NODES).map((node) => (
            <tr key={node.name}><td>{node.name}</td><td><Meter value={node.cpu} /></td><td><Meter value={node.memory} /></td><td><Meter value={node.disk} /></td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Home({ window }: { window: Window }) {
  const box = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(box.current!.clientWidth), []);
  const fixed = window.name ?? `${window.from}-${window.to}`;
  const glance = useLoad(loadGlance, [], REFRESH_MS);
  const charts = useLoad(
    (signal) => {
      if (!width) return new Promise<Awaited<ReturnType<typeof loadCharts>>>(() => {});
      const now = window.name ? { from: Date.now() - (window.to - window.from), to: Date.now() } : window;
      const each = width > PHONE_PIXELS ? width / 2 : width;
      return loadCharts(rangeOf(now, each, 15), rangeOf(now, (each * 3) / BAR_PIXELS, 15), signal);
    },
    [fixed, width],
    window.name ? REFRESH_MS : 0,
  );
  const data = charts.data;
  const late = glance.data ? behind(glance.data) : [];
  const panels: [Panel, string, (value: number) => string][] = [
    ['cpu', 'CPU', percent], ['memory', 'Memory', bytes], ['disk', 'Disk', bytesPerSecond], ['network', 'Network', bytesPerSecond], ['containers', 'Memory of containers', bytes],
  ];
  return (
    <section ref={box}>
      <header class="title">
        <h1>{glance.data && glance.data.nodes.length > 1 ? 'This cluster' : 'This machine'}</h1>
      </header>
      {(charts.error ?? glance.error) && <p class="error" role="alert">{charts.error ?? glance.error}</p>}
      {late.map(({ text, tab }) => <a class="notice" key={text} href={linkTo('status', { tab })}>{text}</a>)}
      {glance.data ? <Tiles glance={glance.data} /> : <section class="tiles loading" aria-label="At a glance">{[1, 2, 3, 4, 5].map((i) => <div class="tile" key={i} />)}</section>}
      {glance.data && <Firing alerts={glance.data.alerts} />}
      {glance.data && <Nodes nodes={glance.data.nodes} />}
      <div class="grid">
        {panels.map(([id, title, format]) => (
          <Chart
            key={id} title={title} format={format} href={linkTo('explore', { q: queryOf(id) })} onZoom={showWindow} stacked={id === 'cpu'}
            series={data?.[id] ?? []} range={data?.range ?? { start: 0, end: 1, step: 1 }}
            max={id === 'memory' ? glance.data?.memory : id === 'cpu' ? 100 : undefined}
          />
        ))}
        <Chart title="Log lines by level" format={short} href={linkTo('explore', { q: LINES })} onZoom={showWindow} stacked bars series={data?.lines ?? []} range={data?.lineRange ?? { start: 0, end: 1, step: 1 }} />
      </div>
    </section>
  );
}
