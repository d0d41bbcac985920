// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;
import javax.management.ObjectName;
import org.jolokia.server.core.util.HttpMethod;
import org.jolokia.server.core.util.RequestType;
import org.junit.jupiter.api.Test;

/** The allow-list, and how long a login lasts. */
class PolicyTest {
  private static final String RECOVERY = "io.caravan:type=Recovery";

  private static ObjectName name(String name) throws Exception {
    return new ObjectName(name);
  }

  @Test
  void onlyWhatIsListedIsThere() throws Exception {
    Policy policy = Policy.load();
    for (String name : List.of(RECOVERY, "org.apache.camel:context=gateway,type=routes,name=\"a\"", "org.apache.camel:type=routes,*",
        "org.apache.camel:context=gateway,type=tracer,name=BacklogTracer")) {
      assertTrue(policy.visible(name(name)), name);
      assertFalse(policy.isObjectNameHidden(name(name)), name);
    }
    for (String name : List.of("java.lang:type=Runtime", "*:*", "*:type=routes,*", "org.apache.camel:*", "org.apache.camel:type=*", "org.apache.camel:type=r*,name=x", "io.caravan:*",
        "org.apache.camel:type=tracer,*", "org.apache.camel:type=tracer,name=BacklogDebugger", "org.apache.camel:type=services,name=Other", "io.caravan:name=Recovery", "io.caravan2:type=Recovery",
        "IO.CARAVAN:type=Recovery", "io.caravan:type=recovery")) {
      assertFalse(policy.visible(name(name)), name);
      assertNull(policy.exec(name(name), "compact"), name);
    }
    assertFalse(policy.isTypeAllowed(RequestType.CONFIG) || policy.isTypeAllowed(RequestType.NOTIFICATION));
    assertFalse(policy.isHttpMethodAllowed(HttpMethod.GET));
  }

  @Test
  void operationsByNameWhateverTheSignature() throws Exception {
    Policy policy = Policy.load();
    assertEquals("admin", policy.exec(name(RECOVERY), "compact"));
    assertEquals("admin", policy.exec(name(RECOVERY), "compact()"));
    assertEquals("operator", policy.exec(name(RECOVERY), "pauseSink(java.lang.String)"));
    assertNull(policy.exec(name(RECOVERY), "compact2"));
    assertNull(policy.exec(name(RECOVERY), "(compact"));
    assertNull(policy.exec(name("io.caravan:type=Recovery,*"), "compact"), "no pattern is carried out");
    assertNull(policy.write(name(RECOVERY), "Status"));
    assertEquals("operator", policy.write(name("org.apache.camel:context=c,type=tracer,name=BacklogTracer"), "Enabled"));
    assertEquals("operator", policy.write(name("org.apache.camel:context=c,type=tracer,name=BacklogTracer"), "BodyMaxChars"));
  }

  @Test
  void aDamagedListIsNoList() {
    for (String line : List.of("exec compact admin", "mbean x", "allow everything please", "exec a")) {
      assertThrows(IOException.class, () -> Policy.parse(List.of(line)), line);
    }
    assertThrows(IOException.class, () -> Policy.parse(List.of("mbean a b", "exec c root")));
  }

  @Test
  void aLoginEnds() {
    AtomicLong now = new AtomicLong();
    Sessions sessions = new Sessions(now::get, 100, 250);
    String token = sessions.begin("anna", "hash");
    for (int i = 0; i < 2; i++) {
      now.addAndGet(100);
      assertEquals("anna", sessions.use(token).orElseThrow().user());
    }
    now.addAndGet(51);
    assertEquals(Optional.empty(), sessions.use(token), "used or not");
    String idle = sessions.begin("anna", "hash");
    now.addAndGet(101);
    assertEquals(Optional.empty(), sessions.use(idle));
    String ended = sessions.begin("anna", "hash");
    sessions.end(ended);
    assertEquals(Optional.empty(), sessions.use(ended));
    assertEquals(Optional.empty(), sessions.use(""));
  }
}
