// SPDX-License-Identifier: Apache-2.0
// Builds the app: node build.mjs --out FOLDER. Every file but the page and the worker has its hash in its name, so that it can
// be kept for ever; what compresses is compressed here and not at each request; what is too large fails the build.
import {build} from 'esbuild';
import {createHash} from 'node:crypto';
import {mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {brotliCompressSync, constants, gzipSync} from 'node:zlib';

/** What a phone loads the first time, gzip. */
const BUDGET_BYTES = 100_000;
const here = dirname(fileURLToPath(import.meta.url));
const argument = process.argv.indexOf('--out');
if (argument < 0 || !process.argv[argument + 1]) {
  throw new Error('usage: node build.mjs --out FOLDER');
}
const out = process.argv[argument + 1];
const folder = join(out, 'files');
rmSync(out, {recursive: true, force: true});
mkdirSync(folder, {recursive: true});

const TYPES = {js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', html: 'text/html; charset=utf-8', svg: 'image/svg+xml',
  png: 'image/png', txt: 'text/plain; charset=utf-8', webmanifest: 'application/manifest+json'};
const COMPRESSED = ['js', 'css', 'html', 'svg', 'txt', 'webmanifest'];
const index = [];
let loaded = 0;

const hashOf = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** Writes a file and its encodings. With a hash in its name it is at /app/. Gives its path. */
function put(name, content, {hashed = true, counts = false} = {}) {
  const bytes = Buffer.from(content);
  const hash = hashOf(bytes);
  const dot = name.lastIndexOf('.');
  const extension = name.slice(dot + 1);
  const file = hashed ? `${name.slice(0, dot)}-${hash}.${extension}` : name;
  const path = hashed ? `/app/${file}` : name === 'index.html' ? '/' : `/${name}`;
  const encodings = ['identity'];
  writeFileSync(join(folder, file), bytes);
  if (COMPRESSED.includes(extension)) {
    const gzip = gzipSync(bytes, {level: 9});
    writeFileSync(join(folder, `${file}.gzip`), gzip);
    writeFileSync(join(folder, `${file}.br`), brotliCompressSync(bytes, {params: {[constants.BROTLI_PARAM_QUALITY]: 11}}));
    encodings.push('gzip', 'br');
    loaded += counts ? gzip.length : 0;
  }
  index.push([path, file, TYPES[extension], hash, encodings.join(',')].join('\t'));
  return path;
}

/** A text that nobody says, or that there is not, is a mistake. */
function checkMessages() {
  const sources = readdirSync(join(here, 'src')).filter((f) => /\.jsx?$/.test(f) && f !== 'messages.js').map((f) => readFileSync(join(here, 'src', f), 'utf8')).join('');
  const said = new Set([...sources.matchAll(/\bm\.(\w+)/g)].map((found) => found[1]));
  const known = new Set([...readFileSync(join(here, 'src/messages.js'), 'utf8').matchAll(/^ {2}(\w+):/gm)].map((found) => found[1]));
  const wrong = [...[...said].filter((k) => !known.has(k)), ...[...known].filter((k) => !said.has(k))];
  if (wrong.length > 0) {
    throw new Error(`src/messages.js and its users do not agree about [${wrong}]: each message is used, and each that is used is there`);
  }
}

async function bundle(entry, define = {}) {
  const result = await build({entryPoints: [join(here, 'src', entry)], bundle: true, minify: true, write: false, format: 'esm', target: 'es2020',
    jsx: 'automatic', jsxImportSource: 'preact', outdir: folder, define, legalComments: 'none', logLevel: 'warning', charset: 'utf8', metafile: true});
  return {text: (extension) => result.outputFiles.find((f) => f.path.endsWith(extension))?.text, inputs: Object.keys(result.metafile.inputs)};
}

checkMessages();
// Which packages are in the bundle says the bundler; their licences go with them.
const {version} = JSON.parse(readFileSync(join(here, 'package.json')));
const lock = JSON.parse(readFileSync(join(here, 'package-lock.json'))).packages;
const probe = await bundle('main.jsx', {APP: '{}'});
const names = [...new Set(probe.inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean))].sort();
const packages = names.map((name) => ({name, version: lock[`node_modules/${name}`].version, licence: lock[`node_modules/${name}`].license,
  integrity: lock[`node_modules/${name}`].integrity}));
const licences = put('licences.txt', packages.map((p) => {
  const text = readdirSync(join(here, 'node_modules', p.name)).find((f) => /^licen[cs]e/i.test(f));
  if (!text) {
    throw new Error(`[${p.name}] has no licence text in node_modules/${p.name}`);
  }
  return `${p.name} ${p.version}, ${p.licence}\n\n${readFileSync(join(here, 'node_modules', p.name, text), 'utf8').trim()}\n`;
}).join('\n----------------------------------------------------------------------\n\n'));

const icons = Object.fromEntries(readdirSync(join(here, 'src/icons')).map((f) => [f, put(f, readFileSync(join(here, 'src/icons', f)))]));
const manifest = put('caravan.webmanifest', JSON.stringify({
  id: '/', name: 'Caravan', short_name: 'Caravan', description: 'Devices, charts, alarms and commands', start_url: '/', scope: '/', display: 'standalone',
  background_color: '#10151c', theme_color: '#10151c', lang: 'en', categories: ['utilities'],
  icons: [
    {src: icons['icon.svg'], sizes: 'any', type: 'image/svg+xml', purpose: 'any'},
    {src: icons['icon-192.png'], sizes: '192x192', type: 'image/png', purpose: 'any'},
    {src: icons['icon-512.png'], sizes: '512x512', type: 'image/png', purpose: 'any'},
    {src: icons['icon-maskable-512.png'], sizes: '512x512', type: 'image/png', purpose: 'maskable'},
  ],
}));
const main = await bundle('main.jsx', {APP: JSON.stringify({version, licences})});
const script = put('main.js', main.text('.js'), {counts: true});
const style = put('main.css', main.text('.css'), {counts: true});
const page = readFileSync(join(here, 'src/index.html'), 'utf8').replace('%script%', script).replace('%style%', style).replace('%manifest%', manifest)
  .replace('%icon%', icons['icon.svg']).replace('%touch%', icons['icon-180.png']);
put('index.html', page, {hashed: false, counts: true});
// Another page is another worker: that is how a browser notices a new version.
const worker = await bundle('sw.js', {SHELL: JSON.stringify({version: hashOf(page), files: ['/', script, style, manifest, icons['icon.svg'], icons['icon-192.png']]})});
put('sw.js', worker.text('.js'), {hashed: false, counts: true});

writeFileSync(join(folder, 'index.tsv'), `${index.join('\n')}\n`);
writeFileSync(join(out, 'npm.json'), `${JSON.stringify(packages, null, 1)}\n`);
console.log(`${loaded} bytes of gzip to load, at most ${BUDGET_BYTES}; packages: ${packages.map((p) => `${p.name} ${p.version}`).join(', ')}`);
if (loaded > BUDGET_BYTES) {
  throw new Error(`the app has [${loaded}] bytes of gzip to load, more than ${BUDGET_BYTES}: leave something out, or load it when it is used`);
}
