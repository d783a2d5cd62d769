// Times in which alerts fired, as annotations: from the series `ALERTS`, which the rules write.

import type { AnnotationEvent, DataFrame, Labels } from '@grafana/data';

/** Instants that are further apart than so many of the smallest step are two firings. */
const GAP_STEPS = 1.5;

export function annotationsOf(frames: DataFrame[]): AnnotationEvent[] {
  return frames.flatMap((frame) => {
    const times = (frame.fields[0]?.values ?? []) as number[];
    const labels: Labels = frame.fields[1]?.labels ?? {};
    const step = times.reduce((least, t, i) => (i > 0 ? Math.min(least, t - times[i - 1]!) : least), Infinity);
    const { __name__: _, alertstate: __, alertname = 'alert', ...rest } = labels;
    const events: AnnotationEvent[] = [];
    for (const time of times) {
      const last = events.at(-1);
      if (last && time - last.timeEnd! <= step * GAP_STEPS) last.timeEnd = time;
      else events.push({ time, timeEnd: time, isRegion: true, title: alertname, text: alertname, tags: Object.entries(rest).map(([name, value]) => `${name}=${value}`) });
    }
    return events;
  });
}
