// SPDX-License-Identifier: Apache-2.0
// The app in real Chromium against a real cloud. AppTest (test-routes) starts the cloud, a gateway and a device, and runs this:
// node app.test.mjs, with APP_* in the environment. Prints a line per case, "ok NAME" or "not ok NAME: why".
import {existsSync, mkdirSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import net from 'node:net';
import {join} from 'node:path';
import puppeteer from 'puppeteer-core';

const {APP_PORT, APP_GATEWAY: gateway, APP_DEVICE: device, APP_PASSWORD: password, APP_SHOTS: shots, APP_CASES} = process.env;
const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync) ?? 'chromium';
const PATIENCE_MS = 30_000;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const phone = {viewport: {width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true}, scheme: 'light', name: 'phone'};
const desktop = {viewport: {width: 1280, height: 860}, scheme: 'dark', name: 'desktop'};
mkdirSync(shots, {recursive: true});

/** What lies between browser and cloud, and can be cut: a network that is gone is gone for workers and streams too. */
class Network {
  constructor() {
    this.sockets = new Set();
    this.server = net.createServer((near) => {
      const far = net.connect(Number(APP_PORT), '127.0.0.1');
      for (const [a, b] of [[near, far], [far, near]]) {
        this.sockets.add(a);
        a.on('error', () => b.destroy());
        a.on('close', () => {
          this.sockets.delete(a);
          b.destroy();
        });
        a.pipe(b);
      }
    });
  }
  async up() {
    await new Promise((resolve) => this.server.listen(this.port ?? 0, '127.0.0.1', resolve));
    this.port = this.server.address().port;
  }
  async cut() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.sockets.forEach((s) => s.destroy());
    await closed;
  }
}

