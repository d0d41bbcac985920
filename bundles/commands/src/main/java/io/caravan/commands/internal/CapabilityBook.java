// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.internal.SchemaSubset.Bad;
import io.caravan.devices.Devices;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Bean {@code capabilities}: what is configured, announced, and taken away by the policy, in memory. */
final class CapabilityBook implements Capabilities {
  private static final Logger LOG = LoggerFactory.getLogger(CapabilityBook.class);
  private static final int PARSED_MAX = 512;
  private static final CapabilityForm NOTHING = new CapabilityForm(null, List.of(), "");

  private final Supplier<Devices> devices;
  private final WatchedFile<Policy> policy;
  private final WatchedFile<CapabilityForm> own;
  private final Map<String, CapabilityForm> announced = new ConcurrentHashMap<>();
  /** Devices of one make say the same: parsed once, kept once. Null: cannot be used. */
  private final Map<String, CapabilityForm> parsed = new LinkedHashMap<>(16, 0.75f, true) {
    private static final long serialVersionUID = 1L;

    @Override
    protected boolean removeEldestEntry(Map.Entry<String, CapabilityForm> eldest) {
      return size() > PARSED_MAX;
    }
  };

  /**
   * @param devices the registry, null while it is not there
   * @param own     what the gateway itself can do
   */
  CapabilityBook(Supplier<Devices> devices, WatchedFile<Policy> policy, WatchedFile<CapabilityForm> own) {
    this.devices = devices;
    this.policy = policy;
    this.own = own;
  }

  /** For {@link WatchedFile}. */
  static CapabilityForm file(String text) {
    try {
      return CapabilityForm.parse(text);
    } catch (Bad e) {
      throw new IllegalArgumentException(e.getMessage(), e);
    }
  }

  void load(DataSource reader) throws SQLException {
    try (Connection connection = reader.getConnection(); Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT device_id, body FROM capability ORDER BY device_id")) {
      while (rows.next()) {
        try {
          announced.put(rows.getString(1), parse(rows.getString(2)));
        } catch (Bad e) {
          LOG.warn("what [{}] has announced cannot be used any more, it must announce again: {}", rows.getString(1), e.getMessage());
        }
      }
    }
  }

  // ---- what is asked

  @Override
  public Optional<Declared> of(String deviceId) {
    String source = "announced";
    CapabilityForm form;
    if (deviceId.equals(Commands.GATEWAY)) {
      source = "gateway";
      form = own.value();
    } else {
      form = configured(deviceId);
      if (form != null) {
        source = "configured";
      } else {
        form = announced.get(deviceId);
      }
    }
    if (form == null) {
      return Optional.empty();
    }
    Policy now = policy.value();
    return Optional.of(new Declared(deviceId, form.version(), source, form.commands().stream().map(c -> now.apply(deviceId, c)).toList()));
  }

  @Override
  public Optional<Capability> find(String deviceId, String name) {
    CapabilityForm form = deviceId.equals(Commands.GATEWAY) ? own.value() : configured(deviceId);
    if (form == null) {
      form = announced.get(deviceId);
    }
    if (form != null) {
      for (Capability capability : form.commands()) {
        if (capability.name().equals(name)) {
          return Optional.of(policy.value().apply(deviceId, capability));
        }
      }
    }
    return Optional.empty();
  }

  @Override
  public List<Declared> list() {
    TreeSet<String> ids = new TreeSet<>(announced.keySet());
    Devices registry = devices.get();
    if (registry != null) {
      registry.list().stream().filter(d -> d.capabilities() != null).forEach(d -> ids.add(d.id()));
    }
    ids.add(Commands.GATEWAY);
    List<Declared> all = new ArrayList<>(ids.size());
    ids.forEach(id -> of(id).ifPresent(all::add));
    return all;
  }

  @Override
  public Optional<Problem> valid(String json) {
    try {
      CapabilityForm.parse(json);
      return Optional.empty();
    } catch (Bad e) {
      return Optional.of(e.problem());
    }
  }

