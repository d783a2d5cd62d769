// A page that has Grafana's real libraries and loads the built plugin as Grafana does; tests/end_to_end/page_plugin.mjs
// drives it. What it shows of answers is their frames.

import * as data from '@grafana/data';
import * as runtime from '@grafana/runtime';
import * as ui from '@grafana/ui';
import * as React from 'react';
import * as jsx from 'react/jsx-runtime';
import * as ReactDom from 'react-dom';
import { createRoot } from 'react-dom/client';
import * as rxjs from 'rxjs';

const SHARED: Record<string, unknown> = { '@grafana/data': data, '@grafana/runtime': runtime, '@grafana/ui': ui, react: React, 'react/jsx-runtime': jsx, 'react-dom': ReactDom, rxjs };

interface Fetched {
  url: string;
  method?: string;
  params?: Record<string, string | undefined>;
  data?: string;
  headers?: Record<string, string>;
}

function fetchIt({ url, method, params = {}, data: body, headers }: Fetched) {
  const search = new URLSearchParams(Object.entries(params).filter((one): one is [string, string] => one[1] !== undefined)).toString();
  const answer = fetch(search ? `${url}?${search}` : url, { method, body, headers }).then(async (response) => {
    const text = await response.text();
    const read = () => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        return text;
      }
    };
    if (!response.ok) throw { status: response.status, statusText: response.statusText, data: read() };
    return { data: read() };
  });
  return rxjs.from(answer);
}

runtime.setBackendSrv({ fetch: fetchIt } as never);
runtime.setTemplateSrv({
  getVariables: () => [],
  replace: (text: string, scoped: data.ScopedVars = {}) => text?.replace(/\$(?:\{(\w+)\}|(\w+))/g, (all: string, a?: string, b?: string) => String(scoped[(a ?? b)!]?.value ?? all)),
} as never);

type Datasource = data.DataSourceApi & Record<string, (...given: never[]) => unknown>;

function Page({ plugin, datasource }: { plugin: data.DataSourcePlugin<data.DataSourceApi>; datasource: Datasource }) {
  const [query, setQuery] = React.useState<data.DataQuery>({ refId: 'A', ...datasource.getDefaultQuery?.(data.CoreApp.Explore) });
  const [frames, setFrames] = React.useState<data.DataFrame[]>([]);
  const Editor = plugin.components.QueryEditor!;
  const run = () => {
    const range = data.getDefaultTimeRange();
    range.from = data.dateTime(Date.now() - 900_000);
    range.to = data.dateTime(Date.now() + 1000);
    const answers = datasource.query({ targets: [query], range, intervalMs: 15_000, scopedVars: {}, filters: [], requestId: '1', interval: '15s', timezone: 'utc', app: 'explore', startTime: 0 } as never);
    rxjs.from(answers as rxjs.Observable<data.DataQueryResponse>).subscribe(({ data: found, errors }) => setFrames(errors?.length ? [{ name: errors[0]!.message, fields: [], length: 0 }] : (found as data.DataFrame[])));
  };
  const show = (one: data.DataFrame) => `${one.name ?? one.refId} ${one.fields.map((field) => `${field.name}: ${JSON.stringify(field.values.slice(-4))}`).join(' ')}`;
  return (
    <main>
      <Editor datasource={datasource} query={query} onChange={setQuery} onRunQuery={run} />
      <button onClick={run}>Run it</button>
      <pre id="query">{JSON.stringify(query)}</pre>
      <ol id="frames">{frames.map((one, i) => <li key={i}>{show(one)}</li>)}</ol>
    </main>
  );
}

function start(plugin: data.DataSourcePlugin<data.DataSourceApi>) {
  const settings = { id: 1, uid: 'u', type: 'binnacle-binnacle-datasource', name: 'Binnacle', url: location.origin, jsonData: {}, meta: {}, access: 'proxy', readOnly: false };
  const datasource = new plugin.DataSourceClass(settings as never) as Datasource;
  Object.assign(window, { datasource, grafana: data, rxjs });
  createRoot(document.getElementById('root')!).render(<Page plugin={plugin} datasource={datasource} />);
}

Object.assign(window, {
  define: (names: string[], make: (...given: unknown[]) => { plugin: data.DataSourcePlugin<data.DataSourceApi> }) => {
    const missing = names.filter((name) => !(name in SHARED));
    if (missing.length) throw new Error(`Grafana has no ${missing.join(', ')}`);
    start(make(...names.map((name) => SHARED[name])).plugin);
  },
});
