// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.shell;

import io.caravan.broker.Nftables;
import io.caravan.devices.Devices;
import io.caravan.runtime.Caravan;
import java.util.ArrayList;
import java.util.List;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code device:firewall}. */
@Service
@Command(scope = "device", name = "firewall", description = "Print the allow-lists as rules for nft -f: on an interface, only addresses of active "
        + "devices reach the broker", detailedDescription = "Example:\n  device:firewall --interface eth1\n  device:firewall --interface eth1 --ports 8883 --json")
public final class DeviceFirewall implements Action {

  @Option(name = "--json", description = "Print JSON")
  boolean json;

  @Option(name = "--interface", required = true, description = "Network interface the devices are on")
  @Completion(InterfaceCompleter.class)
  String networkDevice;

  @Option(name = "--ports", description = "TCP ports of the broker there")
  @Completion(value = StringsCompleter.class, values = {"1883", "8883", "1883,8883"})
  String ports = "1883,8883";

  @Option(name = "--table", description = "Name of the table, which is replaced")
  @Completion(value = StringsCompleter.class, values = {"caravan_devices"})
  String table = "caravan_devices";

  @Option(name = "--any", description = "What any address means, for devices without an allow-list: networks with commas between them")
  @Completion(value = StringsCompleter.class, values = {"10.0.0.0/8", "192.168.0.0/16", "fd00::/8"})
  String any = "";

  @Reference
  Caravan caravan;

  @Reference
  Session session;

  @Override
  public Object execute() {
    Devices devices = caravan.bean("devices", Devices.class).orElseThrow(() -> new IllegalStateException(
        "The registry of devices is not open: route:list and /readyz say why. No rules are printed, so that the ones in force stay"));
    String rules = Nftables.file(devices.list(), networkDevice, numbers(), table, elements(any));
    if (json) {
      JsonObject object = new JsonObject();
      object.put("table", table);
      object.put("rules", rules);
      session.getConsole().println(object.toJson());
    } else {
      session.getConsole().print(rules);
    }
    return null;
  }

  private List<Integer> numbers() {
    try {
      return elements(ports).stream().map(Integer::valueOf).toList();
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException("--ports [" + ports + "] must be numbers with commas between them", e);
    }
  }

  private static List<String> elements(String text) {
    List<String> elements = new ArrayList<>();
    for (String element : text.split(",")) {
      if (!element.isBlank()) {
        elements.add(element.strip());
      }
    }
    return elements;
  }
}
