// Alerts: what fires and who has it, the rules behind, what is silenced, where alerts go, and what happened.

import { alertGroups, silences } from '../api/alertmanager';
import { ifThere } from '../api/http';
import { ruleGroups } from '../api/prometheus';
import { Tabs } from '../parts/tabs';
import { useLoad } from '../state/load';
import type { Window } from '../state/time';
import { Firing } from './firing';
import { HistoryList } from './history';
import { Routing } from './routing';
import { RuleList } from './rules';
import { Silences } from './silences';

const REFRESH_MS = 5_000;

async function load() {
  const [groups, rules, all] = await Promise.all([ifThere(alertGroups(), []), ifThere(ruleGroups(), []), ifThere(silences(), [])]);
  return { groups, rules, silences: all };
}

export type Loaded = Awaited<ReturnType<typeof load>>;

export function Alerts({ params, window }: { params: URLSearchParams; window: Window }) {
  const { data, error, reload } = useLoad(load, [], REFRESH_MS);
  const tab = params.get('tab') ?? 'firing';
  const firing = new Set(data?.groups.flatMap(({ alerts }) => alerts).filter(({ status }) => status.state === 'active').map(({ fingerprint }) => fingerprint));
  const current = data?.silences.filter(({ status }) => status.state !== 'expired').length;
  return (
    <>
      <header class="title"><h1>Alerts</h1></header>
      <Tabs
        view="alerts"
        active={tab}
        tabs={[['firing', 'Firing', firing.size], ['rules', 'Rules', data?.rules.flatMap(({ rules }) => rules).length], ['silences', 'Silences', current], ['routing', 'Routing'], ['history', 'History']]}
      />
      {error && <p class="error" role="alert">{error}</p>}
      {data && tab === 'firing' && <Firing groups={data.groups} open={params.get('alert') ?? undefined} words={params.get('find') ?? ''} onChange={reload} rules={data.rules} />}
      {data && tab === 'rules' && <RuleList groups={data.rules} open={params.get('rule') ?? undefined} window={window} />}
      {data && tab === 'silences' && <Silences silences={data.silences} draft={params.get('new') ?? undefined} onChange={reload} />}
      {tab === 'routing' && <Routing labels={params.get('labels') ?? ''} />}
      {tab === 'history' && <HistoryList window={window} filter={params.get('filter') ?? ''} kind={params.get('kind') ?? ''} />}
      {!data && !error && <p class="empty">asking…</p>}
    </>
  );
}
