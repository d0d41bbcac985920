// SPDX-License-Identifier: Apache-2.0
// A form out of the subset of JSON Schema that capabilities are declared with (docs/contract.md, section 13): one field for each
// argument, JSON for what no field fits. It checks what it can say at once; the gateway checks all of it.
import {useId} from 'preact/hooks';
import {m} from './messages.js';
import {limit, words} from './format.js';

const typeOf = (schema) => Array.isArray(schema.type) ? schema.type.find((t) => t !== 'null') : schema.type
  ?? (schema.properties ? 'object' : schema.items ? 'array' : schema.enum ? typeof schema.enum[0] : undefined);
const isNumber = (schema) => ['integer', 'number'].includes(typeOf(schema));
const isChoice = (schema) => Array.isArray(schema.enum);
const isPlain = (schema) => ['integer', 'number', 'string', 'boolean'].includes(typeOf(schema)) || isChoice(schema);

/** What the fields hold: text, or fields by name. */
export function blank(schema) {
  if (schema.default !== undefined && !(typeOf(schema) === 'object' && schema.properties)) {
    return shown(schema, schema.default);
  }
  if (typeOf(schema) === 'object' && schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, s]) => [name, blank(s)]));
  }
  return '';
}

function shown(schema, value) {
  if (isChoice(schema)) {
    return String(schema.enum.findIndex((e) => JSON.stringify(e) === JSON.stringify(value)));
  }
  if (typeOf(schema) === 'string') {
    return String(value);
  }
  if (typeOf(schema) === 'array' && isPlain(schema.items ?? {}) && Array.isArray(value)) {
    return value.join('\n');
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** The rule for a number or a text, in words. */
export function rule(schema) {
  const parts = [];
  const {minimum: a, maximum: b, exclusiveMinimum: c, exclusiveMaximum: d, multipleOf: step, minLength, maxLength, minItems, maxItems} = schema;
  if (a !== undefined && b !== undefined) {
    parts.push(m.between(limit(a), limit(b)));
  } else {
    if (a !== undefined) parts.push(m.atLeast(limit(a)));
    if (b !== undefined) parts.push(m.atMost(limit(b)));
  }
  if (c !== undefined) parts.push(m.moreThan(limit(c)));
  if (d !== undefined) parts.push(m.lessThan(limit(d)));
  if (step !== undefined && step !== 1) parts.push(m.stepOf(step));
  if (minLength || maxLength !== undefined) parts.push(m.chars(minLength, maxLength));
  if (minItems || maxItems !== undefined) parts.push(m.items(minItems, maxItems));
  return parts.join(', ');
}

/** Whether a decimal number is a multiple of another, as written and not as doubles have it. */
function multiple(text, step) {
  const places = (t) => {
    const [, fraction = '', exponent = '0'] = /^[^.eE]*(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(t) ?? [];
    return Math.max(0, fraction.length - Number(exponent));
  };
  const scale = Math.max(places(text), places(String(step)));
  return scale <= 12 && Math.abs(Math.round(Number(text) * 10 ** scale)) % Math.round(step * 10 ** scale) === 0;
}

function broken(schema, value, text) {
  const bad = isNumber(schema) ? (schema.minimum !== undefined && value < schema.minimum) || (schema.maximum !== undefined && value > schema.maximum)
      || (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) || (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum)
      || (schema.multipleOf !== undefined && !multiple(text, schema.multipleOf))
    : typeof value === 'string' ? [...value].length < (schema.minLength ?? 0) || [...value].length > (schema.maxLength ?? Infinity)
      : Array.isArray(value) ? value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity) : false;
  return bad ? m.mustBe.range(rule(schema)) : null;
}

/** Reads one field. {value} (undefined: left out), or {error}. */
function parse(schema, text, required) {
  if (schema.const !== undefined) {
    return {value: schema.const};
  }
  if (text === '' && !(typeOf(schema) === 'string' && required && !isChoice(schema) && !(schema.minLength > 0))) {
    return required ? {error: m.mustBe.required} : {value: undefined};
  }
  if (isChoice(schema)) {
    const value = schema.enum[Number(text)];
    return value === undefined ? {error: m.mustBe.choice} : {value};
  }
  switch (typeOf(schema)) {
    case 'integer':
    case 'number': {
      const value = Number(text.trim());
      if (!Number.isFinite(value)) {
        return {error: m.mustBe.number};
      }
      const error = typeOf(schema) === 'integer' && !Number.isInteger(value) ? m.mustBe.integer : broken(schema, value, text.trim());
      return error ? {error} : {value};
    }
    case 'boolean':
      return {value: text === 'true'};
    case 'string': {
      const error = broken(schema, text, text);
      return error ? {error} : {value: text};
    }
    case 'array':
      if (isPlain(schema.items ?? {})) {
        const each = text.split('\n').map((t) => t.trim()).filter(Boolean).map((t) =>
          parse(schema.items, isChoice(schema.items) ? String(schema.items.enum.findIndex((e) => String(e) === t)) : t, true));
        const bad = each.find((e) => e.error);
        const value = each.map((e) => e.value);
        const error = bad?.error ?? broken(schema, value, text);
        return error ? {error} : {value};
      }
    // falls through
    default:
      try {
        return {value: JSON.parse(text)};
      } catch {
        return {error: m.mustBe.json};
      }
  }
}

/** Reads all: {value, errors} with errors by path (/a/b). Names that are not required and empty are left out. */
export function collect(schema, fields, path = '') {
  const errors = {};
  const value = {};
  for (const [name, s] of Object.entries(schema.properties ?? {})) {
    const required = (schema.required ?? []).includes(name);
    if (typeOf(s) === 'object' && s.properties && s.const === undefined && !isChoice(s)) {
      const inner = collect(s, fields[name] ?? {}, `${path}/${name}`);
      if (required || Object.keys(inner.value).length > 0) {
        value[name] = inner.value;
        Object.assign(errors, inner.errors);
      }
      continue;
    }
    const got = parse(s, fields[name] ?? '', required);
    if (got.error) {
      errors[`${path}/${name}`] = got.error;
    } else if (got.value !== undefined) {
      value[name] = got.value;
    }
  }
  return {value, errors};
}

/** Units of the arguments that are given, so that another declaration than the one shown is noticed. */
export function unitsOf(schema, value) {
  return Object.fromEntries(Object.entries(schema.properties ?? {}).filter(([name, s]) => s.unit && value[name] !== undefined).map(([name, s]) => [name, s.unit]));
}

function Field({name, schema, required, value, error, onInput, disabled}) {
  const id = useId();
  const label = schema.title ?? words(name);
  const type = typeOf(schema);
  const hints = [schema.description, isChoice(schema) ? '' : rule(schema), schema.unit && !isNumber(schema) ? m.unit(schema.unit) : ''].filter(Boolean);
  if (schema.const !== undefined) {
    return <p class="field"><b>{label}</b> {String(schema.const)}</p>;
  }
  const common = {id, disabled, 'aria-invalid': error ? 'true' : undefined, 'aria-describedby': `${id}-hint${error ? ` ${id}-error` : ''}`, 'aria-required': required || undefined};
  let input;
  if (isChoice(schema)) {
    input = (
      <select {...common} value={value} onChange={(e) => onInput(e.currentTarget.value)}>
        <option value="">{required ? m.choose : m.notSet}</option>
        {schema.enum.map((e, i) => <option key={i} value={String(i)}>{typeof e === 'string' ? e : JSON.stringify(e)}</option>)}
      </select>
    );
  } else if (type === 'boolean') {
    const choices = [['true', m.on], ['false', m.off], ...(required ? [] : [['', m.notSet]])];
    return (
      <fieldset class="field" aria-describedby={common['aria-describedby']} disabled={disabled}>
        <legend>{label} {!required && <small class="muted">{m.optional}</small>}</legend>
        <div class="segments">
          {choices.map(([v, text]) => (
            <label key={v}><input type="radio" name={id} value={v} checked={value === v} aria-invalid={error ? 'true' : undefined} onChange={() => onInput(v)} /><span>{text}</span></label>
          ))}
        </div>
        <small id={`${id}-hint`} class="muted">{hints.join(' · ')}</small>
        {error && <small id={`${id}-error`} class="error">{error}</small>}
      </fieldset>
    );
  } else if (isNumber(schema)) {
    const low = schema.minimum;
    const high = schema.maximum;
    const step = schema.multipleOf ?? (type === 'integer' ? 1 : undefined);
    input = (
      <div class="number">
        <span class="input">
          <input {...common} inputMode={low >= 0 ? (type === 'integer' ? 'numeric' : 'decimal') : 'text'} type="text" autocomplete="off" value={value}
            onInput={(e) => onInput(e.currentTarget.value)} />
          {schema.unit && <span class="unit">{schema.unit}</span>}
        </span>
        {low !== undefined && high !== undefined && (
          <input type="range" tabIndex={-1} aria-hidden="true" disabled={disabled} min={low} max={high} step={step ?? (high - low) / 100 ?? 'any'} value={value === '' ? low : value}
            onInput={(e) => onInput(e.currentTarget.value)} />
        )}
      </div>
    );
  } else if (type === 'string') {
    input = <input {...common} type="text" autocomplete="off" value={value} onInput={(e) => onInput(e.currentTarget.value)} />;
  } else {
    hints.push(type === 'array' && isPlain(schema.items ?? {}) ? m.perLine : m.json);
    input = <textarea {...common} rows={3} value={value} spellcheck={false} onInput={(e) => onInput(e.currentTarget.value)} />;
  }
  return (
    <div class="field">
      <label for={id}>{label} {!required && <small class="muted">{m.optional}</small>}</label>
      {input}
      <small id={`${id}-hint`} class="muted">{hints.join(' · ')}</small>
      {error && <small id={`${id}-error`} class="error">{error}</small>}
    </div>
  );
}

export function Fields({schema, fields, errors, onChange, disabled, path = ''}) {
  return Object.entries(schema.properties ?? {}).map(([name, s]) => {
    const required = (schema.required ?? []).includes(name);
    const set = (v) => onChange({...fields, [name]: v});
    if (typeOf(s) === 'object' && s.properties && s.const === undefined && !isChoice(s)) {
      return (
        <fieldset class="group" key={name}>
          <legend>{s.title ?? words(name)} {!required && <small class="muted">{m.optional}</small>}</legend>
          <Fields schema={s} fields={fields[name] ?? {}} errors={errors} onChange={set} disabled={disabled} path={`${path}/${name}`} />
        </fieldset>
      );
    }
    return <Field key={name} name={name} schema={s} required={required} value={fields[name] ?? ''} error={errors[`${path}/${name}`]} onInput={set} disabled={disabled} />;
  });
}
