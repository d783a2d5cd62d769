// What a pane shows, as it stands in the URL. The second pane's parameters end in `2`.

import { type Changes, setParams } from '../state/route';
import { type Language, givesLines, languageOf } from './language';

export type Shape = 'graph' | 'table' | 'heatmap';

export interface PaneState {
  suffix: '' | '2';
  text: string;
  language: Language;
  isPinned: boolean;
  /** LogQL that gives lines, not numbers. */
  isLines: boolean;
  shape: Shape;
  stacked: boolean;
  /** How much earlier the compared time is. */
  compare?: string;
  live: boolean;
  wrap: boolean;
  pretty: boolean;
  side: 'fields' | 'patterns' | 'none';
  limit: number;
}

const SHAPES: Shape[] = ['graph', 'table', 'heatmap'];
export const LIMITS = [1000, 5000, 20_000, 100_000];

export function readPane(params: URLSearchParams, suffix: '' | '2', fallback: string): PaneState {
  const get = (name: string) => params.get(name + suffix);
  const text = get('q') || fallback;
  const pinned = get('lang');
  const language: Language = pinned === 'promql' || pinned === 'logql' ? pinned : languageOf(text);
  const shape = get('show') as Shape;
  const side = get('side');
  const limit = Number(get('limit'));
  return {
    suffix,
    text,
    language,
    isPinned: pinned !== null,
    isLines: language === 'logql' && givesLines(text),
    shape: SHAPES.includes(shape) ? shape : 'graph',
    stacked: get('stack') === 'on',
    compare: get('compare') ?? undefined,
    live: get('live') !== 'off' && !params.has('from'),
    wrap: get('wrap') !== 'off',
    pretty: get('pretty') === 'on',
    side: side === 'patterns' || side === 'none' ? side : 'fields',
    limit: LIMITS.includes(limit) ? limit : LIMITS[0]!,
  };
}

export function setPane(pane: PaneState, changes: Changes, history: 'step' | 'same' = 'same'): void {
  setParams(Object.fromEntries(Object.entries(changes).map(([name, value]) => [name + pane.suffix, value])), history);
}
