// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.handler.codec.mqtt.MqttConnAckVariableHeader;
import io.netty.handler.codec.mqtt.MqttConnectMessage;
import io.netty.handler.codec.mqtt.MqttConnectReturnCode;
import io.netty.handler.codec.mqtt.MqttDecoder;
import io.netty.handler.codec.mqtt.MqttEncoder;
import io.netty.handler.codec.mqtt.MqttFixedHeader;
import io.netty.handler.codec.mqtt.MqttMessage;
import io.netty.handler.codec.mqtt.MqttMessageIdVariableHeader;
import io.netty.handler.codec.mqtt.MqttMessageType;
import io.netty.handler.codec.mqtt.MqttPubAckMessage;
import io.netty.handler.codec.mqtt.MqttPublishMessage;
import io.netty.handler.codec.mqtt.MqttQoS;
import java.io.IOException;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * What a durable listener could do with nothing behind it: MQTT on Netty, one thread that commits what waits (SQLite, WAL,
 * {@code synchronous=FULL}), PUBACK after COMMIT. No Camel, no routes, nothing parsed, checked, counted or sent on; the body is stored as it came.
 * What the gateway takes beyond it is what it does for a message.
 */
@Command(name = "bare-listener", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Baseline: MQTT listener with group commit and nothing else, until SIGTERM.")
final class BareListener implements Callable<Integer>, AutoCloseable {
    /** As the gateway's: more than this waits in the sockets. */
    private static final int MAX_GROUP = 1000;

    @Mixin Where where = new Where();

    static final class Where {
        @Option(names = "--port", required = true, description = "port on 127.0.0.1; 0: any")
        int port;

        @Option(names = "--dir", required = true, description = "folder of its database, which is left there")
        Path dir;

        @Option(names = "--unsafe-ack", hidden = true, description = "acknowledges before the commit: the control of what judges it")
        boolean unsafe;
    }

    private record Waiting(Channel channel, int packetId, String device, byte[] body) { }

    private final Object lock = new Object();
    private final ArrayDeque<Waiting> queue = new ArrayDeque<>();
    private final EventLoopGroup loops = new NioEventLoopGroup(2);
    private final Thread committer = new Thread(this::commit, "commit");
    private Connection db;
    private Channel server;
    private volatile boolean stopping;
    private long seq;

    @Override
    public Integer call() throws Exception {
        start();
        Runtime.getRuntime().addShutdownHook(new Thread(this::close));
        server.closeFuture().sync();
        return 0;
    }

    /** @return the port it listens on */
    int start() throws SQLException, IOException, InterruptedException {
        db = BareSqlite.open(where.dir.resolve("bare.db"));
        committer.start();
        server = new ServerBootstrap().group(loops).channel(NioServerSocketChannel.class).childOption(ChannelOption.TCP_NODELAY, true)
                .childHandler(new ChannelInitializer<SocketChannel>() {
                    @Override
                    protected void initChannel(SocketChannel channel) {
                        channel.pipeline().addLast(new MqttDecoder(1 << 20), MqttEncoder.INSTANCE, new Device());
                    }
                }).bind("127.0.0.1", where.port).sync().channel();
        return ((java.net.InetSocketAddress) server.localAddress()).getPort();
    }

    @Override
    public void close() {
        stopping = true;
        if (server != null) {
            server.close();
        }
        synchronized (lock) {
            lock.notifyAll();
        }
        loops.shutdownGracefully();
        try {
            committer.join(5000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private final class Device extends ChannelInboundHandlerAdapter {
        private String id;

        @Override
        public void channelRead(ChannelHandlerContext context, Object read) {
            if (!(read instanceof MqttMessage message) || message.decoderResult().isFailure()) {
                context.close();
            } else if (message instanceof MqttConnectMessage connect) {
                id = connect.payload().clientIdentifier();
                context.writeAndFlush(answer(MqttMessageType.CONNACK, new MqttConnAckVariableHeader(MqttConnectReturnCode.CONNECTION_ACCEPTED, false)));
            } else if (message instanceof MqttPublishMessage publish) {
                published(context, publish);
            } else if (message.fixedHeader().messageType() == MqttMessageType.PINGREQ) {
                context.writeAndFlush(new MqttMessage(new MqttFixedHeader(MqttMessageType.PINGRESP, false, MqttQoS.AT_MOST_ONCE, false, 0)));
            } else if (message.fixedHeader().messageType() == MqttMessageType.DISCONNECT) {
                context.close();
            }
        }

        private void published(ChannelHandlerContext context, MqttPublishMessage publish) {
            ByteBuf payload = publish.payload();
            byte[] body = new byte[payload.readableBytes()];
            payload.readBytes(body);
            publish.release();
            int packetId = publish.variableHeader().packetId();
            if (where.unsafe) {
                context.writeAndFlush(puback(packetId));
            }
            synchronized (lock) {
                queue.add(new Waiting(context.channel(), packetId, id, body));
                lock.notify();
            }
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            context.close();
        }
    }

    private static MqttMessage answer(MqttMessageType type, Object header) {
        return type == MqttMessageType.CONNACK
                ? new io.netty.handler.codec.mqtt.MqttConnAckMessage(new MqttFixedHeader(type, false, MqttQoS.AT_MOST_ONCE, false, 0), (MqttConnAckVariableHeader) header)
                : new MqttMessage(new MqttFixedHeader(type, false, MqttQoS.AT_MOST_ONCE, false, 0), header);
    }

    private static MqttMessage puback(int packetId) {
        return new MqttPubAckMessage(new MqttFixedHeader(MqttMessageType.PUBACK, false, MqttQoS.AT_MOST_ONCE, false, 0), MqttMessageIdVariableHeader.from(packetId));
    }

    private void commit() {
        List<Waiting> group = new ArrayList<>(MAX_GROUP);
        try (PreparedStatement insert = db.prepareStatement(BareSqlite.INSERT)) {
            while (!stopping) {
                synchronized (lock) {
                    while (queue.isEmpty() && !stopping) {
                        lock.wait();
                    }
                    while (!queue.isEmpty() && group.size() < MAX_GROUP) {
                        group.add(queue.poll());
                    }
                }
                for (Waiting each : group) {
                    BareSqlite.bind(insert, ++seq, each.device, each.body);
                }
                insert.executeBatch();
                db.commit();
                if (!where.unsafe) {
                    acknowledge(group);
                }
                group.clear();
            }
            db.close();
        } catch (SQLException e) {
            // Nobody is told of what was not stored.
            System.err.println("bare-listener: [" + where.dir + "] could not be written: " + e.getMessage());
            server.close();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** One task and one flush for each connection: what a listener gains by groups, this one has too. */
    private void acknowledge(List<Waiting> group) {
        Map<Channel, List<Integer>> byChannel = new LinkedHashMap<>();
        for (Waiting each : group) {
            byChannel.computeIfAbsent(each.channel, c -> new ArrayList<>()).add(each.packetId);
        }
        byChannel.forEach((channel, packets) -> channel.eventLoop().execute(() -> {
            packets.forEach(packet -> channel.write(puback(packet)));
            channel.flush();
        }));
    }
}
