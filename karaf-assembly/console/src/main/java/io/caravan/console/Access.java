// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.UserPrincipal;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Who may do what in the shell: {@code etc/shell.access}, read anew for each session. The user the process runs as and root are
 * admins, whatever it says; for anybody else the highest role of their name and groups counts. A line that is not understood, or a
 * file that cannot be read, gives nobody anything. This class is thread-safe.
 */
final class Access {

    /** Each has all rights of those before it. */
    static final List<String> ROLES = List.of("viewer", "operator", "admin");

    private static final Logger LOG = LoggerFactory.getLogger(Access.class);
    private static final Pattern LINE = Pattern.compile("(?:socket\\.group\\s*=\\s*(?<socket>[^\\s=]+)|(?<group>@?)(?<name>[^\\s=@]+)\\s*=\\s*(?<role>viewer|operator|admin))");
    /** Karaf's own names of what an admin may do: its bundles ask for them. */
    private static final List<String> KARAF = List.of("manager", "systembundles");
    private static final long ID_S = 10;

    private record Rule(boolean group, String name, String role) { }

    private final Path file;
    private final Function<String, Set<String>> groups;

    Access(Path file) {
        this(file, Access::groupsOf);
    }

    /** @param groups of a user */
    Access(Path file, Function<String, Set<String>> groups) {
        this.file = file;
        this.groups = groups;
    }

    /** @return the group whose members may open the socket; null: only its owner may */
    String socketGroup() {
        return lines().stream().map(m -> m.group("socket")).filter(g -> g != null).reduce((a, b) -> b).orElse(null);
    }

    /**
     * @param owner who the process runs as
     * @param root  null where there is none
     * @return empty: nothing is allowed
     */
    Set<String> roles(UserPrincipal user, UserPrincipal owner, UserPrincipal root) {
        if (user.equals(owner) || user.equals(root)) {
            Set<String> all = new HashSet<>(ROLES);
            all.addAll(KARAF);
            return all;
        }
        List<Rule> rules = lines().stream().filter(m -> m.group("role") != null)
                .map(m -> new Rule(!m.group("group").isEmpty(), m.group("name"), m.group("role"))).toList();
        Set<String> of = rules.stream().anyMatch(Rule::group) ? groups.apply(user.getName()) : Set.of();
        int best = rules.stream().filter(r -> r.group ? of.contains(r.name) : r.name.equals(user.getName()))
                .mapToInt(r -> ROLES.indexOf(r.role)).max().orElse(-1);
        Set<String> roles = new HashSet<>(ROLES.subList(0, best + 1));
        if (roles.contains("admin")) {
            roles.addAll(KARAF);
        }
        return roles;
    }

    private List<Matcher> lines() {
        List<Matcher> lines = new ArrayList<>();
        try {
            if (Files.exists(file)) {
                for (String line : Files.readAllLines(file)) {
                    Matcher matcher = LINE.matcher(line.replaceFirst("#.*", "").strip());
                    if (matcher.matches()) {
                        lines.add(matcher);
                    } else if (!line.replaceFirst("#.*", "").isBlank()) {
                        LOG.warn("Line [{}] of [{}] has no effect: it must be <user> = <role>, @<group> = <role> or socket.group = <group>, roles being {}", line.strip(), file, ROLES);
                    }
                }
            }
        } catch (IOException | UncheckedIOException e) {
            LOG.warn("[{}] cannot be read, only the owner of the process and root may use the shell: {}", file, e.toString());
            return List.of();
        }
        return lines;
    }

    /** As the system's user database says, wherever it keeps that. */
    private static Set<String> groupsOf(String user) {
        try {
            Process id = new ProcessBuilder("id", "-Gn", "--", user).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            id.getOutputStream().close();
            String answer = new String(id.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (id.waitFor(ID_S, TimeUnit.SECONDS) && id.exitValue() == 0) {
                return Set.of(answer.strip().split("\\s+"));
            }
            id.destroyForcibly();
            LOG.warn("Groups of user [{}] are not known", user);
        } catch (IOException e) {
            LOG.warn("Groups of user [{}] are not known: {}", user, e.toString());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return Set.of();
    }
}
