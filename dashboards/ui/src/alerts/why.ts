// Why a rule fires: what it compares, with what, and when it was in which state.

import type { Series } from '../api/prometheus';
import { blanked } from '../explore/language';

export interface Comparison {
  /** What is compared. */
  left: string;
  operator: string;
  threshold: number;
}

/** An expression that compares with a number at its outermost, taken apart. */
export function comparisonOf(text: string): Comparison | undefined {
  const code = blanked(text);
  let depth = 0;
  let found: Comparison | undefined;
  for (let i = 0; i < code.length; i += 1) {
    if ('([{'.includes(code[i]!)) depth += 1;
    if (')]}'.includes(code[i]!)) depth -= 1;
    if (depth > 0 || i === 0) continue;
    const rest = code.slice(i);
    // Several conditions have no one threshold.
    if (/^\s(and|or|unless)\b/.test(rest)) return undefined;
    const end = found ? null : /^(>=|<=|==|!=|>|<)\s*(?:bool\s+)?([-+]?[\d.]+(?:e[-+]?\d+)?)\s*$/i.exec(rest);
    if (end) found = { left: text.slice(0, i).trim(), operator: end[1]!, threshold: Number(end[2]) };
  }
  return found;
}

export interface Stretch {
  /** Unix seconds. */
  from: number;
  to: number;
  state: string;
}

/** Stretches of time in which a series of `ALERTS` was there. */
export function stretches(series: Series, step: number): Stretch[] {
  const found: Stretch[] = [];
  const state = series.labels.alertstate ?? 'firing';
  for (const [t] of series.points) {
    const last = found.at(-1);
    if (last && t - last.to <= step * 1.5) last.to = t;
    else found.push({ from: t, to: t, state });
  }
  return found.map((one) => ({ ...one, to: one.to + step }));
}
