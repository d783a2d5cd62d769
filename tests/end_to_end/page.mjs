// Drives the page as a person would; run by page.rs. Every step waits for what it needs to see.
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const here = createRequire(join(process.cwd(), 'package.json'));
const { chromium } = here('playwright-core');
const { BINNACLE_URL: url, BINNACLE_LOG: log, BINNACLE_SHOTS: shots } = process.env;
const FIRST_VIEW_BYTES = 200_000;

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: 'light' });
page.setDefaultTimeout(45_000);
const failures = [];
/** What a step provokes on purpose. */
const expected = [];
const fail = (text) => expected.some((part) => text.includes(part)) || failures.push(text);
page.on('pageerror', (error) => fail(String(error)));
page.on('console', (message) => message.type() === 'error' && fail(`console: ${message.text()} ${message.location().url}`));
page.on('response', (response) => response.status() >= 400 && fail(`${response.status()} ${response.url()}`));
page.on('request', (request) => {
  const own = [url, url.replace('http', 'ws'), 'data:', 'blob:'];
  if (!own.some((prefix) => request.url().startsWith(prefix))) fail(`a request to another host: ${request.url()}`);
});
const shot = async (name) => {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
};
const legend = (title, name) => page.locator('figure', { hasText: title }).locator('.legend button', { hasText: name }).first().waitFor();
const view = (name) => page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name, exact: true }).click();
const tab = (name) => page.getByRole('navigation', { name: 'Parts of this view' }).getByRole('link', { name }).click();
// The editor itself: until it is loaded, a plain field stands in for it.
const editor = page.locator('.cm-content[aria-label=Expression]').first();

const axe = readFileSync(here.resolve('axe-core/axe.min.js'), 'utf8');
/** No fault of accessibility that is serious, as it stands, in light and dark. */
async function checkAccess(what) {
  for (const theme of ['light', 'dark']) {
    await page.evaluate((theme) => (document.documentElement.dataset.theme = theme), theme);
    if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
    const faults = await page.evaluate(async () => {
      const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.split('\n')[1] ?? ''}`).join(' | ')}`);
    });
    assert.deepEqual(faults, [], `${what}, ${theme}`);
  }
  await page.evaluate(() => (document.documentElement.dataset.theme = 'light'));
}

async function home() {
  const files = [];
  const weigh = (response) => {
    if (/\/(assets\/.*)?$/.test(new URL(response.url()).pathname)) files.push(response.body().then((body) => gzipSync(body).length));
  };
  page.on('response', weigh);
  await page.goto(url);
  await legend('CPU', 'user');
  await legend('Memory', 'used');
  await legend('Disk', 'written');
  await legend('Network', 'received');
  await legend('Log lines', 'error');
  await page.locator('.tile', { hasText: 'Firing alerts' }).filter({ hasText: '2' }).waitFor();
  page.off('response', weigh);
  const first = (await Promise.all(files)).reduce((sum, bytes) => sum + bytes, 0);
  assert.ok(first > 10_000 && first < FIRST_VIEW_BYTES, `the first view takes ${first} bytes`);
  await checkAccess('home');
  await shot('home');
}

