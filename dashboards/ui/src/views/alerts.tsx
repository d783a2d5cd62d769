// Alerts: what fires, what could, and what is silenced.

import { useState } from 'preact/hooks';
import { alerts, createSilence, expireSilence, ruleGroups, silences, type Alert, type Silence } from '../api';
import { clock, labelText } from '../format';
import { useLoad } from '../load';
import { formatRoute } from '../route';

const HOUR_MS = 3_600_000;

async function load() {
  const [firing, groups, all] = await Promise.all([alerts(), ruleGroups(), silences()]);
  // What fires comes before what is held back, the newest first.
  const rank = (alert: Alert) => (alert.status.state === 'active' ? 0 : 1);
  firing.sort((a, b) => rank(a) - rank(b) || b.startsAt.localeCompare(a.startsAt));
  return { firing, groups, silences: all.filter((silence) => silence.status.state !== 'expired') };
}

/** A silence that matches exactly this alert's labels. */
export function silenceFor(alert: Alert, hours: number, author: string, comment: string, nowMs = Date.now()) {
  const matchers = Object.entries(alert.labels).map(([name, value]) => ({ name, value, isRegex: false, isEqual: true }));
  const startsAt = new Date(nowMs).toISOString();
  const endsAt = new Date(nowMs + hours * HOUR_MS).toISOString();
  return { matchers, startsAt, endsAt, createdBy: author, comment };
}

function SilenceForm({ alert, onDone }: { alert: Alert; onDone: () => void }) {
  const [hours, setHours] = useState(2);
  const [author, setAuthor] = useState('');
  const [comment, setComment] = useState('');
  const [error, setError] = useState<string>();
  const submit = (event: Event) => {
    event.preventDefault();
    createSilence(silenceFor(alert, hours, author, comment)).then(onDone, (failure: Error) => setError(failure.message));
  };
  return (
    <form class="bar" onSubmit={submit}>
      <label>for <input type="number" min={1} max={720} value={hours} onInput={(e) => setHours(Number(e.currentTarget.value))} /> h</label>
      <input required placeholder="your name" value={author} onInput={(e) => setAuthor(e.currentTarget.value)} aria-label="Your name" />
      <input required placeholder="why" value={comment} onInput={(e) => setComment(e.currentTarget.value)} aria-label="Comment" />
      <button type="submit">Silence</button>
      {error && <p class="error" role="alert">{error}</p>}
    </form>
  );
}

function AlertCard({ alert, onChange }: { alert: Alert; onChange: () => void }) {
  const [open, setOpen] = useState(false);
  const { alertname, severity, ...rest } = alert.labels;
  return (
    <li class={`card alert ${alert.status.state} ${severity ?? ''}`}>
      <header>
        <strong>{alertname}</strong>
        {severity && <span class="badge">{severity}</span>}
        <span class="badge">{alert.status.state === 'active' ? 'firing' : alert.status.state}</span>
        <time>since {clock(Date.parse(alert.startsAt))}</time>
        <button onClick={() => setOpen(!open)} aria-expanded={open}>Silence…</button>
      </header>
      <p>{alert.annotations.summary ?? alert.annotations.description ?? ''}</p>
      {Object.keys(rest).length > 0 && <code>{labelText(rest)}</code>}
      <p class="note">goes to {alert.receivers.map(({ name }) => name).join(', ')}</p>
      {open && <SilenceForm alert={alert} onDone={() => (setOpen(false), onChange())} />}
    </li>
  );
}

function SilenceRow({ silence, onChange }: { silence: Silence; onChange: () => void }) {
  const matchers = silence.matchers.map((m) => `${m.name}${m.isEqual ? '=' : '!'}${m.isRegex ? '~' : m.isEqual ? '' : '='}${JSON.stringify(m.value)}`);
  return (
    <tr>
      <td><code>{`{${matchers.join(', ')}}`}</code></td>
      <td>{silence.comment} <span class="note">({silence.createdBy})</span></td>
      <td>until {clock(Date.parse(silence.endsAt))}</td>
      <td><button onClick={() => expireSilence(silence.id).then(onChange)}>Expire</button></td>
    </tr>
  );
}

export function Alerts() {
  const { data, error, reload } = useLoad(load, [], 5_000);
  return (
    <>
      <h1>Alerts</h1>
      {error && <p class="error" role="alert">{error}</p>}
      {data?.firing.length === 0 && <p class="card calm">Nothing is firing.</p>}
      <ul class="alerts">{data?.firing.map((alert) => <AlertCard key={alert.fingerprint} alert={alert} onChange={reload} />)}</ul>
      {data && data.silences.length > 0 && (
        <>
          <h2>Silences</h2>
          <table class="card"><tbody>{data.silences.map((one) => <SilenceRow key={one.id} silence={one} onChange={reload} />)}</tbody></table>
        </>
      )}
      <h2>Rules</h2>
      {data?.groups.length === 0 && <p class="note">No rule files are loaded: name them under <code>rule_files</code> in the configuration.</p>}
      {data?.groups.map((group) => (
        <table class="card" key={group.file + group.name}>
          <caption>{group.name} <span class="note">{group.file}</span></caption>
          <tbody>
            {group.rules.map((rule) => (
              <tr key={rule.name + rule.query}>
                <td>{rule.name}</td>
                <td><a href={formatRoute('explore', { q: rule.query })}><code>{rule.query}</code></a></td>
                <td><span class={`badge ${rule.state ?? ''}`}>{rule.state ?? rule.type}</span></td>
                <td class={rule.health === 'err' ? 'error' : 'note'}>{rule.lastError || rule.health}</td>
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </>
  );
}
