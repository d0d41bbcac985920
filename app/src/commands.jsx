// SPDX-License-Identifier: Apache-2.0
// Sending commands to a device and following what becomes of them.
import {useEffect, useRef, useState} from 'preact/hooks';
import {m} from './messages.js';
import {Unreachable, change, useRead} from './api.js';
import {stream} from './live.js';
import {Fields, blank, collect, unitsOf} from './form.jsx';
import {clockTime, exactTime, words} from './format.js';
import {apiOf} from './route.js';
import {may, me, net, roleAt, said, useCell} from './store.js';
import {Age, Icon, Stale, Waiting} from './parts.jsx';

const STEPS = ['ACCEPTED', 'QUEUED', 'SENT', 'DELIVERED', 'SUCCEEDED'];
const FINAL = ['SUCCEEDED', 'FAILED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'INDETERMINATE'];
const TONES = {SUCCEEDED: 'good', FAILED: 'bad', REJECTED: 'bad', EXPIRED: 'dull', CANCELLED: 'dull', INDETERMINATE: 'doubt'};
const ICONS = {SUCCEEDED: 'ok', FAILED: 'bad', REJECTED: 'bad', EXPIRED: 'bad', CANCELLED: 'minus', INDETERMINATE: 'question'};

/** A name for an intention: what is tried again is the same command. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `app-${[...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')}`;
}

export function Status({status}) {
  return <span class={`status ${TONES[status] ?? 'busy'}`}>{ICONS[status] ? <Icon name={ICONS[status]} /> : <i class="spin" aria-hidden="true" />}{m.statuses[status] ?? status}</span>;
}

/** Puts an event of the stream into a command, in the order and once. */
export function advance(command, event) {
  const events = command.events ?? [];
  if (events.some((e) => e.id === event.id)) {
    return command;
  }
  const next = [...events, event].sort((a, b) => a.id - b.id);
  const newest = next[next.length - 1];
  return {...command, events: next, status: newest.status, reason: newest.reason, detail: newest.detail, result: newest.result ?? command.result, final: FINAL.includes(newest.status),
    updated_at_ms: newest.at_ms};
}

function Timeline({command}) {
  const state = useCell(net);
  const events = command.events ?? [];
  const final = FINAL.includes(command.status);
  const reached = STEPS.indexOf(command.status);
  const rest = final ? [] : STEPS.slice(reached + 1);
  return (
    <>
      <ol class="timeline" aria-label={m.timeline}>
        {events.map((e) => (
          <li key={e.id ?? `${e.source}-${e.revision}`} class={TONES[e.status] ?? 'done'}>
            <Icon name={ICONS[e.status] ?? 'ok'} />
            <div><b>{m.statuses[e.status] ?? e.status}</b> <span class="muted small">{exactTime(e.at_ms)}{e.source ? `, ${m.saidBy[e.source] ?? e.source}` : ''}</span>
              <p class="small">{e.status === 'ACCEPTED' && e.source === 'gateway' ? m.acceptedByGateway : m.statusMeans[e.status]}</p>
              {e.reason && <p class="small">{m.reasons[e.reason] ?? e.reason}{e.detail ? <span class="muted"> {e.detail}</span> : ''}</p>}</div>
          </li>
        ))}
        {rest.map((s, i) => <li key={s} class={`ahead ${i === 0 ? 'next' : ''}`}><i class="dotmark" aria-hidden="true" /><div><span>{m.statuses[s]}</span>{i === 0 && <span class="muted small"> {m.waiting}</span>}</div></li>)}
      </ol>
      {!final && <p class="muted small" role="status">{state === 'offline' ? m.notFollowing : m.followingLive}</p>}
      {command.status === 'INDETERMINATE' && (
        <div class="note doubt"><b>{m.indeterminate.title}</b><ol>{m.indeterminate.steps.map((s) => <li key={s}>{s}</li>)}</ol></div>
      )}
      {command.result !== undefined && command.result !== null && <div class="result"><b>{m.result}</b><pre>{JSON.stringify(command.result, null, 2)}</pre></div>}
    </>
  );
}

function Cancel({base, command, onChange}) {
  const state = useCell(net);
  const [answer, setAnswer] = useState('');
  const [busy, setBusy] = useState(false);
  if (!['ACCEPTED', 'QUEUED'].includes(command.status)) {
    return answer && command.status !== 'CANCELLED' ? <p class="small" role="status">{answer}</p> : null;
  }
  const cancel = async () => {
    setBusy(true);
    try {
      const {data, status} = await change('POST', `${base}/commands/${encodeURIComponent(command.id)}/cancel`);
      setAnswer(status === 200 ? m.cancelled : m.cancelAsked);
      if (data?.id) {
        onChange(data);
      }
    } catch (e) {
      setAnswer(e instanceof Unreachable ? m.cancelOffline : e.status === 409 ? m.tooLate : e.message);
    }
    setBusy(false);
  };
  return <p class="row"><button type="button" disabled={busy || state === 'offline'} onClick={cancel}>{m.cancel}</button>{answer && <span class="small" role="status">{answer}</span>}</p>;
}

/** A dialog that takes the focus and gives it back; Escape and the button close it. */
function Dialog({title, onClose, children}) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onCancel={(e) => { e.preventDefault(); onClose(); }} onClick={(e) => e.target === dialog.current && onClose()}>
      <div class="inside">
        <header><h2 id="dialog-title">{title}</h2><button type="button" class="square" aria-label={m.close} onClick={onClose}><Icon name="close" /></button></header>
        {children}
      </div>
    </dialog>
  );
}

