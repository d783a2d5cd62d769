// Parts of the metric store on disk, along time.

import { useMemo } from 'preact/hooks';
import { type Block, blocks } from '../api/prometheus';
import { VirtualList } from '../parts/list';
import { bytes, count, duration, instant } from '../state/format';
import { useLoad } from '../state/load';

export function Storage() {
  const { data, error } = useLoad(blocks, [], 15_000);
  const sorted = useMemo(() => [...(data ?? [])].sort((a, b) => b.maxTime - a.maxTime), [data]);
  if (!data) return error ? <p class="error" role="alert">{error}</p> : <p class="empty">asking…</p>;
  const [from, to] = [Math.min(...sorted.map(({ minTime }) => minTime)), Math.max(...sorted.map(({ maxTime }) => maxTime))];
  const sum = (of: (block: Block) => number) => sorted.reduce((sum, block) => sum + of(block), 0);
  const [samples, size] = [sum(({ stats }) => stats.numSamples), sum(({ stats }) => stats.numBytes ?? 0)];
  const row = (block: Block) => (
    <div class="part">
      <span>{instant(block.minTime)} – {instant(block.maxTime)}</span>
      <span class="span" aria-hidden="true"><i style={{ left: `${(100 * (block.minTime - from)) / Math.max(1, to - from)}%`, width: `max(3px, ${(100 * (block.maxTime - block.minTime)) / Math.max(1, to - from)}%)` }} /></span>
      <span class="number">{count(block.stats.numSeries)} series</span>
      <span class="number">{count(block.stats.numSamples)} samples</span>
      <span class="number">{bytes(block.stats.numBytes ?? 0)}</span>
      <span class="note">{block.tenant}</span>
    </div>
  );
  return (
    <>
      {error && <p class="error" role="alert">{error}</p>}
      <div class="card table">
        <div class="bar">
          <strong>{count(sorted.length)} parts</strong>
          {sorted.length > 0 && <span class="note">{duration((to - from) / 1000)}, {count(samples)} samples, {bytes(size)}, {(size / Math.max(1, samples)).toFixed(2)} bytes a sample</span>}
        </div>
        {sorted.length === 0 && <p class="empty">All samples are still in memory and on the bus; parts are published from there.</p>}
        <VirtualList label="Parts" class="tall" fit items={sorted} estimate={34} keyOf={({ ulid }) => ulid} render={row} />
      </div>
    </>
  );
}
