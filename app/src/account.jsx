// SPDX-License-Identifier: Apache-2.0
// Logging in and out, appearance, and what this app is.
import {useEffect, useRef, useState} from 'preact/hooks';
import {m} from './messages.js';
import {Refusal, logIn, logOut} from './api.js';
import {clockTime} from './format.js';
import {cell, me, net, oidc, useCell} from './store.js';
import {Segments} from './parts.jsx';

/* global APP */

export const theme = cell('auto');
/** The browser's offer to install, kept until somebody wants it. */
const offer = cell(null);
addEventListener('beforeinstallprompt', (e) => {
  e.preventDefault();
  offer.set(e);
});

export function setTheme(name) {
  theme.set(name);
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem('caravan-theme', name);
  } catch {
    // For this page only.
  }
}

export function loadTheme() {
  let name = 'auto';
  try {
    name = localStorage.getItem('caravan-theme') ?? name;
  } catch {
    // As the device.
  }
  setTheme(m.themes[name] ? name : 'auto');
}

export function Login({ended}) {
  const [user, setUser] = useState('');
  const [password, setPassword] = useState('');
  const [visible, setVisible] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(new URLSearchParams(location.search).get('login') === 'failed' ? m.oidcFailed : ended ? m.loginEnded : '');
  const sso = useCell(oidc);
  const first = useRef(null);
  useEffect(() => first.current?.focus(), []);
  const submit = async (e) => {
    e.preventDefault();
    setBusy(true);
    setError('');
    try {
      await logIn(user, password);
    } catch (failure) {
      setError(!(failure instanceof Refusal) ? m.loginOffline : failure.status === 401 ? m.loginWrong
        : failure.status === 429 ? m.loginLocked(failure.retryAfter ?? 60) : failure.message);
      setPassword('');
      setBusy(false);
    }
  };
  return (
    <main class="login" id="content">
      <form onSubmit={submit} aria-labelledby="login-title">
        <img src={document.querySelector('link[rel=icon]')?.href} alt="" width="64" height="64" />
        <h1 id="login-title">{m.app}</h1>
        {error && <p class="note bad" role="alert">{error}</p>}
        <div class="field"><label for="user">{m.user}</label>
          <input id="user" name="username" ref={first} autocomplete="username" autocapitalize="none" spellcheck={false} required value={user} onInput={(e) => setUser(e.currentTarget.value)} /></div>
        <div class="field"><label for="password">{m.password}</label>
          <input id="password" name="password" type={visible ? 'text' : 'password'} autocomplete="current-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} /></div>
        <label class="check"><input type="checkbox" checked={visible} onChange={() => setVisible(!visible)} /> {m.showPassword}</label>
        <button class="primary" disabled={busy}>{busy ? m.loginBusy : m.login}</button>
        {sso?.login && <><p class="or muted">{m.or}</p><a class="button" href={sso.login}>{m.oidc}</a></>}
      </form>
    </main>
  );
}

export function Account() {
  const user = useCell(me);
  const chosen = useCell(theme);
  const state = useCell(net);
  const install = useCell(offer);
  const [unheard, setUnheard] = useState(false);
  const leave = async () => setUnheard(!await logOut());
  return (
    <>
      <h1 tabIndex={-1}>{m.account}</h1>
      <section class="panel">
        <p>{m.loggedInAs} <b>{user?.user}</b></p>
        <dl class="pairs">
          <dt>{m.roles}</dt>
          <dd>{Object.entries(user?.roles ?? {}).map(([site, role]) => <div key={site}>{site === '*' ? m.everywhere : site}: {m.roleNames[role] ?? role}</div>)}</dd>
          {user?.expires_at_ms && <><dt>{m.loginUntil}</dt><dd>{clockTime(user.expires_at_ms)}</dd></>}
        </dl>
        {user?.how === 'local' ? <p class="muted">{m.localUser}</p> : <button type="button" onClick={leave}>{m.logout}</button>}
        {state === 'offline' && <p class="muted small">{m.logoutOffline}</p>}
        {unheard && <p class="note" role="status">{m.logoutOffline}</p>}
      </section>
      <section class="panel">
        <h2>{m.appearance}</h2>
        <Segments label={m.appearance} options={m.themes} value={chosen} onChange={setTheme} />
      </section>
      <section class="panel">
        <h2>{m.install}</h2>
        {install && <button type="button" onClick={() => install.prompt()}>{m.install}</button>}
        <p class="muted">{isSecureContext ? `${m.installHint} ${m.offlineReady}` : m.insecure}</p>
      </section>
      <section class="panel">
        <h2>{m.about}</h2>
        <p>{m.app}, {m.version(APP.version)}</p>
        <p><a href={APP.licences}>{m.licences}</a> · <a href="/api/v1/openapi.json">{m.api}</a></p>
      </section>
    </>
  );
}
