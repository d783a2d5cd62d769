// Measures how the page bears 10,000 series and 100,000 lines: the longest task of the main thread in each step. By hand:
// start Binnacle with an empty directory, then `cd dashboards/ui && BINNACLE_URL=http://127.0.0.1:9090/ node ../../tests/end_to_end/page_load.mjs`.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.cwd(), 'package.json'))('playwright-core');
const url = process.env.BINNACLE_URL;
const SERIES = 10_000;
const LINES = 100_000;
const POINTS = 40;
const SCROLLS = 60;

async function post(path, body, type) {
  const response = await fetch(new URL(path, url), { method: 'POST', body, headers: { 'content-type': type } });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
}

async function fill() {
  const now = Date.now();
  for (let k = 0; k < POINTS; k += 1) {
    const at = now - (POINTS - k) * 15_000;
    const samples = Array.from({ length: SERIES }, (_, i) => `load_test{pod="pod-${i}",zone="z${i % 3}"} ${Math.sin(i + k / 5).toFixed(4)} ${at}`);
    await post('api/v1/import/prometheus', `${samples.join('\n')}\n`, 'text/plain');
  }
  for (let k = 0; k < LINES; k += 10_000) {
    const values = Array.from({ length: 10_000 }, (_, i) => [
      `${now - 600_000 + Math.floor((k + i) * 5)}${String((k + i) % 1_000_000).padStart(6, '0')}`,
      JSON.stringify({ level: i % 9 ? 'info' : 'error', path: `/items/${i % 40}`, took_ms: (i * 7) % 900, msg: 'request done' }),
    ]);
    await post('loki/api/v1/push', JSON.stringify({ streams: [{ stream: { app: 'load-test' }, values }] }), 'application/json');
  }
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.setDefaultTimeout(120_000);
await page.addInitScript(() => {
  window.tasks = [];
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask', buffered: true });
});

async function measure(name, step) {
  const start = Date.now();
  await step();
  const took = Date.now() - start;
  const tasks = await page.evaluate(() => window.tasks.splice(0));
  console.log(`${name}: longest task ${Math.round(Math.max(0, ...tasks))} ms, ${tasks.length} over 50 ms, ${took} ms in all`);
}

const open = async (hash, ready) => {
  await page.goto(url);
  await page.evaluate(() => window.tasks.splice(0));
  await page.goto(url + hash);
  await page.getByText(ready).first().waitFor();
};
const scroll = async () => {
  await page.locator('.virtual').last().hover();
  for (let i = 0; i < SCROLLS; i += 1) await page.mouse.wheel(0, i % 2 ? -9000 : 14_000);
};

await fill();
const lines = encodeURIComponent('{app="load-test"}');
await measure('graph of 10,000 series', () => open('#/explore?q=load_test', 'of 10,000 series are drawn'));
await measure('its pointer', async () => {
  for (let x = 200; x < 1300; x += 20) await page.mouse.move(x, 320);
});
await measure('table of 10,000 series', () => open('#/explore?q=load_test&show=table', '10,000 series'));
await measure('scrolling it', scroll);
await measure('narrowing it', async () => {
  await page.getByLabel('Narrow the series').fill('pod-99');
  await page.getByText('111 series').waitFor();
});
await measure('100,000 lines', () => open(`#/explore?q=${lines}&limit=100000&live=off`, '100,000 lines, newest last'));
await measure('their fields', () => page.locator('.side').getByRole('button', { name: 'path 40' }).waitFor());
await measure('scrolling them', scroll);
await measure('their patterns', async () => {
  await page.getByRole('button', { name: 'Patterns' }).click();
  await page.locator('.patterns li').first().waitFor();
});
await browser.close();
