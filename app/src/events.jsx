// SPDX-License-Identifier: Apache-2.0
// Alarms and events, newest first; new ones come in by themselves.
import {useEffect, useState} from 'preact/hooks';
import {m} from './messages.js';
import {read, useRead} from './api.js';
import {onLive} from './live.js';
import {clockTime, words} from './format.js';
import {deviceHref, route, setQuery} from './route.js';
import {said, useCell} from './store.js';
import {Age, Icon, Segments, Stale, Waiting} from './parts.jsx';

const PAGE = 50;
const ICONS = {alarm: 'alarm', warning: 'alarm', info: 'info'};

export function EventList({gateway, device, severity = 'all', limit = PAGE}) {
  const search = new URLSearchParams({limit, ...(gateway && {gateway_id: gateway, device_id: device}), ...(severity !== 'all' && {severity})});
  const events = useRead(`/events?${search}`);
  const [more, setMore] = useState([]);
  const [next, setNext] = useState(null);
  const [fresh, setFresh] = useState(() => new Set());
  useEffect(() => {
    setMore([]);
    setNext(events.next ?? null);
  }, [events.data === undefined, events.next, severity]);
  useEffect(() => onLive((name, data) => {
    const wanted = (e) => (!gateway || (e.gateway_id === gateway && e.device_id === device)) && (severity === 'all' || e.severity === severity) && (e.kind ?? 'event') === 'event';
    const found = name === 'event' ? (Array.isArray(data) ? data : [data]).filter(wanted) : [];
    if (found.length > 0) {
      setFresh((ids) => new Set([...ids, ...found.map((e) => e.id)]));
      events.edit((list) => [...found.filter((e) => !list.some((o) => o.id === e.id)).reverse(), ...list]);
    }
  }), [gateway, device, severity]);
  const all = [...(events.data ?? []), ...more.filter((e) => !(events.data ?? []).some((o) => o.id === e.id))];
  const loadMore = async () => {
    const got = await read(next);
    setMore((list) => [...list, ...(got.data ?? [])]);
    setNext(got.next);
  };
  return (
    <>
      <Stale read={events} />
      <Waiting read={events} />
      {events.data && all.length === 0 && <p class="empty small"><Icon name="events" />{m.noEvents}</p>}
      <ul class="events">
        {all.map((e) => {
          const level = m.severities[e.severity] ? e.severity : 'info';
          return (
            <li key={e.id} class={`${level} ${fresh.has(e.id) ? 'fresh' : ''}`}>
              <span class="badge"><Icon name={ICONS[level]} />{m.severities[level]}</span>
              <div>
                <b>{words(e.event ?? e.kind ?? '')}</b>
                <p class="muted small">
                  {!gateway && <><a href={deviceHref(e)}>{e.device_id}</a> · {e.gateway_id} · </>}
                  {clockTime(e.observed_at_ms)}, <Age at={e.observed_at_ms} />
                </p>
                {e.data && Object.keys(e.data).length > 0 && <details><summary>{m.data}</summary><pre>{JSON.stringify(e.data, null, 2)}</pre></details>}
              </div>
            </li>
          );
        })}
      </ul>
      {next && limit === PAGE && <p class="center"><button type="button" onClick={loadMore}>{m.more}</button></p>}
    </>
  );
}

export function Events() {
  const {query} = useCell(route);
  const severity = query.get('severity') ?? 'all';
  return (
    <>
      <h1 tabIndex={-1}>{m.events}</h1>
      <div class="filters"><Segments label={m.severity} options={m.severities} value={severity} onChange={(v) => setQuery({severity: v === 'all' ? null : v})} /></div>
      <EventList key={severity} severity={severity} />
    </>
  );
}

/** Tells of alarms wherever one is in the app. */
export function useAlarms() {
  const [alarm, setAlarm] = useState(null);
  useEffect(() => onLive((name, data) => {
    for (const e of name === 'event' ? (Array.isArray(data) ? data : [data]) : []) {
      if (e.severity === 'alarm') {
        setAlarm(e);
        said.set(m.alarmSaid(words(e.event ?? ''), e.device_id));
      }
    }
  }), []);
  return [alarm, () => setAlarm(null)];
}