function Form({name, capability, base, onSent}) {
  const schema = capability.arguments ?? {type: 'object'};
  const state = useCell(net);
  const [id] = useState(newId);
  const [fields, setFields] = useState(() => blank({type: 'object', ...schema, default: undefined, properties: schema.properties ?? {}}));
  const [errors, setErrors] = useState({});
  const [ttl, setTtl] = useState(30);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  // Once it may have arrived only the very same may be sent under this id.
  const [sent, setSent] = useState(null);
  const form = useRef(null);
  const submit = async (e) => {
    e.preventDefault();
    const {value, errors: found} = collect(schema, fields);
    setErrors(found);
    if (Object.keys(found).length > 0) {
      setProblem(m.formErrors(Object.keys(found).length));
      requestAnimationFrame(() => form.current?.querySelector('[aria-invalid=true]')?.focus());
      return;
    }
    const body = sent ?? {id, name, arguments: value, units: unitsOf(schema, value), ttl_ms: ttl * 1000};
    setBusy(true);
    setProblem(null);
    try {
      const {data} = await change('POST', `${base}/commands`, body, {'Idempotency-Key': id});
      onSent({events: [], ...data});
    } catch (failure) {
      if (failure instanceof Unreachable) {
        setSent(body);
        setProblem(m.noAnswer);
      } else {
        const place = failure.field && /^\/arguments(\/.*)$/.exec(failure.field)?.[1];
        if (place) {
          setErrors({[place]: failure.message});
        }
        setProblem(failure.code === 'conflict' ? m.conflict : failure.status === 429 ? m.tooMany : m.refused(failure.message));
      }
      setBusy(false);
    }
  };
  const offline = state === 'offline';
  return (
    <form ref={form} onSubmit={submit} noValidate>
      {capability.description && <p>{capability.description}</p>}
      <Fields schema={schema} fields={fields} errors={errors} onChange={setFields} disabled={busy || sent !== null} />
      {Object.keys(schema.properties ?? {}).length === 0 && <p class="muted">{m.noArguments}</p>}
      <div class="field"><label for="ttl">{m.ttl}</label>
        <select id="ttl" value={String(ttl)} disabled={busy || sent !== null} aria-describedby="ttl-hint" onChange={(e) => setTtl(Number(e.currentTarget.value))}>
          {m.ttls.map(([s, text]) => <option key={s} value={String(s)}>{text}</option>)}
        </select>
        <small id="ttl-hint" class="muted">{m.ttlHelp}</small></div>
      <p class="muted small">{capability.idempotent ? m.idempotent : m.once}</p>
      {problem && <p class="note bad" role="alert">{problem}</p>}
      {offline && !problem && <p class="note" role="status">{m.offlineCommand}</p>}
      <button class="primary" disabled={busy || (offline && !sent)}><Icon name="send" />{busy ? m.sending : sent ? m.sendAgain : m.send}</button>
    </form>
  );
}

function Follow({base, command, onChange}) {
  return (
    <div>
      <p><Status status={command.status} /></p>
      {Object.keys(command.arguments ?? {}).length > 0 && (
        <dl class="pairs">{Object.entries(command.arguments).flatMap(([k, v]) => [<dt key={`${k}-k`}>{words(k)}</dt>,
          <dd key={`${k}-v`}>{typeof v === 'object' ? JSON.stringify(v) : String(v)} {command.units?.[k] ?? ''}</dd>])}</dl>
      )}
      <Timeline command={command} />
      <p class="muted small">{command.issued_by ? `${m.by(command.issued_by, command.origin)}, ` : ''}{command.created_at_ms ? clockTime(command.created_at_ms) : ''}
        {!command.final && command.expires_at_ms ? `; ${m.expires(clockTime(command.expires_at_ms))}` : ''}</p>
      <Cancel base={base} command={command} onChange={onChange} />
    </div>
  );
}

