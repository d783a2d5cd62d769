// The routing tree, and where an alert with given labels would go.

import { useEffect, useState } from 'preact/hooks';
import { type Route, type Verdict, routes, whereTo } from '../api/alertmanager';
import { labelText } from '../state/format';
import { useLoad } from '../state/load';
import { setParams } from '../state/route';
import { parseLabels } from './matchers';

const timing = (route: Route): string =>
  [
    route.groupBy?.length ? `grouped by ${route.groupBy.join(', ')}` : '',
    route.groupWait ? `after ${route.groupWait}` : '',
    route.groupInterval ? `then every ${route.groupInterval}` : '',
    route.repeatInterval ? `again after ${route.repeatInterval}` : '',
  ].filter(Boolean).join(' · ');

/** How the server names a route: its own matchers behind its parents'. */
export const pathOf = (route: Route, above?: string): string => {
  const own = `{${(route.matchers ?? []).join(',')}}`;
  return above === undefined ? own : `${above}/${own}`;
};

function Branch({ route, above, taken }: { route: Route; above?: string; taken: string[] }) {
  const path = pathOf(route, above);
  const isTaken = taken.includes(path);
  return (
    <li>
      <div class={`route ${isTaken ? 'taken' : ''}`}>
        <code>{route.matchers?.length ? `{${route.matchers.join(', ')}}` : above === undefined ? 'all alerts' : '{}'}</code>
        <span class="arrow" aria-hidden="true">→</span>
        <strong>{route.receiver}</strong>
        {route.continue && <span class="badge">goes on</span>}
        {isTaken && <span class="badge good">here</span>}
        <span class="note">{timing(route)}</span>
      </div>
      {route.routes && route.routes.length > 0 && <ul>{route.routes.map((one, i) => <Branch key={i} route={one} above={path} taken={taken} />)}</ul>}
    </li>
  );
}

function Answer({ verdict }: { verdict: Verdict }) {
  return (
    <section class="preview" aria-label="Where it would go">
      {verdict.silencedBy.length > 0 && <p class="notice">silenced by {verdict.silencedBy.join(', ')}</p>}
      {verdict.inhibitedBy.length > 0 && <p class="notice">inhibited by {verdict.inhibitedBy.join(', ')}</p>}
      <ul>
        {verdict.routes.map((one) => (
          <li key={one.route + one.receiver}>
            to <strong>{one.receiver}</strong> in the group <code>{labelText(one.groupLabels)}</code>, told after {one.groupWait}, again after {one.repeatInterval}
            {one.muted && <span class="badge">muted by {one.mutedBy.join(', ')}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

export function Routing({ labels }: { labels: string }) {
  const tree = useLoad(routes, []);
  const [text, setText] = useState(labels);
  const [verdict, setVerdict] = useState<Verdict>();
  const [error, setError] = useState<string>();
  useEffect(() => {
    setVerdict(undefined);
    setError(undefined);
    if (!labels.trim()) return;
    const parsed = parseLabels(labels);
    if (!parsed) return setError('Labels are written as name="value", with commas between them.');
    whereTo(parsed).then(setVerdict, (failure: Error) => setError(failure.message));
  }, [labels]);
  return (
    <>
      <form class="bar" onSubmit={(event) => (event.preventDefault(), setParams({ labels: text || undefined }, 'step'))}>
        <input class="grow code" aria-label="Labels of an alert" placeholder={'alertname="Down", severity="critical"'} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <button type="submit" class="primary">Where would this go?</button>
      </form>
      {error && <p class="error" role="alert">{error}</p>}
      {verdict && <Answer verdict={verdict} />}
      {tree.error && <p class="error" role="alert">{tree.error}</p>}
      {tree.data && <ul class="card tree routes" aria-label="Routing tree"><Branch route={tree.data} taken={verdict?.routes.map(({ route }) => route) ?? []} /></ul>}
    </>
  );
}
