// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ActuatorsTest {
    private final ObjectMapper json = new ObjectMapper();
    private final Actuators actuators = new Actuators(1_000);

    private Actuators.Done command(String id, String name, String arguments, boolean expired) throws Exception {
        return actuators.command(json.readTree("{\"command_id\":\"" + id + "\",\"name\":\"" + name + "\",\"arguments\":" + arguments + "}"), expired);
    }

    @Test
    void doesWhatItIsToldAndSaysSo() throws Exception {
        Actuators.Done done = command("c-1", "led", "{\"on\":true}", false);
        assertEquals(new Actuators.Done("ran", new Actuators.Answer("c-1", "succeeded", null, null), true), done);
        assertEquals("\"led\":true,\"relay\":false,\"interval_ms\":1000", actuators.reported());
        assertFalse(command("c-2", "led", "{\"on\":true}", false).changed(), "it is on already");
        assertTrue(command("c-3", "sampling", "{\"interval_ms\":250}", false).changed());
        assertEquals(250, actuators.intervalMs());
        assertEquals("{\"relay\":true,\"switched\":1}", command("c-4", "relay", "{\"on\":true}", false).answer().result().toString());
    }

    @Test
    void aRepeatedIdIsAnsweredAgainAndNotCarriedOutAgain() throws Exception {
        Actuators.Done first = command("c-1", "relay", "{\"on\":true}", false);
        for (boolean expired : new boolean[] {false, true}) {
            Actuators.Done again = command("c-1", "relay", "{\"on\":true}", expired);
            assertEquals("again", again.what());
            assertEquals(first.answer(), again.answer());
        }
        assertEquals(1, actuators.switched());
        command("c-2", "relay", "{\"on\":true}", false);
        assertEquals(2, actuators.switched(), "another id is another command: else this test proves nothing");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {"relay | {\"on\":true} | true | expired", "fly | {} | false | no command [fly]", "relay | {\"on\":1} | false | on must be true or false",
        "sampling | {\"interval_ms\":99} | false | interval_ms must be from 100 to 60000", "sampling | {} | false | interval_ms must be from 100 to 60000"})
    void refusesWhatIsAgainstARule(String name, String arguments, boolean expired, String why) throws Exception {
        assertEquals(new Actuators.Done("refused", new Actuators.Answer("c-1", "rejected", null, why), false), command("c-1", name, arguments, expired));
        assertEquals(0, actuators.switched());
        assertEquals(1_000, actuators.intervalMs());
    }

    @Test
    void followsTheDesiredStateButNotWithItsRelay() throws Exception {
        assertTrue(actuators.follow(json.readTree("{\"led\":true,\"relay\":true,\"interval_ms\":500,\"colour\":\"red\"}")));
        assertEquals("\"led\":true,\"relay\":false,\"interval_ms\":500", actuators.reported());
        assertFalse(actuators.follow(json.readTree("{\"interval_ms\":5}")), "out of range");
        assertFalse(actuators.follow(json.readTree("{}")));
    }

    @Test
    void remembersOnlySoManyIds() throws Exception {
        for (int i = 0; i <= Actuators.REMEMBERED; i++) {
            command("c-" + i, "relay", "{\"on\":true}", false);
        }
        assertEquals("again", command("c-1", "relay", "{\"on\":true}", false).what());
        assertEquals("ran", command("c-0", "relay", "{\"on\":true}", false).what());
    }

    @Test
    void whatItAnnouncesIsJson() throws Exception {
        JsonNode all = json.readTree("{" + Actuators.capabilities() + "}").path("commands");
        assertEquals(3, all.size());
        assertFalse(all.path("relay").path("idempotent").asBoolean(true));
    }
}
