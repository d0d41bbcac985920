// SPDX-License-Identifier: Apache-2.0
// Numbers, times and names for people.
import {m} from './messages.js';

const LANGUAGE = 'en';
const time = new Intl.DateTimeFormat(LANGUAGE, {hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'});
const dateTime = new Intl.DateTimeFormat(LANGUAGE, {year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'});
const shortDateTime = new Intl.DateTimeFormat(LANGUAGE, {month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23'});

export function number(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) {
    return '–';
  }
  const size = Math.abs(n);
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) {
    return n.toExponential(2);
  }
  return n.toLocaleString(LANGUAGE, {maximumFractionDigits: size >= 10000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4});
}

/** A bound of a range: as exact as it was declared. */
export function limit(n) {
  return Math.abs(n) < 1e15 ? n.toLocaleString(LANGUAGE, {maximumFractionDigits: 12}) : String(n);
}

/** {name, unit} of temperature_c, energy.total_kwh: the last word, where it is a unit. */
export function metricName(metric) {
  const words = metric.split(/[_.]/).filter(Boolean);
  const last = words[words.length - 1]?.toLowerCase();
  const unit = words.length > 1 && Object.hasOwn(m.units, last) ? m.units[last] : '';
  const name = (unit ? words.slice(0, -1) : words).join(' ');
  return {name: name.charAt(0).toUpperCase() + name.slice(1), unit};
}

export function withUnit(n, unit) {
  return unit ? `${number(n)} ${unit}` : number(n);
}

/** A name as code has it, for people: set_point -> Set point. */
export function words(name) {
  const text = name.replace(/[_.-]+/g, ' ').trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) {
    return m.seconds(s);
  }
  if (s < 3600) {
    return m.minutes(Math.floor(s / 60));
  }
  return s < 86400 ? m.hours(Math.floor(s / 3600)) : m.days(Math.floor(s / 86400));
}

/** How long ago, of a time by the server's clock. */
export function age(at, now = Date.now()) {
  if (!at) {
    return m.never;
  }
  return now - at < 2000 ? m.now : m.ago(duration(now - at));
}

export function clockTime(at) {
  const today = new Date().toDateString() === new Date(at).toDateString();
  return (today ? time : dateTime).format(at);
}

export function exactTime(at) {
  return `${time.format(at)}.${String(at % 1000).padStart(3, '0')}`;
}

export function shortTime(at) {
  return shortDateTime.format(at);
}
