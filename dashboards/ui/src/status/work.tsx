// Long work: what runs and ran, how far it is, and how it is begun.

import { useState } from 'preact/hooks';
import { type Work, flush, work } from '../api/binnacle';
import { ifThere } from '../api/http';
import { deleteLines, lineDeletions, nsOf, volumeStats } from '../api/loki';
import { cleanTombstones, deleteSeries, instantQuery, snapshot } from '../api/prometheus';
import { languageOf } from '../explore/language';
import { ago, count, duration, instant } from '../state/format';
import { useLoad } from '../state/load';
import { setParams } from '../state/route';
import type { Window } from '../state/time';

const REFRESH_MS = 2_000;
const WORDS: Record<string, string> = { flush: 'Flush', snapshot: 'Snapshot', delete: 'Deletion', replay: 'Replay of a rule' };

/** How far work is, in words. */
export function progressText({ done, total, unit, state }: Pick<Work, 'done' | 'total' | 'unit' | 'state'>): string {
  if (state !== 'running' || !unit) return '';
  return total ? `${count(done)} of ${count(total)} ${unit}` : `${count(done)} ${unit}`;
}

function Row({ one }: { one: Work }) {
  const tone = { running: 'pending', done: 'good', failed: 'firing' }[one.state];
  const name = WORDS[one.kind] ?? one.kind;
  return (
    <li class="work">
      <span class={`badge ${tone}`}>{one.state}</span>
      <strong>{name}</strong>
      <span class="note">{one.detail}</span>
      {one.state === 'running' && <progress aria-label={name} max={one.total || undefined} value={one.total ? one.done : undefined} />}
      <span class="note">{progressText(one)}</span>
      {one.error && <span class="error">{one.error}</span>}
      <time class="note" title={instant(one.began_ms)}>{one.state === 'running' ? `since ${duration((Date.now() - one.began_ms) / 1000)}` : `${ago(one.changed_ms)}, took ${duration((one.changed_ms - one.began_ms) / 1000)}`}</time>
    </li>
  );
}

/** What a selector would take away, in words. */
async function reach(text: string, window: Window, signal: AbortSignal): Promise<string> {
  const [start, end] = [nsOf(window.from), nsOf(window.to)];
  if (languageOf(text) === 'logql') {
    const { entries, streams } = await volumeStats(text, { start, end }, signal);
    return `Lines of ${streams === 1 ? 'one stream' : `${count(streams)} streams`}, at most ${count(entries)}`;
  }
  const length = Math.ceil((window.to - window.from) / 1000);
  const found = await instantQuery(`count(present_over_time(${text}[${length}s]))`, window.to / 1000, { signal });
  return `${count(found.series[0]?.points[0]?.[1] ?? 0)} series`;
}

function DeleteForm({ draft, window, onDone }: { draft: string; window: Window; onDone: () => void }) {
  const [isSure, setSure] = useState(false);
  const [error, setError] = useState<string>();
  const text = draft.trim();
  const found = useLoad((signal) => (text ? reach(text, window, signal) : Promise.resolve('')), [text, window.name ?? `${window.from}-${window.to}`]);
  const submit = (event: Event) => {
    event.preventDefault();
    const remove = languageOf(text) === 'logql' ? deleteLines : deleteSeries;
    // A window that ends now ends at the server's now.
    remove(text, window.from / 1000, window.name ? undefined : window.to / 1000).then(onDone, (failure: Error) => setError(failure.message));
  };
  return (
    <form class="card form" aria-label="Delete" onSubmit={submit}>
      <h2>Delete</h2>
      <label>Series or lines<textarea class="code" rows={2} spellcheck={false} placeholder={'http_requests_total{job="old"}, or {app="web"} |= "secret"'} value={draft} onInput={(event) => setParams({ q: event.currentTarget.value || undefined })} /></label>
      <p class="note">from {instant(window.from)} to {instant(window.to)}, the time that is chosen above</p>
      {found.data && <p role="status">{found.data}</p>}
      {(error ?? found.error) && <p class="error" role="alert">{error ?? found.error}</p>}
      <label class="inline"><input type="checkbox" checked={isSure} onChange={() => setSure(!isSure)} /> there is no way back</label>
      <div class="bar">
        <button type="submit" class="primary" disabled={!isSure || !text}>Delete</button>
        <button type="button" onClick={() => setParams({ new: undefined, q: undefined })}>Cancel</button>
      </div>
    </form>
  );
}

async function load() {
  const [all, lines] = await Promise.all([work(), ifThere(lineDeletions(), [])]);
  return { all, lines };
}

export function LongWork({ params, window }: { params: URLSearchParams; window: Window }) {
  const { data, error, reload } = useLoad(load, [], REFRESH_MS);
  const [failure, setFailure] = useState<string>();
  const begin = (task: () => Promise<unknown>) => {
    setFailure(undefined);
    task().then(reload, (error: Error) => (setFailure(error.message), reload()));
    setTimeout(reload, 100);
  };
  const close = () => {
    setParams({ new: undefined, q: undefined });
    reload();
  };
  return (
    <>
      {(failure ?? error) && <p class="error" role="alert">{failure ?? error}</p>}
      <div class="bar">
        <button type="button" onClick={() => begin(snapshot)} title="Links all samples into a directory that a store can be opened on">Take a snapshot</button>
        <button type="button" onClick={() => begin(flush)} title="Publishes what is in memory, merges, and empties the bus">Flush</button>
        <button type="button" onClick={() => begin(cleanTombstones)} title="Writes files again without the samples that were deleted">Clean up deletions</button>
        <button type="button" aria-expanded={params.has('new')} onClick={() => setParams({ new: params.has('new') ? undefined : 'delete' })}>Delete…</button>
      </div>
      {params.has('new') && <DeleteForm draft={params.get('q') ?? ''} window={window} onDone={close} />}
      <ul class="card" aria-label="Work">
        {data?.all.map((one) => <Row key={one.id} one={one} />)}
        {data?.all.length === 0 && <li class="work note">Nothing long has been done since the start.</li>}
      </ul>
      {data && data.lines.length > 0 && (
        <>
          <h2>Deletions of lines</h2>
          <ul class="card" aria-label="Deletions of lines">
            {data.lines.map((one) => (
              <li class="work" key={one.request_id}>
                <span class={`badge ${one.status === 'processed' ? 'good' : 'pending'}`}>{one.status === 'processed' ? 'off the disk' : 'hidden'}</span>
                <code>{one.query}</code>
                <span class="note">{instant(one.start_time * 1000)} – {instant(one.end_time * 1000)}</span>
                <time class="note">{ago(one.created_at * 1000)}</time>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}
