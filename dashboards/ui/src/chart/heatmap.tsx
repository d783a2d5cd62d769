// Histograms over time: a column per instant, a row per bucket, darker where more was counted.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Range } from '../api/http';
import type { Series } from '../api/prometheus';
import { instant, short, tick } from '../state/format';
import { useTheme } from './chart';
import { heat, type Heat } from './data';

const LEFT = 74;
const BOTTOM = 24;
const HEIGHT = 340;
const TICKS = 10;
const TICK_STEPS = [10, 30, 60, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 86_400, 604_800];

const bound = (value: number): string => (value === Infinity ? '+Inf' : short(value));

/** Square root of the share: rare observations stay visible. */
const strength = (value: number, max: number): number => (value > 0 && max > 0 ? 0.08 + 0.92 * Math.sqrt(value / max) : 0);

function draw(canvas: HTMLCanvasElement, map: Heat, range: Range): void {
  const css = getComputedStyle(canvas);
  const [width, ratio] = [canvas.clientWidth, devicePixelRatio];
  canvas.width = width * ratio;
  canvas.height = HEIGHT * ratio;
  const ink = canvas.getContext('2d')!;
  ink.scale(ratio, ratio);
  const [plotWidth, plotHeight] = [width - LEFT, HEIGHT - BOTTOM];
  const x = (t: number) => LEFT + ((t - range.start) / (range.end - range.start)) * plotWidth;
  const rowHeight = plotHeight / Math.max(1, map.rows.length);
  const cell = Math.max(1, x(range.start + range.step) - x(range.start));
  const gap = cell > 8 ? 0.5 : -0.5;
  ink.fillStyle = css.getPropertyValue('--heat');
  map.cells.forEach((row, k) => {
    row.forEach((value, column) => {
      const alpha = strength(value, map.max);
      if (alpha === 0) return;
      ink.globalAlpha = alpha;
      ink.fillRect(x(map.times[column]!) - cell, plotHeight - (k + 1) * rowHeight, Math.max(1, cell - gap), Math.max(1, rowHeight - 0.5));
    });
  });
  ink.globalAlpha = 1;
  ink.fillStyle = css.getPropertyValue('--muted');
  ink.font = '11px system-ui, sans-serif';
  ink.textAlign = 'right';
  const every = Math.max(1, Math.ceil(16 / rowHeight));
  map.rows.forEach(([, high], k) => {
    if (k % every === 0) ink.fillText(`≤ ${bound(high)}`, LEFT - 8, plotHeight - (k + 0.5) * rowHeight + 4);
  });
  ink.textAlign = 'center';
  const length = range.end - range.start;
  const tickStep = TICK_STEPS.find((step) => length / step <= TICKS) ?? length / 2;
  for (let t = Math.ceil(range.start / tickStep) * tickStep; t < range.end; t += tickStep) {
    ink.fillText(tick(t, range.end - range.start), x(t), HEIGHT - 6);
  }
}

export function Heatmap({ series, range }: { series: Series[]; range: Range }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  const map = useMemo(() => heat(series), [series]);
  const [said, setSaid] = useState('');
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const paint = () => draw(element, map, range);
    const observer = new ResizeObserver(paint);
    observer.observe(element);
    return () => observer.disconnect();
  }, [map, range.start, range.end, theme]);
  const point = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const t = range.start + ((event.clientX - box.left - LEFT) / (box.width - LEFT)) * (range.end - range.start);
    const column = map.times.findIndex((at) => at >= t);
    const row = Math.floor((HEIGHT - BOTTOM - (event.clientY - box.top)) / ((HEIGHT - BOTTOM) / map.rows.length));
    const bounds = map.rows[row];
    if (column < 0 || !bounds) return setSaid('');
    setSaid(`${instant(map.times[column]! * 1000)} · ${bound(bounds[0])} – ${bound(bounds[1])}: ${short(map.cells[row]![column]!)}`);
  };
  return (
    <figure class="card chart">
      <figcaption>Heatmap <span class="note">{said || `${map.rows.length} buckets, at most ${short(map.max)} in one`}</span></figcaption>
      {map.rows.length === 0 ? (
        <p class="empty">A heatmap needs buckets: series with <code>le</code>, or native histograms.</p>
      ) : (
        <canvas ref={canvas} class="heat" style={{ height: `${HEIGHT}px` }} role="img" aria-label="Heatmap" onMouseMove={point} />
      )}
    </figure>
  );
}