async function metrics() {
  await view('Explore');
  await legend('', 'idle');
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.type('rate(node_network_receive_by');
  await page.locator('.cm-tooltip-autocomplete li', { hasText: 'node_network_receive_bytes_total' }).first().click();
  await page.keyboard.type('[1m]');
  await page.keyboard.press('Enter');
  await legend('', 'lo');
  assert.match(decodeURIComponent(page.url()), /rate\(node_network_receive_bytes_total\[1m\]/);
  await page.getByText('Plan and cost').click();
  await page.locator('.tree', { hasText: 'node_network_receive_bytes_total' }).waitFor();
  await shot('graph');

  // A drag over the graph shows that span; the way back leads to the length before.
  const plot = await page.locator('.u-over').first().boundingBox();
  await page.mouse.move(plot.x + plot.width * 0.5, plot.y + 40);
  await page.mouse.down();
  await page.mouse.move(plot.x + plot.width * 0.9, plot.y + 60, { steps: 5 });
  await page.mouse.up();
  await page.waitForURL(/from=\d+/);
  await page.goBack();
  await page.waitForURL((at) => !at.hash.includes('from='));

  await page.getByRole('button', { name: 'Table', exact: true }).click();
  await page.locator('.series', { hasText: 'lo' }).locator('.chip', { hasText: 'lo' }).click();
  await page.waitForURL((at) => decodeURIComponent(at.hash).includes('device="lo"') || at.hash.includes('device%3D%22lo%22'));
  await page.getByText('1 series').waitFor();
  await checkAccess('a table');

  // What is wrong is said, and marked where it is.
  expected.push('query=sum', '400 (Bad Request)');
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.type('sum(rate(up[1m])');
  await page.keyboard.press('Delete');
  await page.getByRole('button', { name: 'Run' }).click();
  await page.getByRole('alert').filter({ hasText: 'parse error' }).waitFor();
  await page.locator('.cm-lintRange-error').first().waitFor();
  expected.length = 0;
}

async function mixed() {
  const text = 'sum(count_over_time({filename=~".+web.log"} |= "line" [1h])) / max(node_load1 + 1)';
  await page.goto(`${url}#/explore?q=${encodeURIComponent(text)}&show=table`);
  await page.getByText('1 series').waitFor();
  await page.getByRole('button', { name: 'Metrics', pressed: true }).waitFor();
  assert.equal(await page.locator('.cm-lintRange-error').count(), 0);
  // The plan is still open.
  await page.locator('.tree', { hasText: 'count_over_time({filename=~".+web.log"} |= "line" [1h])' }).waitFor();
}

/** What is asked for the routing tree, acknowledgements and what happened. */
async function care() {
  await view('Alerts');
  const card = page.locator('.alert', { hasText: 'LoadKnown' });
  await card.getByRole('button', { name: 'Acknowledge' }).click();
  await card.getByLabel('Your name').fill('the walk');
  await card.getByRole('button', { name: 'I have it' }).click();
  await card.getByText('the walk has it').waitFor();
  await checkAccess('an acknowledged alert');
  await page.goto(`${url}#/alerts?tab=routing&labels=${encodeURIComponent('alertname="LoadKnown", severity="warning"')}`);
  await page.getByRole('region', { name: 'Where it would go' }).getByText('everyone').waitFor();
  await page.locator('.route.taken', { hasText: 'everyone' }).waitFor();
  await checkAccess('the routing tree');
  await tab('History');
  const happened = page.getByRole('list', { name: 'History' });
  await happened.getByText('the walk', { exact: true }).waitFor();
  await happened.getByText('it is only a test').waitFor();
  await checkAccess('history');
}

async function lines() {
  await page.goto(`${url}#/explore?q=${encodeURIComponent('{filename=~".+web.log"}')}`);
  await page.getByText('the second line').first().waitFor();
  await page.getByRole('button', { name: 'Live' }).waitFor();
  appendFileSync(log, 'WARN a line that arrives while the page is open\n');
  await page.getByText('a line that arrives while the page is open').first().waitFor();
  await checkAccess('lines');

  // Paused, what arrives is counted, not shown.
  await page.getByRole('button', { name: 'Live' }).click();
  appendFileSync(log, 'WARN a line that waits\n');
  await page.getByRole('button', { name: '1 new' }).click();
  await page.getByText('a line that waits').first().waitFor();

  // A line opened: what it carries, and what is around it.
  await page.locator('.line .text', { hasText: 'the second line' }).click();
  await page.getByRole('button', { name: 'Lines around it' }).click();
  await page.locator('.context .here', { hasText: 'the second line' }).waitFor();
  await page.locator('.context', { hasText: 'the first line' }).waitFor();
  await checkAccess('an open line');
  await shot('logs');

  await page.getByRole('button', { name: 'Patterns' }).click();
  await page.locator('.patterns').waitFor();
  await page.getByRole('button', { name: 'Fields' }).click();

  // A click on a field's value leaves its lines; the address says so, and alone brings it back.
  await page.locator('.side').getByRole('button', { name: 'path 1' }).click();
  await page.locator('.side').getByRole('button', { name: '/items 1' }).click();
  await page.getByText('the first line').first().waitFor({ state: 'detached' });
  await page.locator('.line', { hasText: '/items' }).waitFor();
  const link = page.url();
  assert.match(decodeURIComponent(link.replaceAll('+', ' ')), /\| json \| path = "\/items"/);
  await page.goto(`${url}#/home`);
  await legend('CPU', 'user');
  await page.goto(link);
  await page.locator('.line', { hasText: '/items' }).waitFor();
  assert.equal(await page.locator('.line').count(), 1);
}

async function alerts() {
  await view('Alerts');
  const card = page.locator('.alert', { hasText: 'ErrorLines' });
  await card.waitFor();
  await checkAccess('alerts');
  await card.getByRole('link', { name: 'Lines' }).click();
  await page.locator('.line', { hasText: 'the second line' }).waitFor();
  await page.goBack();
  await card.getByRole('link', { name: 'Why' }).click();
  await page.locator('.excerpt', { hasText: 'the second line' }).waitFor();
  await page.locator('figure', { hasText: 'compared with > 0' }).waitFor();
  await page.locator('.timeline .firing').first().waitFor();
  await checkAccess('a rule');
  await shot('rule');

  await tab('Firing');
  await card.getByRole('link', { name: 'Silence' }).click();
  await page.getByRole('region', { name: 'Preview' }).getByText('one alert').waitFor();
  await page.getByLabel('Your name').fill('the walk');
  await page.getByLabel('Why').fill('it is only a test');
  await checkAccess('a new silence');
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  await page.getByRole('list', { name: 'Silences' }).getByText('it is only a test').waitFor();
  await tab('Firing');
  await card.getByText('silenced').waitFor();
  await shot('alerts');
}

async function status() {
  await view('Status');
  await page.getByRole('cell', { name: 'metrics' }).waitFor();
  await page.getByRole('row').filter({ hasText: 'tsdb' }).getByText('up to date').waitFor();
  await checkAccess('status');
  for (const [name, part] of [['Targets', 'Nothing is scraped'], ['Log files', 'web.log'], ['Storage', 'parts'], ['Configuration', 'rule_files'], ['Cardinality', 'node_cpu_seconds_total']]) {
    await tab(name);
    await page.getByRole('main').getByText(part).first().waitFor();
    await checkAccess(name);
  }
  await page.getByRole('link', { name: 'node_cpu_seconds_total' }).first().click();
  await page.getByRole('region', { name: 'Values of each label' }).getByText('mode').waitFor();
  await shot('status');
}

/** Another tenant's lines are shown once it is chosen, live ones too, and gone once they are deleted. */
async function tenants() {
  const push = (text) => fetch(`${url}loki/api/v1/push`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'X-Scope-OrgID': 'other' },
    body: JSON.stringify({ streams: [{ stream: { app: 'theirs' }, values: [[`${Date.now()}000000`, text]] }] }),
  });
  assert.equal((await push('a line of another tenant')).status, 204);
  await page.goto(`${url}#/status?tab=tenants`);
  const row = page.getByRole('region', { name: 'Tenants' }).getByRole('row').filter({ hasText: 'other' });
  await row.waitFor();
  await checkAccess('tenants');
  await row.getByRole('button', { name: 'Show' }).click();
  await page.goto(`${url}#/explore?tenant=other&q=${encodeURIComponent('{app="theirs"}')}`);
  await page.locator('.line', { hasText: 'a line of another tenant' }).waitFor();
  await page.getByRole('button', { name: 'Live' }).waitFor();
  assert.equal((await push('a live line of another tenant')).status, 204);
  await page.locator('.line', { hasText: 'a live line of another tenant' }).waitFor();

  await page.goto(`${url}#/status?tab=work&tenant=other&new=delete&q=${encodeURIComponent('{app="theirs"} |= "live"')}`);
  await page.getByRole('status').getByText('Lines of one stream').waitFor();
  await checkAccess('a deletion');
  await page.getByLabel('there is no way back').check();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('list', { name: 'Deletions of lines' }).getByText('|= "live"').waitFor();
  await page.goto(`${url}#/explore?tenant=other&q=${encodeURIComponent('{app="theirs"}')}`);
  await page.locator('.line', { hasText: 'a line of another tenant' }).waitFor();
  assert.equal(await page.locator('.line').count(), 1);
  await page.getByRole('button', { name: 'Tenant' }).or(page.getByTitle('Tenant')).first().click();
  await page.getByRole('group', { name: 'Tenant' }).getByRole('button', { name: 'default' }).click();
  await page.waitForURL((at) => !at.hash.includes('tenant='));
}

