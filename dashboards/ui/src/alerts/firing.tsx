// What fires, in the groups in which people are told.

import { useEffect, useState } from 'preact/hooks';
import { type Alert, type AlertGroup, acknowledge, takeBack } from '../api/alertmanager';
import { labelNames } from '../api/loki';
import type { Rule, RuleGroup } from '../api/prometheus';
import { logsFor } from '../explore/language';
import { ago, clock, labelText } from '../state/format';
import { useKept } from '../state/load';
import { linkTo, setParams } from '../state/route';
import { matchersOf, writeMatchers } from './matchers';

const matches = (alert: Alert, words: string): boolean => {
  const text = `${labelText(alert.labels)} ${Object.values(alert.annotations).join(' ')}`.toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
};

/** Those that fire before those held back, the newest first. */
function sorted(alerts: Alert[]): Alert[] {
  const rank = (alert: Alert) => (alert.status.state === 'active' ? 0 : 1);
  return [...alerts].sort((a, b) => rank(a) - rank(b) || b.startsAt.localeCompare(a.startsAt));
}

function AckForm({ alert, onDone }: { alert: Alert; onDone: () => void }) {
  const [owner, setOwner] = useKept('author', '');
  const [note, setNote] = useState('');
  const [error, setError] = useState<string>();
  const submit = (event: Event) => {
    event.preventDefault();
    acknowledge([alert.fingerprint], owner, note).then(onDone, (failure: Error) => setError(failure.message));
  };
  return (
    <form class="bar" onSubmit={submit}>
      <input required placeholder="your name" aria-label="Your name" value={owner} onInput={(event) => setOwner(event.currentTarget.value)} />
      <input class="grow" placeholder="a note" aria-label="Note" value={note} onInput={(event) => setNote(event.currentTarget.value)} />
      <button type="submit" class="primary">I have it</button>
      {error && <p class="error" role="alert">{error}</p>}
    </form>
  );
}

interface CardProps {
  alert: Alert;
  rule?: Rule;
  /** The lines of what it is about. */
  lines?: string;
  isOpen: boolean;
  onChange: () => void;
}

function AlertCard({ alert, rule, lines, isOpen, onChange }: CardProps) {
  const [isTaking, setTaking] = useState(false);
  const { alertname, severity, ...rest } = alert.labels;
  const summary = alert.annotations.summary ?? alert.annotations.description ?? alert.annotations.message ?? '';
  const silence = linkTo('alerts', { tab: 'silences', new: writeMatchers(matchersOf(alert.labels)) });
  const ack = alert.acknowledgement;
  const done = () => {
    setTaking(false);
    onChange();
  };
  return (
    <li class={`alert ${alert.status.state} ${severity ?? ''}`}>
      <header>
        <button type="button" class="bare" aria-expanded={isOpen} onClick={() => setParams({ alert: isOpen ? undefined : alert.fingerprint })}><strong>{alertname}</strong></button>
        {severity && <span class={`badge ${severity}`}>{severity}</span>}
        {alert.status.silencedBy.length > 0 && <span class="badge">silenced</span>}
        {alert.status.inhibitedBy.length > 0 && <span class="badge">inhibited</span>}
        {ack && <span class="badge good" title={ack.note}>{ack.owner} has it</span>}
        <time title={clock(Date.parse(alert.startsAt))}>{ago(Date.parse(alert.startsAt))}</time>
        <span class="actions">
          {rule && <a class="button" href={linkTo('alerts', { tab: 'rules', rule: rule.name })}>Why</a>}
          {lines && <a class="button" href={linkTo('explore', { q: lines })}>Lines</a>}
          {ack ? <button type="button" onClick={() => void takeBack(alert.fingerprint).then(onChange)}>Take back</button> : <button type="button" aria-expanded={isTaking} onClick={() => setTaking(!isTaking)}>Acknowledge</button>}
          <a class="button" href={silence}>Silence</a>
        </span>
      </header>
      <p>{summary}</p>
      {isTaking && <AckForm alert={alert} onDone={done} />}
      <p class="labels">{Object.entries(rest).map(([name, value]) => <button type="button" class="chip" key={name} onClick={() => setParams({ find: value })}><span>{name}</span>{value}</button>)}</p>
      {isOpen && (
        <dl class="facts">
          {Object.entries(alert.annotations).map(([name, value]) => (
            <div key={name}><dt>{name}</dt><dd>{/^https?:\/\//.test(value) ? <a href={value} rel="noreferrer">{value}</a> : value}</dd></div>
          ))}
          <div><dt>goes to</dt><dd>{alert.receivers.map(({ name }) => name).join(', ')} <a href={linkTo('alerts', { tab: 'routing', labels: writeMatchers(matchersOf(alert.labels)) })}>by which route</a></dd></div>
          {ack && <div><dt>acknowledged</dt><dd>{ack.owner}, {ago(Date.parse(ack.createdAt))}{ack.note && `: ${ack.note}`}</dd></div>}
          <div><dt>before</dt><dd><a href={linkTo('alerts', { tab: 'history', filter: `alertname=${JSON.stringify(alertname)}` })}>history of {alertname}</a></dd></div>
        </dl>
      )}
    </li>
  );
}

interface Props {
  groups: AlertGroup[];
  rules: RuleGroup[];
  open?: string;
  words: string;
  onChange: () => void;
}

export function Firing({ groups, rules, open, words, onChange }: Props) {
  const [known, setKnown] = useState<string[]>([]);
  useEffect(() => void labelNames().then(setKnown, () => {}), []);
  const byName = new Map(rules.flatMap((group) => group.rules).filter(({ type }) => type === 'alerting').map((rule) => [rule.name, rule]));
  const shown = groups
    .map((group) => ({ ...group, alerts: sorted(group.alerts.filter((alert) => matches(alert, words))) }))
    .filter(({ alerts }) => alerts.length > 0);
  return (
    <>
      <div class="bar">
        <input type="search" class="grow" placeholder="find by label or text" aria-label="Find alerts" value={words} onInput={(event) => setParams({ find: event.currentTarget.value || undefined })} />
      </div>
      {shown.length === 0 && <p class="card calm">{words ? 'No alert has these words.' : 'Nothing is firing.'}</p>}
      {shown.map((group) => (
        <section class="card group" key={`${group.receiver.name}${labelText(group.labels)}`} aria-label={`Group for ${group.receiver.name}`}>
          <header>
            <span class="note">to</span> <strong>{group.receiver.name}</strong>
            {Object.keys(group.labels).length > 0 && <code>{labelText(group.labels)}</code>}
            <span class="count">{group.alerts.length}</span>
          </header>
          <ul class="alerts">
            {group.alerts.map((alert) => <AlertCard key={alert.fingerprint} alert={alert} rule={byName.get(alert.labels.alertname ?? '')} lines={logsFor(alert.labels, known)} isOpen={open === alert.fingerprint} onChange={onChange} />)}
          </ul>
        </section>
      ))}
    </>
  );
}
