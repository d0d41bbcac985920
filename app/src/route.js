// SPDX-License-Identifier: Apache-2.0
// Pages by the part of the address behind #, which no server needs to know.
import {cell} from './store.js';

function read() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return {parts: path.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query), path};
}

export const route = cell(read());
addEventListener('hashchange', () => route.set(read()));

export const deviceHref = (d) => `#/devices/${encodeURIComponent(d.gateway_id)}/${encodeURIComponent(d.device_id)}`;
export const apiOf = (gateway, device) => `/devices/${encodeURIComponent(gateway)}/${encodeURIComponent(device)}`;

/** Changes what follows the ? without a new entry in the history. */
export function setQuery(values) {
  const {path, query} = route.get();
  Object.entries(values).forEach(([k, v]) => (v === null || v === '' ? query.delete(k) : query.set(k, v)));
  const text = query.toString();
  history.replaceState(null, '', `#/${path}${text ? `?${text}` : ''}`);
  route.set(read());
}
