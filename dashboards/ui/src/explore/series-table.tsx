// Series with their values, however many; a click on a label narrows the expression to it.

import { useEffect, useMemo, useState } from 'preact/hooks';
import { labelNames } from '../api/loki';
import type { Series } from '../api/prometheus';
import { VirtualList } from '../parts/list';
import { count } from '../state/format';
import { setParams } from '../state/route';
import { logsFor, toggleEverywhere, toggleMatcher } from './language';
import type { PaneState } from './pane-state';

type Order = 'name' | 'value';

const text = (one: Series): string => Object.entries(one.labels).map(([name, value]) => `${name}=${value}`).join(' ');

function sorted(series: Series[], order: Order, words: string): Series[] {
  const found = words ? series.filter((one) => text(one).toLowerCase().includes(words.toLowerCase())) : [...series];
  const valueOf = (one: Series) => one.points[0]?.[1] ?? NaN;
  if (order === 'value') return found.sort((a, b) => (valueOf(b) || 0) - (valueOf(a) || 0));
  const keys = new Map(found.map((one) => [one, text(one)]));
  return found.sort((a, b) => (keys.get(a)! < keys.get(b)! ? -1 : 1));
}

interface Props {
  series: Series[];
  pane: PaneState;
  format: (value: number) => string;
  onRun: (text: string) => void;
}

function Row({ one, known, format, pane, onRun }: { one: Series; known: string[] } & Omit<Props, 'series'>) {
  const { __name__: name, ...labels } = one.labels;
  const logs = logsFor(one.labels, known);
  const value = one.points[0]?.[1];
  return (
    <div class="series">
      <code>
        {name}
        {Object.entries(labels).map(([label, value]) => (
          <button type="button" class="chip" key={label} title={`only ${label}="${value}"; with Alt: without it`} onClick={(event) => onRun((pane.language === 'promql' ? toggleEverywhere : toggleMatcher)(pane.text, label, value, !event.altKey))}>
            <span>{label}</span>{value}
          </button>
        ))}
      </code>
      {logs && <button type="button" class="link" onClick={() => setParams({ q2: logs }, 'step')} title="the lines with these labels, below">lines</button>}
      <b title={String(value)}>{value === undefined ? '' : format(value)}</b>
    </div>
  );
}

export function SeriesTable({ series, pane, format, onRun }: Props) {
  const [order, setOrder] = useState<Order>('value');
  const [words, setWords] = useState('');
  const [known, setKnown] = useState<string[]>([]);
  useEffect(() => void labelNames().then(setKnown, () => {}), []);
  const rows = useMemo(() => sorted(series, order, words), [series, order, words]);
  return (
    <div class="card table">
      <div class="bar">
        <strong>{count(rows.length)} series</strong>
        <input type="search" placeholder="narrow" aria-label="Narrow the series" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
        <div class="segments" role="group" aria-label="Order">
          {(['value', 'name'] as const).map((id) => <button type="button" key={id} aria-pressed={order === id} onClick={() => setOrder(id)}>by {id}</button>)}
        </div>
      </div>
      <VirtualList label="Series" class="tall" fit items={rows} estimate={32} keyOf={(_, i) => i} render={(one) => <Row one={one} known={known} pane={pane} format={format} onRun={onRun} />} />
    </div>
  );
}
