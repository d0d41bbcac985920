// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Tasks;
import java.lang.management.ManagementFactory;
import javax.management.InstanceAlreadyExistsException;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.StandardMBean;

/** The MBean {@code io.caravan:type=Tasks}. Thread-safe. */
final class TasksJmx implements TasksMBean {

    private final Tasks tasks;

    private TasksJmx(Tasks tasks) {
        this.tasks = tasks;
    }

    /** On the platform's MBean server. @return takes it back */
    static AutoCloseable register(Tasks tasks) throws JMException {
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        StandardMBean bean = new StandardMBean(new TasksJmx(tasks), TasksMBean.class);
        ObjectName name = new ObjectName("io.caravan:type=Tasks");
        // Several containers in one process are a matter of tests.
        for (int i = 2;; i++) {
            try {
                server.registerMBean(bean, name);
                break;
            } catch (InstanceAlreadyExistsException e) {
                name = new ObjectName("io.caravan:type=Tasks,instance=" + i);
            }
        }
        ObjectName registered = name;
        return () -> server.unregisterMBean(registered);
    }

    @Override
    public String[] getTasks() {
        return tasks.list().stream().map(s -> s.id() + " " + s.name() + (s.what().isEmpty() ? "" : " [" + s.what() + "]") + " by " + s.by() + ": " + s.text())
                .toArray(String[]::new);
    }

    @Override
    public String cancel(String id) {
        return tasks.cancel(id).text();
    }
}
