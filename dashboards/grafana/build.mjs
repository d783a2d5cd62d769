// Writes the dashboards: `node dashboards/grafana/build.mjs`; with `--check` it says whether they are as written here.
// Metric names are node_exporter's, cAdvisor's and kube-state-metrics', so that they work with Binnacle's agent and without.
import { readFileSync, writeFileSync } from 'node:fs';

import { alerts, binnacle, components, logs } from './boards-system.mjs';
import { cluster, namespace, node, pod, workload } from './boards-kubernetes.mjs';

const METRICS = { type: 'prometheus', uid: '${datasource}' };
const LINES = { type: 'loki', uid: '${logs}' };
const COLUMNS = 24;

const variables = {
  datasource: { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Metrics' },
  logs: { name: 'logs', type: 'datasource', query: 'loki', label: 'Logs' },
};

/** `[name, label, query]`, several values at once if it says so. */
function variable([name, label, query, { multi = false, source = METRICS, regex = '' } = {}]) {
  const ask = source === LINES ? query : { query, refId: name };
  return { name, type: 'query', label, datasource: source, query: ask, refresh: 2, sort: 1, regex, multi, includeAll: multi, ...(multi ? { allValue: '.+', current: { text: 'All', value: '$__all' } } : {}) };
}

function fields({ unit = 'short', min = 0, max, stack = false, bars = false, thresholds }) {
  const custom = { drawStyle: bars ? 'bars' : 'line', lineWidth: bars ? 0 : 1, fillOpacity: bars ? 80 : stack ? 30 : 10, showPoints: 'never', stacking: { mode: stack ? 'normal' : 'none', group: 'A' } };
  const steps = thresholds && { mode: 'absolute', steps: [{ color: 'green', value: null }, ...thresholds.map(([value, color]) => ({ color, value }))] };
  return { defaults: { unit, min, ...(max === undefined ? {} : { max }), ...(steps ? { thresholds: steps } : {}), custom }, overrides: [] };
}

const options = {
  timeseries: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  stat: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area', textMode: 'auto' },
  table: { showHeader: true, cellHeight: 'sm' },
  logs: { showTime: true, wrapLogMessage: true, enableLogDetails: true, sortOrder: 'Descending', dedupStrategy: 'none' },
};

function panel(given, id, gridPos) {
  const { title, type = 'timeseries', description = '', targets, lines = type === 'logs', links = [] } = given;
  const source = lines ? LINES : METRICS;
  return {
    id, type, title, description, datasource: source, gridPos, options: options[type],
    fieldConfig: type === 'logs' ? { defaults: {}, overrides: [] } : fields(given),
    ...(type === 'table' ? { transformations: [{ id: 'organize', options: { excludeByName: { Time: true } } }] } : {}),
    ...(links.length ? { links: links.map(([title, uid, parameters]) => ({ title, url: `/d/${uid}?${parameters}` })) } : {}),
    targets: targets.map(([expr, legendFormat = ''], i) => ({
      refId: String.fromCharCode(65 + i), datasource: source, expr, legendFormat,
      ...(type === 'table' ? { instant: true, format: 'table' } : {}), ...(type === 'stat' ? { instant: true } : {}),
    })),
  };
}

/** Panels row by row; a row is as high as its first one. */
function layout(rows) {
  const panels = [];
  let y = 0;
  for (const row of rows) {
    if (typeof row === 'string') {
      panels.push({ id: panels.length + 1, type: 'row', title: row, collapsed: false, gridPos: { x: 0, y, w: COLUMNS, h: 1 }, panels: [] });
      y += 1;
      continue;
    }
    const height = { stat: 4, logs: 12 }[row[0].type] ?? 8;
    const width = COLUMNS / row.length;
    row.forEach((one, i) => panels.push(panel(one, panels.length + 1, { x: i * width, y, w: width, h: height })));
    y += height;
  }
  return panels;
}

function board({ uid, title, description, tags, queries = [], rows, usesLogs = false }) {
  const links = [{ title: 'Binnacle', type: 'dashboards', tags: ['binnacle'], asDropdown: true, includeVars: true, keepTime: true }];
  const annotations = [{ name: 'Alerts', datasource: METRICS, enable: true, iconColor: 'red', expr: 'ALERTS{alertstate="firing"}', titleFormat: '{{alertname}}', step: '60s' }];
  return {
    uid, title, description, tags: ['binnacle', ...tags], schemaVersion: 41, version: 1, editable: true, graphTooltip: 1, refresh: '30s',
    time: { from: 'now-1h', to: 'now' }, timezone: 'browser', links, annotations: { list: annotations },
    templating: { list: [variables.datasource, ...(usesLogs ? [variables.logs] : []), ...queries.map(variable)] },
    panels: layout(rows),
  };
}

const isCheck = process.argv.includes('--check');
const stale = [];
for (const one of [cluster, node, namespace, workload, pod, components, logs, alerts, binnacle]) {
  const file = new URL(`${one.uid.replace(/^binnacle-/, '')}.json`, import.meta.url);
  const text = `${JSON.stringify(board(one), null, 1)}\n`;
  if (!isCheck) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) stale.push(file.pathname);
}
if (stale.length) {
  process.stderr.write(`not as build.mjs writes them; run it without --check:\n${stale.join('\n')}\n`);
  process.exit(1);
}
