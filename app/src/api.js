// SPDX-License-Identifier: Apache-2.0
// Requests to the API. What was read is kept, with its time, and shown with its age when there is no connection. What changes
// something is never kept: it is answered, or it failed.
import {useEffect, useRef, useState} from 'preact/hooks';
import {m} from './messages.js';
import {epoch, me, net, oidc, useCell} from './store.js';

const API = '/api/v1';
const KEPT = 'caravan-data';
const KEPT_MAX = 300;
const PATIENCE_MS = 15000;

/** No answer: nobody knows whether the request arrived. */
export class Unreachable extends Error {}

/** An answer that says no. */
export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    const code = body?.error;
    super(body?.detail ?? body?.message ?? m.failures[code] ?? m.failures.other(status));
    Object.assign(this, {status, code, body, field: body?.field, retryAfter});
  }
}

async function request(path, options = {}) {
  const {patience = PATIENCE_MS, ...rest} = options;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), patience);
  try {
    // The header says that this is no address typed in: the answer must not open the browser's own password box.
    const response = await fetch(API + path, {...rest, signal: abort.signal, credentials: 'same-origin', cache: 'no-cache',
      headers: {'X-Caravan-App': '1', Accept: 'application/json', ...rest.headers}});
    const text = await response.text();
    let body = null;
    try {
      body = text ? JSON.parse(text) : null;
    } catch {
      body = null;
    }
    return {response, body};
  } catch (e) {
    throw new Unreachable(e.message);
  } finally {
    clearTimeout(timer);
  }
}

function check({response, body}) {
  if (response.status === 401 && me.get()) {
    ended();
  }
  if (!response.ok) {
    throw new Refusal(response.status, body, Number(response.headers.get('Retry-After')) || null);
  }
  return {body, response};
}

/** The login is over: ask again, keep what belongs to the user until somebody else comes. */
function ended() {
  me.set(null);
}

async function call(path, options) {
  try {
    const answer = check(await request(path, options));
    if (net.get() === 'offline') {
      self.dispatchEvent(new Event('caravan-back'));
    }
    return answer;
  } catch (e) {
    if (e instanceof Unreachable) {
      net.set('offline');
      self.dispatchEvent(new Event('caravan-lost'));
    }
    throw e;
  }
}

// --- what is kept --------------------------------------------------------------------------------------------------

/** Where there is no Cache (a page without TLS), what was read lives as long as the page. */
const memory = new Map();
const cache = () => ('caches' in self ? caches.open(KEPT) : null);
const keyOf = (path) => `${location.origin}/kept/${encodeURIComponent(me.get()?.user ?? '')}?${encodeURIComponent(path)}`;

async function keep(path, body, link) {
  const entry = {at: Date.now(), body, link};
  memory.set(keyOf(path), entry);
  try {
    const store = await cache();
    await store?.put(keyOf(path), new Response(JSON.stringify(entry), {headers: {'Content-Type': 'application/json'}}));
    const keys = await store?.keys() ?? [];
    await Promise.all(keys.slice(0, Math.max(0, keys.length - KEPT_MAX)).map((k) => store.delete(k)));
  } catch {
    // A full or forbidden store costs the offline view, nothing else.
  }
}

export async function kept(path) {
  const found = memory.get(keyOf(path));
  if (found) {
    return found;
  }
  try {
    return (await (await (await cache())?.match(keyOf(path)))?.json()) ?? null;
  } catch {
    return null;
  }
}

export async function forget() {
  memory.clear();
  try {
    localStorage.removeItem('caravan-user');
    await caches?.delete(KEPT);
  } catch {
    // There is none.
  }
}

const nextOf = (response) => /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get('Link') ?? '')?.[1]?.replace(API, '') ?? null;

/** {data, next, at, stale}. Without a connection what was kept under the same name; null data: nothing was. */
export async function read(path, {as = path} = {}) {
  try {
    const {body, response} = await call(path);
    const link = nextOf(response);
    keep(as, body, link);
    return {data: body, next: link, at: Date.now(), stale: false};
  } catch (e) {
    if (!(e instanceof Unreachable)) {
      throw e;
    }
    const old = await kept(as);
    return {data: old?.body ?? null, next: null, at: old?.at ?? null, stale: true};
  }
}

export async function change(method, path, body, headers = {}) {
  const {body: answer, response} = await call(path, {method, body: body === undefined ? undefined : JSON.stringify(body),
    headers: body === undefined ? headers : {'Content-Type': 'application/json', ...headers}});
  return {data: answer, status: response.status};
}

/** Reads for a part of the page, again when the connection came back; what is there stays until the new one is. */
export function useRead(path, {as = path, poll = true} = {}) {
  const [state, set] = useState({data: undefined, loading: true});
  const turn = useRef(0);
  const from = useRef(null);
  const count = useCell(epoch);
  const load = async (fresh) => {
    const mine = ++turn.current;
    if (!path) {
      set({data: undefined, loading: false});
      return;
    }
    if (fresh) {
      set({data: undefined, loading: true});
    }
    try {
      const got = await read(path, {as});
      if (mine === turn.current) {
        set({...got, loading: false});
      }
    } catch (e) {
      if (mine === turn.current) {
        set({data: undefined, error: e, loading: false});
      }
    }
  };
  useEffect(() => {
    load(from.current !== as);
    from.current = as;
  }, [path, as, poll ? count : 0]);
  useEffect(() => () => turn.current++, []);
  return {...state, reload: () => load(false), edit: (f) => set((s) => (s.data === undefined || s.data === null ? s : {...s, at: Date.now(), data: f(s.data)}))};
}

// --- login ---------------------------------------------------------------------------------------------------------

const REMEMBERED = 'caravan-user';

/** Asks who we are. Without a connection: who we were, so that what is kept can be shown. */
export async function whoAmI() {
  try {
    const {response, body} = await request('/me');
    if (response.ok) {
      oidc.set(body.oidc ?? null);
      await welcome(body);
    } else if (response.status === 401) {
      oidc.set(body?.oidc ?? null);
      me.set(null);
    } else {
      throw new Unreachable(String(response.status));
    }
    return true;
  } catch {
    net.set('offline');
    if (me.get() === undefined) {
      let old = null;
      try {
        old = JSON.parse(localStorage.getItem(REMEMBERED));
      } catch {
        // Nobody.
      }
      me.set(old);
    }
    return false;
  }
}

async function welcome(user) {
  try {
    const before = JSON.parse(localStorage.getItem(REMEMBERED));
    if (before && before.user !== user.user) {
      await forget();
    }
    localStorage.setItem(REMEMBERED, JSON.stringify(user));
  } catch {
    // Not remembered.
  }
  if (JSON.stringify(me.get()) !== JSON.stringify(user)) {
    me.set(user);
  }
}

export async function logIn(user, password) {
  const {response, body} = await request('/session', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({user, password})});
  if (!response.ok) {
    throw new Refusal(response.status, body, Number(response.headers.get('Retry-After')) || null);
  }
  if (!await whoAmI() || !me.get()) {
    throw new Unreachable('');
  }
}

/** Gives whether the server heard it. */
export async function logOut() {
  let heard = true;
  try {
    const {response} = await request('/session', {method: 'DELETE'});
    heard = response.ok || response.status === 401;
  } catch {
    heard = false;
  }
  await forget();
  me.set(null);
  return heard;
}
