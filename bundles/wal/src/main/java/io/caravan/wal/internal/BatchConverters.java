// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.function.Function;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.TypeConverter;
import org.apache.camel.spi.TypeConverterLoader;
import org.apache.camel.spi.TypeConverterRegistry;
import org.apache.camel.support.TypeConverterSupport;

/**
 * Lets components that take bytes or text take a {@link Batch} (NDJSON) or a {@link Row} (a line of it) as it is.
 *
 * <p>Camel finds it by {@code META-INF/services/org/apache/camel/TypeConverterLoader}. What is only added to the registry is gone
 * in Karaf as soon as any bundle that brings converters stops: camel-core-osgi then fills a new registry with what loaders bring.
 */
public final class BatchConverters implements TypeConverterLoader {
    /** The registry of Karaf is filled without a lock: a loader that comes while that happens, as in a refresh, is left out. */
    static void ensure(CamelContext context) {
        new BatchConverters().load(context.getTypeConverterRegistry());
    }

    @Override
    public void load(TypeConverterRegistry registry) {
        add(registry, byte[].class, Batch.class, Batch::ndjson);
        add(registry, InputStream.class, Batch.class, batch -> new ByteArrayInputStream(batch.ndjson()));
        add(registry, String.class, Batch.class, batch -> new String(batch.ndjson(), StandardCharsets.UTF_8));
        add(registry, byte[].class, Row.class, Row::json);
        add(registry, InputStream.class, Row.class, row -> new ByteArrayInputStream(row.json()));
        add(registry, String.class, Row.class, row -> new String(row.json(), StandardCharsets.UTF_8));
    }

    private static <T, F> void add(TypeConverterRegistry registry, Class<T> to, Class<F> from, Function<F, T> function) {
        TypeConverter converter = new TypeConverterSupport() {
            @Override
            public <X> X convertTo(Class<X> type, Exchange exchange, Object value) {
                return type.cast(function.apply(from.cast(value)));
            }
        };
        registry.addTypeConverter(to, from, converter);   // one that is there stays
    }
}
