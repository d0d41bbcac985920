-- SPDX-License-Identifier: Apache-2.0
-- The functions of the cloud's store. Made anew at each open, under the lock of the migrations: replicas of an older program use them too,
-- so names, parameters and what they return stay.

-- The dialect words (sql-postgresql.properties) that need a function. None of them fails on JSON that a gateway may send.

-- Text to JSON. jsonb knows neither U+0000 nor half a surrogate pair, and no number beyond 131072 digits or 16383 places: these are
-- replaced. The text is a whole batch, so nothing else in it may change: escapes are in strings only, numbers are looked for outside.
CREATE OR REPLACE FUNCTION caravan_json(source text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  t text := source;
BEGIN
  FOR attempt IN 1..2 LOOP -- a text may have both
    BEGIN
      RETURN t::jsonb;
    EXCEPTION
      WHEN untranslatable_character OR invalid_text_representation THEN
        t := replace(t, '\\', chr(1)); -- what is left of backslashes begins an escape
        t := regexp_replace(t, '\\u0000', '\\ufffd', 'g');
        t := regexp_replace(t, '\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})', '\\ufffd', 'g');
        t := regexp_replace(t, '(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}', '\\ufffd', 'g');
        t := replace(t, chr(1), '\\');
      WHEN numeric_value_out_of_range THEN
        -- Strings, and what is between them. The digits before the exponent are at most some hundred: 999 is still beyond any double.
        SELECT string_agg(CASE WHEN left(m[1], 1) = '"' THEN m[1]
            ELSE regexp_replace(m[1], '(\d[eE])\+?(-?)0*[1-9]\d{3,}', '\1\2999', 'g') END, '' ORDER BY n)
          INTO t FROM regexp_matches(t, '"(?:[^"\\]|\\.)*"|[^"]+', 'g') WITH ORDINALITY AS p (m, n);
    END;
  END LOOP;
  RETURN t::jsonb;
END $$;

-- '$.a.b' to {a,b}; '$' to {}.
CREATE OR REPLACE FUNCTION caravan_json_path(path text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
  $$ SELECT string_to_array(substr(path, 3), '.') $$;

-- As SQLite's json_type: text, integer, real, true, false, null, object, array; NULL: there is none. An integer fits into BIGINT,
-- a real into DOUBLE PRECISION; a number that does not is 'huge'. Neither STRICT nor with a FROM: so the planner puts it in place.
CREATE OR REPLACE FUNCTION caravan_json_type(source jsonb, path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE jsonb_typeof(source #> string_to_array(substr(path, 3), '.'))
    WHEN 'string' THEN 'text'
    WHEN 'boolean' THEN source #>> string_to_array(substr(path, 3), '.')
    WHEN 'number' THEN CASE WHEN source #>> string_to_array(substr(path, 3), '.') ~ '^-?\d{1,18}$' THEN 'integer'
      WHEN abs(CAST(source #> string_to_array(substr(path, 3), '.') AS numeric)) BETWEEN 1e-300 AND 1.7e308
        OR CAST(source #> string_to_array(substr(path, 3), '.') AS numeric) = 0 THEN 'real'
      ELSE 'huge' END
    ELSE jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) END
$$;
CREATE OR REPLACE FUNCTION caravan_json_text(source jsonb, path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT source #>> string_to_array(substr(path, 3), '.') $$;
-- NULL: it is not an integer, or one that does not fit.
CREATE OR REPLACE FUNCTION caravan_json_long(source jsonb, path text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) = 'number' AND source #>> string_to_array(substr(path, 3), '.') ~ '^-?\d{1,18}$'
    THEN CAST(source #>> string_to_array(substr(path, 3), '.') AS bigint) END
$$;
-- NULL: it is not a number, or one that does not fit.
CREATE OR REPLACE FUNCTION caravan_json_double(source jsonb, path text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) = 'number'
    AND (abs(CAST(source #> string_to_array(substr(path, 3), '.') AS numeric)) BETWEEN 1e-300 AND 1.7e308 OR CAST(source #> string_to_array(substr(path, 3), '.') AS numeric) = 0)
    THEN CAST(source #>> string_to_array(substr(path, 3), '.') AS double precision) END
$$;

-- The elements of an array, in order, with their positions from 0.
CREATE OR REPLACE FUNCTION caravan_json_each(source jsonb) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(source) WITH ORDINALITY AS e (v, n) $$;
CREATE OR REPLACE FUNCTION caravan_json_each(source text) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(caravan_json(source)) WITH ORDINALITY AS e (v, n) $$;
CREATE OR REPLACE FUNCTION caravan_json_each(source text, path text) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(caravan_json(source) #> caravan_json_path(path)) WITH ORDINALITY AS e (v, n) $$;
CREATE OR REPLACE FUNCTION caravan_json_each_text(source text) RETURNS TABLE (key bigint, value text) LANGUAGE sql IMMUTABLE STRICT ROWS 100 AS
  $$ SELECT e.n - 1, e.v FROM jsonb_array_elements_text(caravan_json(source)) WITH ORDINALITY AS e (v, n) $$;

-- Held to the end of the transaction. The lock is this schema's: several stores may share a database.
CREATE OR REPLACE FUNCTION caravan_lock(number integer) RETURNS void LANGUAGE sql VOLATILE AS
  $$ SELECT pg_advisory_xact_lock(hashtext('caravan.' || current_schema()), number) $$;
-- Before rows go into inbox: sequences then become visible in their order, and stay dense (docs/adr, 5 and 10). What a rollback has
-- spent is taken back here, where nobody else can be at it. Rows leave the inbox only when every cursor is past them, so the last
-- sequence is there or is a cursor.
CREATE OR REPLACE FUNCTION caravan_inbox_lock() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  last bigint;
BEGIN
  PERFORM caravan_lock(1);
  SELECT greatest((SELECT max(seq) FROM inbox), (SELECT max(acked_seq) FROM sink_range), 0) INTO last;
  IF last > 0 AND last <> (SELECT q.last_value FROM inbox_seq_seq q) THEN
    PERFORM setval('inbox_seq_seq', last);
  ELSIF last = 0 AND (SELECT q.is_called FROM inbox_seq_seq q) THEN
    PERFORM setval('inbox_seq_seq', 1, false);
  END IF;
END $$;
