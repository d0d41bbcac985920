// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3;

import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.s3.internal.Archive;
import io.caravan.s3.internal.HotClient;
import io.caravan.s3.internal.S3Objects;
import java.time.Clock;
import org.apache.camel.CamelContext;
import org.apache.camel.component.aws2.s3.AWS2S3Component;
import software.amazon.awssdk.services.s3.S3Client;

/**
 * Binds the S3 client {@code s3} as the keys {@code s3.*} say, and the beans of the routes {@code sink-s3}
 * ({@code s3Objects}) and {@code archive-s3} ({@code s3Archive}).
 *
 * <p>Nothing is asked of the server and no key is judged here: what is wrong with them fails the calls, so that a sink
 * says it and goes on by itself when it is mended.
 */
public final class S3Module implements Module {

    @Override
    public AutoCloseable start(CamelContext context, Config config) throws Exception {
        // Camel would give the one S3Client it finds to every aws2-s3 endpoint, also to those with credentials of their own.
        context.getComponent("aws2-s3", AWS2S3Component.class).setAutowiredEnabled(false);
        HotClient hot = new HotClient(config);
        Archive archive = new Archive(hot.client(), config, Clock.systemUTC());
        AutoCloseable listening = config.onChange(keys -> {
            if (keys.stream().anyMatch(key -> key.startsWith("s3.") || key.equals("sink.s3.timeout.ms"))) {
                hot.renew();
            }
        });
        context.getRegistry().bind("s3", S3Client.class, hot.client());
        context.getRegistry().bind("s3Objects", new S3Objects(hot.client(), config));
        context.getRegistry().bind("s3Archive", archive);
        return () -> {
            context.getRegistry().unbind("s3Archive");
            context.getRegistry().unbind("s3Objects");
            context.getRegistry().unbind("s3");
            listening.close();
            archive.close();
            hot.close();
        };
    }
}
