// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker;

import io.caravan.devices.Devices;
import io.caravan.devices.Devices.Device;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * The allow-lists of the registry as a file for {@code nft -f}: on one interface, only addresses of active devices reach the
 * broker's ports. A packet filter knows no devices: an address that one device may come from is open for all of them. Stateless.
 */
public final class Nftables {
  private static final Pattern INTERFACE = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,14}");
  private static final Pattern TABLE = Pattern.compile("[a-z][a-z0-9_]{0,30}");
  private static final Pattern CIDR = Pattern.compile("[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?");
  private static final int NAMES = 10;

  private Nftables() {}

  /**
   * Loading the file replaces the whole table in one step. Connections that stand are asked packet by packet too.
   *
   * @param devices       of the registry; revoked ones do not count
   * @param networkDevice interface the devices are on
   * @param ports         TCP ports of the broker there
   * @param table         name of the table, of family inet, that is this file's alone
   * @param any           what "any address" of devices without an allow-list means, CIDR; empty: there may be no such device
   * @throws IllegalArgumentException a value breaks its rule, or a device has no allow-list and {@code any} is empty
   */
  public static String file(List<Device> devices, String networkDevice, List<Integer> ports, String table, List<String> any) {
    check(INTERFACE.matcher(networkDevice).matches(), "interface [" + networkDevice + "] must be the name of a network interface, as ip link shows it");
    check(TABLE.matcher(table).matches(), "table [" + table + "] must be lower-case letters, digits and _, at most 31");
    check(!ports.isEmpty() && ports.stream().allMatch(port -> port > 0 && port < 65_536), "ports " + ports + " must be from 1 to 65535, at least one");
    any.forEach(cidr -> check(CIDR.matcher(cidr).matches(), "any [" + cidr + "] must be an address or a network such as 192.168.10.0/24"));

    List<Device> active = devices.stream().filter(device -> device.status() == Devices.Status.ACTIVE).toList();
    List<String> open = active.stream().filter(device -> device.allow().isEmpty()).map(Device::id).toList();
    check(open.isEmpty() || !any.isEmpty(), open.size() + " devices have no allow-list and may come from any address: " + names(open)
        + "; give them one (device:allow-ip), or say with --any what that means, for example the network of the interface");

    TreeSet<String> cidrs = active.stream().flatMap(device -> device.allow().stream()).collect(Collectors.toCollection(TreeSet::new));
    if (!open.isEmpty()) {
      cidrs.addAll(any);
    }
    List<String> lines = new ArrayList<>();
    lines.add("# Made by device:firewall from the registry of devices; changes are lost. Load it with nft -f.");
    lines.add("# " + active.size() + " active devices, " + cidrs.size() + " addresses and networks"
        + (open.isEmpty() ? "" : "; " + open.size() + " devices without an allow-list: " + names(open)));
    // Declared, so that it can be deleted whether it is there or not; all of the file is one transaction.
    lines.add("table inet " + table);
    lines.add("delete table inet " + table);
    lines.add("table inet " + table + " {");
    set(lines, "allowed4", "ipv4_addr", cidrs.stream().filter(cidr -> !cidr.contains(":")).toList());
    set(lines, "allowed6", "ipv6_addr", cidrs.stream().filter(cidr -> cidr.contains(":")).toList());
    String where = "    iifname \"" + networkDevice + "\" tcp dport { " + ports.stream().map(String::valueOf).collect(Collectors.joining(", ")) + " } ";
    lines.add("  chain input {");
    // Before the machine's own rules (priority filter, 0), which still apply to what is accepted here.
    lines.add("    type filter hook input priority filter - 10; policy accept;");
    lines.add(where + "ip saddr @allowed4 accept");
    lines.add(where + "ip6 saddr @allowed6 accept");
    lines.add(where + "counter drop");
    lines.add("  }");
    lines.add("}");
    return String.join("\n", lines) + "\n";
  }

  private static void set(List<String> lines, String name, String type, List<String> elements) {
    lines.add("  set " + name + " {");
    lines.add("    type " + type);
    lines.add("    flags interval");
    lines.add("    auto-merge");
    if (!elements.isEmpty()) {
      lines.add("    elements = { " + String.join(",\n      ", elements) + " }");
    }
    lines.add("  }");
  }

  private static String names(List<String> ids) {
    return ids.stream().limit(NAMES).collect(Collectors.joining(", ")) + (ids.size() > NAMES ? " and " + (ids.size() - NAMES) + " more" : "");
  }

  private static void check(boolean rule, String message) {
    if (!rule) {
      throw new IllegalArgumentException(message);
    }
  }
}
