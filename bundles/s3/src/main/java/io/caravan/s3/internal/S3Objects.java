// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;
import java.util.zip.GZIPOutputStream;
import org.apache.camel.Body;
import org.apache.camel.Exchange;
import org.apache.camel.Header;
import org.apache.camel.component.aws2.s3.AWS2S3Constants;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.services.s3.S3Client;

/**
 * Bean {@code s3Objects} of route {@code sink-s3}: makes an object out of a batch, and knows whether the server can be
 * asked to store it only if it is new. Thread-safe.
 */
public final class S3Objects {
    /** What an object is; its name ends in .gz, and no server or browser shall unpack it on the way. */
    static final String CONTENT_TYPE = "application/gzip";

    private static final Logger LOG = LoggerFactory.getLogger(S3Objects.class);
    private static final int DEFLATE_BUFFER_BYTES = 65_536;

    private final S3Client s3;
    private final Config config;
    /** Endpoint whose server has no conditional writes, as it said itself. */
    private volatile String withoutCondition;

    public S3Objects(S3Client s3, Config config) {
        this.s3 = s3;
        this.config = config;
    }

    /**
     * Body: the batch as gzip of its NDJSON, the same bytes for the same rows. Headers: what the component and a reader of
     * the object need. The checksum is one that every server verifies.
     */
    public void pack(@Body Batch batch, Exchange exchange) {
        byte[] object = gzip(batch.ndjson(), Math.toIntExact(config.getLong("sink.s3.compression.level")));
        exchange.getMessage().setBody(object);
        exchange.getMessage().setHeader(AWS2S3Constants.CONTENT_TYPE, CONTENT_TYPE);
        exchange.getMessage().setHeader(AWS2S3Constants.CONTENT_LENGTH, (long) object.length);
        exchange.getMessage().setHeader(AWS2S3Constants.CONTENT_MD5, Upload.md5(object, object.length));
        exchange.getMessage().setHeader(AWS2S3Constants.METADATA, Map.of(
                "caravan-first-seq", Long.toString(batch.firstSeq()),
                "caravan-last-seq", Long.toString(batch.lastSeq()),
                "caravan-rows", Integer.toString(batch.size()),
                "caravan-sha256", sha256(object)));
    }

    /** @return whether to ask the server to store the object only if there is none of that key */
    public boolean conditional() {
        String mode = config.get("sink.s3.conditional");
        return mode.equals("on") || mode.equals("auto") && !config.get("s3.endpoint").equals(withoutCondition);
    }

    /**
     * After a refusal: if it is about the condition and not the object, the server is not asked again until the endpoint
     * changes, and a second request is worth it.
     *
     * @throws Exception the refusal, if it is about something else
     */
    public void withoutCondition(Exchange exchange) throws Exception {
        Exception error = exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Exception.class);
        if (!conditional() || !config.get("sink.s3.conditional").equals("auto") || !refusesCondition(error)) {
            throw error;
        }
        withoutCondition = config.get("s3.endpoint");
        LOG.info("The S3 server has no conditional writes: a delivery that is repeated replaces its object by the same one");
    }

    private static boolean refusesCondition(Exception error) {
        return error instanceof AwsServiceException e && (e.statusCode() == 501 || e.statusCode() == 400 && e.awsErrorDetails() != null
                && String.valueOf(e.awsErrorDetails().errorCode()).matches("NotImplemented|Invalid(Argument|Request)"));
    }

    /** Stores the body in parts. Exists already: it is the same, its key holds the hash of its content. */
    public void putParts(@Body byte[] object, @Header(AWS2S3Constants.KEY) String key, @Header(AWS2S3Constants.METADATA) Map<String, String> metadata) {
        try (Upload upload = new Upload(s3, config.get("sink.s3.bucket"), key, CONTENT_TYPE, metadata, conditional() ? "*" : null,
                Math.toIntExact(config.getLong("sink.s3.multipart.bytes")))) {
            upload.write(object, 0, object.length);
            upload.finish();
        }
    }

    /**
     * Says what a failure means, and makes the bucket if it is missing and {@code s3.bucket.create} says so.
     *
     * @throws Exception always: as a SinkException, or as it is
     */
    public void failed(Exchange exchange) throws Exception {
        Exception error = exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Exception.class);
        String bucket = config.get("sink.s3.bucket");
        SinkException meaning = S3Failures.of(error, bucket);
        if (meaning != null && meaning.reason().equals("not_found") && config.getBoolean("s3.bucket.create")) {
            throw created(bucket);
        }
        throw meaning == null ? error : meaning;
    }

    private SinkException created(String bucket) {
        try {
            s3.createBucket(o -> o.bucket(bucket));
        } catch (RuntimeException e) {
            SinkException meaning = S3Failures.of(e, bucket);
            return meaning == null ? new SinkException(SinkException.Kind.TRANSIENT, "error", String.valueOf(e.getMessage()), 0, e) : meaning;
        }
        LOG.info("Bucket [{}] was missing and has been created", bucket);
        return new SinkException(SinkException.Kind.TRANSIENT, "not_found", "Bucket [" + bucket + "] was missing and has been created", 0, null);
    }

    static byte[] gzip(byte[] bytes, int level) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(bytes.length / 4 + 64);
        try (GZIPOutputStream gzip = new Gzip(out, level)) {
            gzip.write(bytes);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return out.toByteArray();
    }

    static String sha256(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has SHA-256", e);
        }
    }

    /** Camel's gzip data format has no level; the default one is four times as slow for a few percent less. */
    private static final class Gzip extends GZIPOutputStream {
        Gzip(ByteArrayOutputStream out, int level) throws IOException {
            super(out, DEFLATE_BUFFER_BYTES);
            def.setLevel(level);
        }
    }
}
