// SPDX-License-Identifier: Apache-2.0
// One chart: mean as a line, lowest to highest as a band, gaps as gaps, windows that came late or were revised marked.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import {useEffect, useRef, useState} from 'preact/hooks';
import {m} from './messages.js';
import {duration, metricName, shortTime, withUnit} from './format.js';

const HEIGHT = 240;
const MIN_SPAN_MS = 10_000;
const MAX_SPAN_MS = 5 * 366 * 86_400_000;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (i) => css(`--series-${i % 6 + 1}`);

/** How far points of a series are apart where nothing is missing: the windows may be wider than the resolution that was asked for. */
export function spacing({points, resolution_ms: resolution}) {
  const apart = points.slice(1).map((p, i) => p.start_ms - points[i].start_ms).sort((a, b) => a - b);
  return Math.max(resolution, apart[Math.floor(apart.length * 0.75)] ?? 0);
}

/** Points of a metric on a common time axis: a hole in time becomes a hole in the line. */
function align(all) {
  const xs = new Set();
  const hole = all.map((s) => spacing(s) * 1.5);
  all.forEach(({points, resolution_ms: step}, s) => points.forEach((p, i) => {
    xs.add(p.start_ms + step / 2);
    if (i > 0 && p.start_ms - points[i - 1].start_ms > hole[s]) {
      xs.add((points[i - 1].start_ms + p.start_ms + step) / 2);
    }
  }));
  const x = [...xs].sort((a, b) => a - b);
  const at = new Map(x.map((v, i) => [v, i]));
  const columns = [];
  all.forEach(({points, resolution_ms: step}, s) => {
    // undefined: drawn across, null: a gap
    const [mean, low, high] = [0, 1, 2].map(() => new Array(x.length).fill(undefined));
    const marks = [];
    points.forEach((p, i) => {
      const k = at.get(p.start_ms + step / 2);
      mean[k] = p.mean;
      low[k] = p.min;
      high[k] = p.max;
      if (p.late || p.revision > 1) {
        marks.push({k, late: Boolean(p.late)});
      }
      if (i > 0 && p.start_ms - points[i - 1].start_ms > hole[s]) {
        const g = at.get((points[i - 1].start_ms + p.start_ms + step) / 2);
        mean[g] = low[g] = high[g] = null;
      }
    });
    columns.push({mean, low, high, marks});
  });
  return {x: x.map((v) => v / 1000), columns};
}

/** Indices of values with nothing on either side, which a line would not show. */
function alone(values) {
  const found = [];
  let before = null;
  let current = -1;
  for (let i = 0; i <= values.length; i++) {
    const v = i < values.length ? values[i] : null;
    if (v === undefined) {
      continue;
    }
    if (current >= 0 && before === null && v === null) {
      found.push(current);
    }
    before = current >= 0 ? values[current] : null;
    current = v === null ? -1 : i;
    if (v === null) {
      before = null;
    }
  }
  return found;
}

