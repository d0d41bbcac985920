// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.TypeConverter;
import org.apache.camel.spi.TypeConverterRegistry;
import org.apache.camel.support.TypeConverterSupport;

/** Lets components that take bytes or text take a {@link Batch} (NDJSON) or a {@link Row} (a line of it) as it is. */
final class BatchConverters {
    private final TypeConverterRegistry registry;
    private final List<Class<?>[]> added = new ArrayList<>();

    private BatchConverters(TypeConverterRegistry registry) {
        this.registry = registry;
    }

    /** @return takes them out again */
    static AutoCloseable register(CamelContext context) {
        BatchConverters converters = new BatchConverters(context.getTypeConverterRegistry());
        converters.add(byte[].class, Batch.class, Batch::ndjson);
        converters.add(InputStream.class, Batch.class, batch -> new ByteArrayInputStream(batch.ndjson()));
        converters.add(String.class, Batch.class, batch -> new String(batch.ndjson(), StandardCharsets.UTF_8));
        converters.add(byte[].class, Row.class, Row::json);
        converters.add(InputStream.class, Row.class, row -> new ByteArrayInputStream(row.json()));
        converters.add(String.class, Row.class, row -> new String(row.json(), StandardCharsets.UTF_8));
        return converters::remove;
    }

    private <T, F> void add(Class<T> to, Class<F> from, Function<F, T> function) {
        TypeConverter converter = new TypeConverterSupport() {
            @Override
            public <X> X convertTo(Class<X> type, Exchange exchange, Object value) {
                return type.cast(function.apply(from.cast(value)));
            }
        };
        registry.addTypeConverter(to, from, converter);
        added.add(new Class<?>[] {to, from});
    }

    private void remove() {
        added.forEach(pair -> registry.removeTypeConverter(pair[0], pair[1]));
    }
}