/** Long work is begun from the page and shown until it has ended. */
async function work() {
  await page.goto(`${url}#/status?tab=work`);
  await page.getByRole('button', { name: 'Take a snapshot' }).click();
  const list = page.getByRole('list', { name: 'Work', exact: true });
  await list.getByRole('listitem').filter({ hasText: 'Snapshot' }).filter({ hasText: 'done' }).waitFor();
  await page.getByRole('button', { name: 'Flush' }).click();
  await list.getByRole('listitem').filter({ hasText: 'lines: published' }).filter({ hasText: 'done' }).waitFor();
  // A tool's work is shown as it says it is.
  const said = { kind: 'replay', detail: 'group: rule', done: 3, total: 4, unit: 'steps', state: 'running' };
  const answer = await fetch(`${url}binnacle/v1/work/mine`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(said) });
  assert.equal(answer.status, 204);
  await list.getByText('3 of 4 steps').waitFor();
  await checkAccess('work');
  await shot('work');
}

async function keyboard() {
  await page.keyboard.press('g');
  await page.keyboard.press('h');
  await legend('CPU', 'user');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await checkAccess('the shortcuts');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  // The page hears keys again once it has drawn itself without the dialog.
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(drawn)))));
  await page.keyboard.press('d');
  await page.locator('html[data-theme=dark]').waitFor();
  await legend('CPU', 'user');
  await shot('dark');
  await page.keyboard.press('z');
  await page.getByRole('button', { name: 'UTC' }).waitFor();
}

async function phone() {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const hash of ['#/home', '#/explore', `#/explore?q=${encodeURIComponent('{filename=~".+"}')}`, '#/alerts', '#/alerts?tab=rules', '#/status', '#/status?tab=cardinality', '#/status?tab=tenants', '#/status?tab=work']) {
    await page.goto(url + hash);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await page.locator('.card').first().waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 1, `${hash} is ${overflow}px too wide for a phone`);
  }
  await page.goto(`${url}#/home`);
  await legend('CPU', 'user');
  await shot('phone');
}

for (const step of [home, metrics, mixed, lines, alerts, care, status, tenants, work, keyboard, phone]) {
  try {
    await step();
  } catch (error) {
    await shot('failed');
    throw new Error(`${step.name}: ${error.message}\n${failures.join('\n')}`, { cause: error });
  }
}
await browser.close();
assert.deepEqual(failures, []);
