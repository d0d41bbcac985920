// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.List;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code site:*}, in the cloud: places, which gateways are there. Roles are per site. */
public final class SiteCommands {

    private SiteCommands() {
    }

    @Service
    @Command(scope = "site", name = "list", description = "List the sites, or which gateway is where",
            detailedDescription = "Examples:\n  site:list\n  site:list --gateways --json")
    public static final class Listing extends AccountCommands.AccountCommand {
        @Option(name = "--gateways", description = "A line for each gateway")
        boolean gateways;

        @Argument(index = 0, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            if (gateways) {
                list(AccountSide.gatewayList(caravan), "No gateways", "Gateway", "Site");
            } else {
                list(AccountSide.siteList(caravan), "No sites", "Site", "Name", "Gateways");
            }
            return null;
        }
    }

    @Service
    @Command(scope = "site", name = "add", description = "Add a site",
            detailedDescription = "Example:\n  site:add plant-1 'Plant 1'")
    public static final class Add extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "site", required = true, description = "The site's id")
        @Completion(FreeText.class)
        String site;

        @Argument(index = 1, name = "name", required = true, description = "Its name, for people")
        @Completion(FreeText.class)
        String name;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.addSite(caravan, site, name), "Site " + site + " is there; site:assign <gateway> " + site + " gives it gateways.");
            return null;
        }
    }

    @Service
    @Command(scope = "site", name = "rename", description = "Give a site another name",
            detailedDescription = "Example:\n  site:rename plant-1 'Plant 1, north'")
    public static final class Rename extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "site", required = true, description = "The site's id")
        @Completion(SiteCompleter.class)
        String site;

        @Argument(index = 1, name = "name", required = true, description = "Its name, for people")
        @Completion(FreeText.class)
        String name;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.renameSite(caravan, site, name), "Site " + site + " is called " + name + ".");
            return null;
        }
    }

    @Service
    @Command(scope = "site", name = "assign", description = "Say of which site a gateway is",
            detailedDescription = "Example:\n  site:assign gateway-1 plant-1")
    public static final class Assign extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id")
        @Completion(SiteGatewayCompleter.class)
        String gateway;

        @Argument(index = 1, name = "site", required = true, description = "The site's id")
        @Completion(SiteCompleter.class)
        String site;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            String before = AccountSide.assign(caravan, gateway, site);
            done(Output.object("gateway_id", gateway, "site", site, "before", before), "Gateway " + gateway + " is of site " + site + " now, not of " + before + ".");
            return null;
        }
    }

    @Service
    @Command(scope = "site", name = "remove", description = "Forget a site without gateways, and the roles there",
            detailedDescription = "Example:\n  site:remove plant-1 --yes")
    public static final class Remove extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "site", required = true, description = "The site's id")
        @Completion(SiteCompleter.class)
        String site;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            confirmed(yes, "site:remove", () -> "Site " + site + " is forgotten, and all roles there.", () -> {
                AccountSide.removeSite(caravan, site);
                done(Output.object("site", site, "removed", true), "Site " + site + " is removed.");
            });
            return null;
        }
    }
}
