// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import org.apache.camel.CamelContextAware;
import org.apache.camel.spi.Registry;
import org.apache.camel.support.DefaultRegistry;
import org.apache.camel.support.SimpleRegistry;

/**
 * Camel binds a file's beans while it parses the file, before anybody knows whether the file is any good. Between
 * {@link #begin} and {@link #end} a thread's binds are kept aside, seen by that thread only, and can be thrown away.
 */
final class DraftRegistry extends DefaultRegistry {

    /** A bind that has not happened yet. */
    record Bean(Class<?> type, Object value, String initMethod, String destroyMethod) { }

    private final ThreadLocal<Map<String, Bean>> draft = new ThreadLocal<>();
    private final ThreadLocal<Boolean> sealed = ThreadLocal.withInitial(() -> false);

    /** @param origin its repositories and beans are taken over */
    DraftRegistry(DefaultRegistry origin) {
        super(origin.getRepositories());
        setFallbackRegistry(new Beans(origin.getFallbackRegistry()));
        setSupplierRegistry(origin.getSupplierRegistry());
        setCamelContext(origin.getCamelContext());
    }

    Map<String, Bean> begin() {
        Map<String, Bean> beans = new LinkedHashMap<>();
        draft.set(beans);
        sealed.set(false);
        return beans;
    }

    /** From now on binds are real again, the draft's beans are still seen. */
    void seal() {
        sealed.set(true);
    }

    void end() {
        draft.remove();
        sealed.remove();
    }

    void commit(Map<String, Bean> beans) {
        beans.forEach((id, b) -> bind(id, b.type(), b.value(), b.initMethod(), b.destroyMethod()));
    }

    /** @return whether there is such a bean apart from the draft */
    boolean isBound(String name) {
        return super.lookupByName(name) != null;
    }

    @Override
    public void bind(String id, Class<?> type, Object bean, String initMethod, String destroyMethod) {
        if (draft.get() == null || sealed.get()) {
            super.bind(id, type, bean, initMethod, destroyMethod);
        } else {
            CamelContextAware.trySetCamelContext(bean, getCamelContext());
            draft.get().put(id, new Bean(type, bean, initMethod, destroyMethod));
        }
    }

    @Override
    public void unbind(String id) {
        if (draft.get() == null || sealed.get()) {
            super.unbind(id);
        } else {
            draft.get().remove(id);
        }
    }

    @Override
    public Object lookupByName(String name) {
        Bean bean = drafted(name);
        Object own = bean == null ? own(name) : bean.value();
        return own == null ? super.lookupByName(name) : own;
    }

    /**
     * Camel asks its repositories first, which here is OSGi's registry of services: slow, and whoever can register a service would
     * replace one of our beans.
     *
     * @return the bean that was bound under that name; null: none, whatever services there are
     */
    Object own(String name) {
        return getFallbackRegistry().lookupByName(name);
    }

    @Override
    public <T> T lookupByNameAndType(String name, Class<T> type) {
        Bean bean = drafted(name);
        Object own = bean == null || !type.isInstance(bean.value()) ? own(name) : bean.value();
        return type.isInstance(own) ? type.cast(own) : super.lookupByNameAndType(name, type);
    }

    @Override
    public <T> Map<String, T> findByTypeWithName(Class<T> type) {
        Map<String, T> found = super.findByTypeWithName(type);
        if (draft.get() != null) {
            draft.get().forEach((name, bean) -> {
                if (type.isInstance(bean.value())) {
                    found.put(name, type.cast(bean.value()));
                }
            });
        }
        return found;
    }

    @Override
    public <T> Set<T> findByType(Class<T> type) {
        return draft.get() == null ? super.findByType(type) : new LinkedHashSet<>(findByTypeWithName(type).values());
    }

    /** Camel's own is a plain map, and modules bind beans while routes are being read. */
    private static final class Beans extends SimpleRegistry {
        private static final long serialVersionUID = 1L;

        Beans(Registry origin) {
            if (origin instanceof SimpleRegistry beans) {
                putAll(beans);
            }
        }

        @Override
        public synchronized void bind(String id, Class<?> type, Object bean) {
            super.bind(id, type, bean);
        }

        @Override
        public synchronized void bind(String id, Class<?> type, Object bean, String initMethod, String destroyMethod) {
            super.bind(id, type, bean, initMethod, destroyMethod);
        }

        @Override
        public synchronized void unbind(String id) {
            super.unbind(id);
        }

        @Override
        public synchronized Object lookupByName(String name) {
            return super.lookupByName(name);
        }

        @Override
        public synchronized <T> T lookupByNameAndType(String name, Class<T> type) {
            return super.lookupByNameAndType(name, type);
        }

        @Override
        public synchronized <T> Map<String, T> findByTypeWithName(Class<T> type) {
            return super.findByTypeWithName(type);
        }

        @Override
        public synchronized <T> Set<T> findByType(Class<T> type) {
            return super.findByType(type);
        }
    }

    private Bean drafted(String name) {
        return draft.get() == null ? null : draft.get().get(name);
    }
}
