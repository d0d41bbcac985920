// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.shell;

import java.net.NetworkInterface;
import java.net.SocketException;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Completes the network interfaces of this machine. */
@Service
public final class InterfaceCompleter implements Completer {

  @Override
  public int complete(Session session, CommandLine line, List<String> candidates) {
    StringsCompleter completer = new StringsCompleter();
    try {
      NetworkInterface.networkInterfaces().forEach(i -> completer.getStrings().add(i.getName()));
    } catch (SocketException e) {
      return -1;
    }
    return completer.complete(session, line, candidates);
  }
}
