// The built Grafana plugin in a page with Grafana's real libraries, against the real binary; run by page.rs from the
// plugin's directory. Every step waits for what it needs to see.
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const here = createRequire(join(process.cwd(), 'package.json'));
const { chromium } = createRequire(join(process.cwd(), '../ui/package.json'))('playwright-core');
const { build } = here('esbuild');
const { BINNACLE_URL: url, BINNACLE_LOG: log, BINNACLE_SHOTS: shots } = process.env;

const host = await build({
  entryPoints: ['e2e/host.tsx'], bundle: true, write: false, outdir: 'out', format: 'iife', jsx: 'automatic', minify: true, logLevel: 'error',
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'window' },
  loader: { '.svg': 'text', '.woff2': 'empty', '.ttf': 'empty' },
});
const pages = {
  '/host': ['text/html', '<!doctype html><meta charset="utf-8"><title>host</title><div id="root"></div><script src="/host.js"></script><script src="/module.js"></script>'],
  '/host.js': ['text/javascript', host.outputFiles.find(({ path }) => path.endsWith('.js')).text],
  '/module.js': ['text/javascript', readFileSync('dist/module.js', 'utf8')],
};

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  // The host page comes from this script: without an address of its own it would not be let to a WebSocket on this machine.
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets'],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
page.setDefaultTimeout(45_000);
const failures = [];
page.on('pageerror', (error) => failures.push(String(error)));
await page.route((at) => at.pathname in pages, (route) => {
  const [contentType, body] = pages[new URL(route.request().url()).pathname];
  return route.fulfill({ contentType: `${contentType}; charset=utf-8`, body });
});
await page.goto(`${url}host`);
const frames = page.locator('#frames');
const code = page.locator('.cm-content[aria-label=Expression]');

// It is healthy, and says what is wrong where it is not.
assert.equal((await page.evaluate(() => window.datasource.testDatasource())).status, 'success');

// Metrics, typed with completion.
await code.click();
await page.keyboard.type('node_loa');
await page.locator('.cm-tooltip-autocomplete li', { hasText: 'node_load1' }).first().click();
await page.keyboard.press('Control+Enter');
await frames.getByText(/node_load1.*Value: \[\d/).waitFor();

// Built by choosing.
await page.getByRole('radio', { name: 'Builder' }).click();
await page.getByLabel('Aggregate').click();
await page.getByText('max', { exact: true }).last().click();
await page.locator('#query', { hasText: 'max (node_load' }).waitFor();
if (shots) await page.screenshot({ path: join(shots, 'plugin.png') });
await page.getByRole('radio', { name: 'Code' }).click();

// Lines.
await page.getByRole('radio', { name: 'Logs' }).click();
await code.click();
await page.keyboard.type('{filename=~".+web.log"');
await page.keyboard.press('Control+Enter');
await frames.getByText('the second line').waitFor();

/** Frames of one query, by the datasource itself. */
const ask = (query, more = {}) =>
  page.evaluate(async ({ query, more }) => {
    const range = window.grafana.getDefaultTimeRange();
    Object.assign(range, { from: window.grafana.dateTime(Date.now() - 900_000), to: window.grafana.dateTime(Date.now() + 1000) });
    const answers = window.datasource.query({ targets: [{ refId: 'A', ...query }], range, intervalMs: 15_000, scopedVars: {}, ...more });
    const { data, errors } = await window.rxjs.firstValueFrom(answers);
    if (errors?.length) throw new Error(errors[0].message);
    return data.map((frame) => ({ meta: frame.meta, fields: Object.fromEntries(frame.fields.map(({ name, values }) => [name, [...values]])) }));
  }, { query, more });

const selector = '{filename=~".+web.log"}';
const [lines] = await ask({ kind: 'logs', expr: selector });
assert.ok(lines.fields.body.includes('ERROR the second line'));
assert.ok(lines.fields.severity.includes('error'));
const volume = await ask({ kind: 'logs', expr: selector, supplementary: 'volume' });
assert.ok(volume.length > 0 && volume.every(({ meta }) => meta.custom.logsVolumeType === 'FullRange'));
const [sample] = await ask({ kind: 'logs', expr: `sum(count_over_time(${selector}[1m]))`, supplementary: 'sample' });
assert.ok(sample.fields.body.length > 0);
const [table] = await ask({ kind: 'metrics', expr: 'node_load1', format: 'table', instant: true });
assert.equal(table.fields.Value.length, 1);
await assert.rejects(ask({ kind: 'metrics', expr: 'sum((' }), /parse error/);

// What is around a line, whatever its level.
const at = lines.fields.body.indexOf('ERROR the second line');
const row = { labels: lines.fields.labels[at], timeEpochNs: lines.fields.id[at].split('_')[0], dataFrame: { refId: 'A' } };
const around = await page.evaluate(async (row) => {
  const { data } = await window.datasource.getLogRowContext(row, { direction: 'FORWARD', limit: 10 });
  return [...data[0].fields.find(({ name }) => name === 'body').values];
}, row);
assert.ok(around.some((line) => line.includes('/items')), String(around));

// The live tail.
const tailed = page.evaluate(async (expr) => {
  const answers = window.datasource.query({ targets: [{ refId: 'A', kind: 'logs', expr }], liveStreaming: true, range: window.grafana.getDefaultTimeRange(), intervalMs: 1000, scopedVars: {} });
  const found = (response) => response.data[0].fields.find(({ name }) => name === 'body').values.toArray().includes('WARN for the plugin');
  await window.rxjs.firstValueFrom(answers.pipe(window.rxjs.filter(found)));
}, selector);
const writing = setInterval(() => appendFileSync(log, 'WARN for the plugin\n'), 500);
await tailed;
clearInterval(writing);

// Variables and filters.
const found = await page.evaluate(() => window.datasource.metricFindQuery('label_values(node_cpu_seconds_total, mode)'));
assert.ok(found.some(({ text }) => text === 'idle'));
assert.ok((await page.evaluate(() => window.datasource.getTagKeys())).some(({ text }) => text === 'filename'));

// When an alert fired.
const alerts = await ask({ kind: 'alerts', expr: 'alertname="ErrorLines"' });
assert.ok(alerts.length > 0);

await browser.close();
assert.deepEqual(failures, []);
