// SPDX-License-Identifier: Apache-2.0
// One device: last values, charts, commands, events, state.
import {useEffect, useMemo, useState} from 'preact/hooks';
import {m} from './messages.js';
import {useRead} from './api.js';
import {onLive} from './live.js';
import {clockTime, metricName, withUnit} from './format.js';
import {apiOf, route, setQuery} from './route.js';
import {now, useCell} from './store.js';
import {theme} from './account.jsx';
import {Chart, bounded, colour} from './chart.jsx';
import {Commands} from './commands.jsx';
import {EventList} from './events.jsx';
import {OLD_MS, withLast} from './devices.jsx';
import {Age, Icon, Segments, Stale, Waiting, useOld} from './parts.jsx';

const SPANS = {h1: 3600e3, h6: 6 * 3600e3, d1: 86400e3, w1: 7 * 86400e3, d30: 30 * 86400e3, y1: 365 * 86400e3};
const ROWS = 200;
const MOST = 6;

const dark = matchMedia('(prefers-color-scheme: dark)');
function useAppearance() {
  const chosen = useCell(theme);
  const [system, setSystem] = useState(dark.matches);
  useEffect(() => {
    const listen = () => setSystem(dark.matches);
    dark.addEventListener('change', listen);
    return () => dark.removeEventListener('change', listen);
  }, []);
  return chosen === 'auto' ? String(system) : chosen;
}

/** Time range of the charts: a span that ends now and goes with it, or a fixed one after moving. */
function useRange() {
  const {query} = useCell(route);
  const span = SPANS[query.get('range')] ? query.get('range') : 'h1';
  const [fixed, setFixed] = useState(null);
  const [end, setEnd] = useState(Date.now());
  const range = fixed ?? {from: end - SPANS[span], to: end};
  // What is asked for follows what is shown when a finger rests.
  const [asked, setAsked] = useState(range);
  useEffect(() => {
    const timer = setTimeout(() => setAsked(range), fixed ? 250 : 0);
    return () => clearTimeout(timer);
  }, [range.from, range.to]);
  return {
    span: fixed ? null : span, range, asked,
    choose: (name) => {
      setFixed(null);
      setEnd(Date.now());
      setQuery({range: name});
    },
    move: (to) => {
      if (to) {
        setFixed(to);
      } else {
        setFixed(null);
        setEnd(Date.now());
      }
    },
    tick: () => fixed || setEnd(Date.now()),
  };
}

/** Series of one metric for a range, somewhat wider than shown, so that moving does not show holes at once. */
function useSeries(base, metric, asked, tick, span) {
  const room = (asked.to - asked.from) / 4;
  const grid = Math.max(1000, Math.round((asked.to - asked.from) / 400));
  const from = Math.floor((asked.from - room) / grid) * grid;
  const to = Math.ceil((asked.to + room) / grid) * grid;
  const points = Math.min(1500, Math.max(200, Math.round(innerWidth * 0.9)));
  return useRead(metric ? `${base}/series?${new URLSearchParams({metric, from_ms: from, to_ms: to, points})}` : null,
    {as: `${base}/series?metric=${metric}&span=${span ?? 'moved'}`});
}

function Series({base, metric, asked, span, onGot}) {
  const got = useSeries(base, metric, asked, 0, span);
  useEffect(() => onGot(metric, got), [got.data, got.error, got.stale, got.loading]);
  return null;
}

