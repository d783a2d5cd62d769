// Rules, their states over time, and for one of them why it fires: its graph with the threshold, or the lines it counts.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Range } from '../api/http';
import { type Line, logLines, logRange, nsOf } from '../api/loki';
import { type Rule, type RuleGroup, type Series, rangeQuery } from '../api/prometheus';
import { Chart, type Drawn } from '../chart/chart';
import { givesLines, languageOf, logPart } from '../explore/language';
import { ago, clock, duration, formatFor, labelText, seconds, shortNames } from '../state/format';
import { useLoad } from '../state/load';
import { linkTo, setParams } from '../state/route';
import { type Window, rangeOf, showWindow } from '../state/time';
import { Timeline } from './timeline';
import { type Stretch, comparisonOf, stretches } from './why';

const MAX_STATES = 500;
const MAX_DRAWN = 50;
const SHOWN_LINES = 20;
const REFRESH_MS = 30_000;

const isLogs = (group: RuleGroup, rule: Rule): boolean => group.type === 'logs' || languageOf(rule.query) === 'logql';

/** States of all alerting rules over time, by the rule's name. */
function useStates(window: Window, width: number) {
  const fixed = window.name ?? `${window.from}-${window.to}`;
  return useLoad(
    async (signal): Promise<{ range: Range; byRule: Map<string, Stretch[]> }> => {
      const range = rangeOf(window.name ? { from: Date.now() - (window.to - window.from), to: Date.now() } : window, width || 600, 15);
      const { series } = await rangeQuery('count by (alertname, alertstate) (ALERTS)', range, { signal, limit: MAX_STATES });
      const byRule = new Map<string, Stretch[]>();
      for (const one of series) {
        const name = one.labels.alertname ?? '';
        byRule.set(name, [...(byRule.get(name) ?? []), ...stretches(one, range.step)]);
      }
      // Firing is drawn over pending.
      for (const all of byRule.values()) all.sort((a, b) => Number(a.state === 'firing') - Number(b.state === 'firing'));
      return { range, byRule };
    },
    [fixed, width > 0],
    REFRESH_MS,
  );
}

interface Reason {
  range: Range;
  series: Series[];
  lines: Line[];
}

async function loadReason(rule: Rule, logs: boolean, window: Window, width: number, signal: AbortSignal): Promise<Reason> {
  const range = rangeOf(window.name ? { from: Date.now() - (window.to - window.from), to: Date.now() } : window, width);
  const query = comparisonOf(rule.query)?.left ?? rule.query;
  if (!logs) return { range, series: (await rangeQuery(query, range, { limit: MAX_DRAWN, signal })).series, lines: [] };
  const span = { start: nsOf(range.start * 1000), end: nsOf(range.end * 1000) };
  const [counted, lines] = await Promise.all([
    givesLines(query) ? { series: [] } : logRange(query, range, signal),
    logLines(logPart(query), span, SHOWN_LINES, false, signal),
  ]);
  return { range, series: counted.series.slice(0, MAX_DRAWN), lines };
}

function Why({ rule, logs, window }: { rule: Rule; logs: boolean; window: Window }) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(box.current!.clientWidth), []);
  const fixed = window.name ?? `${window.from}-${window.to}`;
  const { data, error } = useLoad(
    (signal) => (width ? loadReason(rule, logs, window, width, signal) : new Promise<Reason>(() => {})),
    [rule.query, fixed, width],
    window.name ? REFRESH_MS : 0,
  );
  const comparison = comparisonOf(rule.query);
  const drawn = useMemo((): Drawn[] => {
    const names = shortNames((data?.series ?? []).map(({ labels }) => labels));
    return (data?.series ?? []).map((one, i) => ({ ...one, name: names[i]! }));
  }, [data]);
  return (
    <div class="why" ref={box}>
      {error && <p class="error" role="alert">{error}</p>}
      {data && (
        <Chart
          title={comparison ? `${comparison.left}, compared with ${comparison.operator} ${comparison.threshold}` : rule.query}
          series={drawn} format={formatFor(rule.query)} range={data.range} threshold={comparison?.threshold} onZoom={showWindow}
        />
      )}
      {logs && data && (
        <section aria-label="Lines it counts">
          <h3>Lines it counts</h3>
          <ol class="excerpt card">{data.lines.map((line) => <li key={line.id}><time>{clock(line.at)}</time> {line.text}</li>)}</ol>
          {data.lines.length === 0 && <p class="note">none in this time</p>}
        </section>
      )}
      <p class="bar">
        <a class="button" href={linkTo('explore', { q: comparison?.left ?? rule.query, ...(logs ? { q2: logPart(rule.query) } : {}) })}>Explore</a>
        {logs && <a class="button" href={linkTo('explore', { q: logPart(rule.query) })}>All its lines</a>}
      </p>
    </div>
  );
}

