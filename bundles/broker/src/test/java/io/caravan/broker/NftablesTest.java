// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The rules of device:firewall, by nft itself and with real packets between two network namespaces. */
@Timeout(120)
class NftablesTest {
  private static final List<Integer> PORTS = List.of(1883, 8883);

  @TempDir
  Path folder;

  @Test
  void onlyAddressesOfActiveDevicesAreIn() {
    String file = Nftables.file(List.of(device("a", Status.ACTIVE, "192.168.10.5/32", "fd00::5/128"), device("b", Status.ACTIVE, "192.168.10.0/28"),
        device("c", Status.REVOKED, "192.168.10.77/32")), "eth1", PORTS, "caravan_devices", List.of());
    assertTrue(file.contains("192.168.10.5/32") && file.contains("192.168.10.0/28") && file.contains("fd00::5/128"), file);
    assertFalse(file.contains("192.168.10.77"), file);
  }

  @Test
  void aDeviceWithoutAllowListIsRefusedByName() {
    List<Device> devices = List.of(device("a", Status.ACTIVE, "10.0.0.1/32"), device("open-1", Status.ACTIVE), device("gone", Status.REVOKED));
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Nftables.file(devices, "eth1", PORTS, "t", List.of()));
    assertTrue(e.getMessage().contains("open-1") && !e.getMessage().contains("gone"), e.getMessage());
    assertTrue(Nftables.file(devices, "eth1", PORTS, "t", List.of("10.0.0.0/24")).contains("10.0.0.0/24"));
  }

  @Test
  void nothingFromOutsideBecomesARule() {
    for (String name : List.of("", "eth1\" accept #", "eth1; flush ruleset", "a-name-that-is-far-too-long")) {
      assertThrows(IllegalArgumentException.class, () -> Nftables.file(List.of(), name, PORTS, "t", List.of()), name);
    }
    assertThrows(IllegalArgumentException.class, () -> Nftables.file(List.of(), "eth1", PORTS, "t { }", List.of()));
    assertThrows(IllegalArgumentException.class, () -> Nftables.file(List.of(), "eth1", PORTS, "t", List.of("10.0.0.1 } accept")));
    assertThrows(IllegalArgumentException.class, () -> Nftables.file(List.of(), "eth1", List.of(0), "t", List.of()));
  }

  /**
   * Two namespaces with a cable between them: a listener in one, clients with several addresses in the other. Needs
   * root, or namespaces for users; in a namespace of the test's own, so that the machine's rules are not touched.
   */
  @Test
  void realPacketsFromOtherAddressesAreDropped() throws Exception {
    Path rules = rules("before.nft", device("a", Status.ACTIVE, "10.77.0.2/32", "fd77::2/128"), device("b", Status.ACTIVE, "10.77.1.0/24"));
    Path after = rules("after.nft", device("b", Status.ACTIVE, "10.77.1.0/24"));
    Path none = rules("none.nft");
    Path script = Files.writeString(folder.resolve("namespaces"), """
        set -eu
        # A process that holds the other namespace.
        unshare -n sleep 600 & other=$!
        trap 'kill $other $servers 2>/dev/null || true' EXIT
        servers=
        until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
        there() { nsenter -t $other -n "$@"; }
        ip link set lo up
        ip link add iot0 type veth peer name dev0 netns $other
        ip addr add 10.77.0.1/16 dev iot0; ip -6 addr add fd77::1/64 dev iot0 nodad; ip link set iot0 up
        there ip addr add 10.77.0.2/16 dev dev0; there ip addr add 10.77.1.9/16 dev dev0; there ip addr add 10.77.2.9/16 dev dev0
        there ip -6 addr add fd77::2/64 dev dev0 nodad; there ip -6 addr add fd77::9/64 dev dev0 nodad; there ip link set dev0 up
        python3 listen.py >listening & servers=$!
        until grep -qs listening listening; do :; done
        # A link that was just set up carries nothing for a moment; of ports, no rule here is about this one.
        for _ in $(seq 100); do there python3 reach.py 2>unreached && break; done
        all() { there python3 connect.py "$1"; }
        all without
        nft -c -f "$1"; nft -f "$1"; nft -f "$1"
        all before
        nft -f "$2"
        all after
        nft -f "$3"
        all none
        """);
    Files.writeString(folder.resolve("listen.py"), """
        import socket, threading
        sockets = []
        for port in (1883, 8883, 9999):
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                s = socket.socket(family)
                if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((host, port)); s.listen(50); sockets.append(s)
        print("listening", flush=True)
        threading.Event().wait()
        """);
    Files.writeString(folder.resolve("reach.py"), """
        import socket
        for source, target in (("10.77.0.2", "10.77.0.1"), ("10.77.1.9", "10.77.0.1"), ("10.77.2.9", "10.77.0.1"), ("fd77::2", "fd77::1"), ("fd77::9", "fd77::1")):
            socket.create_connection((target, 9999), 1, (source, 0)).close()
        """);
    Files.writeString(folder.resolve("connect.py"), """
        import socket, sys, threading
        four, six = "10.77.0.1", "fd77::1"
        tries = [(f"{name} {port}", source, target, port) for port in (1883, 8883) for name, source, target in (("a", "10.77.0.2", four),
                 ("a6", "fd77::2", six), ("b", "10.77.1.9", four), ("stranger", "10.77.2.9", four), ("stranger6", "fd77::9", six))]
        tries.append(("other-port", "10.77.2.9", four, 9999))
        results = {}
        def attempt(name, source, target, port):
            s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
            s.bind((source, 0)); s.settimeout(3)
            try:
                s.connect((target, port)); results[name] = "in"
            except TimeoutError: results[name] = "dropped"
            except OSError as e: results[name] = str(e)
        threads = [threading.Thread(target=attempt, args=t) for t in tries]
        for t in threads: t.start()
        for t in threads: t.join()
        for t in tries: print(sys.argv[1], t[0], results[t[0]])
        """);
    String said = isolated("cd '" + folder + "' && exec bash '" + script + "' '" + rules + "' '" + after + "' '" + none + "'");
    List<String> wanted = new ArrayList<>();
    for (String when : List.of("without", "before", "after", "none")) {
      for (int port : PORTS) {
        boolean free = when.equals("without");
        boolean a = free || when.equals("before");
        boolean b = a || when.equals("after");
        wanted.add(when + " a " + port + " " + (a ? "in" : "dropped"));
        wanted.add(when + " a6 " + port + " " + (a ? "in" : "dropped"));
        wanted.add(when + " b " + port + " " + (b ? "in" : "dropped"));
        wanted.add(when + " stranger " + port + " " + (free ? "in" : "dropped"));
        wanted.add(when + " stranger6 " + port + " " + (free ? "in" : "dropped"));
      }
      wanted.add(when + " other-port in");
    }
    assertEquals(String.join("\n", wanted), said.strip());
  }

  /** mosquitto/firewall: rules that are not good never take the place of those in force, and without any nobody gets in. */
  @Test
  void theScriptLoadsRulesAndKeepsTheLast() throws Exception {
    Path gateway = Files.writeString(folder.resolve("caravan"), "#!/bin/sh\ncat '" + folder.resolve("rules") + "'\n");
    assertTrue(gateway.toFile().setExecutable(true));
    Files.copy(rules("good.nft", device("a", Status.ACTIVE, "10.77.0.2/32")), folder.resolve("good"));
    Path script = Files.writeString(folder.resolve("script"), """
        firewall() { "$1" --caravan ./caravan --interface iot0 --file ./last.nft >>log 2>&1; echo "exit $?"; }
        in_force() { nft list ruleset | grep -c -e 10.77.0.2 -e "drop"; }
        firewall "$1"; in_force            # the gateway does not answer, nothing of the last time
        cp good rules; firewall "$1"; in_force
        echo garbage >rules; firewall "$1"; in_force
        nft flush ruleset; firewall "$1"; in_force   # as after a boot
        """);
    assertEquals("exit 1\n1\nexit 0\n2\nexit 1\n2\nexit 1\n2", isolated("cd '" + folder + "' && bash '" + script + "' "
        + Path.of("../../mosquitto/firewall").toAbsolutePath().normalize()).strip());
  }

  private Path rules(String name, Device... devices) throws Exception {
    return Files.writeString(folder.resolve(name), Nftables.file(List.of(devices), "iot0", PORTS, "caravan_devices", List.of()));
  }

  private static Device device(String id, Status status, String... allow) {
    return new Device(id, status, List.of(), List.of(allow), null, Signing.OFF, null, null, null, 0, null, null, null, null, false);
  }

  /** In a network of its own; root needs no namespace of users, and where root is not, one may be allowed. */
  private static String isolated(String command) throws Exception {
    boolean root = execute("id", "-u").strip().equals("0");
    return execute("unshare", root ? "-n" : "-Urn", "bash", "-c", command);
  }

  private static String execute(String... command) throws Exception {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().merge("PATH", ":/usr/sbin:/sbin", String::concat);
    Process process = builder.start();
    process.getOutputStream().close();
    String said = new String(process.getInputStream().readAllBytes());
    assertTrue(process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0, said);
    return said;
  }
}