  @Override
  public Optional<Problem> check(Capability capability, JsonNode arguments, JsonNode units) {
    if (!capability.allowed()) {
      return Optional.of(new Problem("not_allowed", null, "[" + capability.name() + "] must not be sent to this device: command-policy.json of the gateway"));
    }
    try {
      if (!arguments.isObject()) {
        throw new Bad("bad_arguments", "", "arguments [" + Json.shown(arguments.toString()) + "] must be a JSON object");
      }
      SchemaSubset.check(capability.arguments(), arguments, "bad_arguments", /* closed= */ true);
      if (units != null && !units.isNull()) {
        units(capability, arguments, units);
      }
      return Optional.empty();
    } catch (Bad e) {
      return Optional.of(e.problem());
    }
  }

  private static void units(Capability capability, JsonNode arguments, JsonNode units) throws Bad {
    if (!units.isObject()) {
      throw new Bad("unit_mismatch", "", "units [" + Json.shown(units.toString()) + "] must be a JSON object of argument to unit");
    }
    for (Iterator<Map.Entry<String, JsonNode>> members = units.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      String at = SchemaSubset.pointer("", member.getKey());
      JsonNode unit = capability.arguments().path("properties").path(member.getKey()).path("unit");
      if (!arguments.has(member.getKey())) {
        throw new Bad("unit_mismatch", at, at + ": there is a unit and no argument of that name");
      }
      if (!unit.isTextual() || !unit.equals(member.getValue())) {
        throw new Bad("unit_mismatch", at, at + ": [" + Json.shown(member.getValue().asText()) + "] must be "
            + (unit.isTextual() ? unit.textValue() : "left out, the capability names no unit"));
      }
    }
  }

  @Override
  public Optional<Problem> matches(JsonNode schema, JsonNode value) {
    try {
      SchemaSubset.form(schema, "", "bad_command");
      SchemaSubset.check(schema, value, "precondition_failed", /* closed= */ false);
      return Optional.empty();
    } catch (Bad e) {
      return Optional.of(e.problem());
    }
  }

  // ---- what is said

  /** @throws Bad it cannot be used; what was in force stays */
  CapabilityForm parse(String body) throws Bad {
    CapabilityForm form = CapabilityForm.parse(body);
    synchronized (parsed) {
      CapabilityForm same = parsed.putIfAbsent(form.json(), form);
      return same == null ? form : same;
    }
  }

  /** Whether it says nothing new, against what is committed. */
  boolean knows(String deviceId, CapabilityForm form) {
    CapabilityForm before = announced.get(deviceId);
    return before != null && before.json().equals(form.json());
  }

  /** @return whether something was written; in force after COMMIT */
  boolean announce(Turn turn, String deviceId, CapabilityForm form, long seq) throws SQLException {
    PreparedStatement upsert = turn.statement("INSERT INTO capability (device_id, version, body, wal_seq, updated_at_ms) VALUES (?, ?, ?, ?, ?)"
        + " ON CONFLICT (device_id) DO UPDATE SET version = excluded.version, body = excluded.body, wal_seq = excluded.wal_seq,"
        + " updated_at_ms = excluded.updated_at_ms WHERE body <> excluded.body");
    upsert.setString(1, deviceId);
    upsert.setString(2, form.version());
    upsert.setString(3, form.json());
    upsert.setLong(4, seq);
    upsert.setLong(5, turn.nowMs());
    boolean changed = upsert.executeUpdate() > 0;
    turn.afterCommit(() -> announced.put(deviceId, form));
    return changed;
  }

  /** @return null: nothing is configured. What is configured and cannot be used allows nothing: it was meant to say something */
  private CapabilityForm configured(String deviceId) {
    Devices registry = devices.get();
    String json = registry == null ? null : registry.find(deviceId).map(Devices.Device::capabilities).orElse(null);
    if (json == null) {
      return null;
    }
    synchronized (parsed) {
      CapabilityForm form = parsed.get(json);
      if (form == null) {
        try {
          form = CapabilityForm.parse(json);
        } catch (Bad e) {
          LOG.warn("what is configured for [{}] cannot be used, so it gets no commands: {}; mend it with capability:set", deviceId, e.getMessage());
          form = NOTHING;
        }
        parsed.put(json, form);
      }
      return form;
    }
  }

  int announcedCount() {
    return announced.size();
  }
}
