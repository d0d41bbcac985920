// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.PrintWriter;

import picocli.CommandLine;
import picocli.CommandLine.Command;

/** The command line of the bench: drives a gateway from outside and judges what arrived. */
@Command(name = "caravan-bench", mixinStandardHelpOptions = true, version = "0.1.0",
        description = "Drives a gateway from outside and judges what arrived.",
        subcommands = {Simulator.class, Load.class, Fleet.class, Get.class, Phone.class, Oracle.class, StoreRate.class, BareSqlite.class, BareFsync.class, Receivers.class,
                Watch.class, Quantiles.class, Consume.class, Loss.class, FirstAck.class, Soak.class, BareListener.class, Hot.class})
public final class Main {
    private Main() { }

    /**
     * Runs one subcommand.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        // The client library warns about every reconnect it makes; the summary line says it better.
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        System.exit(commandLine().execute(args));
    }

    static CommandLine commandLine() {
        return new CommandLine(new Main())
                .registerConverter(java.time.Duration.class, new Durations())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setExecutionExceptionHandler((e, cmd, parsed) -> {
                    PrintWriter err = cmd.getErr();
                    err.println(cmd.getCommandName() + ": " + e.getMessage());
                    for (Throwable cause = e.getCause(); cause != null; cause = cause.getCause()) {
                        err.println("  caused by " + cause);
                    }
                    if (Boolean.getBoolean("caravan.bench.trace")) {
                        e.printStackTrace(err);
                    }
                    err.flush();
                    return 2;
                });
    }
}
