// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio.internal;

import io.caravan.runtime.Audit;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.management.MalformedObjectNameException;
import javax.management.ObjectName;
import org.jolokia.core.api.LogHandler;
import org.jolokia.json.JSONArray;
import org.jolokia.json.JSONObject;
import org.jolokia.json.JSONStructure;
import org.jolokia.server.core.config.ConfigKey;
import org.jolokia.server.core.config.StaticConfiguration;
import org.jolokia.server.core.http.HttpRequestHandler;
import org.jolokia.server.core.request.BadRequestException;
import org.jolokia.server.core.request.EmptyResponseException;
import org.jolokia.server.core.request.JolokiaExecRequest;
import org.jolokia.server.core.request.JolokiaObjectNameRequest;
import org.jolokia.server.core.request.JolokiaRequest;
import org.jolokia.server.core.request.JolokiaWriteRequest;
import org.jolokia.server.core.service.JolokiaServiceManagerFactory;
import org.jolokia.server.core.service.api.JolokiaContext;
import org.jolokia.server.core.service.api.JolokiaServiceManager;
import org.jolokia.server.core.util.RequestType;
import org.jolokia.service.jmx.LocalRequestHandler;
import org.jolokia.service.serializer.JolokiaSerializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Jolokia for this process only, without its servlet, its discovery and its proxy to others. Every request of a bulk is held against
 * {@link Policy} with the roles of who asks; what changes something is in the audit log before it is done; every text of an answer is
 * redacted. Thread-safe.
 */