function Table({series, range}) {
  const {name, unit} = metricName(series.metric);
  const rows = series.points.filter((p) => p.start_ms + series.resolution_ms >= range.from && p.start_ms <= range.to).reverse();
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={name}>
      <table>
        <caption>{name}{rows.length > ROWS ? `. ${m.tableShortened(ROWS)}` : ''}</caption>
        <thead><tr><th scope="col">{m.time}</th><th scope="col">{m.mean}</th><th scope="col">{m.low}</th><th scope="col">{m.high}</th><th scope="col">{m.readings}</th><th scope="col">{m.remark}</th></tr></thead>
        <tbody>
          {rows.slice(0, ROWS).map((p) => (
            <tr key={p.start_ms}><th scope="row">{clockTime(p.start_ms)}</th><td>{withUnit(p.mean, unit)}</td><td>{withUnit(p.min, unit)}</td><td>{withUnit(p.max, unit)}</td><td>{p.count}</td>
              <td>{[p.late && m.late, p.revision > 1 && m.revised].filter(Boolean).join(', ')}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Charts({base, metrics, slots}) {
  const appearance = useAppearance();
  const {span, range, asked, choose, move, tick} = useRange();
  const [together, setTogether] = useState(false);
  const [table, setTable] = useState(false);
  const [got, setGot] = useState({});
  useEffect(() => {
    const timer = setInterval(tick, Math.max(5000, (range.to - range.from) / 500));
    return () => clearInterval(timer);
  }, [span, range.to - range.from]);
  const shown = metrics.map((k) => got[k]).filter((g) => g?.data?.points).map((g) => ({...g.data, slot: slots[g.data.metric]}));
  const ready = useMemo(() => shown, [metrics.join(), ...metrics.map((k) => got[k]?.data)]);
  const groups = useMemo(() => together && ready.length > 1 ? [ready] : ready.map((s) => [s]), [ready, together]);
  const empty = ready.length > 0 && ready.every((s) => !s.points.some((p) => p.start_ms + s.resolution_ms >= range.from && p.start_ms <= range.to));
  const wait = metrics.map((k) => got[k]).find((g) => g && !g.data?.points) ?? (metrics.some((k) => !got[k]) ? {loading: true} : null);
  const old = metrics.map((k) => got[k]).find((g) => g?.data?.points);
  const width = range.to - range.from;
  const remarks = ready.flatMap((s) => s.points.filter((p) => p.start_ms >= range.from && p.start_ms <= range.to));
  return (
    <>
      {metrics.map((k) => <Series key={k} base={base} metric={k} asked={asked} span={span} onGot={(metric, g) => setGot((all) => ({...all, [metric]: g.data === undefined && g.loading && all[metric]?.data ? all[metric] : g}))} />)}
      <div class="toolbar">
        <Segments label={m.range} options={m.ranges} short={m.rangesShort} value={span} onChange={choose} />
        <div class="buttons">
          <button type="button" class="square" aria-label={m.earlier} title={m.earlier} onClick={() => move(bounded(range.from - width / 2, range.to - width / 2))}><Icon name="left" /></button>
          <button type="button" class="square" aria-label={m.later} title={m.later} onClick={() => move(bounded(range.from + width / 2, range.to + width / 2))}><Icon name="right" /></button>
          <button type="button" class="square" aria-label={m.zoomIn} title={m.zoomIn} onClick={() => move(bounded(range.from + width / 4, range.to - width / 4))}><Icon name="plus" /></button>
          <button type="button" class="square" aria-label={m.zoomOut} title={m.zoomOut} onClick={() => move(bounded(range.from - width / 2, range.to + width / 2))}><Icon name="minus" /></button>
          <button type="button" disabled={span !== null} onClick={() => move(null)}>{m.toNow}</button>
        </div>
      </div>
      {metrics.length === 0 && <p class="note">{m.noMetric}</p>}
      {old && <Stale read={old} />}
      {wait && <Waiting read={wait} />}
      {groups.map((all) => (
        <Chart key={all.map((s) => s.metric).join()} all={all} colours={all.map((s) => colour(s.slot))} range={range} onMove={move} theme={appearance} />
      ))}
      {empty && <p class="note">{m.noData}</p>}
      {ready.length > 0 && (
        <div class="legend muted small">
          <span><i class="band" />{m.band}</span>
          {remarks.some((p) => p.late) && <span><i class="late" />{m.late}</span>}
          {remarks.some((p) => p.revision > 1 && !p.late) && <span><i class="revised" />{m.revised}</span>}
          <span>{m.gap}</span>
        </div>
      )}
      <div class="row">
        {metrics.length > 1 && <label class="check"><input type="checkbox" checked={together} onChange={() => setTogether(!together)} /> {m.together}</label>}
        <label class="check"><input type="checkbox" checked={table} onChange={() => setTable(!table)} /> {m.table}</label>
      </div>
      {table && ready.map((s) => <Table key={s.metric} series={s} range={range} />)}
    </>
  );
}

function State({base}) {
  const twin = useRead(`${base}/twin`);
  useEffect(() => onLive((name, data) => name === 'twin' && twin.reload()), []);
  if (twin.error?.status === 404) {
    return <p class="muted">{m.noState}</p>;
  }
  const part = (title, value) => value && Object.keys(value).length > 0 && (
    <div class="statebox"><h3>{title}</h3>
      <dl class="pairs">{Object.entries(value).flatMap(([k, v]) => [<dt key={`${k}-k`}>{k}</dt>, <dd key={`${k}-v`}>{typeof v === 'object' ? JSON.stringify(v) : String(v)}</dd>])}</dl></div>
  );
  return (
    <>
      <Stale read={twin} />
      <Waiting read={twin} />
      {twin.data && <div class="columns">{part(m.reported, twin.data.reported)}{part(m.desired, twin.data.desired)}{part(m.difference, twin.data.delta)}</div>}
    </>
  );
}

export function Device({gateway, device}) {
  const base = apiOf(gateway, device);
  const time = useCell(now);
  const {query} = useCell(route);
  const read = useRead(base);
  useEffect(() => onLive((name, data) => {
    if (name === 'last') {
      for (const v of (Array.isArray(data) ? data : [data]).filter((x) => x.gateway_id === gateway && x.device_id === device)) {
        read.edit((d) => withLast(d, v));
      }
    } else if (name === 'gateway' && data.gateway_id === gateway && data.connected !== undefined) {
      read.edit((d) => ({...d, connected: data.connected}));
    }
  }), [gateway, device]);
  const unknown = useOld(read);
  const data = read.data;
  const last = data?.last ?? [];
  const names = last.map((l) => l.metric);
  const slots = Object.fromEntries(names.map((n, i) => [n, i]));
  const wanted = query.has('show') ? query.get('show').split(',').filter((n) => names.includes(n)) : names.slice(0, 1);
  const toggle = (metric) => setQuery({show: (wanted.includes(metric) ? wanted.filter((w) => w !== metric) : [...wanted, metric].slice(-MOST)).join(',') || '-'});
  return (
    <>
      <a class="backlink" href="#/"><Icon name="back" />{m.back}</a>
      <h1 tabIndex={-1}>{device}</h1>
      {data && (
        <p class="muted"><span class={`dot ${unknown ? 'unknown' : data.connected === false ? 'off' : time - data.last_observed_ms > OLD_MS ? 'late' : 'on'}`} aria-hidden="true" />
          {m.gateway} {gateway}{unknown || data.connected === undefined ? '' : data.connected ? ` ${m.gatewayUp}` : ' '}
          {!unknown && data.connected === false && <Age at={data.last_seen_ms} prefix={m.gatewayDown} />}
          {data.site_id && data.site_id !== 'default' ? ` · ${m.site} ${data.site_id}` : ''}</p>
      )}
      <Stale read={read} />
      <Waiting read={read} missing={m.noSuchDevice} />
      {data && (
        <div class="device">
          <section class="panel main" aria-labelledby="h-chart">
            <h2 id="h-chart">{m.overview}</h2>
            {last.length === 0 ? <p class="muted">{m.noValues}</p> : (
              <ul class="tiles" aria-label={m.metrics}>
                {last.map((l) => {
                  const {name, unit} = metricName(l.metric);
                  const old = time - l.observed_at_ms > OLD_MS;
                  return (
                    <li key={l.metric}>
                      <button type="button" class={`tile ${old ? 'old' : ''}`} data-series={slots[l.metric]} aria-pressed={wanted.includes(l.metric)} onClick={() => toggle(l.metric)}>
                        <span class="name">{name}</span>
                        <span class="big">{withUnit(l.value, unit)}</span>
                        <span class="small muted"><Age at={l.observed_at_ms} /></span>
                      </button>
                    </li>
                  );
                })}
              </ul>
            )}
            <Charts base={base} metrics={wanted} slots={slots} />
          </section>
          <section class="panel side" aria-labelledby="h-commands">
            <h2 id="h-commands">{m.commands}</h2>
            <Commands gateway={gateway} device={device} site={data.site_id ?? 'default'} />
          </section>
          <section class="panel" aria-labelledby="h-state">
            <h2 id="h-state">{m.state}</h2>
            <State base={base} />
          </section>
          <section class="panel" aria-labelledby="h-events">
            <h2 id="h-events">{m.deviceEvents}</h2>
            <EventList gateway={gateway} device={device} limit={10} />
          </section>
        </div>
      )}
    </>
  );
}
