// SPDX-License-Identifier: Apache-2.0
// Small parts that several pages use.
import {m} from './messages.js';
import {age, clockTime} from './format.js';
import {net, now, useCell} from './store.js';

const PATHS = {
  devices: 'M4 5h16v5H4zM4 14h16v5H4zM7 7.5h.01M7 16.5h.01',
  events: 'M12 4a5 5 0 0 0-5 5c0 5-2 6-2 7h14c0-1-2-2-2-7a5 5 0 0 0-5-5M10 19a2 2 0 0 0 4 0',
  account: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4.5 20c.8-3.6 3.8-5 7.5-5s6.700 1.400 7.500 5',
  back: 'M15 5l-7 7 7 7', left: 'M15 5l-7 7 7 7', right: 'M9 5l7 7-7 7', plus: 'M12 5v14M5 12h14', minus: 'M5 12h14', close: 'M6 6l12 12M18 6 6 18',
  ok: 'M5 12.500l4.500 4.500L19 7.500', bad: 'M6 6l12 12M18 6 6 18', question: 'M9 9a3 3 0 1 1 4.500 2.600c-1 .600-1.500 1.200-1.500 2.400M12 18h.01', alarm: 'M12 4 2.500 20h19zM12 10v4M12 17h.01',
  info: 'M12 11v6M12 7.500h.01', send: 'M4 12l16-8-6 16-3-6z', offline: 'M3 3l18 18M8.500 15.500a5 5 0 0 1 5.500-1M5 12a10 10 0 0 1 4-2.500M19 12a10 10 0 0 0-4-2.500M12 19h.01',
};

export function Icon({name}) {
  return <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d={PATHS[name]} /></svg>;
}

/** An age that goes on by itself; the exact time when asked for. */
export function Age({at, prefix = (t) => t}) {
  const time = useCell(now);
  return <time dateTime={at ? new Date(at).toISOString() : undefined} title={at ? clockTime(at) : undefined}>{prefix(age(at, time))}</time>;
}

/** What stands instead of data: that it loads, that it failed, or that it was never loaded. Null: the data is there. */
export function Waiting({read, missing}) {
  if (read.error) {
    return (
      <div class="note bad" role="alert">
        <p>{read.error.status === 404 && missing ? missing : read.error.message}</p>
        <button type="button" onClick={read.reload}>{m.retry}</button>
      </div>
    );
  }
  if (read.loading && read.data === undefined) {
    return <div class="skeleton" aria-busy="true"><span class="hidden">{m.loading}</span><i /><i /><i /></div>;
  }
  return read.data === null ? <p class="note">{m.neverLoaded}</p> : null;
}

/** Whether what was read may have changed meanwhile without a word. */
export function useOld(read) {
  return useCell(net) === 'offline' || Boolean(read.stale);
}

/** Says of what may have changed meanwhile when it was known. */
export function Stale({read}) {
  return useOld(read) && read.at && read.data !== undefined && read.data !== null ? <p class="stale"><Icon name="offline" /><Age at={read.at} prefix={m.asOf} /></p> : null;
}

export function Connection() {
  const state = useCell(net);
  const [text, long] = {live: [m.live, m.liveLong], polling: [m.polling, m.pollingLong], connecting: [m.connecting, m.connectingLong],
    offline: [m.offline, m.offlineBanner]}[state];
  return <span class={`connection ${state}`} title={long}><i aria-hidden="true" />{text}</span>;
}

/** A choice of a few, as buttons. */
export function Segments({label, options, value, onChange, short = {}}) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {Object.entries(options).map(([key, text]) => (
        <button key={key} type="button" aria-pressed={value === key} title={short[key] ? text : undefined} onClick={() => onChange(key)}>{short[key] ?? text}</button>
      ))}
    </div>
  );
}
