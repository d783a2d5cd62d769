// What happened: alerts that fired and ended, who was told, who took care, what was silenced. Newest first.

import { useEffect, useState } from 'preact/hooks';
import { type Entry, type HistoryPage, history } from '../api/alertmanager';
import { clock, labelText } from '../state/format';
import { useLoad } from '../state/load';
import { setParams } from '../state/route';
import type { Window } from '../state/time';
import { parseMatchers, writeMatcher, writeMatchers } from './matchers';

const KINDS: [string, string][] = [
  ['', 'everything'], ['alert_firing', 'fired'], ['alert_resolved', 'ended'], ['notified', 'told'], ['notification_failed', 'failed to tell'],
  ['acknowledged', 'acknowledged'], ['silence_created', 'silenced'],
];
const WORDS: Record<string, string> = {
  alert_firing: 'fires', alert_resolved: 'ended', notified: 'told', notification_failed: 'not told', acknowledged: 'has it', unacknowledged: 'taken back',
  silence_created: 'silenced', silence_updated: 'silence changed', silence_expired: 'silence ended',
};
const TONES: Record<string, string> = { alert_firing: 'firing', alert_resolved: 'good', notification_failed: 'firing', acknowledged: 'good' };
const PAGE = '100';

export function entryText(entry: Entry): string {
  const told = [entry.firing?.length ? `${entry.firing.length} firing` : '', entry.resolved?.length ? `${entry.resolved.length} ended` : ''].filter(Boolean).join(', ');
  if (entry.kind.startsWith('notif')) return `${entry.receiver} by ${entry.integration}: ${told}${entry.error ? `; ${entry.error}` : ''}`;
  if (entry.silence) return `${entry.silence.createdBy}: ${entry.silence.comment} {${writeMatchers(entry.silence.matchers)}}`;
  if (entry.owner) return `${entry.owner}${entry.note ? `: ${entry.note}` : ''}`;
  return entry.annotations?.summary ?? entry.annotations?.description ?? '';
}

export function HistoryList({ window, filter, kind }: { window: Window; filter: string; kind: string }) {
  const [text, setText] = useState(filter);
  const [more, setMore] = useState<HistoryPage[]>([]);
  const matchers = parseMatchers(filter);
  const ask = (cursor?: string) =>
    history({
      start: new Date(window.from).toISOString(), end: new Date(window.to).toISOString(), limit: PAGE, cursor,
      kind: kind || undefined, filter: Array.isArray(matchers) ? matchers.map(writeMatcher) : [],
    });
  const fixed = window.name ?? `${window.from}-${window.to}`;
  const { data, error } = useLoad(() => ask(), [fixed, filter, kind]);
  useEffect(() => setMore([]), [data]);
  const entries = [data, ...more].flatMap((page) => page?.entries ?? []);
  const next = (more.at(-1) ?? data)?.next;
  return (
    <>
      <form class="bar" onSubmit={(event) => (event.preventDefault(), setParams({ filter: text || undefined }, 'step'))}>
        <select aria-label="What happened" value={kind} onChange={(event) => setParams({ kind: event.currentTarget.value || undefined })}>
          {KINDS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
        </select>
        <input class="grow code" aria-label="Of alerts with" placeholder={'alertname="Down"'} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <button type="submit">Show</button>
      </form>
      {error && <p class="error" role="alert">{error}</p>}
      {data && entries.length === 0 && <p class="card calm">Nothing happened in this time.</p>}
      {entries.length > 0 && (
        <ol class="card happened" aria-label="History">
          {entries.map((entry) => (
            <li key={entry.id}>
              <time>{clock(Date.parse(entry.at))}</time>
              <span class={`badge ${TONES[entry.kind] ?? ''}`}>{WORDS[entry.kind] ?? entry.kind}</span>
              <strong>{entry.labels?.alertname ?? ''}</strong>
              <span>{entryText(entry)}</span>
              {entry.labels && <code>{labelText(entry.labels, ['alertname'])}</code>}
            </li>
          ))}
        </ol>
      )}
      {next && <button type="button" onClick={() => void ask(next).then((page) => setMore([...more, page]))}>Older</button>}
    </>
  );
}
