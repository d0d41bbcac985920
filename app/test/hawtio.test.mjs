// SPDX-License-Identifier: Apache-2.0
// hawtio in real Chromium against a real container, which HawtioIT (test-routes) starts: node hawtio.test.mjs, with HAWTIO_* in the
// environment. Prints a line per case, "ok NAME" or "not ok NAME: why".
import {existsSync, mkdirSync} from 'node:fs';
import puppeteer from 'puppeteer-core';

const {HAWTIO_URL: url, HAWTIO_USER: user, HAWTIO_PASSWORD: password, HAWTIO_ROUTE: route, HAWTIO_STEP: step, HAWTIO_SHOTS: shots} = process.env;
const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync) ?? 'chromium';
const PATIENCE_MS = 60_000;
mkdirSync(shots, {recursive: true});

const args = ['--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', ...(process.getuid() === 0 ? ['--no-sandbox'] : [])];
const browser = await puppeteer.launch({executablePath: CHROMIUM, headless: true, args});
const page = await browser.newPage();
page.setDefaultTimeout(PATIENCE_MS);
await page.setViewport({width: 1400, height: 900});
const broken = [];
const strangers = [];
page.on('pageerror', (e) => broken.push(String(e).slice(0, 200)));
page.on('console', (m) => /Content Security Policy/.test(m.text()) && broken.push(m.text().slice(0, 200)));
page.on('request', (r) => r.url().startsWith('http') && !r.url().startsWith(new URL(url).origin + '/') && strangers.push(r.url()));

const has = (text) => page.waitForFunction((t) => document.body.innerText.includes(t), {}, text);
/** Clicks what shows just this text. */
async function click(selector, text) {
  const wanted = await page.waitForFunction((s, t) => [...document.querySelectorAll(s)].find((e) => e.innerText.trim() === t), {}, selector, text);
  await wanted.evaluate((e) => e.click());
}
const node = (text) => click('.pf-v5-c-tree-view__node-text, .pf-v5-c-tree-view__node', text);
const tab = (text) => click('nav a', text);
const shot = (name) => page.screenshot({path: `${shots}/${name}.png`});

const cases = {
  async 'a wrong password is refused'() {
    await page.goto(url);
    await page.waitForSelector('input[type=password]');
    await page.type('input[type=text]', user);
    await page.type('input[type=password]', 'wrong wrong wrong');
    await page.click('button[type=submit]');
    await has('Invalid login credentials');
    await shot('1-login');
  },
  async 'a user of the container logs in'() {
    await page.goto(url);
    await page.waitForSelector('input[type=password]');
    await page.type('input[type=text]', user);
    await page.type('input[type=password]', password);
    await page.click('button[type=submit]');
    await tab('Camel');
    await has('routes');
    await shot('2-camel');
  },
  async 'the tree has the routes, and the diagram of one'() {
    await click('button', 'Expand all');
    await node(route);
    await tab('Route Diagram');
    await page.waitForFunction(() => document.querySelectorAll('.react-flow__node').length > 1);
    await has(step);
    await shot('3-diagram');
  },
  async 'statistics of the route'() {
    await tab('Attributes');
    await has('ExchangesCompleted');
    await shot('4-statistics');
  },
  async 'a message is traced'() {
    await tab('Trace');
    // hawtio 4 turns tracing off when the tab opens, and forgets its poll, some answers after the button is there: who was quicker than that starts again.
    for (let left = 6; ; left--) {
      await click('button', 'Start Tracing');
      try {
        // The table shows what came since when something on the page is chosen.
        await page.waitForFunction((t) => {
          const nodes = document.querySelectorAll('#route-diagram-tracing-view .react-flow__node');
          // No nodes yet: the remainder would be NaN, and stay so.
          globalThis.turn = ((globalThis.turn || 0) + 1) % (nodes.length || 1);
          nodes[globalThis.turn]?.click();
          return [...document.querySelectorAll('#route-message-table td[data-label="ToNode"]')].some((e) => e.innerText.includes(t));
        }, {polling: 1000, timeout: 30_000}, step);
        break;
      } catch (e) {
        if (left === 0) throw e;
        await click('button', 'Stop Tracing');
        await has('Start Tracing');
      }
    }
    await shot('5-trace');
    await click('button', 'Stop Tracing');
    await has('Start Tracing');
  },
  async 'one of our operations'() {
    await page.goto(`${url}jmx`);
    await click('button', 'Expand all');
    await node('Recovery');
    await tab('Operations');
    await has('discrepancies(');
    const row = await page.waitForFunction(() => [...document.querySelectorAll('li')].find((e) => e.innerText.includes('discrepancies(')));
    await row.evaluate((e) => e.querySelector('button').click());
    await page.waitForFunction((e) => [...e.querySelectorAll('button')].some((b) => b.innerText.trim() === 'Execute'), {}, row);
    await shot('6-operations');
    const before = await row.evaluate((e) => e.innerText);
    await row.evaluate((e) => [...e.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Execute').click());
    // An empty table: all is counted as it should be.
    await page.waitForFunction((e, was) => e.innerText !== was && /\[\s*\]|\{\s*\}/.test(e.innerText + [...e.querySelectorAll('pre, textarea')].map((t) => t.value ?? t.textContent).join()), {}, row, before);
    await row.evaluate((e) => e.scrollIntoView());
    await shot('7-result');
  },
  async 'nothing in it was refused by the page\'s policy, and nobody else was asked'() {
    if (broken.length) throw new Error(broken.join('; '));
    if (strangers.length) throw new Error(strangers.join('; '));
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (e) {
    await shot('failed').catch(() => {});
    console.log(`not ok ${name}: ${String(e.message).replace(/\s+/g, ' ').slice(0, 500)}`);
    console.log((await page.evaluate(() => document.body.innerText).catch(() => '')).replace(/\s+/g, ' ').slice(0, 800));
    break;
  }
}
console.log('# all ran');
await browser.close();
