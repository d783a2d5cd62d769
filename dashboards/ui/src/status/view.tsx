// Status: what is scraped and tailed, what is stored, what runs, with which configuration.

import { Tabs } from '../parts/tabs';
import type { Window } from '../state/time';
import { Agent } from './agent';
import { CardinalityExplorer } from './cardinality';
import { Configuration } from './configuration';
import { Overview } from './overview';
import { Storage } from './storage';
import { TargetList } from './targets';
import { Tenants } from './tenants';
import { LongWork } from './work';

const TABS: [string, string][] = [['overview', 'Overview'], ['targets', 'Targets'], ['agent', 'Log files'], ['cardinality', 'Cardinality'], ['storage', 'Storage'], ['tenants', 'Tenants'], ['work', 'Work'], ['config', 'Configuration']];

export function Status({ params, window }: { params: URLSearchParams; window: Window }) {
  const tab = params.get('tab') ?? 'overview';
  return (
    <>
      <header class="title"><h1>Status</h1></header>
      <Tabs view="status" active={tab} tabs={TABS} />
      {tab === 'overview' && <Overview />}
      {tab === 'targets' && <TargetList find={params.get('find') ?? ''} open={params.get('target') ?? undefined} />}
      {tab === 'agent' && <Agent />}
      {tab === 'cardinality' && <CardinalityExplorer metric={params.get('metric') ?? undefined} />}
      {tab === 'storage' && <Storage />}
      {tab === 'tenants' && <Tenants />}
      {tab === 'work' && <LongWork window={window} params={params} />}
      {tab === 'config' && <Configuration />}
    </>
  );
}