function options(all, data, colours, width, range, on) {
  const grid = {stroke: css('--grid'), width: 1};
  const axis = {stroke: css('--muted'), grid, ticks: {show: false}, font: '12px system-ui, sans-serif'};
  const scales = {x: {time: true, auto: false, range: () => [range.current.from / 1000, range.current.to / 1000]}};
  const series = [{}];
  const bands = [];
  const axes = [{...axis, space: 64, size: 40,
    values: [[86400 * 365, '{YYYY}', null, null, null, null, null, null, 1], [86400 * 28, '{MMM}', '\n{YYYY}', null, null, null, null, null, 1],
      [86400, '{MMM} {D}', '\n{YYYY}', null, null, null, null, null, 1], [60, '{HH}:{mm}', '\n{MMM} {D}', null, '\n{MMM} {D}', null, null, null, 1],
      [1, '{HH}:{mm}:{ss}', '\n{MMM} {D}', null, '\n{MMM} {D}', null, null, null, 1]]}];
  all.forEach((s, i) => {
    const scale = `y${i}`;
    const stroke = colours[i];
    scales[scale] = {range: (u, low, high) => {
      if (low === null || high === null) {
        return [0, 1];
      }
      const room = (high - low || Math.abs(high) || 1) * 0.08;
      return [low - room, high + room];
    }};
    if (i < 2) {
      axes.push({...axis, scale, side: i === 0 ? 3 : 1, stroke: all.length > 1 ? stroke : axis.stroke, grid: i === 0 ? grid : {show: false}, size: 52,
        values: (u, ticks) => ticks.map((v) => withUnit(v, ''))});
    }
    const column = data.columns[i];
    const thin = {scale, stroke: 'transparent', width: 0, points: {show: false}};
    series.push({...thin}, {...thin},
      {scale, stroke, width: 2, points: {size: 5, fill: stroke, show: true, filter: (u, k, show) => show && column.mean.length < 60 ? null : alone(column.mean)}});
    bands.push({series: [3 * i + 2, 3 * i + 1], fill: `color-mix(in srgb, ${stroke} 22%, transparent)`});
  });
  return {
    width, height: HEIGHT, scales, series, axes, bands, legend: {show: false},
    cursor: {drag: {x: false, y: false, setScale: false}, points: {size: 8}, sync: {key: 'caravan', setSeries: false}, y: false},
    hooks: {
      setCursor: [(u) => on.current.cursor(u.cursor.idx)],
      draw: [(u) => {
        const {ctx} = u;
        ctx.save();
        all.forEach((s, i) => {
          for (const {k, late} of data.columns[i].marks) {
            const x = u.valToPos(data.x[k], 'x', true);
            if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) {
              continue;
            }
            const size = 4.5 * devicePixelRatio;
            const y = u.bbox.top + u.bbox.height - size * (1.4 + 2.4 * i);
            ctx.fillStyle = css(late ? '--warning' : '--info');
            ctx.beginPath();
            if (late) {
              ctx.moveTo(x - size, y + size);
              ctx.lineTo(x + size, y + size);
              ctx.lineTo(x, y - size);
            } else {
              ctx.moveTo(x, y - size);
              ctx.lineTo(x + size, y);
              ctx.lineTo(x, y + size);
              ctx.lineTo(x - size, y);
            }
            ctx.fill();
          }
        });
        ctx.restore();
      }],
    },
  };
}

/** Moves and zooms by pointer and wheel; the caller is told the new range while it happens. */
function gestures(u, range, on) {
  const over = u.over;
  const pointers = new Map();
  let begun = null;
  const rangeAt = () => ({from: range.current.from, to: range.current.to});
  const begin = () => {
    begun = {range: rangeAt(), at: new Map(pointers)};
  };
  const down = (e) => {
    if (e.pointerType === 'mouse' && e.button !== 0) {
      return;
    }
    pointers.set(e.pointerId, e.clientX);
    try {
      over.setPointerCapture(e.pointerId);
    } catch {
      // It is gone already.
    }
    begin();
  };
  const move = (e) => {
    if (!pointers.has(e.pointerId)) {
      return;
    }
    pointers.set(e.pointerId, e.clientX);
    const {from, to} = begun.range;
    const width = over.clientWidth || 1;
    const ids = [...pointers.keys()];
    if (ids.length === 1) {
      const by = (begun.at.get(ids[0]) - pointers.get(ids[0])) / width * (to - from);
      if (Math.abs(begun.at.get(ids[0]) - pointers.get(ids[0])) > 3) {
        on.current.move(from + by, to + by);
      }
    } else {
      const left = over.getBoundingClientRect().left;
      const [a0, b0] = ids.map((id) => begun.at.get(id) - left).sort((a, b) => a - b);
      const [a1, b1] = ids.map((id) => pointers.get(id) - left).sort((a, b) => a - b);
      const scale = Math.max(8, b0 - a0) / Math.max(8, b1 - a1);
      const middle = from + (a0 + b0) / 2 / width * (to - from);
      const span = (to - from) * scale;
      const start = middle - (a1 + b1) / 2 / width * span;
      on.current.move(start, start + span);
    }
  };
  const up = (e) => {
    pointers.delete(e.pointerId);
    begin();
  };
  const wheel = (e) => {
    if (!e.ctrlKey && !e.metaKey) {
      return;
    }
    e.preventDefault();
    const {from, to} = rangeAt();
    const at = from + (e.clientX - over.getBoundingClientRect().left) / (over.clientWidth || 1) * (to - from);
    const factor = Math.exp(Math.max(-50, Math.min(50, e.deltaY)) / 100);
    on.current.move(at - (at - from) * factor, at + (to - at) * factor);
  };
  over.addEventListener('pointerdown', down);
  over.addEventListener('pointermove', move);
  over.addEventListener('pointerup', up);
  over.addEventListener('pointercancel', up);
  over.addEventListener('wheel', wheel, {passive: false});
}

