// Silences: those there are, and a new one with a look at what it would hide.

import { useEffect, useState } from 'preact/hooks';
import { type Alert, type NewSilence, type Silence, type TimeInterval, alerts, createSilence, expireSilence } from '../api/alertmanager';
import { ago, clock, labelText } from '../state/format';
import { useKept, useLoad } from '../state/load';
import { setParams } from '../state/route';
import { parseMatchers, writeMatcher, writeMatchers } from './matchers';

const HOUR_MS = 3_600_000;
const LENGTHS: [number, string][] = [[0.5, '30 minutes'], [1, '1 hour'], [2, '2 hours'], [4, '4 hours'], [8, '8 hours'], [24, '1 day'], [72, '3 days'], [168, '1 week'], [720, '30 days']];
const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'];

export interface Draft {
  text: string;
  hours: number;
  author: string;
  comment: string;
  /** When within its time it holds; always, if there is none. */
  recurring?: { days: string[]; from: string; to: string };
}

export function silenceOf(draft: Draft, nowMs = Date.now()): NewSilence | undefined {
  const matchers = parseMatchers(draft.text);
  if (!Array.isArray(matchers) || matchers.length === 0) return undefined;
  const silence: NewSilence = {
    matchers,
    startsAt: new Date(nowMs).toISOString(),
    endsAt: new Date(nowMs + draft.hours * HOUR_MS).toISOString(),
    createdBy: draft.author,
    comment: draft.comment,
  };
  const { recurring } = draft;
  if (!recurring) return silence;
  const interval: TimeInterval = { location: Intl.DateTimeFormat().resolvedOptions().timeZone };
  if (recurring.days.length > 0) interval.weekdays = recurring.days;
  if (recurring.from && recurring.to) interval.times = [{ start_time: recurring.from, end_time: recurring.to === '00:00' ? '24:00' : recurring.to }];
  return { ...silence, timeIntervals: [interval] };
}

function Preview({ text }: { text: string }) {
  const matchers = parseMatchers(text);
  const isValid = Array.isArray(matchers) && matchers.length > 0;
  const { data, error } = useLoad(
    // A filter of alerts takes what a silence of the same matchers holds back.
    async (): Promise<Alert[] | undefined> => (isValid ? alerts(matchers.map(writeMatcher)) : undefined),
    [isValid ? writeMatchers(matchers) : ''],
  );
  if (!isValid) {
    const at = Array.isArray(matchers) ? undefined : text.slice(matchers.at, matchers.at + 20);
    return <p class="note">{at ? <>not understood from here: <code>{at}</code></> : 'Matchers choose the alerts to hold back.'}</p>;
  }
  if (error) return <p class="error" role="alert">{error}</p>;
  if (!data) return <p class="note">looking…</p>;
  return (
    <section class="preview" aria-label="Preview">
      <h3>{data.length === 0 ? 'Holds back nothing that fires now' : `Holds back ${data.length === 1 ? 'one alert' : `${data.length} alerts`} now`}</h3>
      <ul>{data.slice(0, 20).map((alert) => <li key={alert.fingerprint}><code>{labelText(alert.labels)}</code></li>)}</ul>
    </section>
  );
}

/** A text that waits until its typing pauses. */
function useSettled(text: string, ms: number): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), ms);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

function Recurring({ value, onChange }: { value: Draft['recurring']; onChange: (value: Draft['recurring']) => void }) {
  return (
    <fieldset>
      <label class="inline"><input type="checkbox" checked={Boolean(value)} onChange={() => onChange(value ? undefined : { days: [], from: '22:00', to: '00:00' })} /> only at certain times</label>
      {value && (
        <div class="bar">
          {DAYS.map((day) => (
            <button type="button" key={day} aria-pressed={value.days.includes(day)} onClick={() => onChange({ ...value, days: value.days.includes(day) ? value.days.filter((one) => one !== day) : [...value.days, day] })}>{day.slice(0, 3)}</button>
          ))}
          <label class="inline">from <input type="time" value={value.from} onInput={(event) => onChange({ ...value, from: event.currentTarget.value })} /></label>
          <label class="inline">to <input type="time" value={value.to} onInput={(event) => onChange({ ...value, to: event.currentTarget.value })} /></label>
        </div>
      )}
    </fieldset>
  );
}

