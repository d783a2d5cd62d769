// A time chart: uPlot with our colours, a tooltip, a legend that picks series, zoom by dragging, gaps where there is no data.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Range } from '../api/http';
import type { Series } from '../api/prometheus';
import { VirtualList } from '../parts/list';
import { bytes, bytesPerSecond, instant, tick } from '../state/format';
import { colourOf } from './colours';
import { align, stack, withGaps } from './data';

/** Steps of an axis that counts bytes: powers of two, so that its labels are round. */
const BINARY_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);
const TOOLTIP_ROWS = 12;
/** The width of the axis of values. */
const AXIS_PIXELS = 62;
/** A legend of more than this many series is a list of its own that scrolls. */
const SHORT_LEGEND = 16;

export interface Drawn extends Series {
  name: string;
  /** Of an earlier time, for comparison. */
  faded?: boolean;
}

interface Props {
  title?: string;
  series: Drawn[];
  format: (value: number) => string;
  range: Range;
  stacked?: boolean;
  bars?: boolean;
  height?: number;
  max?: number;
  threshold?: number;
  /** Milliseconds, of a dragged span. */
  onZoom?: (from: number, to: number) => void;
  legend?: 'full' | 'none';
  href?: string;
}

const shade = (colour: string, alpha: string) => colour + alpha;

/** A colour as `#rrggbb`: a canvas says all of them so. */
function sixDigits(colour: string): string {
  const ink = document.createElement('canvas').getContext('2d')!;
  ink.fillStyle = colour;
  return ink.fillStyle;
}

/** A colour laid over the paper: areas that cover one another must not shine through. */
function over(colour: string, paper: string, share: number): string {
  const parts = (hex: string) => [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16));
  const [top, under] = [parts(colour), parts(paper)];
  return `#${top.map((value, i) => Math.round(value * share + under[i]! * (1 - share)).toString(16).padStart(2, '0')).join('')}`;
}

function lineOf(one: Drawn, colour: string, props: Props, paper: string): uPlot.Series {
  const isFilled = props.stacked || props.bars;
  return {
    label: one.name,
    stroke: one.faded ? shade(colour, '88') : colour,
    fill: one.faded ? undefined : isFilled ? over(colour, paper, props.bars ? 0.9 : 0.6) : shade(colour, props.series.length > 8 ? '00' : '14'),
    width: props.bars ? 0 : one.faded ? 1 : 1.5,
    dash: one.faded ? [5, 4] : undefined,
    paths: props.bars ? uPlot.paths.bars!({ size: [0.86, 60], align: -1 }) : undefined,
    points: { show: !props.bars && one.points.length < 2, size: 5 },
  };
}

/** Lines behind the data: the threshold of an alert. */
function thresholdPlugin(value: number, colour: string): uPlot.Plugin {
  const draw = (plot: uPlot) => {
    const y = Math.round(plot.valToPos(value, 'y', true));
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.setLineDash([8, 5]);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  };
  return { hooks: { draw } };
}

export interface Pointed {
  at: number;
  left: number;
  rows: { name: string; colour: string; value: number }[];
  more: number;
}

/** What lies under the pointer: the largest values first. */
function pointed(plot: uPlot, drawn: Drawn[], plain: uPlot.AlignedData, colours: string[], hidden: Set<string>): Pointed | undefined {
  const i = plot.cursor.idx;
  if (i === null || i === undefined || (plot.cursor.left ?? -1) < 0) return undefined;
  const rows: Pointed['rows'] = [];
  drawn.forEach((one, k) => {
    const value = plain[k + 1]?.[i];
    if (value !== null && value !== undefined && !hidden.has(one.name)) rows.push({ name: one.name, colour: colours[k]!, value });
  });
  rows.sort((a, b) => b.value - a.value);
  return { at: plain[0][i]!, left: plot.cursor.left!, rows: rows.slice(0, TOOLTIP_ROWS), more: Math.max(0, rows.length - TOOLTIP_ROWS) };
}

