// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.support.DefaultConsumer;

/**
 * {@code wal:receipts}: one exchange per device that made progress, at most every {@code receipt.interval.ms}; the first
 * after a pause goes at once. Body {@code {"boot_id":"b7","device_seq":42}}, header CaravanDeviceId. A receipt that
 * fails is not repeated: a later one says more, and a device that misses it sends again, which brings it once more.
 */
final class ReceiptsConsumer extends DefaultConsumer implements Runnable {
    private static final int BOOTS_PER_REQUEST = 4;

    private final Receipts receipts;
    private final Object wake = new Object();
    private boolean woken;
    private volatile boolean running;
    private long intervalNanos;
    private ExecutorService executor;

    ReceiptsConsumer(Endpoint endpoint, Processor processor, Receipts receipts) {
        super(endpoint, processor);
        this.receipts = receipts;
    }

    void wake() {
        synchronized (wake) {
            if (!woken) {
                woken = true;
                wake.notify();
            }
        }
    }

    @Override
    public void run() {
        long sentAt = System.nanoTime() - intervalNanos;
        try {
            while (running) {
                synchronized (wake) {
                    while (running && !woken) {
                        wake.wait();
                    }
                    long left;
                    while (running && (left = sentAt + intervalNanos - System.nanoTime()) > 0) {
                        wake.wait(left / 1_000_000, (int) (left % 1_000_000));
                    }
                    woken = false;
                }
                sentAt = System.nanoTime();
                send();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void send() {
        Map<Progress.Key, Long> due = receipts.takeDue();
        for (String deviceId : receipts.takeAsked()) {
            try {
                present(deviceId, due);
            } catch (SQLException | RuntimeException e) {
                getExceptionHandler().handleException("looking up the receipts of device [" + deviceId + "]", e);
            }
        }
        for (Map.Entry<Progress.Key, Long> receipt : due.entrySet()) {
            if (!running) {
                return;
            }
            send(receipt.getKey(), receipt.getValue());
        }
    }

    private void present(String deviceId, Map<Progress.Key, Long> due) throws SQLException {
        DataSource reader = getEndpoint().getCamelContext().getRegistry().lookupByNameAndType("reader", DataSource.class);
        if (reader == null) {
            return; // the store is not open: the device will send again and be answered then
        }
        try (Connection connection = reader.getConnection();
                PreparedStatement query = connection.prepareStatement("SELECT boot_id, contiguous_seq FROM device_progress"
                        + " WHERE device_id = ? AND contiguous_seq > 0 ORDER BY updated_at_ms DESC, boot_id LIMIT " + BOOTS_PER_REQUEST)) {
            query.setString(1, deviceId);
            try (ResultSet rows = query.executeQuery()) {
                while (rows.next()) {
                    due.merge(new Progress.Key(deviceId, rows.getString(1)), rows.getLong(2), Math::max);
                }
            }
        }
    }

    private void send(Progress.Key boot, long number) {
        Exchange exchange = createExchange(false);
        exchange.getMessage().setHeader("CaravanDeviceId", boot.deviceId());
        // docs/contract.md section 3 allows nothing in a boot id that JSON would escape.
        exchange.getMessage().setBody("{\"boot_id\":\"" + boot.bootId() + "\",\"device_seq\":" + number + "}");
        try {
            getProcessor().process(exchange);
        } catch (Exception e) {
            exchange.setException(e);
        }
        Exception failure = exchange.getException();
        releaseExchange(exchange, false);
        receipts.sent.increment();
        if (failure != null) {
            receipts.failed.increment();
            getExceptionHandler().handleException("receipt for device [" + boot.deviceId() + "]", exchange, failure);
        }
    }

    @Override
    protected void doStart() throws Exception {
        super.doStart();
        String interval = getEndpoint().getCamelContext().resolvePropertyPlaceholders("{{receipt.interval.ms}}");
        intervalNanos = TimeUnit.MILLISECONDS.toNanos(Long.parseLong(interval));
        running = true;
        executor = getEndpoint().getCamelContext().getExecutorServiceManager().newSingleThreadExecutor(this, "caravan-wal-receipts");
        receipts.attach(this);
        executor.execute(this);
        if (!receipts.isEmpty()) {
            wake();
        }
    }

    @Override
    protected void doStop() throws Exception {
        receipts.detach(this);
        running = false;
        synchronized (wake) {
            wake.notifyAll();
        }
        getEndpoint().getCamelContext().getExecutorServiceManager().shutdownGraceful(executor, 2_000);
        super.doStop();
    }
}