/** As root, or where the kernel gives no user namespaces, Chromium has no sandbox. */
async function launch() {
  const args = ['--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
  const options = {executablePath: CHROMIUM, headless: true, args};
  if (process.getuid() !== 0) {
    try {
      return await puppeteer.launch(options);
    } catch (e) {
      console.log(`# with its sandbox Chromium did not start, without: ${e.message.split('\n')[0]}`);
    }
  }
  return puppeteer.launch({...options, args: [...args, '--no-sandbox']});
}

const network = new Network();
await network.up();
const origin = `http://127.0.0.1:${network.port}`;
const browser = await launch();
const cases = [];
const test = (name, body) => cases.push([name, body]);
const assert = (truth, text) => {
  if (!truth) {
    throw new Error(text);
  }
};
const equal = (actual, wanted, text) => assert(actual === wanted, `${text}: [${actual}] instead of [${wanted}]`);

/** A page of somebody's browser; what it complains about is kept. */
async function open({viewport, scheme, name}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}, {name: 'prefers-reduced-motion', value: 'reduce'}]);
  const complaints = [];
  page.on('pageerror', (e) => complaints.push(e.message));
  // Refused and lost requests are what these cases are about; everything else, above all the policy, must be silent.
  page.on('console', (c) => c.type() === 'error' && !/Failed to load resource/.test(c.text()) && complaints.push(c.text()));
  const text = (selector) => page.$eval(selector, (e) => e.innerText);
  return {
    page, context, complaints, text,
    shot: (what, options = {}) => page.screenshot({path: join(shots, `${name}-${scheme}-${what}.png`), ...options}),
    async until(what, f, ...rest) {
      try {
        await page.waitForFunction(f, {timeout: PATIENCE_MS}, ...rest);
      } catch {
        const shown = await page.evaluate(() => document.body.innerText.slice(0, 2000));
        await page.screenshot({path: join(shots, `failed-${name}.png`), fullPage: true});
        throw new Error(`${what} did not come to be; the page says: ${shown.replace(/\s+/g, ' ')}`);
      }
    },
    says: (part) => page.waitForFunction((t) => document.body.innerText.includes(t), {timeout: PATIENCE_MS}, part)
      .catch(async () => assert(false, `the page never said [${part}] but: ${(await page.evaluate(() => document.body.innerText)).slice(0, 2000).replace(/\s+/g, ' ')}`)),
    async click(selector, label) {
      const found = await page.waitForFunction((s, l) => [...document.querySelectorAll(s)].find((e) => !l || e.innerText.trim() === l || e.getAttribute('aria-label') === l),
        {timeout: PATIENCE_MS}, selector, label).catch(() => assert(false, `there is no [${selector}] [${label ?? ''}]`));
      await found.evaluate((e) => e.scrollIntoView({block: 'center'}));
      await found.click();
    },
    async accessible(what) {
      await page.evaluate(axe);
      const found = await page.evaluate(async () => (await window.axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})).violations
        .filter((v) => ['serious', 'critical', 'moderate'].includes(v.impact)).map((v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.target.join(' ')).slice(0, 3)}; ${v.nodes[0].failureSummary}`));
      assert(found.length === 0, `axe finds on ${what}: ${found.join(' | ')}`);
    },
    async login(user = 'anna', secret = password) {
      await page.goto(`${origin}/`);
      await page.waitForSelector('#user');
      await page.type('#user', user);
      await page.type('#password', secret);
      await page.click('button.primary');
    },
  };
}

const deviceAddress = `${origin}/#/devices/${gateway}/${device}`;
let p;

/** Of the first chart's width: how much has something of the line, and the longest piece that has not, beginning behind it. */
const drawn = () => p.page.$eval('.plot canvas', (canvas) => {
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  const probe = document.createElement('canvas').getContext('2d');
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--series-1');
  probe.fillRect(0, 0, 1, 1);
  const wanted = probe.getImageData(0, 0, 1, 1).data;
  const at = [];
  for (let x = 0; x < width; x++) {
    let found = false;
    for (let y = 0; y < height && !found; y++) {
      const i = 4 * (y * width + x);
      found = data[i + 3] > 200 && [0, 1, 2].every((k) => Math.abs(data[i + k] - wanted[k]) < 24);
    }
    at.push(found);
  }
  const used = at.slice(at.indexOf(true), at.lastIndexOf(true) + 1);
  const holes = used.map((f) => (f ? ' ' : 'x')).join('').split(/ +/).map((h) => h.length);
  return {line: used.filter(Boolean).length / used.length, longest: Math.max(...holes) / used.length};
});

test('a wrong password is said so, in the page and not in a box of the browser', async () => {
  p = await open(phone);
  await p.login('anna', 'this is wrong');
  await p.says('User or password is wrong.');
  await p.shot('login');
  await p.accessible('the login');
  // What looks must also see.
  await p.page.evaluate(() => document.querySelector('form').append(Object.assign(document.createElement('button'), {id: 'nameless', type: 'button'})));
  const seen = await p.accessible('a button without a name').then(() => '', (e) => e.message);
  assert(seen.includes('button-name'), `axe does not notice a button without a name: [${seen}]`);
  await p.page.evaluate(() => document.getElementById('nameless').remove());
});

test('login shows devices with last values and their age, which change by themselves', async () => {
  await p.page.$eval('#user', (e) => e.select());
  await p.page.type('#user', 'anna');
  await p.page.type('#password', password);
  await p.page.click('button.primary');
  await p.until('a live connection', () => document.querySelector('.connection.live'));
  await p.until('values of the device', (id) => [...document.querySelectorAll('.card')].some((c) => c.innerText.includes(id) && /\d °C/.test(c.innerText) && /ago|just now/.test(c.innerText)), device);
  const value = () => p.page.evaluate((id) => [...document.querySelectorAll('.card')].find((c) => c.querySelector('h3').innerText === id).querySelector('dd').innerText, device);
  const first = await value();
  await p.until('another value, without asking', (id, old) => [...document.querySelectorAll('.card')].find((c) => c.querySelector('h3').innerText === id).querySelector('dd').innerText !== old, device, first);
  await p.shot('devices');
  await p.accessible('the list of devices');
});

test('search finds, and says when it does not', async () => {
  await p.page.type('input[type=search]', 'nothing-like-this');
  await p.says('No device matches');
  await p.page.$eval('input[type=search]', (e) => e.select());
  await p.page.keyboard.press('Backspace');
  await p.until('the devices again', () => document.querySelectorAll('.card').length > 0);
});

test('a chart has its gaps, its band, and names what came late or was revised', async () => {
  await p.page.goto(`${deviceAddress}?range=d1`);
  await p.page.waitForSelector('.plot canvas');
  await p.says('from lowest to highest');
  await p.says('came late');
  await p.says('revised later');
  const {line, longest} = await drawn();
  assert(line > 0.8 && longest > 0.02 && longest < 0.08, `an hour of a day is missing, but the line is at [${line}] of the width and its longest hole is [${longest}] of it`);
  await p.click('label.check', 'Show as a table');
  const rows = await p.page.$$eval('tbody tr', (all) => all.map((r) => r.innerText));
  assert(rows.some((r) => r.includes('came late')) && rows.some((r) => r.includes('revised later')), `the table has no remark: ${rows.slice(0, 5)}`);
  await p.click('label.check', 'Show as a table');
  await p.shot('chart', {fullPage: true});
  await p.accessible('a device');
});

test('ranges, moving by finger, zoom by key, and values read with the keyboard', async () => {
  const label = () => p.page.$eval('.plot', (e) => e.getAttribute('aria-label'));
  await p.click('.segments button', '1 h');
  await p.until('the hour pressed', () => document.querySelector('.segments button[aria-pressed=true]').innerText === '1 h');
  await p.page.waitForSelector('.plot canvas');
  const hour = await label();
  // Windows of a minute, although the chart has room for more: a line and no dots.
  await p.until('a minute', () => document.querySelector('.readout').innerText.includes('each point is 1 min'));
  const {line} = await drawn();
  assert(line > 0.85, `an hour of windows of a minute is drawn at [${line}] of the width`);
  await p.page.$eval('.plot', (e) => e.scrollIntoView({block: 'center'}));
  const box = await (await p.page.$('.plot .u-over')).boundingBox();
  const y = box.y + box.height / 2;
  await p.page.touchscreen.touchStart(box.x + 60, y);
  for (let x = 70; x <= 220; x += 30) {
    await p.page.touchscreen.touchMove(box.x + x, y);
  }
  await p.page.touchscreen.touchEnd();
  await p.until('another range after moving', (old) => (document.querySelector('.plot')?.getAttribute('aria-label') ?? old) !== old, hour);
  const moved = await label();
  await p.page.focus('.plot');
  await p.page.keyboard.press('+');
  await p.until('another range after +', (old) => (document.querySelector('.plot')?.getAttribute('aria-label') ?? old) !== old, moved);
  await p.page.keyboard.press('0');
  await p.until('now again', () => document.querySelector('.segments button[aria-pressed=true]')?.innerText === '1 h');
  const read = () => / … .*reading/.test(document.querySelector('.readout')?.innerText);
  // The plot is made anew when the values of the range come, and the key may have gone to the old one.
  for (let tries = 0, seen = false; !seen && tries < 10; tries++) {
    await p.page.waitForSelector('.plot canvas');
    await p.page.focus('.plot');
    await p.page.keyboard.press('ArrowLeft');
    seen = await p.page.waitForFunction(read, {timeout: 2_000}).then(() => true, () => false);
  }
  await p.until('a value read out', read);
});

test('several metrics are shown one below the other, or in one chart', async () => {
  await p.click('.tile[aria-pressed=false]');
  await p.until('two charts', () => document.querySelectorAll('.plot canvas').length === 2);
  await p.click('label.check', 'In one chart');
  await p.until('one chart of two', () => document.querySelectorAll('.plot canvas').length === 1 && document.querySelectorAll('.readout li').length === 2);
  await p.shot('together');
});

test('a form keeps what the capability declares', async () => {
  await p.click('.actions button', 'Sampling');
  await p.page.waitForSelector('dialog[open]');
  await p.shot('form');
  await p.accessible('a form');
  await p.page.type('dialog input[type=text]', '5');
  await p.page.click('dialog button.primary');
  await p.says('Must be 100 to 60,000.');
  equal(await p.page.evaluate(() => document.activeElement.getAttribute('aria-invalid')), 'true', 'what has the focus');
  await p.page.keyboard.press('Escape');
  await p.until('no dialog', () => !document.querySelector('dialog[open]'));
});

test('a command is followed live to its end', async () => {
  await p.click('.actions button', 'Switch the led');
  await p.page.waitForSelector('dialog[open]');
  await p.click('dialog .segments label', 'on');
  await p.page.click('dialog button.primary');
  await p.until('Succeeded', () => document.querySelector('dialog .status.good')?.innerText === 'Succeeded');
  const steps = await p.page.$$eval('dialog .timeline b', (all) => all.map((b) => b.innerText));
  // The server has it, then the gateway.
  equal(steps.join(), 'Accepted,Accepted,Queued,Sent,Delivered,Succeeded', 'the timeline');
  await p.says('"led": true');
  await p.shot('succeeded');
  await p.accessible('a timeline');
  await p.page.keyboard.press('Escape');
  await p.until('it is in the list', () => /Switch the led[\s\S]*Succeeded/.test(document.querySelector('.history').innerText));
});

test('INDETERMINATE is explained in words', async () => {
  await p.click('.actions button', 'Unlock');
  await p.page.waitForSelector('dialog[open]');
  await p.page.type('dialog input[type=text]', '2');
  await p.page.click('dialog button.primary');
  await p.until('Not known', () => document.querySelector('dialog .status.doubt')?.innerText === 'Not known');
  await p.says('It may have been carried out, or not.');
  await p.says('Nothing is repeated by itself.');
  await p.says('did not say how it ended');
  await p.shot('indeterminate');
  await p.page.keyboard.press('Escape');
});

test('a command that waits can be taken back', async () => {
  await p.page.goto(`${origin}/#/devices/${gateway}/away-1`);
  await p.click('.actions button', 'Switch the led');
  await p.page.waitForSelector('dialog[open]');
  await p.click('dialog .segments label', 'off');
  await p.page.click('dialog button.primary');
  await p.until('Queued', () => /Queued/.test(document.querySelector('dialog .status')?.innerText ?? ''));
  await p.click('dialog button', 'Take back');
  await p.until('Taken back', () => document.querySelector('dialog .status')?.innerText === 'Taken back');
  await p.page.keyboard.press('Escape');
});

test('an alarm is told wherever one is, and is in the list', async () => {
  await p.page.goto(deviceAddress);
  await p.click('.actions button', 'Test alarm');
  await p.page.waitForSelector('dialog[open]');
  await p.page.click('dialog button.primary');
  await p.until('Succeeded', () => document.querySelector('dialog .status.good'));
  await p.page.keyboard.press('Escape');
  await p.until('the alarm', () => /Alarm: Over temperature/.test(document.querySelector('.banner.alarm')?.innerText ?? ''));
  await p.click('.banner.alarm button', 'Close');
  await p.page.goto(`${origin}/#/events?severity=alarm`);
  await p.until('it in the list', (id) => document.querySelector('.events')?.innerText.includes('Over temperature') && document.querySelector('.events').innerText.includes(id), device);
  await p.shot('events');
  await p.accessible('the list of events');
});

test('without a network it says so, shows what was known with its age, and sends nothing', async () => {
  await p.page.goto(deviceAddress);
  await p.page.waitForSelector('.plot canvas');
  await p.until('live', () => document.querySelector('.connection.live'));
  await p.click('.actions button', 'Switch the led');
  await p.page.waitForSelector('dialog[open]');
  await p.click('dialog .segments label', 'on');
  await network.cut();
  await p.until('offline', () => document.querySelector('.connection.offline'));
  await p.says('No connection: this command cannot be sent now, and it is not kept to be sent later.');
  assert(await p.page.$eval('dialog button.primary', (b) => b.disabled), 'a command can be sent while there is no connection');
  await p.page.keyboard.press('Escape');
  await p.until('no way to a form', () => [...document.querySelectorAll('.actions button')].every((b) => b.disabled));
  await p.until('how old it all is, and no word of anything being connected', () => document.querySelector('.stale')?.innerText.startsWith('As of') && !document.querySelector('.dot.on'));
  await p.page.evaluate(() => scrollTo(0, 0));
  await p.shot('offline');
  await p.accessible('a device without a network');
});

test('opened again without a network, the app is there, and what it knows is as old as it says', async () => {
  await p.page.reload();
  await p.until('what was known', (id) => document.querySelector('h1')?.innerText === id && /As of/.test(document.body.innerText) && /°C/.test(document.body.innerText), device);
  await p.until('a chart', () => document.querySelector('.plot canvas'));
  await p.page.goto(`${origin}/#/`);
  await p.until('the list with its age', () => document.querySelector('.stale')?.innerText.startsWith('As of') && document.querySelectorAll('.card').length > 0);
  await p.shot('offline-devices');
  equal(await p.text('.connection'), 'Offline', 'what it says of the connection');
});

test('when the network is back it goes on by itself', async () => {
  await network.up();
  await p.until('live again', () => document.querySelector('.connection.live'));
  await p.until('nothing old', () => !document.querySelector('.stale') && !document.querySelector('.banner'));
  await p.page.goto(deviceAddress);
  await p.click('.actions button', 'Switch the led');
  await p.click('dialog .segments label', 'on');
  await p.page.click('dialog button.primary');
  await p.until('Succeeded', () => document.querySelector('dialog .status.good'));
  await p.page.keyboard.press('Escape');
});

test('a command without an answer is tried again as the same command', async () => {
  await p.until('the buttons', () => [...document.querySelectorAll('.actions button')].some((b) => !b.disabled));
  await p.click('.actions button', 'Switch the led');
  await p.click('dialog .segments label', 'off');
  const sent = [];
  await p.page.setRequestInterception(true);
  // The cloud has it, the answer is lost.
  const lose = async (request) => {
    if (request.method() === 'POST' && request.url().endsWith('/commands')) {
      sent.push(JSON.parse(request.postData()));
      if (sent.length === 1) {
        await fetch(request.url().replace(origin, `http://127.0.0.1:${APP_PORT}`), {method: 'POST', body: request.postData(), headers: {'Content-Type': 'application/json',
          Cookie: (await p.context.cookies()).map((c) => `${c.name}=${c.value}`).join('; '), Origin: `http://127.0.0.1:${APP_PORT}`}}).then((r) => equal(r.status, 202, 'the first request'));
        return request.abort('connectionreset');
      }
    }
    return request.continue();
  };
  p.page.on('request', lose);
  await p.page.click('dialog button.primary');
  await p.says('it is the same command, never a second one');
  await p.click('dialog button.primary', 'Try again');
  await p.until('Succeeded', () => document.querySelector('dialog .status.good'));
  p.page.off('request', lose);
  await p.page.setRequestInterception(false);
  equal(sent.length, 2, 'requests');
  equal(sent[0].id, sent[1].id, 'their ids');
  await p.page.keyboard.press('Escape');
});

test('it can be installed', async () => {
  const session = await p.page.createCDPSession();
  const {errors, url} = await session.send('Page.getAppManifest');
  assert(errors.length === 0 && url.includes('/app/caravan-'), `the manifest [${url}]: ${JSON.stringify(errors)}`);
  const {installabilityErrors} = await session.send('Page.getInstallabilityErrors');
  // A window without a profile on disk can never install.
  const found = installabilityErrors.map((e) => e.errorId).filter((id) => id !== 'in-incognito');
  assert(found.length === 0, `it cannot: ${found}`);
});

test('logging out forgets what was kept', async () => {
  await p.page.goto(`${origin}/#/account`);
  await p.says('Logged in as anna');
  await p.shot('account');
  await p.accessible('the account');
  await p.click('main button', 'Log out');
  await p.page.waitForSelector('#user');
  assert(!await p.page.evaluate(() => caches.has('caravan-data')), 'what was shown is still kept');
  equal(await p.page.evaluate(() => fetch('/api/v1/devices', {headers: {'X-Caravan-App': '1'}}).then((r) => r.status)), 401, 'the API after logging out');
  equal(p.complaints.join(' | '), '', 'what the browser complained about');
  await p.context.close();
});

test('large and dark: all pages, and who may only look', async () => {
  p = await open(desktop);
  await p.login('bert');
  await p.until('devices', () => document.querySelectorAll('.card').length > 0);
  await p.shot('devices');
  await p.accessible('the list of devices');
  await p.page.goto(`${deviceAddress}?range=d1`);
  await p.page.waitForSelector('.plot canvas');
  await p.says('Your role here is viewer. Sending commands needs the role operator.');
  assert(await p.page.$$eval('.actions button', (all) => all.length > 0 && all.every((b) => b.disabled)), 'a viewer can send');
  await p.shot('chart', {fullPage: true});
  await p.accessible('a device');
  const before = await p.page.$eval('.plot', (e) => e.getAttribute('aria-label'));
  await p.page.$eval('.plot', (e) => e.scrollIntoView({block: 'center'}));
  const box = await (await p.page.$('.plot .u-over')).boundingBox();
  await p.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await p.page.keyboard.down('Control');
  await p.page.mouse.wheel({deltaY: -100});
  await p.page.keyboard.up('Control');
  await p.until('a narrower range', (old) => (document.querySelector('.plot')?.getAttribute('aria-label') ?? old) !== old, before);
  await p.page.goto(`${origin}/#/events`);
  await p.until('events', () => document.querySelector('.events li'));
  await p.accessible('the list of events');
});

test('the keyboard is enough', async () => {
  await p.page.goto(`${origin}/#/`);
  await p.page.reload();
  await p.until('devices', () => document.querySelectorAll('.card').length > 0);
  await p.page.keyboard.press('Tab');
  equal(await p.page.evaluate(() => document.activeElement.innerText), 'Skip to content', 'the first thing Tab reaches');
  await p.page.keyboard.press('Enter');
  equal(await p.page.evaluate(() => document.activeElement.tagName), 'H1', 'where it leads');
  for (let i = 0; i < 12 && !await p.page.evaluate(() => document.activeElement.closest('.card')); i++) {
    await p.page.keyboard.press('Tab');
  }
  await p.page.keyboard.press('Enter');
  await p.until('a device, and its name has the focus', () => document.activeElement.tagName === 'H1' && document.querySelector('.device'));
  await p.page.goto(`${origin}/#/account`);
  await p.click('.segments button', 'Light');
  await p.until('light', () => document.documentElement.dataset.theme === 'light');
  await p.shot('account-light');
  await p.accessible('the account');
  equal(p.complaints.join(' | '), '', 'what the browser complained about');
  await p.context.close();
});

let failed = 0;
let ran = 0;
for (const [name, body] of cases.filter(([name]) => !APP_CASES || new RegExp(APP_CASES).test(name))) {
  const begun = Date.now();
  try {
    await body();
    console.log(`ok ${name} # ${Date.now() - begun} ms`);
  } catch (e) {
    failed++;
    console.log(`not ok ${name}: ${String(e.message).replace(/\s+/g, ' ')}`);
    // Who does not get in sees nothing of the rest: each would only wait.
    if (ran < 2) {
      break;
    }
  }
  ran++;
}
if (ran === cases.length) {
  console.log('# all ran');
}
await browser.close();
await network.cut();
process.exit(failed === 0 ? 0 : 1);
