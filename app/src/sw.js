// SPDX-License-Identifier: Apache-2.0
// Keeps the app's own files, so that it opens without a connection. What the API says is none of its business: the page keeps
// that itself and shows its age. A new version waits until the person says so.
/* global SHELL */
const NAME = `caravan-app-${SHELL.version}`;

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(SHELL.files.map((path) => new Request(path, {cache: path === '/' ? 'no-cache' : 'default'})))));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter((n) => n.startsWith('caravan-app-') && n !== NAME).map((n) => caches.delete(n))))
    .then(() => self.clients.claim()));
});

self.addEventListener('message', (event) => {
  if (event.data === 'take over') {
    self.skipWaiting();
  }
});

self.addEventListener('fetch', (event) => {
  const {method, url, mode} = event.request;
  const {origin, pathname} = new URL(url);
  if (method !== 'GET' || origin !== self.location.origin || !(pathname === '/' || pathname.startsWith('/app/'))) {
    return;
  }
  const wanted = mode === 'navigate' ? '/' : event.request;
  event.respondWith(caches.open(NAME).then((cache) => cache.match(wanted)).then((found) => found ?? fetch(event.request)));
});
