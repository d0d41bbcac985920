// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class CreditsTest {

    private long now = Long.MAX_VALUE - 1_000_000_000L;

    private final class Gateway {

        final Credits credits;
        final Credits.Share share;
        long backlog;
        long credit;
        long got;

        Gateway(Credits credits, long backlog) {
            this.credits = credits;
            this.backlog = backlog;
            share = credits.join(rows -> {
                credit += rows;
                got += rows;
            });
            credits.wants(share, backlog);
        }

        /** Sends what it may, at most so many rows, and all of it is committed. */
        long send(long most) {
            long rows = Math.min(most, Math.min(credit, backlog));
            credit -= rows;
            backlog -= rows;
            assertEquals(0, credits.committed(share, rows, rows));
            return rows;
        }
    }

    private Credits credits(long rows, long gatewayRows, long perS) {
        return new Credits(new Credits.Options(rows, gatewayRows, perS), () -> now);
    }

    private static void applied(Credits credits, long unapplied) {
        credits.begin();
        credits.unapplied(unapplied);
    }

    @Test
    void whatIsGrantedAndNotAppliedIsBoundedAndEverybodyGetsHisTurn() {
        Random random = new Random(1);
        Credits credits = credits(10_000, 1_000, 0);
        List<Gateway> fleet = new ArrayList<>();
        for (int i = 0; i < 500; i++) {
            fleet.add(new Gateway(credits, 2_000 + (i == 7 ? 1_000_000 : 0)));
        }
        long unapplied = 0;
        long sent = 0;
        int rounds = 0;
        while (sent < 500 * 2_000 + 1_000_000) {
            for (int i = 0; i < 200; i++) {
                Gateway one = fleet.get(random.nextInt(500));
                long rows = one.send(500);
                sent += rows;
                unapplied += rows;
                assertTrue(credits.granted() + unapplied <= 10_000, credits.granted() + " + " + unapplied);
                assertTrue(one.credit <= 1_000, one.credit + " at one");
            }
            fleet.get(7).got = Math.min(fleet.get(7).got, 2_000);
            long least = fleet.stream().mapToLong(g -> g.got).min().orElseThrow();
            long most = fleet.stream().mapToLong(g -> g.got).max().orElseThrow();
            assertTrue(least == 2_000 || most - least <= 2_000, "from " + least + " to " + most);
            unapplied -= random.nextInt((int) unapplied + 1);
            applied(credits, unapplied);
            assertTrue(++rounds < 10_000, "stuck at " + sent);
        }
        applied(credits, 0);
        assertEquals(0, credits.granted());
        assertEquals(0, credits.wanted());
        assertFalse(credits.begin(), "nobody wants");
    }

    /** Control: with room for everything all of it is on its way at once. */
    @Test
    void withRoomForEverythingEverythingComesAtOnce() {
        Credits credits = credits(1_000_000_000, 1_000_000, 0);
        for (int i = 0; i < 500; i++) {
            new Gateway(credits, 2_000);
        }
        assertEquals(1_000_000, credits.granted());
    }

    @Test
    void storeThatStandsStillStopsTheGrants() {
        Credits credits = credits(1_000, 1_000, 0);
        Gateway one = new Gateway(credits, 5_000);
        assertEquals(1_000, one.send(1_000));
        assertEquals(0, one.credit);
        applied(credits, 1_000);
        applied(credits, 1_000);
        assertEquals(0, one.credit);
        applied(credits, 600);
        assertEquals(0, one.credit, "no small pieces");
        applied(credits, 500);
        assertEquals(500, one.credit);
        // Live rows wait for the store too.
        assertEquals(0, credits.committed(null, 400, 0));
        assertEquals(500, one.send(500));
        assertEquals(0, one.credit);
    }

    @Test
    void gatewaysThatDoNotGetOnHoldUpNobody() {
        Credits credits = credits(2_000, 1_000, 0);
        Gateway slow = new Gateway(credits, 10_000);
        Gateway slower = new Gateway(credits, 10_000);
        Gateway well = new Gateway(credits, 10_000);
        assertEquals(2_000, credits.granted());
        assertEquals(0, well.credit + slow.credit + slower.credit - 2_000);
        well.send(1_000);
        slow.send(0);
        now += Credits.STALL_MS * 1_000_000 + 1;
        well.send(1_000);
        applied(credits, 0);
        while (well.backlog > 0) {
            assertTrue(well.send(1_000) > 0, "held up with " + well.backlog);
            applied(credits, 0);
        }
        while (slow.backlog + slower.backlog > 0) {
            assertTrue(slow.send(500) + slower.send(500) > 0);
            applied(credits, 0);
        }
        assertEquals(0, credits.granted());
    }

    @Test
    void whoLeavesOrIsDoneGivesBackWhatItHad() {
        Credits credits = credits(1_000, 1_000, 0);
        Gateway first = new Gateway(credits, 5_000);
        Gateway second = new Gateway(credits, 5_000);
        assertEquals(0, second.credit);
        credits.leave(first.share);
        assertEquals(1_000, second.credit);
        credits.leave(first.share);
        credits.wants(first.share, 5_000);
        assertEquals(1_000, credits.granted());
        Gateway third = new Gateway(credits, 5_000);
        credits.wants(second.share, 0);
        assertEquals(1_000, third.credit);
        assertEquals(1_000, credits.granted());
        assertEquals(4_000, credits.wanted());
    }

    @Test
    void rowsWithoutCreditAreTold() {
        Credits credits = credits(1_000, 1_000, 0);
        Gateway one = new Gateway(credits, 1_000);
        assertEquals(200, credits.committed(one.share, 1_200, 1_200));
        assertEquals(0, credits.granted());
    }

    @Test
    void rateHolds() {
        Credits credits = credits(1_000_000, 1_000_000, 100);
        Gateway one = new Gateway(credits, 100_000);
        long before = one.got;
        for (int i = 0; i < 100_000; i++) {
            now += 10_000_000;
            one.send(Long.MAX_VALUE);
            applied(credits, 0);
        }
        assertEquals(100_000, one.got, 1_000, "from " + before);
        assertTrue(before <= 100, "at once: " + before);
    }
}
