// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.security.AccessController;
import javax.security.auth.Subject;

/** Whom this thread works for. */
final class Subjects {

    private Subjects() {
    }

    /**
     * Karaf's shell runs a session as a Subject ({@code Subject.doAs}); threads that a session makes inherit it.
     *
     * @return null: nobody, the container itself
     */
    @SuppressWarnings("removal")   // until Karaf 5 runs sessions in another way
    static String user() {
        Subject subject = Subject.getSubject(AccessController.getContext());
        // By name: the class is the shell's, which plain Java does not have.
        return subject == null ? null : subject.getPrincipals().stream().filter(p -> p.getClass().getSimpleName().equals("UserPrincipal"))
                .map(java.security.Principal::getName).findFirst().orElse(null);
    }
}
