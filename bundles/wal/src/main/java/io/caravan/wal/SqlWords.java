// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.camel.CamelContext;
import org.apache.camel.spi.PropertiesSource;

/**
 * The words {@code {{sql.*}}} of a context's routes: what the store in use calls what the stores call differently. Camel
 * asks for a placeholder's value while it reads a route, and can forget no source it was given; so there is one of these
 * in a context and its words come and go with the store. Thread-safe.
 */
public final class SqlWords implements PropertiesSource {
    private static final String BEAN = "sqlWords";

    private volatile Map<String, String> words = Map.of();

    private SqlWords() {}

    /**
     * @param of its class loader has the resource
     * @param resource properties in UTF-8
     * @return takes the words back
     */
    public static AutoCloseable use(CamelContext context, Class<?> of, String resource) {
        SqlWords source;
        synchronized (SqlWords.class) {
            source = context.getRegistry().lookupByNameAndType(BEAN, SqlWords.class);
            if (source == null) {
                source = new SqlWords();
                context.getRegistry().bind(BEAN, source);
                context.getPropertiesComponent().addPropertiesSource(source);
            }
        }
        Map<String, String> mine = read(of, resource);
        source.words = mine;
        SqlWords used = source;
        return () -> {
            if (used.words == mine) {
                used.words = Map.of();
            }
        };
    }

    private static Map<String, String> read(Class<?> of, String resource) {
        Properties properties = new Properties();
        try (InputStream in = of.getResourceAsStream(resource)) {
            properties.load(new InputStreamReader(in, StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new UncheckedIOException(resource, e);
        }
        Map<String, String> words = new TreeMap<>();
        properties.stringPropertyNames().forEach(name -> words.put(name, properties.getProperty(name).strip()));
        return Map.copyOf(words);
    }

    @Override
    public String getName() {
        return BEAN;
    }

    @Override
    public String getProperty(String name) {
        return words.get(name);
    }
}
