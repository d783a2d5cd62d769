// Rules and their alerts over time: a strip for each.

import type { Range } from '../api/http';
import { instant } from '../state/format';
import type { Stretch } from './why';

export function Timeline({ stretches, range, label }: { stretches: Stretch[]; range: Range; label: string }) {
  const place = (t: number) => (100 * (Math.min(range.end, Math.max(range.start, t)) - range.start)) / (range.end - range.start);
  const said = stretches.length ? `${stretches.filter(({ state }) => state === 'firing').length} times firing` : 'quiet';
  return (
    <div class="timeline" role="img" aria-label={`${label}: ${said}`}>
      {stretches.map((one) => (
        <i
          key={`${one.state}${one.from}`}
          class={one.state}
          style={{ left: `${place(one.from)}%`, width: `max(2px, ${place(one.to) - place(one.from)}%)` }}
          title={`${one.state} from ${instant(one.from * 1000)} to ${instant(one.to * 1000)}`}
        />
      ))}
    </div>
  );
}
