// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.NamedNode;
import org.apache.camel.Processor;
import org.apache.camel.Route;
import org.apache.camel.spi.TransactedPolicy;
import org.apache.camel.spi.UnitOfWork;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.transaction.TransactionException;
import org.springframework.transaction.TransactionStatus;
import org.springframework.transaction.support.DefaultTransactionStatus;
import org.springframework.transaction.support.TransactionTemplate;

/**
 * Bean {@code transaction}: what follows {@code transacted} in a route is one transaction on {@code writer}, as far as it
 * stays on the thread; camel-sql steps join it. It is rolled back when the exchange fails, is marked rollback-only, or an
 * error handler handled a failure in it: half of a transaction is never kept. A failure caught with doTry is the route's
 * own business and commits.
 */
public final class TransactionPolicy implements TransactedPolicy {
    private final TransactionTemplate template;

    public TransactionPolicy(DataSource writer) {
        DataSourceTransactionManager manager = new Manager(writer);
        manager.setRollbackOnCommitFailure(true);
        template = new TransactionTemplate(manager);
    }

    @Override
    public void beforeWrap(Route route, NamedNode definition) {
        // nothing to prepare
    }

    @Override
    public Processor wrap(Route route, Processor steps) {
        return exchange -> {
            UnitOfWork unit = exchange.getUnitOfWork();
            if (unit.isTransactedBy(this)) {
                steps.process(exchange);
                return;
            }
            unit.beginTransactedBy(this); // Camel then keeps the steps on this thread
            try {
                template.executeWithoutResult(status -> inTransaction(exchange, steps, status));
            } catch (Undo e) {
                if (exchange.getException() == null && e.getCause() != null) {
                    exchange.setException(e.getCause());
                }
            } catch (TransactionException e) {
                exchange.setException(e); // BEGIN or COMMIT failed: nothing was kept
            } finally {
                unit.endTransactedBy(this);
            }
        };
    }

    private static void inTransaction(Exchange exchange, Processor steps, TransactionStatus status) {
        boolean handledBefore = handled(exchange);
        try {
            steps.process(exchange);
        } catch (Exception e) {
            throw new Undo(e);
        }
        if (exchange.getException() != null || exchange.isRollbackOnly() || exchange.isRollbackOnlyLast()
                || !handledBefore && handled(exchange)) {
            exchange.setRollbackOnlyLast(false); // done for this, the last, transaction
            throw new Undo(null);
        }
    }

    private static boolean handled(Exchange exchange) {
        return exchange.getExchangeExtension().isErrorHandlerHandledSet() && exchange.getExchangeExtension().isErrorHandlerHandled();
    }

    /** Takes a transaction that SQLite has rolled back by itself (full disk, I/O error) as what it is: rolled back. */
    private static final class Manager extends DataSourceTransactionManager {
        private static final long serialVersionUID = 1L;

        Manager(DataSource writer) {
            super(writer);
        }

        @Override
        protected void doRollback(DefaultTransactionStatus status) {
            try {
                super.doRollback(status);
            } catch (TransactionException e) {
                if (!String.valueOf(e.getMostSpecificCause().getMessage()).contains("no transaction is active")) {
                    throw e;
                }
            }
        }
    }

    /** Rolls back; carries the steps' exception if the exchange does not have it. */
    private static final class Undo extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Undo(Throwable cause) {
            super("rolled back", cause, false, false);
        }
    }
}
