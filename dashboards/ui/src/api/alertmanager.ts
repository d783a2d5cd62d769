// Alertmanager's API, and what Binnacle adds to it: acknowledgements, history, previews, the routing tree
// (`docs/alerting.md`).

import { type Labels, get, request } from './http';

export interface Acknowledgement {
  owner: string;
  note: string;
  createdAt: string;
  endsAt?: string;
}
export interface Alert {
  fingerprint: string;
  labels: Labels;
  annotations: Labels;
  startsAt: string;
  endsAt?: string;
  generatorURL?: string;
  status: { state: string; silencedBy: string[]; inhibitedBy: string[] };
  receivers: { name: string }[];
  acknowledgement?: Acknowledgement;
}
export interface AlertGroup {
  labels: Labels;
  receiver: { name: string };
  alerts: Alert[];
}
export interface Matcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}
export interface TimeInterval {
  times?: { start_time: string; end_time: string }[];
  weekdays?: string[];
  location?: string;
}
export interface Silence {
  id: string;
  matchers: Matcher[];
  startsAt: string;
  endsAt: string;
  createdBy: string;
  comment: string;
  timeIntervals?: TimeInterval[];
  status: { state: string };
}
export type NewSilence = Omit<Silence, 'id' | 'status'> & { id?: string };

const post = (path: string, body: unknown): Promise<Response> =>
  request(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

export const alerts = (filter: string[] = []): Promise<Alert[]> => get('api/v2/alerts', { filter });
export const alertGroups = (): Promise<AlertGroup[]> => get('api/v2/alerts/groups');
export const silences = (): Promise<Silence[]> => get('api/v2/silences');

export async function createSilence(silence: NewSilence): Promise<string> {
  return ((await (await post('api/v2/silences', silence)).json()) as { silenceID: string }).silenceID;
}
export async function expireSilence(id: string): Promise<void> {
  await request(`api/v2/silence/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

export async function acknowledge(fingerprints: string[], owner: string, note: string): Promise<void> {
  await post('api/v2/acks', { fingerprints, owner, note });
}
export async function takeBack(fingerprint: string): Promise<void> {
  await request(`api/v2/acks/${encodeURIComponent(fingerprint)}`, { method: 'DELETE' });
}

export interface Entry {
  id: string;
  at: string;
  kind: string;
  labels?: Labels;
  annotations?: Labels;
  receiver?: string;
  integration?: string;
  reason?: string;
  error?: string;
  owner?: string;
  note?: string;
  firing?: string[];
  resolved?: string[];
  silence?: Silence;
}
export interface HistoryPage {
  entries: Entry[];
  next: string | null;
}
export const history = (params: Record<string, string | string[] | undefined>): Promise<HistoryPage> => get('api/v2/history', params);

export interface Route {
  receiver: string;
  matchers?: string[];
  continue?: boolean;
  groupBy?: string[];
  groupWait?: string;
  groupInterval?: string;
  repeatInterval?: string;
  routes?: Route[];
}
export interface Destination {
  receiver: string;
  route: string;
  groupLabels: Labels;
  groupWait: string;
  groupInterval: string;
  repeatInterval: string;
  muted: boolean;
  mutedBy: string[];
}
export interface Verdict {
  routes: Destination[];
  silencedBy: string[];
  inhibitedBy: string[];
}
export const routes = (): Promise<Route> => get('api/v2/routes');
export async function whereTo(labels: Labels): Promise<Verdict> {
  return (await post('api/v2/routes/test', { labels })).json() as Promise<Verdict>;
}
