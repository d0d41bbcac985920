// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.UserAdmin;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** Completes the names of the users of logins over the network. */
@Service
public final class UserCompleter extends Suggestions {

    @Override
    Collection<String> words() {
        return caravan.bean("users", UserAdmin.class).map(users -> users.list().stream().map(UserAdmin.User::name).toList()).orElse(List.of());
    }
}
