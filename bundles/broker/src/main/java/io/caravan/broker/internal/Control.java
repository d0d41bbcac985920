// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;

/** Commands to the dynamic security plugin, one request at a time. {@code call} is for one thread; the others may be called by any. */
final class Control {
  static final String TOPIC = "$CONTROL/dynamic-security/v1";
  static final String RESPONSES = TOPIC + "/response";
  private static final long ANSWER_MS = 15_000;

  /** How a request is published. */
  interface Publisher {
    void publish(String topic, byte[] payload) throws Exception;
  }

  private record Pending(String id, CompletableFuture<List<JsonObject>> answer) {}

  private final Publisher publisher;
  private volatile Pending pending;
  private long requests;

  Control(Publisher publisher) {
    this.publisher = publisher;
  }

  /**
   * Sends commands and waits for the answers.
   *
   * @return an answer per command, in order; {@code error} is what was wrong with it
   * @throws IOException no connection, or no answer
   */
  List<JsonObject> call(List<JsonObject> commands) throws IOException, InterruptedException {
    String id = "r" + ++requests;
    JsonArray array = new JsonArray();
    for (JsonObject command : commands) {
      JsonObject marked = new JsonObject(command);
      marked.put("correlationData", id);
      array.add(marked);
    }
    JsonObject request = new JsonObject();
    request.put("commands", array);
    Pending waiting = new Pending(id, new CompletableFuture<>());
    pending = waiting;
    try {
      publisher.publish(TOPIC, request.toJson().getBytes(StandardCharsets.UTF_8));
      List<JsonObject> answers = waiting.answer.get(ANSWER_MS, TimeUnit.MILLISECONDS);
      if (answers.size() != commands.size()) {
        throw new IOException("the broker answered [" + answers.size() + "] of [" + commands.size() + "] commands");
      }
      return answers;
    } catch (TimeoutException e) {
      throw new IOException("the broker did not answer within " + ANSWER_MS + " ms: is the plugin mosquitto_dynamic_security.so loaded,"
          + " and does the user have the role " + Acl.ADMIN + "?", e);
    } catch (ExecutionException e) {
      throw new IOException(e.getCause().getMessage(), e);
    } catch (InterruptedException | IOException e) {
      throw e;
    } catch (Exception e) {
      throw new IOException(e.getMessage() == null ? e.toString() : e.getMessage(), e);
    } finally {
      pending = null;
    }
  }

  void received(byte[] payload) {
    Pending waiting = pending;
    if (waiting == null) {
      return;
    }
    try {
      List<JsonObject> answers = new ArrayList<>();
      for (Object element : Found.list((JsonObject) Jsoner.deserialize(new String(payload, StandardCharsets.UTF_8)), "responses")) {
        JsonObject answer = (JsonObject) element;
        if (waiting.id.equals(answer.getString("correlationData"))) {
          answers.add(answer);
        }
      }
      if (!answers.isEmpty()) {
        waiting.answer.complete(answers);
      }
    } catch (Exception e) {
      waiting.answer.completeExceptionally(new IOException("the broker's answer is no JSON that is understood: " + e.getMessage(), e));
    }
  }

  void lost() {
    Pending waiting = pending;
    if (waiting != null) {
      waiting.answer.completeExceptionally(new IOException("the connection ended before the answer came"));
    }
  }
}
