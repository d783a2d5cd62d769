// A time chart: uPlot with our colours, a legend that names series, and gaps where there is no data.

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Series } from './api';
import { bytes, bytesPerSecond, tick } from './format';

const COLOURS = ['#2f7fb5', '#e4572e', '#3a9d6e', '#c9a35b', '#8a5bb5', '#4bb3c4', '#b5476f', '#7d8b2f', '#6b7a89'];

/** Named colours where a series' meaning has one. */
const MEANING: Record<string, string> = {
  error: '#d64545', fatal: '#a32020', critical: '#a32020', warn: '#d99a2b', info: '#2f7fb5', debug: '#7a8794',
  user: '#2f7fb5', system: '#e4572e', iowait: '#c9a35b', softirq: '#8a5bb5', irq: '#4bb3c4', steal: '#b5476f', nice: '#3a9d6e',
};

/** Lays series over one time axis; instants that a series lacks are null. */
export function align(series: Series[]): uPlot.AlignedData {
  const times = [...new Set(series.flatMap(({ points }) => points.map(([t]) => t)))].sort((a, b) => a - b);
  const columns = series.map(({ points }) => {
    const at = new Map(points);
    return times.map((t) => {
      const value = at.get(t);
      return value === undefined || !Number.isFinite(value) ? null : value;
    });
  });
  return [times, ...columns];
}

/** Adds each series to the ones before it, for stacked areas. */
export function stack(data: uPlot.AlignedData): uPlot.AlignedData {
  const [times, ...columns] = data;
  const sums = times.map(() => 0);
  const stacked = columns.map((column) => sums.map((_, i) => (sums[i] = (sums[i] ?? 0) + ((column[i] as number) ?? 0))));
  return [times, ...stacked];
}

/** Steps of an axis that counts bytes: powers of two, so that its labels are round. */
const BINARY_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);

interface Props {
  title: string;
  series: Series[];
  name: (labels: Record<string, string>) => string;
  format: (value: number) => string;
  range: { start: number; end: number };
  stacked?: boolean;
  bars?: boolean;
  height?: number;
  max?: number;
}

const colourOf = (name: string, i: number) => MEANING[name] ?? COLOURS[i % COLOURS.length]!;

function options(props: Props, width: number, ink: string, grid: string): uPlot.Options {
  const fill = props.stacked || props.bars ? 'cc' : '18';
  const isBytes = props.format === bytes || props.format === bytesPerSecond;
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11px system-ui' };
  return {
    width,
    padding: [8, 8, 0, 0],
    height: props.height ?? 190,
    legend: { show: false },
    cursor: { points: { size: 6 } },
    scales: {
      x: { min: props.range.start, max: props.range.end },
      y: { range: (_, __, max) => [0, Math.max(props.max ?? 0, max * 1.05) || 1] },
    },
    axes: [{ ...axis, space: 70, size: 28, values: (_, ticks) => ticks.map((at) => tick(at, props.range.end - props.range.start)) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(props.format), ...(isBytes ? { incrs: BINARY_STEPS } : {}) }],
    series: [
      {},
      ...props.series.map(({ labels, points }, i) => {
        const stroke = colourOf(props.name(labels), i);
        const paths = props.bars ? uPlot.paths.bars!({ size: [0.9, 40] }) : undefined;
        return { label: props.name(labels), stroke, fill: stroke + fill, width: props.bars ? 0 : 1.5, paths, points: { show: !props.bars && points.length < 3 } };
      }),
    ],
  };
}

export function Chart(props: Props) {
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const css = getComputedStyle(element);
    // Stacked areas are drawn from the top of the pile down, so that each covers the one above.
    const plain = align(props.series);
    const data = props.stacked ? stack(plain) : plain;
    const order = props.stacked ? [...props.series.keys()].reverse() : [...props.series.keys()];
    const drawn = { ...props, series: order.map((i) => props.series[i]!) };
    const columns: uPlot.AlignedData = [data[0], ...order.map((i) => data[i + 1]!)];
    const settings = options(drawn, element.clientWidth, css.getPropertyValue('--muted'), css.getPropertyValue('--line'));
    order.forEach((original, position) => {
      const colour = colourOf(props.name(props.series[original]!.labels), original);
      Object.assign(settings.series[position + 1]!, { stroke: colour, fill: colour + (props.stacked || props.bars ? 'cc' : '18') });
    });
    const plot = new uPlot(settings, columns, element);
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: settings.height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [props.series, props.range.start, props.range.end, props.stacked]);

  return (
    <figure class="card chart">
      <figcaption>{props.title}</figcaption>
      <div ref={holder} class="plot" role="img" aria-label={props.title} />
      {props.series.length === 0 && <p class="empty">no data in this range</p>}
      <ul class="legend">
        {props.series.map(({ labels, points }, i) => {
          const last = points.at(-1)?.[1];
          return (
            <li key={props.name(labels)}>
              <i style={{ background: colourOf(props.name(labels), i) }} />
              {props.name(labels)} <b>{last === undefined ? '' : props.format(last)}</b>
            </li>
          );
        })}
      </ul>
    </figure>
  );
}
