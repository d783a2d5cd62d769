// What a query is made of and what it cost.

import { useEffect, useState } from 'preact/hooks';
import type { Range } from '../api/http';
import { type Volume, nsOf, volumeStats } from '../api/loki';
import { type PlanNode, type Stats, parseQuery } from '../api/prometheus';
import { bytes, count, seconds } from '../state/format';
import { type Language, logPart, selectorOf } from './language';

/** What a node does, in a word or two. */
export function nodeText(node: PlanNode): string {
  const list = (value: unknown) => (value as string[] | undefined)?.join(', ') ?? '';
  switch (node.type) {
    case 'aggregation':
      return `${String(node.op)}${(node.grouping as string[])?.length ? ` ${node.without ? 'without' : 'by'} (${list(node.grouping)})` : ''}`;
    case 'binaryExpr':
      return `${String(node.op)}${node.bool ? ' bool' : ''}`;
    case 'call':
      return `${(node.func as { name: string }).name}()`;
    case 'matrixSelector':
    case 'vectorSelector': {
      const matchers = (node.matchers as { name: string; value: string; type: string }[] | undefined) ?? [];
      const shown = matchers.filter(({ name }) => name !== '__name__').map((one) => `${one.name}${one.type}${JSON.stringify(one.value)}`);
      const range = node.type === 'matrixSelector' ? `[${Number(node.range) / 1000}s]` : '';
      return `${String(node.name ?? '')}${shown.length ? `{${shown.join(', ')}}` : ''}${range}`;
    }
    case 'logRange':
      return String(node.text);
    case 'numberLiteral':
    case 'stringLiteral':
      return String(node.val);
    case 'subquery':
      return `subquery [${Number(node.range) / 1000}s]`;
    case 'unaryExpr':
      return String(node.op);
    default:
      return node.type === 'parenExpr' ? '( )' : node.type;
  }
}

export function childrenOf(node: PlanNode): PlanNode[] {
  const all = [node.expr, node.param, node.lhs, node.rhs, ...((node.args as unknown[]) ?? [])];
  return all.filter((one): one is PlanNode => Boolean(one && typeof one === 'object' && 'type' in one));
}

function Node({ node }: { node: PlanNode }) {
  const below = childrenOf(node);
  return (
    <li>
      <code>{nodeText(node)}</code> <span class="note">{node.type}</span>
      {below.length > 0 && <ul>{below.map((one, i) => <Node key={i} node={one} />)}</ul>}
    </li>
  );
}

interface Props {
  text: string;
  language: Language;
  stats?: Stats;
  range?: Range;
  /** What has a fault has no plan. */
  isFaulty: boolean;
}

const cost = (stats: Stats): [string, string][] => [
  ['took', seconds(stats.timings.execTotalTime)],
  ['samples read', count(stats.samples.totalQueryableSamples)],
  ['most at once', count(stats.samples.peakSamples)],
];

const volumeText = (volume: Volume): [string, string][] => [
  ['streams', count(volume.streams)],
  ['lines to look at', count(volume.entries)],
  ['bytes', bytes(volume.bytes)],
];

export function Plan({ text, language, stats, range, isFaulty }: Props) {
  const [open, setOpen] = useState(false);
  const [plan, setPlan] = useState<PlanNode>();
  const [volume, setVolume] = useState<Volume>();
  useEffect(() => {
    if (!open || isFaulty) return;
    const control = new AbortController();
    setPlan(undefined);
    if (language === 'promql') parseQuery(text, control.signal).then(setPlan, () => {});
    else if (range) {
      const span = { start: nsOf(range.start * 1000), end: nsOf(range.end * 1000) };
      volumeStats(selectorOf(logPart(text)), span, control.signal).then(setVolume, () => {});
    }
    return () => control.abort();
  }, [open, text, language, range?.end, isFaulty]);
  const figures = language === 'promql' ? stats && cost(stats) : volume && volumeText(volume);
  return (
    <details class="plan" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Plan and cost{stats && <span class="note"> {seconds(stats.timings.execTotalTime)}, {count(stats.samples.totalQueryableSamples)} samples</span>}</summary>
      {figures && <dl class="figures">{figures.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>}
      {plan && <ul class="tree"><Node node={plan} /></ul>}
    </details>
  );
}
