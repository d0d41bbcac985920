// SPDX-License-Identifier: Apache-2.0
// Server-Sent Events by fetch: unlike EventSource it tells a refusal from a lost connection, and sees the comments by which a
// connection shows that it lives. Streams run while the page is visible.
import {whoAmI} from './api.js';
import {epoch, me, net, said} from './store.js';
import {m} from './messages.js';

const SILENCE_MS = 45000;
const POLL_MS = 10000;
/** The system says that there is a network, or a request was answered. */
const BACK = ['online', 'caravan-back'];
const WAITS_MS = [500, 1000, 2000, 5000, 10000, 15000];

/** Calls onEvent(name, data, id) for each event. Resolves with a status when refused, 0 when it ended or was lost. */
async function follow(path, signal, onOpen, onEvent, after) {
  const abort = new AbortController();
  const stop = () => abort.abort();
  signal.addEventListener('abort', stop);
  self.addEventListener('caravan-lost', stop);
  let watchdog = setTimeout(stop, SILENCE_MS);
  try {
    const response = await fetch(`/api/v1${path}`, {signal: abort.signal, credentials: 'same-origin', cache: 'no-store',
      headers: {Accept: 'text/event-stream', 'X-Caravan-App': '1', ...(after ? {'Last-Event-ID': after} : {})}});
    if (!response.ok || !response.body) {
      return response.status;
    }
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const {done, value} = await reader.read();
      if (done) {
        return 0;
      }
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MS);
      text += value.replace(/\r\n?/g, '\n');
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const event = {name: 'message', data: [], id: undefined};
        for (const line of text.slice(0, end).split('\n')) {
          const [, field, content] = /^([a-z]*): ?(.*)$/.exec(line) ?? [];
          if (field === 'event') event.name = content;
          if (field === 'data') event.data.push(content);
          if (field === 'id') event.id = content;
        }
        text = text.slice(end + 2);
        if (event.data.length) {
          onEvent(event.name, JSON.parse(event.data.join('\n')), event.id);
        }
      }
    }
  } catch {
    return 0;
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener('abort', stop);
    self.removeEventListener('caravan-lost', stop);
  }
}

const visible = () => document.visibilityState === 'visible';

/** Resolves after that time, or when the page is shown or the network is back. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      BACK.forEach((e) => self.removeEventListener(e, done));
      document.removeEventListener('visibilitychange', shown);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const shown = () => visible() && done();
    const timer = setTimeout(done, ms);
    BACK.forEach((e) => self.addEventListener(e, done));
    document.addEventListener('visibilitychange', shown);
    signal.addEventListener('abort', done);
  });
}

/**
 * Follows a stream until stopped, connecting again with growing pauses, and where it was if the stream has ids. onState is told
 * open, lost, or the status of a refusal. Gives what stops it.
 */
export function stream(path, {onEvent, onState = () => {}}) {
  const ended = new AbortController();
  (async () => {
    let attempt = 0;
    let last = null;
    while (!ended.signal.aborted) {
      if (!visible()) {
        await pause(3600000, ended.signal);
        continue;
      }
      const round = new AbortController();
      const hide = () => visible() || round.abort();
      const end = () => round.abort();
      document.addEventListener('visibilitychange', hide);
      ended.signal.addEventListener('abort', end);
      const status = await follow(path, round.signal, () => {
        attempt = 0;
        onState('open');
      }, (name, data, id) => {
        last = id ?? last;
        onEvent(name, data);
      }, last);
      document.removeEventListener('visibilitychange', hide);
      ended.signal.removeEventListener('abort', end);
      if (ended.signal.aborted || !visible()) {
        continue;
      }
      onState(status || 'lost');
      await pause(WAITS_MS[Math.min(attempt++, WAITS_MS.length - 1)], ended.signal);
    }
  })();
  return () => ended.abort();
}

const listeners = new Set();

/** Hears what the one stream of the page says: listener(name, data) with last, event, gateway. Gives what stops it. */
export function onLive(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Keeps the page connected while somebody is logged in. */
export function connect() {
  let stop = null;
  let poll = null;
  const set = (state) => {
    const before = net.get();
    net.set(state);
    if (before === 'offline' && state !== 'offline' && state !== 'connecting') {
      said.set(m.reconnected);
    } else if (before !== 'offline' && state === 'offline') {
      said.set(m.connectionLost);
    }
  };
  const begin = () => {
    stop = stream('/stream', {
      onEvent: (name, data) => listeners.forEach((l) => l(name, data)),
      onState: async (state) => {
        clearInterval(poll);
        if (state === 'open') {
          set('live');
          epoch.set(epoch.get() + 1);
        } else if (await whoAmI()) {
          // The server is there, the stream is not: look again and again, and say that it is not live.
          if (me.get()) {
            set(state === 'lost' && net.get() !== 'polling' ? 'connecting' : 'polling');
            epoch.set(epoch.get() + 1);
            poll = setInterval(() => visible() && epoch.set(epoch.get() + 1), POLL_MS);
          }
        } else {
          set('offline');
        }
      },
    });
  };
  me.watch((user) => {
    if (user && !stop) {
      begin();
    } else if (!user && stop) {
      stop();
      stop = null;
      clearInterval(poll);
    }
  });
  if (me.get()) {
    begin();
  }
}
