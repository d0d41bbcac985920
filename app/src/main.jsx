// SPDX-License-Identifier: Apache-2.0
// The frame: where one is, how things stand with the connection, and the page.
import {render} from 'preact';
import {useEffect, useRef, useState} from 'preact/hooks';
import './main.css';
import {m} from './messages.js';
import {whoAmI} from './api.js';
import {connect} from './live.js';
import {words} from './format.js';
import {deviceHref, route} from './route.js';
import {me, net, said, update, useCell} from './store.js';
import {Account, Login, loadTheme} from './account.jsx';
import {Device} from './device.jsx';
import {Devices} from './devices.jsx';
import {Events, useAlarms} from './events.jsx';
import {Connection, Icon} from './parts.jsx';

function Page({parts}) {
  if (parts[0] === 'devices' && parts.length === 3) {
    return <Device key={parts.join('/')} gateway={parts[1]} device={parts[2]} />;
  }
  return parts[0] === 'events' ? <Events /> : parts[0] === 'account' ? <Account /> : <Devices />;
}

function Announcer() {
  return <div class="hidden" role="status" aria-live="polite">{useCell(said)}</div>;
}

function App() {
  const user = useCell(me);
  const state = useCell(net);
  const {parts} = useCell(route);
  const waiting = useCell(update);
  const [alarm, dismiss] = useAlarms();
  const was = useRef(false);
  const main = useRef(null);
  const page = parts.join('/');
  const [first, setFirst] = useState(true);
  was.current = was.current || Boolean(user);
  useEffect(() => {
    const title = parts.length === 3 ? parts[2] : {events: m.events, account: m.account}[parts[0]] ?? m.devices;
    document.title = `${title} · ${m.app}`;
    if (!first) {
      main.current?.querySelector('h1')?.focus();
      scrollTo(0, 0);
    }
    setFirst(false);
  }, [page]);
  if (user === undefined) {
    return <main class="login"><p class="muted">{m.loading}</p></main>;
  }
  if (user === null) {
    return <><Login ended={was.current} /><Announcer /></>;
  }
  const link = (href, name, text, here) => <a href={href} aria-current={here ? 'page' : undefined}><Icon name={name} /><span>{text}</span></a>;
  return (
    <>
      <a class="skip" href="#content" onClick={(e) => { e.preventDefault(); main.current.querySelector('h1')?.focus(); }}>{m.skip}</a>
      <header class="top">
        <a class="brand" href="#/"><img src={document.querySelector('link[rel=icon]')?.href} alt="" width="28" height="28" />{m.app}</a>
        <nav aria-label={m.navigation}>
          {link('#/', 'devices', m.devices, !parts[0] || parts[0] === 'devices')}
          {link('#/events', 'events', m.eventsShort, parts[0] === 'events')}
          {link('#/account', 'account', m.account, parts[0] === 'account')}
        </nav>
        <Connection />
      </header>
      <div class="banners">
        {state === 'offline' && <p class="banner" role="status"><Icon name="offline" />{m.offlineBanner}</p>}
        {alarm && <p class="banner alarm" role="alert"><Icon name="alarm" /><a href={deviceHref(alarm)}>{m.alarmSaid(words(alarm.event ?? ''), alarm.device_id)}</a>
          <button type="button" class="square" aria-label={m.close} onClick={dismiss}><Icon name="close" /></button></p>}
        {waiting && <p class="banner"><span>{m.update}</span><button type="button" onClick={() => waiting.postMessage('take over')}>{m.reload}</button></p>}
      </div>
      <main id="content" ref={main}><Page parts={parts} /></main>
      <Announcer />
    </>
  );
}

loadTheme();
render(<App />, document.getElementById('app'));
whoAmI().then(connect);

if ('serviceWorker' in navigator) {
  const had = navigator.serviceWorker.controller !== null;
  navigator.serviceWorker.addEventListener('controllerchange', () => had && location.reload());
  navigator.serviceWorker.register('/sw.js', {updateViaCache: 'none'}).then((registration) => {
    const waits = () => registration.waiting && navigator.serviceWorker.controller && update.set(registration.waiting);
    waits();
    registration.addEventListener('updatefound', () => registration.installing?.addEventListener('statechange', waits));
    // An app that stays open for weeks hears of new versions too.
    setInterval(() => registration.update().catch(() => {}), 3600_000);
  }).catch(() => {
    // Without TLS there is none: no offline, all else works.
  });
}
