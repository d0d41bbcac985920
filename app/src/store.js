// SPDX-License-Identifier: Apache-2.0
// Values that several parts of the page watch.
import {useEffect, useState} from 'preact/hooks';

export function cell(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (next !== value) {
        value = next;
        [...watchers].forEach((w) => w(value));
      }
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useCell(c) {
  const [value, set] = useState(c.get());
  useEffect(() => {
    set(c.get());
    return c.watch(set);
  }, [c]);
  return value;
}

/** Who is logged in: undefined not known yet, null nobody, else what /me says. */
export const me = cell(undefined);
/** How to log in by single sign-on, or null. */
export const oidc = cell(null);
/** connecting, live, polling or offline. */
export const net = cell('connecting');
/** Counts up whenever what is shown may be behind: the connection came back, time to look again. */
export const epoch = cell(0);
/** What screen readers are told. */
export const said = cell('');
/** The service worker that waits to take over, or null. */
export const update = cell(null);
/** A clock for ages. */
export const now = cell(Date.now());

/** The minimum of roles: operator counts as viewer too. */
const RANKS = ['viewer', 'operator', 'admin'];
export function roleAt(user, site) {
  const found = [user?.roles?.['*'], site && user?.roles?.[site]].filter(Boolean).sort((a, b) => RANKS.indexOf(b) - RANKS.indexOf(a));
  return found[0] ?? null;
}

export function may(user, role, site) {
  return RANKS.indexOf(roleAt(user, site)) >= RANKS.indexOf(role);
}

setInterval(() => document.visibilityState === 'visible' && now.set(Date.now()), 1000);
