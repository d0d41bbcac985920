// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.accounts.AccountsModule;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.apache.felix.gogo.runtime.Token;
import org.apache.felix.gogo.runtime.threadio.ThreadIOImpl;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.console.Candidate;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.impl.action.command.ManagerImpl;
import org.apache.karaf.shell.impl.console.SessionFactoryImpl;
import org.apache.karaf.shell.support.parsing.CommandLineImpl;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** account:*, token:* and site:* as people type them, in Karaf's shell, on a real store. */
class AccountCommandsTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "../.."));
    private static final List<Class<?>> ALL = Stream.of(AccountCommands.class, TokenCommands.class, SiteCommands.class).flatMap(c -> Stream.of(c.getDeclaredClasses()))
            .filter(c -> c.isAnnotationPresent(Command.class)).<Class<?>>map(c -> c).toList();

    @TempDir
    Path home;

    private Session session;
    private final ByteArrayOutputStream printed = new ByteArrayOutputStream();

    private String run(String line) throws Exception {
        printed.reset();
        session.execute(line);
        return printed.toString(StandardCharsets.UTF_8);
    }

    private JsonNode json(String line) throws Exception {
        // The log of a command's thread is printed before it.
        List<String> lines = run(line + " --json").lines().toList();
        return JSON.readTree(lines.get(lines.size() - 1));
    }

    private String fails(String line) {
        return assertThrows(Exception.class, () -> session.execute(line)).getMessage();
    }

    @Test
    void whoMayDoWhatIsSaidInTheShell() throws Exception {
        try (Caravan caravan = Caravan.builder().home(home).keys(REPO.resolve("config/cloud/keys")).set("http.port", "0").set("container.role", "cloud")
                .withoutDiscovery().module("wal", new WalModule()).module("accounts", new AccountsModule()).start()) {
            assertTrue(caravan.awaitReady(Duration.ofSeconds(30)), () -> String.valueOf(caravan.checks()));
            SessionFactoryImpl factory = new SessionFactoryImpl(new ThreadIOImpl()) {
                /** As Karaf's own for commands with roles does it. */
                @Override
                protected org.apache.felix.service.command.Function wrap(org.apache.karaf.shell.api.console.Command command) {
                    var wrapped = super.wrap(command);
                    return (commandSession, arguments) -> {
                        arguments.replaceAll(a -> a instanceof Token ? a.toString() : a);
                        return wrapped.execute(commandSession, arguments);
                    };
                }
            };
            factory.getRegistry().register(caravan);
            ManagerImpl manager = new ManagerImpl(factory.getRegistry(), factory);
            Stream.concat(ALL.stream(), Stream.of(AccountCompleter.class, TokenCompleter.class, SiteCompleter.class, SiteGatewayCompleter.class)).forEach(manager::register);
            session = factory.create(new ByteArrayInputStream(new byte[0]), new PrintStream(printed, true), new PrintStream(printed, true));
            try {
                assertTrue(run("account:list").contains("account:add"), "nobody at first: " + printed);
                JsonNode made = json("account:add anna all:admin");
                assertEquals("{\"*\":\"admin\"}", made.get("roles").toString());
                assertEquals(24, made.get("password").asText().length());
                assertEquals("[]", json("token:list").toString());

                assertTrue(run("site:add plant-1 'Plant 1'").contains("site:assign"));
                assertTrue(fails("site:add plant-1 again").contains("already"));
                assertEquals("default", json("site:assign gateway-1 plant-1").get("before").asText());
                assertEquals("[{\"gateway_id\":\"gateway-1\",\"site\":\"plant-1\"}]", json("site:list --gateways").toString());
                assertTrue(run("site:list").contains("Plant 1"));
                assertTrue(fails("account:add ben plant-9:viewer").contains("plant-9"));
                assertTrue(fails("account:add ben viewer").contains("all:admin"));
                assertTrue(fails("account:add ben all:root").contains("viewer, operator, admin"));
                run("account:add ben plant-1:operator,default:viewer");
                assertEquals("{\"plant-1\":\"viewer\"}", json("account:role ben plant-1:viewer").get("roles").toString());
                assertTrue(run("account:list").contains("plant-1:viewer"));
                assertTrue(run("account:disable ben").contains("refused"));
                assertFalse(json("account:list").get(1).get("disabled_at_ms").isNull());
                run("account:enable ben");
                assertTrue(run("account:passwd ben").contains("shown this once"));
                assertEquals(0, json("account:logout oidc:carl").get("ended").asInt());

                JsonNode token = json("token:add grafana all:viewer --expires 90d --account ben");
                assertTrue(token.get("secret").asText().matches("cvt_[A-Za-z0-9_-]{43}"), token.toString());
                assertTrue(run("token:list").contains("grafana"));
                assertFalse(printed.toString(StandardCharsets.UTF_8).contains(token.get("secret").asText()));
                assertTrue(fails("token:remove grafana").contains("token:revoke"));
                run("token:revoke grafana");
                assertTrue(run("token:list").contains("revoked"));
                run("token:remove grafana");

                assertEquals(List.of("anna", "ben"), complete("account:role "));
                assertEquals(List.of("default", "plant-1"), complete("site:rename "));
                assertEquals(List.of("gateway-1"), complete("site:assign "));
                assertTrue(fails("account:remove ben").contains("--yes"));
                run("account:remove ben --yes");
                assertTrue(fails("site:remove plant-1 --yes").contains("site:assign"));
                run("site:assign gateway-1 default");
                run("site:remove plant-1 --yes");
                assertTrue(run("account:add --help").contains("all:admin"));
            } finally {
                session.close();
                factory.stop();
            }
        }
    }

    private List<String> complete(String line) {
        return session.getFactory().getRegistry().getCommands().stream().filter(c -> line.startsWith(c.getScope() + ":" + c.getName() + " ")).findFirst()
                .map(c -> {
                    List<Candidate> candidates = new ArrayList<>();
                    String[] words = line.split(" ", -1);
                    c.getCompleter(false).completeCandidates(session, new CommandLineImpl(words, words.length - 1, 0, line.length(), line), candidates);
                    return candidates.stream().map(x -> x.value().strip()).filter(x -> !x.startsWith("-")).sorted().toList();
                }).orElseThrow();
    }

    /** The gateway has these classes, and not the types of the cloud. */
    @Test
    void noSignatureNamesWhatAGatewayDoesNotHave() {
        for (Class<?> type : ALL) {
            for (Method method : type.getDeclaredMethods()) {
                assertFalse(Stream.concat(Stream.of(method.getReturnType()), Arrays.stream(method.getParameterTypes())).anyMatch(t -> t.getName().startsWith("io.caravan.accounts")),
                        method.toString());
            }
        }
        assertEquals(17, ALL.size());
    }

    @Test
    void whatChangesIsAudited() {
        assertFalse(CommandAudit.changes("account:list --json"));
        assertFalse(CommandAudit.changes("site:list"));
        assertTrue(CommandAudit.changes("account:add anna all:admin"));
        assertTrue(CommandAudit.changes("token:list; token:revoke x"));
    }
}