final class Agent implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Agent.class);
  private static final int MAX_ARGUMENT = 500;
  private static final Pattern XML = Pattern.compile("[^<>]+");
  private static final Pattern BARE = Pattern.compile("&(?!#?[0-9A-Za-z]+;)");

  private final Policy policy;
  private final Supplier<UnaryOperator<String>> redaction;
  private final Supplier<Audit> audit;
  private final JolokiaServiceManager services;
  private final JolokiaContext context;

  /** @param redaction gives what takes the secrets of now out of a text */
  Agent(Policy policy, Supplier<UnaryOperator<String>> redaction, Supplier<Audit> audit) {
    this.policy = policy;
    this.redaction = redaction;
    this.audit = audit;
    Map<String, String> settings = new HashMap<>();
    settings.put(ConfigKey.AGENT_ID.getKeyValue(), "caravan-hawtio");
    settings.put(ConfigKey.DISCOVERY_ENABLED.getKeyValue(), "false");
    settings.put(ConfigKey.INCLUDE_STACKTRACE.getKeyValue(), "false");
    settings.put(ConfigKey.MAX_COLLECTION_SIZE.getKeyValue(), "10000");
    settings.put(ConfigKey.MAX_OBJECTS.getKeyValue(), "200000");
    settings.put(ConfigKey.MBEAN_QUALIFIER.getKeyValue(), "qualifier=caravan-hawtio");
    services = JolokiaServiceManagerFactory.createJolokiaServiceManager(new StaticConfiguration(settings), new Log(), policy, log -> new TreeSet<>());
    services.addService(new LocalRequestHandler(1000));
    services.addService(new JolokiaSerializer());
    context = services.start();
  }

  /**
   * Answers a request, or a list of them.
   *
   * @param roles all that the user has
   * @param body  JSON
   * @return JSON; a request that is refused or fails says so in its own answer
   * @throws BadRequestException it is no request of Jolokia
   */
  String answer(String user, Set<String> roles, byte[] body) throws BadRequestException, IOException {
    try {
      JSONStructure answer = new Handler(user, roles).handlePostRequest("/hawtio/jolokia", new ByteArrayInputStream(body), "UTF-8", new HashMap<>());
      return answer.toJSONString();
    } catch (EmptyResponseException e) {
      throw new BadRequestException("there is no answer to that", e);
    } catch (ClassCastException | IllegalArgumentException e) {
      throw new BadRequestException("the request is not understood", e);
    }
  }

  @Override
  public void close() {
    services.stop();
  }

  /** One bulk of one user. */
  private final class Handler extends HttpRequestHandler {
    private final String user;
    private final Set<String> roles;
    private final UnaryOperator<String> redact = redaction.get();
    private final Map<String, String> redacted = new HashMap<>();

    Handler(String user, Set<String> roles) {
      super(context);
      this.user = user;
      this.roles = roles;
    }

    @Override
    protected JSONObject executeRequest(JolokiaRequest request) throws BadRequestException, EmptyResponseException {
      String role = role(request);
      boolean changes = role != null && !role.equals(Policy.VIEWER);
      if (role == null || !roles.contains(role)) {
        String why = role == null ? "hawtio does not give access to that" : "this needs the role " + role + ", which [" + user + "] does not have";
        if (request instanceof JolokiaExecRequest || request instanceof JolokiaWriteRequest) {
          LOG.warn("Refused {} of [{}]: {}", request.getType(), user, why);
        }
        return refused(request, why);
      }
      if (changes) {
        record(request, "started");
      }
      JSONObject answer;
      try {
        answer = super.executeRequest(request);
      } catch (IllegalArgumentException e) {
        // One of several of that name, say: the others of the bulk get their answers.
        answer = getErrorJSON(400, e, request);
      }
      if (changes) {
        record(request, answer.containsKey("error") ? "failed" : "ok");
      }
      answer.remove("stacktrace");
      if (request.getType() == RequestType.LIST) {
        answer.put("value", listed(request.getPathParts(), answer.get("value")));
      } else if (request.getType() == RequestType.SEARCH && answer.get("value") instanceof List<?> names) {
        names.removeIf(name -> !visible(String.valueOf(name)));
      }
      return (JSONObject) clean(answer);
    }

    /** @return what it takes; null: nobody may */
    private String role(JolokiaRequest request) {
      if (!policy.isTypeAllowed(request.getType()) || request.getOption("target") != null) {
        return null;
      }
      if (request instanceof JolokiaExecRequest exec) {
        return policy.exec(exec.getObjectName(), exec.getOperation());
      }
      if (request instanceof JolokiaWriteRequest write) {
        return policy.write(write.getObjectName(), write.getAttributeName());
      }
      if (request.getType() == RequestType.READ && request instanceof JolokiaObjectNameRequest read && !policy.visible(read.getObjectName())) {
        return null;
      }
      return Policy.VIEWER;
    }

    private JSONObject refused(JolokiaRequest request, String why) {
      JSONObject answer = new JSONObject();
      answer.put("request", request.toJSON());
      answer.put("status", 403);
      answer.put("error_type", SecurityException.class.getName());
      answer.put("error", SecurityException.class.getName() + " : " + why);
      return (JSONObject) clean(answer);
    }

    private void record(JolokiaRequest request, String outcome) {
      Map<String, Object> details = new LinkedHashMap<>();
      String name = ((JolokiaObjectNameRequest) request).getObjectNameAsString();
      if (request instanceof JolokiaExecRequest exec) {
        details.put("operation", exec.getOperation());
        details.put("arguments", text(String.valueOf(exec.getArguments())));
      } else if (request instanceof JolokiaWriteRequest write) {
        details.put("attribute", write.getAttributeName());
        details.put("value", text(String.valueOf(write.getValue())));
      }
      audit.get().recordAs(user, "hawtio." + request.getType().getName(), redact.apply(name), outcome, details);
    }

    private String text(String value) {
      return redact.apply(value.length() > MAX_ARGUMENT ? value.substring(0, MAX_ARGUMENT) + "..." : value);
    }

    // ---- what is listed: hawtio shows buttons for what it finds there

    private Object listed(List<String> path, Object value) {
      int depth = path == null ? 0 : path.size();
      if (depth == 0 && value instanceof JSONObject all) {
        Object domains = all.get("domains");
        if (domains instanceof JSONObject inner && all.containsKey("cache")) {
          domains(inner);
        } else {
          domains(all);
        }
        return all;
      }
      if (depth == 1 && value instanceof JSONObject beans) {
        beans(path.get(0), beans);
        return beans;
      }
      if (depth >= 2) {
        if (!visible(path.get(0) + ":" + path.get(1))) {
          return null;
        }
        if (depth == 2 && value instanceof JSONObject info) {
          info(path.get(0) + ":" + path.get(1), info);
        }
      }
      return value;
    }

    private void domains(JSONObject domains) {
      domains.keySet().removeIf(domain -> !policy.domain(domain));
      domains.forEach((domain, beans) -> {
        if (beans instanceof JSONObject some) {
          beans(domain, some);
        }
      });
    }

    private void beans(String domain, JSONObject beans) {
      beans.keySet().removeIf(properties -> !visible(domain + ":" + properties));
      beans.forEach((properties, info) -> {
        if (info instanceof JSONObject some) {
          info(domain + ":" + properties, some);
        }
      });
    }

    private void info(String name, JSONObject info) {
      try {
        ObjectName bean = new ObjectName(name);
        if (info.get("op") instanceof JSONObject operations) {
          operations.keySet().removeIf(operation -> !roles.contains(String.valueOf(policy.exec(bean, operation))));
        }
        if (info.get("attr") instanceof JSONObject attributes) {
          attributes.forEach((attribute, about) -> {
            if (about instanceof JSONObject one && !roles.contains(String.valueOf(policy.write(bean, attribute)))) {
              one.put("rw", false);
            }
          });
        }
        info.remove("notif");
      } catch (MalformedObjectNameException e) {
        info.clear();
      }
    }

    private boolean visible(String name) {
      try {
        return policy.visible(new ObjectName(name));
      } catch (MalformedObjectNameException e) {
        return false;
      }
    }

    // ---- what is shown

    private Object clean(Object value) {
      if (value instanceof Map<?, ?> map) {
        JSONObject answer = new JSONObject();
        map.forEach((key, inner) -> {
          String name = String.valueOf(key);
          answer.put(text1(name), inner instanceof String text && secret(name) && !text.isEmpty() ? "***" : clean(inner));
        });
        return answer;
      }
      if (value instanceof List<?> list) {
        JSONArray answer = new JSONArray(list.size());
        list.forEach(inner -> answer.add(clean(inner)));
        return answer;
      }
      return value instanceof String text ? text1(text) : value;
    }

    /** Lists say the same again and again. */
    private String text1(String text) {
      // In XML what is between tags and what is in one, each by itself: a mask must not take a tag away. Camel's tracer does not escape
      // endpoint URIs, and a page would show what stands before the first of them only.
      return redacted.computeIfAbsent(text, t -> t.startsWith("<")
          ? XML.matcher(t).replaceAll(part -> Matcher.quoteReplacement(BARE.matcher(redact.apply(part.group())).replaceAll("&amp;"))) : redact.apply(t));
    }

    /** Whether a value of that name would be taken out of a text. */
    private boolean secret(String name) {
      return text1(name + ": x").equals(name + ": ***");
    }
  }

  /** Jolokia's own log. */
  private static final class Log implements LogHandler {
    @Override
    public void debug(String message) {
      LOG.debug("{}", message);
    }

    @Override
    public void info(String message) {
      LOG.debug("{}", message);
    }

    @Override
    public void error(String message, Throwable cause) {
      LOG.warn("{}", message, cause);
    }

    @Override
    public boolean isDebug() {
      return false;
    }
  }
}