export function Commands({gateway, device, site}) {
  const base = apiOf(gateway, device);
  const user = useCell(me);
  const state = useCell(net);
  const capabilities = useRead(`${base}/capabilities`);
  const history = useRead(`${base}/commands?limit=10`);
  const [open, setOpen] = useState(null);
  const [known, setKnown] = useState({});
  const operator = may(user, 'operator', site);

  useEffect(() => stream(`/commands/stream?${new URLSearchParams({gateway_id: gateway, device_id: device})}`, {
    onEvent: (name, event) => {
      if (name !== 'command') {
        return;
      }
      setKnown((all) => all[event.command_id] ? {...all, [event.command_id]: advance(all[event.command_id], event)}
        : {...all, [event.command_id]: {partial: true, id: event.command_id, status: event.status, final: FINAL.includes(event.status), events: [event]}});
      if (FINAL.includes(event.status)) {
        said.set(`${m.statuses[event.status]}. ${m.statusMeans[event.status]}`);
      }
    },
    // What was missed is asked for.
    onState: (s) => s === 'open' && (history.reload(), capabilities.reload(), setOpen((o) => o?.id ? {...o, turn: (o.turn ?? 0) + 1} : o)),
  }), [gateway, device]);

  const path = open?.id ? `${base}/commands/${encodeURIComponent(open.id)}` : null;
  const one = useRead(path);
  useEffect(() => {
    if (open?.id && open.turn) {
      one.reload();
    }
  }, [open?.turn]);
  const merge = (command) => setKnown((all) => {
    const old = all[command.id];
    const events = (old?.events ?? []).filter((e) => !(command.events ?? []).some((f) => f.id === e.id));
    return {...all, [command.id]: events.reduce(advance, {...command, events: command.events ?? []})};
  });
  useEffect(() => {
    if (one.data?.id) {
      merge(one.data);
    }
  }, [one.data]);

  const list = (history.data ?? []).map((c) => {
    const k = known[c.id];
    return k ? {...c, status: k.status, final: k.final} : c;
  });
  const shown = open?.id ? known[open.id] ?? list.find((c) => c.id === open.id) : null;
  // A command that somebody else sent is only known by its events: ask for the list.
  useEffect(() => {
    if (Object.values(known).some((k) => k.partial && !(history.data ?? []).some((c) => c.id === k.id))) {
      const timer = setTimeout(history.reload, 300);
      return () => clearTimeout(timer);
    }
  }, [Object.keys(known).length]);

  const commands = Object.entries(capabilities.data?.commands ?? {});
  const titleOf = (name) => capabilities.data?.commands?.[name]?.title ?? words(name ?? '');
  return (
    <>
      <Stale read={capabilities} />
      {capabilities.error && capabilities.error.status === 404 ? <p class="muted">{m.noCommands}</p> : <Waiting read={capabilities} />}
      {capabilities.data && commands.length === 0 && <p class="muted">{m.noCommands}</p>}
      {commands.length > 0 && (
        <>
          <ul class="actions">
            {commands.map(([name, capability]) => (
              <li key={name}><button type="button" disabled={!operator || state === 'offline'} onClick={() => setOpen({name, capability})}><Icon name="send" />{titleOf(name)}</button></li>
            ))}
          </ul>
          {!operator && <p class="muted small">{m.notOperator(roleAt(user, site) ?? m.noRole)}</p>}
          {state === 'offline' && <p class="note small">{m.offlineCommand}</p>}
        </>
      )}
      <h3>{m.history}</h3>
      <Stale read={history} />
      <Waiting read={history} />
      {history.data && list.length === 0 && <p class="muted small">{m.noHistory}</p>}
      <ul class="history">
        {list.map((c) => (
          <li key={c.id}><button type="button" class="plain" onClick={() => setOpen({id: c.id, name: c.name})}>
            <span><b>{titleOf(c.name)}</b> <span class="muted small"><Age at={c.created_at_ms} /></span></span><Status status={c.status} /></button></li>
        ))}
      </ul>
      {open && (
        <Dialog title={titleOf(open.name)} onClose={() => setOpen(null)}>
          {open.id ? (shown && shown.events ? <Follow base={base} command={shown} onChange={merge} /> : <Waiting read={one} />)
            : <Form name={open.name} capability={open.capability} base={base} onSent={(command) => {
              merge(command);
              setOpen({id: command.id, name: open.name, capability: open.capability});
              history.reload();
            }} />}
        </Dialog>
      )}
    </>
  );
}
