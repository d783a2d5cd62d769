// Scrape targets: their health, their last error, and how relabelling made them what they are.

import { useMemo, useState } from 'preact/hooks';
import type { Labels } from '../api/http';
import { type RelabelStep, type Target, relabelSteps, targets } from '../api/prometheus';
import { VirtualList } from '../parts/list';
import { ago, count, labelText, seconds } from '../state/format';
import { useLoad } from '../state/load';
import { setParams } from '../state/route';

/** A step's rule in the order in which people write it. */
function ruleText(rule: Record<string, unknown>): string {
  const shown = Object.entries(rule).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return shown.map(([name, value]) => `${name}: ${Array.isArray(value) ? `[${value.join(', ')}]` : String(value)}`).join('  ');
}

function Steps({ pool, labels }: { pool: string; labels: Labels }) {
  const { data, error } = useLoad(() => relabelSteps(pool, labels), [pool, JSON.stringify(labels)]);
  if (error) return <p class="note">{error}</p>;
  if (!data) return <p class="note">asking…</p>;
  if (data.length === 0) return <p class="note">This job has no relabel_configs.</p>;
  return (
    <ol class="steps">
      {data.map((step: RelabelStep, i) => (
        <li key={i} class={step.keep ? '' : 'dropped'}>
          <code>{ruleText(step.rule)}</code>
          <span>{step.keep ? <>gives <code>{labelText(step.output)}</code></> : 'drops the target'}</span>
        </li>
      ))}
    </ol>
  );
}

function Row({ target, isOpen }: { target: Target; isOpen: boolean }) {
  return (
    <div class="target">
      <header>
        <button type="button" class="bare" aria-expanded={isOpen} onClick={() => setParams({ target: isOpen ? undefined : target.scrapeUrl })}><code>{target.scrapeUrl}</code></button>
        <span class={`badge ${target.health === 'up' ? 'good' : target.health === 'down' ? 'firing' : ''}`}>{target.health}</span>
        <span class="note">{target.scrapePool}, {ago(Date.parse(target.lastScrape))}, took {seconds(target.lastScrapeDuration)}</span>
      </header>
      {target.lastError && <p class="error">{target.lastError}</p>}
      {isOpen && (
        <>
          <p><code>{labelText(target.labels)}</code></p>
          <h3>Found as</h3>
          <p><code>{labelText(target.discoveredLabels)}</code></p>
          <h3>Relabelling</h3>
          <Steps pool={target.scrapePool} labels={target.discoveredLabels} />
        </>
      )}
    </div>
  );
}

export function TargetList({ find, open }: { find: string; open?: string }) {
  const { data, error } = useLoad(targets, [], 5_000);
  const [onlyDown, setOnlyDown] = useState(false);
  const [dropped, setDropped] = useState<number>();
  const shown = useMemo(() => {
    const all = data?.activeTargets ?? [];
    return all.filter((target) => (!onlyDown || target.health !== 'up') && `${target.scrapeUrl} ${labelText(target.labels)} ${target.lastError}`.includes(find));
  }, [data, find, onlyDown]);
  const down = data?.activeTargets.filter(({ health }) => health === 'down').length ?? 0;
  return (
    <>
      {error && <p class="error" role="alert">{error}</p>}
      <div class="card table">
        <div class="bar">
          <strong>{count(shown.length)} targets</strong>
          <input type="search" class="grow" placeholder="find by address, label or error" aria-label="Find targets" value={find} onInput={(event) => setParams({ find: event.currentTarget.value || undefined })} />
          <button type="button" aria-pressed={onlyDown} onClick={() => setOnlyDown(!onlyDown)}>{count(down)} down</button>
        </div>
        {data?.activeTargets.length === 0 && <p class="empty">Nothing is scraped: there are no <code>scrape_configs</code> with static targets.</p>}
        <VirtualList label="Targets" class="tall" fit items={shown} estimate={40} keyOf={({ scrapePool, scrapeUrl }) => scrapePool + scrapeUrl} render={(target) => <Row target={target} isOpen={open === target.scrapeUrl} />} />
      </div>
      {data && data.droppedTargets.length > 0 && (
        <details class="card dropped-targets">
          <summary>{count(data.droppedTargets.length)} targets were dropped by relabelling</summary>
          {data.droppedTargets.slice(0, 100).map((one, i) => (
            <div key={i}>
              <button type="button" class="bare wide" aria-expanded={dropped === i} onClick={() => setDropped(dropped === i ? undefined : i)}><code>{labelText(one.discoveredLabels)}</code></button>
              {dropped === i && one.scrapePool && <Steps pool={one.scrapePool} labels={one.discoveredLabels} />}
            </div>
          ))}
        </details>
      )}
    </>
  );
}
