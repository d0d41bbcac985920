// SPDX-License-Identifier: Apache-2.0
// The first page: sites, their devices, each with its last values and how old they are.
import {useEffect, useState} from 'preact/hooks';
import {m} from './messages.js';
import {read, useRead} from './api.js';
import {onLive} from './live.js';
import {metricName, withUnit} from './format.js';
import {deviceHref, route, setQuery} from './route.js';
import {now, useCell} from './store.js';
import {Age, Icon, Stale, Waiting, useOld} from './parts.jsx';

const PAGE = 60;
const SHOWN = 4;
/** A value this old is said to be, whatever the connection. */
export const OLD_MS = 5 * 60_000;

/** Puts a new last value into a device, if it is newer. */
export function withLast(device, value) {
  const last = device.last ?? [];
  const old = last.find((l) => l.metric === value.metric);
  if (old && old.observed_at_ms > value.observed_at_ms) {
    return device;
  }
  const next = {metric: value.metric, value: value.value, observed_at_ms: value.observed_at_ms};
  return {...device, last_observed_ms: Math.max(device.last_observed_ms ?? 0, value.observed_at_ms), last_seen_ms: Math.max(device.last_seen_ms ?? 0, value.observed_at_ms),
    last: old ? last.map((l) => l === old ? next : l) : [...last, next].sort((a, b) => a.metric < b.metric ? -1 : 1)};
}

const same = (a, b) => a.gateway_id === b.gateway_id && a.device_id === b.device_id;

function Card({device, unknown}) {
  const time = useCell(now);
  const last = device.last ?? [];
  const old = !device.last_observed_ms || time - device.last_observed_ms > OLD_MS;
  const gone = device.connected === false;
  const dot = unknown ? 'unknown' : gone ? 'off' : old ? 'late' : 'on';
  return (
    <li class={`card ${old || gone ? 'old' : ''}`}>
      <a href={deviceHref(device)}>
        <h3>{device.device_id}</h3>
        <p class="muted small"><span class={`dot ${dot}`} aria-hidden="true" />
          {gone && !unknown ? `${m.gateway} ${device.gateway_id} ${m.gatewayGone}, ` : `${device.gateway_id}, `}<Age at={device.last_observed_ms} /></p>
        {last.length === 0 ? <p class="muted">{m.noValues}</p> : (
          <dl class="values">
            {last.slice(0, SHOWN).map((l) => {
              const {name, unit} = metricName(l.metric);
              return <div key={l.metric}><dt>{name}</dt><dd>{withUnit(l.value, unit)}</dd></div>;
            })}
          </dl>
        )}
        {last.length > SHOWN && <p class="muted small">{m.moreValues(last.length - SHOWN)}</p>}
      </a>
    </li>
  );
}

export function Devices() {
  const {query} = useCell(route);
  const q = query.get('q') ?? '';
  const site = query.get('site') ?? '';
  const [typed, setTyped] = useState(q);
  const [more, setMore] = useState([]);
  const [next, setNext] = useState(null);
  const sites = useRead('/sites');
  const search = new URLSearchParams({include: 'last', limit: PAGE, ...(q && {q}), ...(site && {site})});
  const devices = useRead(`/devices?${search}`);

  useEffect(() => {
    const timer = setTimeout(() => typed !== q && setQuery({q: typed}), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => {
    setMore([]);
    setNext(devices.next ?? null);
  }, [devices.data === undefined, devices.next, q, site]);
  useEffect(() => {
    let waiting = null;
    const stop = onLive((name, data) => {
      if (name === 'last') {
        const values = Array.isArray(data) ? data : [data];
        const change = (list) => list.map((d) => values.filter((v) => same(d, v)).reduce(withLast, d));
        const known = (devices.data ?? []).concat(more);
        devices.edit(change);
        setMore(change);
        if (!q && devices.data && values.some((v) => !known.some((d) => same(d, v))) && known.length < PAGE && !waiting) {
          waiting = setTimeout(() => {
            waiting = null;
            devices.reload();
          }, 1500);
        }
      } else if (name === 'gateway') {
        const change = (list) => list.map((d) => d.gateway_id === data.gateway_id && data.connected !== undefined ? {...d, connected: data.connected} : d);
        devices.edit(change);
        setMore(change);
      }
    });
    return () => {
      stop();
      clearTimeout(waiting);
    };
  }, [devices.data, more, q]);

  const unknown = useOld(devices);
  const all = [...(devices.data ?? []), ...more];
  const names = Object.fromEntries((sites.data ?? []).map((s) => [s.site_id, s.name || s.site_id]));
  const groups = new Map();
  for (const d of all) {
    const key = d.site_id ?? 'default';
    groups.set(key, [...(groups.get(key) ?? []), d]);
  }
  const loadMore = async () => {
    const got = await read(next);
    setMore((list) => [...list, ...(got.data ?? []).filter((d) => !list.some((e) => same(d, e)))]);
    setNext(got.next);
  };
  return (
    <>
      <h1 tabIndex={-1}>{m.devices}</h1>
      <div class="filters">
        <label class="search"><span class="hidden">{m.search}</span>
          <input type="search" placeholder={m.searchHint} value={typed} onInput={(e) => setTyped(e.currentTarget.value)} /></label>
        {(sites.data?.length ?? 0) > 1 && (
          <label><span class="hidden">{m.site}</span>
            <select value={site} onChange={(e) => setQuery({site: e.currentTarget.value})}>
              <option value="">{m.allSites}</option>
              {sites.data.map((s) => <option key={s.site_id} value={s.site_id}>{s.name || s.site_id}</option>)}
            </select></label>
        )}
      </div>
      <Stale read={devices} />
      <Waiting read={devices} />
      {devices.data && all.length === 0 && (
        <div class="empty"><Icon name="devices" /><p>{q ? m.noMatch(q) : m.noDevices}</p>{!q && <p class="muted">{m.noDevicesHint}</p>}</div>
      )}
      {[...groups].map(([key, list]) => (
        <section key={key} aria-labelledby={`site-${key}`}>
          <h2 id={`site-${key}`}>{names[key] ?? (key === 'default' && groups.size === 1 ? m.allSites : key)} <small class="muted">{m.deviceCount(list.length)}</small></h2>
          <ul class="cards">{list.map((d) => <Card key={`${d.gateway_id}/${d.device_id}`} device={d} unknown={unknown} />)}</ul>
        </section>
      ))}
      {next && <p class="center"><button type="button" onClick={loadMore}>{m.more}</button></p>}
    </>
  );
}
