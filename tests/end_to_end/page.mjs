// Drives the page as a person would; run by page.rs. Every step waits for what it needs to see.
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.cwd(), 'package.json'))('playwright-core');
const { BINNACLE_URL: url, BINNACLE_LOG: log, BINNACLE_SHOTS: shots } = process.env;

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.setDefaultTimeout(45_000);
const failures = [];
page.on('pageerror', (error) => failures.push(String(error)));
page.on('request', (request) => {
  if (!request.url().startsWith(url) && !request.url().startsWith('data:') && !request.url().startsWith(url.replace('http', 'ws'))) {
    failures.push(`a request to another host: ${request.url()}`);
  }
});
const shot = async (name) => {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
};
const legend = (title, name) => page.locator('figure', { hasText: title }).locator('.legend li', { hasText: name }).first().waitFor();

await page.goto(url);
await legend('CPU', 'user');
await legend('Memory', 'used');
await legend('Disk', 'written');
await legend('Network', 'received');
await page.locator('.tile', { hasText: 'Firing alerts' }).waitFor();
await shot('home');

await page.getByRole('link', { name: 'Logs', exact: true }).click();
await page.getByText('the second line').waitFor();
await page.getByRole('button', { name: 'Live' }).waitFor();
appendFileSync(log, 'WARN a line that arrives while the page is open\n');
await page.getByText('a line that arrives while the page is open').waitFor();
await shot('logs');
await page.getByRole('searchbox').fill('second');
await page.getByRole('button', { name: 'Search', exact: true }).click();
await page.getByText('the first line').waitFor({ state: 'detached' });
assert.equal(await page.locator('.line').count(), 1);

await page.getByRole('link', { name: 'Metrics', exact: true }).click();
await page.locator('.legend li', { hasText: 'idle' }).first().waitFor();
await shot('explore');

await page.getByRole('link', { name: 'Alerts', exact: true }).click();
await page.getByRole('heading', { name: 'Rules' }).waitFor();
await shot('alerts');

await page.getByRole('link', { name: 'Status', exact: true }).click();
await page.getByText('web.log').waitFor();
await shot('status');

await page.setViewportSize({ width: 390, height: 800 });
await page.goto(`${url}#/home`);
await legend('CPU', 'user');
const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
assert.ok(overflow <= 1, `the page is ${overflow}px too wide for a phone`);
await shot('phone');

await browser.close();
assert.deepEqual(failures, []);