/** A range within reason. */
export function bounded(from, to) {
  const span = Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, to - from));
  const middle = (from + to) / 2;
  const end = Math.min(middle + span / 2, Date.now() + span / 2);
  return {from: Math.round(end - span), to: Math.round(end)};
}

/**
 * @param all what /series gave, one or more
 * @param range {from, to} in milliseconds
 * @param onMove told (from, to)
 */
export function Chart({all, colours, range, onMove, theme}) {
  const box = useRef(null);
  const plot = useRef(null);
  const at = useRef(range);
  const on = useRef({});
  const [index, setIndex] = useState(null);
  const data = useRef({x: [], columns: []});
  at.current = range;
  on.current = {cursor: setIndex, move: (from, to) => onMove(bounded(from, to))};

  useEffect(() => {
    data.current = align(all);
    const columns = [data.current.x];
    data.current.columns.forEach((c) => columns.push(c.low, c.high, c.mean));
    plot.current = new uPlot(options(all, data.current, colours, box.current.clientWidth, at, on), columns, box.current);
    gestures(plot.current, at, on);
    const watch = new ResizeObserver(() => box.current && plot.current?.setSize({width: box.current.clientWidth, height: HEIGHT}));
    watch.observe(box.current);
    setIndex(null);
    return () => {
      watch.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [all, theme, colours.join()]);
  useEffect(() => {
    plot.current?.setScale('x', {min: range.from / 1000, max: range.to / 1000});
  }, [range.from, range.to]);

  /** The next point in a direction that there is something to read at. */
  const walk = (by) => {
    const {x, columns} = data.current;
    let i = index ?? (by > 0 ? -1 : x.length);
    do {
      i += by;
    } while (i >= 0 && i < x.length && !columns.some((c) => c.mean[i] !== null && c.mean[i] !== undefined));
    if (i >= 0 && i < x.length) {
      const u = plot.current;
      u.setCursor({left: u.valToPos(x[i], 'x'), top: 10});
      setIndex(i);
    }
  };
  const key = (e) => {
    const {from, to} = range;
    const span = to - from;
    const act = {
      ArrowLeft: () => e.shiftKey ? onMove(bounded(from - span / 4, to - span / 4)) : walk(-1),
      ArrowRight: () => e.shiftKey ? onMove(bounded(from + span / 4, to + span / 4)) : walk(1),
      '+': () => onMove(bounded(from + span / 4, to - span / 4)),
      '=': () => onMove(bounded(from + span / 4, to - span / 4)),
      '-': () => onMove(bounded(from - span / 2, to + span / 2)),
      0: () => onMove(null),
    }[e.key];
    if (act && !e.ctrlKey && !e.metaKey && !e.altKey) {
      e.preventDefault();
      act();
    }
  };
  const names = all.map((s) => metricName(s.metric).name).join(', ');
  const point = index === null ? null : data.current.x[index];
  return (
    <div class="chart">
      <ul class="readout" aria-live="polite">
        {all.map((s, i) => {
          const {name, unit} = metricName(s.metric);
          const c = data.current.columns[i];
          const shown = point !== null && c?.mean[index] !== null && c?.mean[index] !== undefined;
          const source = shown ? s.points.find((p) => Math.abs(p.start_ms + s.resolution_ms / 2 - point * 1000) < 1) : null;
          return (
            <li key={s.metric}>
              <span class="swatch" data-series={s.slot} /><b>{name}</b>
              {source ? <>
                <span class="big">{withUnit(source.mean, unit)}</span>
                <span class="muted">{m.lowHigh(withUnit(source.min, ''), withUnit(source.max, unit))} · {m.count(source.count)} · {shortTime(source.start_ms)}
                  {source.late ? ` · ${m.late}` : ''}{source.revision > 1 ? ` · ${m.revised}` : ''}</span>
              </> : <span class="muted">{m.mean}{unit && ` ${m.unit(unit)}`}, {m.resolution(duration(spacing(s)))}</span>}
            </li>
          );
        })}
      </ul>
      <div class="plot" ref={box} role="application" tabIndex={0} aria-label={m.chartLabel(names, shortTime(range.from), shortTime(range.to))}
        aria-description={m.chartHelp} onKeyDown={key} />
    </div>
  );
}