function RuleFacts({ rule }: { rule: Rule }) {
  const facts: [string, string][] = [
    ['for', rule.duration ? duration(rule.duration) : ''],
    ['keeps firing for', rule.keepFiringFor ? duration(rule.keepFiringFor) : ''],
    ['labels', Object.keys(rule.labels ?? {}).length ? labelText(rule.labels!) : ''],
    ...Object.entries(rule.annotations ?? {}),
    ['last evaluated', rule.lastEvaluation ? `${ago(Date.parse(rule.lastEvaluation))}, in ${seconds(rule.evaluationTime ?? NaN)}` : ''],
  ];
  return (
    <>
      <dl class="facts">{facts.filter(([, value]) => value).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {rule.alerts && rule.alerts.length > 0 && (
        <div class="scroll">
          <table>
            <thead><tr><th>Active alert</th><th>State</th><th class="number">Value</th><th>Since</th></tr></thead>
            <tbody>
              {rule.alerts.slice(0, 100).map((alert) => (
                <tr key={labelText(alert.labels)}>
                  <td><code>{labelText(alert.labels)}</code></td><td><span class={`badge ${alert.state}`}>{alert.state}</span></td>
                  <td class="number">{alert.value}</td><td>{ago(Date.parse(alert.activeAt))}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

interface RowProps {
  group: RuleGroup;
  rule: Rule;
  states?: { range: Range; byRule: Map<string, Stretch[]> };
  isOpen: boolean;
  window: Window;
}

function RuleRow({ group, rule, states, isOpen, window }: RowProps) {
  const isAlert = rule.type === 'alerting';
  const row = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (isOpen) row.current?.scrollIntoView({ block: 'nearest' });
  }, [isOpen]);
  return (
    <li class="rule" ref={row}>
      <header>
        <button type="button" class="bare" aria-expanded={isOpen} onClick={() => setParams({ rule: isOpen ? undefined : rule.name })}><strong>{rule.name}</strong></button>
        {isAlert ? <span class={`badge ${rule.state ?? ''}`}>{rule.state ?? 'unknown'}</span> : <span class="badge">records</span>}
        {rule.health === 'err' && <span class="badge firing">fails</span>}
        {isAlert && states && <Timeline stretches={states.byRule.get(rule.name) ?? []} range={states.range} label={rule.name} />}
      </header>
      <code class="expr">{rule.query}</code>
      {rule.lastError && <p class="error">{rule.lastError}</p>}
      {isOpen && <RuleFacts rule={rule} />}
      {isOpen && <Why rule={rule} logs={isLogs(group, rule)} window={window} />}
    </li>
  );
}

export function RuleList({ groups, open, window }: { groups: RuleGroup[]; open?: string; window: Window }) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [words, setWords] = useState('');
  useEffect(() => setWidth(box.current!.clientWidth), []);
  const { data: states } = useStates(window, width);
  const fits = (rule: Rule) => `${rule.name} ${rule.query}`.toLowerCase().includes(words.toLowerCase());
  return (
    <div ref={box}>
      <div class="bar"><input type="search" class="grow" placeholder="find a rule" aria-label="Find rules" value={words} onInput={(event) => setWords(event.currentTarget.value)} /></div>
      {groups.length === 0 && <p class="card calm">No rule files are loaded: name them under <code>rule_files</code> in the configuration.</p>}
      {groups.map((group) => {
        const rules = group.rules.filter(fits);
        return rules.length > 0 && (
          <section class="card group" key={group.file + group.name} aria-label={`Rules of ${group.name}`}>
            <header><strong>{group.name}</strong> <span class="note">{group.file}, every {duration(group.interval)}</span></header>
            <ul class="rules">{rules.map((rule) => <RuleRow key={rule.name + rule.query} group={group} rule={rule} states={states} isOpen={open === rule.name} window={window} />)}</ul>
          </section>
        );
      })}
    </div>
  );
}