function settings(props: Props, drawn: Drawn[], colours: string[], css: CSSStyleDeclaration, width: number): uPlot.Options {
  const isBytes = props.format === bytes || props.format === bytesPerSecond;
  const axis: uPlot.Axis = {
    stroke: css.getPropertyValue('--muted'),
    grid: { stroke: css.getPropertyValue('--grid'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui, sans-serif',
  };
  const span = props.range.end - props.range.start;
  const paper = sixDigits(css.getPropertyValue('--card'));
  return {
    width,
    height: props.height ?? 190,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { points: { size: 6, show: drawn.length <= 40 && !props.bars }, y: false, drag: { x: Boolean(props.onZoom), y: false, setScale: false }, sync: { key: 'all' } },
    scales: {
      x: { min: props.range.start, max: props.range.end },
      y: {
        range: (_, low, high) => {
          const top = Math.max(props.max ?? -Infinity, high ?? 0, props.threshold ?? -Infinity);
          const bottom = Math.min(0, low ?? 0, props.threshold ?? 0);
          return [bottom * 1.05, top > bottom ? top + (top - bottom) * 0.05 : bottom + 1];
        },
      },
    },
    axes: [
      { ...axis, space: 76, size: 26, values: (_, ticks) => ticks.map((at) => tick(at, span)) },
      { ...axis, size: AXIS_PIXELS, space: 34, values: (_, ticks) => ticks.map(props.format), ...(isBytes ? { incrs: BINARY_STEPS } : {}) },
    ],
    series: [{}, ...drawn.map((one, i) => lineOf(one, colours[i]!, props, paper))],
    plugins: props.threshold === undefined ? [] : [thresholdPlugin(props.threshold, css.getPropertyValue('--bad'))],
  };
}

function Tooltip({ at, left, rows, more, format, width }: Pointed & { format: (value: number) => string; width: number }) {
  const x = AXIS_PIXELS + left;
  const side = x > width / 2 ? { right: `${width - x + 12}px` } : { left: `${x + 12}px` };
  return (
    <div class="tooltip" style={side}>
      <time>{instant(at * 1000)}</time>
      {rows.map((row) => (
        <div key={row.name}>
          <i style={{ background: row.colour }} />
          <span>{row.name}</span>
          <b>{format(row.value)}</b>
        </div>
      ))}
      {more > 0 && <em>and {more} more</em>}
    </div>
  );
}

interface LegendProps {
  series: Drawn[];
  colours: string[];
  hidden: Set<string>;
  format: (value: number) => string;
  onPick: (name: string, add: boolean) => void;
}

/** A click shows one series alone, with Ctrl or Shift it hides or shows it. */
function Legend({ series, colours, hidden, format, onPick }: LegendProps) {
  const row = (one: Drawn, i: number) => {
    const last = one.points.at(-1)?.[1];
    return (
      <button
        type="button"
        class={hidden.has(one.name) ? 'off' : ''}
        aria-pressed={!hidden.has(one.name)}
        title={one.name}
        onClick={(event) => onPick(one.name, event.ctrlKey || event.metaKey || event.shiftKey)}
      >
        <i style={{ background: colours[i] }} />
        <span>{one.name}</span>
        <b>{last === undefined ? '' : format(last)}</b>
      </button>
    );
  };
  if (series.length > SHORT_LEGEND) {
    return <VirtualList class="legend long" label="Series" items={series} estimate={24} keyOf={(_, i) => i} render={row} />;
  }
  return <ul class="legend">{series.map((one, i) => <li key={i}>{row(one, i)}</li>)}</ul>;
}

/** Redraws when the theme changes: a canvas does not follow CSS. */
export function useTheme(): string {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? '');
  useEffect(() => {
    const observer = new MutationObserver(() => setTheme(document.documentElement.dataset.theme ?? ''));
    observer.observe(document.documentElement, { attributeFilter: ['data-theme'] });
    return () => observer.disconnect();
  }, []);
  return theme;
}

export function Chart(props: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const [hidden, setHidden] = useState<Set<string>>(new Set());
  const [at, setAt] = useState<Pointed>();
  const theme = useTheme();
  const colours = useMemo(() => {
    let turn = 0;
    return props.series.map((one) => colourOf(one.name.replace(/ \(.* earlier\)$/, ''), one.faded ? turn : turn++));
  }, [props.series]);

  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    // Stacked areas are drawn from the top of the pile down, so that each covers the one above.
    const order = [...props.series.keys()].filter((i) => !hidden.has(props.series[i]!.name));
    const shown = order.map((i) => props.series[i]!);
    const plain = withGaps(align(shown), props.range.step);
    const piled = props.stacked ? stack(plain) : plain;
    const turn = props.stacked ? [...shown.keys()].reverse() : [...shown.keys()];
    const drawn = turn.map((i) => shown[i]!);
    const drawnColours = turn.map((i) => colours[order[i]!]!);
    const under: uPlot.AlignedData = [plain[0], ...turn.map((i) => plain[i + 1]!)];
    const data: uPlot.AlignedData = [piled[0], ...turn.map((i) => piled[i + 1]!)];
    const options = settings(props, drawn, drawnColours, getComputedStyle(element), element.clientWidth);
    options.hooks = {
      setCursor: [(plot) => setAt(plot.cursor.event === null ? undefined : pointed(plot, drawn, under, drawnColours, hidden))],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width > 4 && props.onZoom) props.onZoom(plot.posToVal(left, 'x') * 1000, plot.posToVal(left + width, 'x') * 1000);
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    };
    const plot = new uPlot(options, data, element);
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: options.height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [props.series, props.range.start, props.range.end, props.stacked, props.bars, props.threshold, hidden, theme, colours]);

  const pick = (name: string, add: boolean) => {
    const names = props.series.map((one) => one.name);
    const next = new Set(hidden);
    if (add) {
      if (!next.delete(name)) next.add(name);
      return setHidden(next);
    }
    const isAlone = !hidden.has(name) && names.length - hidden.size === 1;
    setHidden(new Set(isAlone ? [] : names.filter((other) => other !== name)));
  };
  const width = holder.current?.clientWidth ?? 0;
  return (
    <figure class="card chart">
      {props.title && <figcaption>{props.href ? <a href={props.href}>{props.title}</a> : props.title}</figcaption>}
      <div class="plot-box" onMouseLeave={() => setAt(undefined)}>
        <div ref={holder} class="plot" role="img" aria-label={props.title ?? 'Graph'} style={{ minHeight: `${props.height ?? 190}px` }} />
        {at && at.rows.length > 0 && <Tooltip {...at} format={props.format} width={width} />}
        {props.series.length === 0 && <p class="empty">no data in this range</p>}
      </div>
      {props.legend !== 'none' && <Legend series={props.series} colours={colours} hidden={hidden} format={props.format} onPick={pick} />}
    </figure>
  );
}
