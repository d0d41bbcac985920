// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio.internal;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.management.ObjectName;
import org.jolokia.server.core.restrictor.AbstractConstantRestrictor;
import org.jolokia.server.core.util.HttpMethod;
import org.jolokia.server.core.util.RequestType;

/**
 * What of JMX can be seen and done, and by whom: the allow-list in {@code access.txt}. As Jolokia's restrictor it is the second lock,
 * which does not know who asks; {@link Agent} asks with the roles first. Immutable, thread-safe.
 */
final class Policy extends AbstractConstantRestrictor {
  static final String VIEWER = "viewer";
  private static final List<String> ROLES = List.of(VIEWER, "operator", "admin");
  private static final Set<RequestType> TYPES = Set.of(RequestType.READ, RequestType.LIST, RequestType.SEARCH, RequestType.VERSION, RequestType.EXEC,
      RequestType.WRITE);

  /** @param exec role by operation. @param write role by attribute */
  private record Rights(Map<String, String> exec, Map<String, String> write) { }

  private final Map<String, Rights> beans;

  private Policy(Map<String, Rights> beans) {
    super(false);
    this.beans = Map.copyOf(beans);
  }

  /** @throws IOException the file is not there, or a line breaks its form */
  static Policy load() throws IOException {
    try (InputStream in = Policy.class.getResourceAsStream("access.txt");
        BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
      return parse(lines.lines().toList());
    }
  }

  static Policy parse(List<String> lines) throws IOException {
    Map<String, Rights> beans = new HashMap<>();
    Rights rights = null;
    for (String line : lines) {
      if (line.isBlank() || line.startsWith("#")) {
        continue;
      }
      String[] word = line.strip().split("\\s+");
      if (word.length == 3 && word[0].equals("mbean")) {
        rights = new Rights(new HashMap<>(), new HashMap<>());
        beans.put(word[1] + ":" + word[2], rights);
      } else if (word.length == 3 && rights != null && ROLES.contains(word[2]) && word[0].equals("exec")) {
        rights.exec.put(word[1], word[2]);
      } else if (word.length == 3 && rights != null && ROLES.contains(word[2]) && word[0].equals("write")) {
        rights.write.put(word[1], word[2]);
      } else {
        throw new IOException("[" + line + "] in access.txt is none of mbean DOMAIN TYPE, exec OPERATION ROLE, write ATTRIBUTE ROLE");
      }
    }
    return new Policy(beans);
  }

  /** Null: it is not there. A pattern is there only where it can match nothing else than what is. */
  private Rights rights(ObjectName name) {
    String type = name.getKeyProperty("type");
    if (type == null || name.isDomainPattern() || name.isPropertyValuePattern("type")) {
      return null;
    }
    Rights all = beans.get(name.getDomain() + ":" + type);
    if (all != null) {
      return all;
    }
    String bean = name.getKeyProperty("name");
    return bean == null || name.isPropertyValuePattern("name") ? null : beans.get(name.getDomain() + ":" + type + "/" + bean);
  }

  /** @return the role it takes to call it, or null: nobody may */
  String exec(ObjectName name, String operation) {
    Rights rights = name.isPattern() ? null : rights(name);
    int signature = operation.indexOf('(');
    return rights == null ? null : rights.exec.get(signature < 0 ? operation : operation.substring(0, signature));
  }

  /** @return the role it takes to set it, or null: nobody may */
  String write(ObjectName name, String attribute) {
    Rights rights = name.isPattern() ? null : rights(name);
    return rights == null ? null : rights.write.get(attribute);
  }

  boolean visible(ObjectName name) {
    return rights(name) != null;
  }

  /** @return whether anything of that domain is visible */
  boolean domain(String domain) {
    return beans.keySet().stream().anyMatch(bean -> bean.startsWith(domain + ":"));
  }

  @Override
  public boolean isHttpMethodAllowed(HttpMethod method) {
    return method == HttpMethod.POST;
  }

  @Override
  public boolean isTypeAllowed(RequestType type) {
    return TYPES.contains(type);
  }

  @Override
  public boolean isAttributeReadAllowed(ObjectName name, String attribute) {
    return visible(name);
  }

  @Override
  public boolean isAttributeWriteAllowed(ObjectName name, String attribute) {
    return write(name, attribute) != null;
  }

  @Override
  public boolean isOperationAllowed(ObjectName name, String operation) {
    return exec(name, operation) != null;
  }

  @Override
  public boolean isObjectNameHidden(ObjectName name) {
    return !visible(name);
  }
}