function SilenceForm({ draft, onDone }: { draft: string; onDone: () => void }) {
  const [text, setText] = useState(draft);
  const [hours, setHours] = useState(2);
  const [author, setAuthor] = useKept('author', '');
  const [comment, setComment] = useState('');
  const [recurring, setRecurring] = useState<Draft['recurring']>();
  const [error, setError] = useState<string>();
  const settled = useSettled(text, 300);
  const silence = silenceOf({ text, hours, author, comment, recurring });
  const submit = (event: Event) => {
    event.preventDefault();
    if (silence) createSilence(silence).then(onDone, (failure: Error) => setError(failure.message));
  };
  return (
    <form class="card form" onSubmit={submit} aria-label="New silence">
      <h2>New silence</h2>
      <label>Alerts with<textarea class="code" rows={2} spellcheck={false} placeholder={'alertname="Down", job=~"web.*"'} value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
      <div class="columns">
        <label>for<select value={String(hours)} onChange={(event) => setHours(Number(event.currentTarget.value))}>{LENGTHS.map(([hours, title]) => <option key={hours} value={hours}>{title}</option>)}</select></label>
        <label>Your name<input required value={author} onInput={(event) => setAuthor(event.currentTarget.value)} /></label>
        <label class="grow">Why<input required value={comment} onInput={(event) => setComment(event.currentTarget.value)} /></label>
      </div>
      <Recurring value={recurring} onChange={setRecurring} />
      <Preview text={settled} />
      {error && <p class="error" role="alert">{error}</p>}
      <div class="bar">
        <button type="submit" class="primary" disabled={!silence}>Silence</button>
        <button type="button" onClick={() => setParams({ new: undefined })}>Cancel</button>
      </div>
    </form>
  );
}

const intervalText = (interval: TimeInterval): string =>
  [interval.weekdays?.map((day) => day.slice(0, 3)).join(', '), interval.times?.map((time) => `${time.start_time}–${time.end_time}`).join(', '), interval.location].filter(Boolean).join(' ');

function SilenceRow({ silence, onChange }: { silence: Silence; onChange: () => void }) {
  const text = writeMatchers(silence.matchers);
  const isOver = silence.status.state === 'expired';
  return (
    <li class={`silence ${silence.status.state}`}>
      <header>
        <code>{`{${text}}`}</code>
        <span class={`badge ${silence.status.state === 'active' ? 'good' : ''}`}>{silence.status.state}</span>
        <span class="actions">
          <button type="button" onClick={() => setParams({ new: text }, 'step')}>{isOver ? 'Again' : 'Copy'}</button>
          {!isOver && <button type="button" onClick={() => void expireSilence(silence.id).then(onChange)}>Expire</button>}
        </span>
      </header>
      <p>{silence.comment} <span class="note">{silence.createdBy}; {isOver ? 'ended' : 'ends'} <span title={clock(Date.parse(silence.endsAt))}>{ago(Date.parse(silence.endsAt))}</span>{silence.timeIntervals?.map((one) => `; ${intervalText(one)}`)}</span></p>
    </li>
  );
}

export function Silences({ silences, draft, onChange }: { silences: Silence[]; draft?: string; onChange: () => void }) {
  const done = () => {
    setParams({ new: undefined });
    onChange();
  };
  const current = silences.filter(({ status }) => status.state !== 'expired').sort((a, b) => a.endsAt.localeCompare(b.endsAt));
  const over = silences.filter(({ status }) => status.state === 'expired').sort((a, b) => b.endsAt.localeCompare(a.endsAt));
  return (
    <>
      {draft === undefined ? <div class="bar"><button type="button" class="primary" onClick={() => setParams({ new: 'alertname=""' }, 'step')}>New silence</button></div> : <SilenceForm key={draft} draft={draft} onDone={done} />}
      {current.length === 0 && <p class="card calm">Nothing is silenced.</p>}
      {current.length > 0 && <ul class="card silences" aria-label="Silences">{current.map((one) => <SilenceRow key={one.id} silence={one} onChange={onChange} />)}</ul>}
      {over.length > 0 && (
        <details>
          <summary>{over.length} that ended</summary>
          <ul class="card silences">{over.slice(0, 50).map((one) => <SilenceRow key={one.id} silence={one} onChange={onChange} />)}</ul>
        </details>
      )}
    </>
  );
}
