// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.SinkException;
import java.io.ByteArrayInputStream;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Clock;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.zip.GZIPInputStream;
import org.apache.camel.Body;
import org.apache.camel.Header;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.core.ResponseInputStream;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.GetObjectResponse;
import software.amazon.awssdk.services.s3.model.HeadObjectResponse;
import software.amazon.awssdk.services.s3.model.NoSuchBucketException;
import software.amazon.awssdk.services.s3.model.NoSuchKeyException;
import software.amazon.awssdk.services.s3.model.S3Exception;

/**
 * Bean {@code s3Archive} of route {@code archive-s3}: joins the objects of a day into few large ones. A gzip file may
 * consist of several, so that joining needs no unpacking; the sink's own names tell what each must hold.
 *
 * <p>All state is in the two buckets, so that it goes on after any crash, and on another machine: first a {@link Plan},
 * then the object, which is read back, then the plan again, as verified. Only then, and if {@code archive.s3.delete.offload}
 * says so, the objects it was made of are deleted. Memory: one part, and one object of the sink.
 *
 * <p>Days are archived one at a time. Two gateways with one {@code gateway.id} must not archive into one place.
 */
public final class Archive implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Archive.class);
    private static final Pattern OBJECT = Pattern.compile("\\d{16}-\\d{16}-[0-9a-f]{16}\\.ndjson\\.gz");
    private static final int SOURCES_MAX = 10_000;
    private static final int BUFFER_BYTES = 65_536;

    private final S3Client s3;
    private final Config config;
    private final Clock clock;
    private volatile boolean closed;

    /** An object of the sink that does not hold what its name says. */
    private static final class DamagedException extends Exception {
        private static final long serialVersionUID = 1L;
        private final transient Plan.Source source;

        DamagedException(Plan.Source source, String why) {
            super("[" + source.key() + "] " + why);
            this.source = source;
        }
    }

    public Archive(S3Client s3, Config config, Clock clock) {
        this.s3 = s3;
        this.config = config;
        this.clock = clock;
    }

    /** A day that is under way stops at its next buffer; nothing is left half done that the next run would not finish. */
    @Override
    public void close() {
        closed = true;
    }

    /**
     * @param date a day that is asked for, {@code yyyy-MM-dd}; null: all finished days that have objects of this gateway's sink
     * @return days, oldest first
     * @throws IllegalArgumentException {@code date} is none
     */
    public List<String> days(@Header("CaravanDate") String date) throws Exception {
        if (date != null) {
            return List.of(day(date).toString());
        }
        LocalDate last = clock.instant().minusMillis(config.getLong("archive.s3.grace.ms")).atZone(ZoneOffset.UTC).toLocalDate().minusDays(1);
        LocalDate first = last.minusDays(config.getLong("archive.s3.days") - 1);
        String prefix = config.get("sink.s3.prefix") + "date=";
        List<String> days = new ArrayList<>();
        try {
            s3.listObjectsV2Paginator(o -> o.bucket(offload()).prefix(prefix).delimiter("/")).commonPrefixes().forEach(found -> {
                String text = found.prefix().substring(prefix.length(), found.prefix().length() - 1);
                if (text.matches("\\d{4}-\\d\\d-\\d\\d") && !day(text).isBefore(first) && !day(text).isAfter(last)) {
                    days.add(text);
                }
            });
        } catch (NoSuchBucketException e) {
            LOG.debug("Bucket [{}] does not exist yet: nothing to archive", offload());
        } catch (SdkException e) {
            throw meaning(e, offload());
        }
        return days;
    }

    /**
     * Archives what the archive does not have of a day. Does nothing if there is nothing.
     *
     * @param date {@code yyyy-MM-dd}
     * @return rows that the archive has now and had not before
     * @throws Exception what is done so far stays, the same call goes on from there; nothing was deleted that is not verified
     */
    public synchronized long archive(@Body String date) throws Exception {
        String folder = "date=" + day(date) + "/gateway=" + config.get("gateway.id") + "/";
        try {
            return archiveDay(folder);
        } catch (SdkException e) {
            throw meaning(e, offload() + "] or [" + target());
        }
    }

    private long archiveDay(String folder) throws Exception {
        List<Plan.Source> offload = sources(folder);
        if (offload.isEmpty()) {
            return 0;
        }
        Map<String, Plan> plans = plans(folder);
        long rows = 0;
        Set<String> damaged = new HashSet<>();
        for (Plan plan : List.copyOf(plans.values())) {
            if (plan.verified()) {
                continue;
            }
            // Its day has gone on since the crash; what it was to hold is still there, unless somebody else has deleted it.
            if (head(folder, plan) == null && !offload.containsAll(plan.sources())) {
                forget(folder, plan, plans, "objects it names are not in bucket [" + offload() + "] any more");
                continue;
            }
            rows += finish(folder, plan, plans, damaged);
        }
        while (true) {
            Set<String> known = plans.values().stream().flatMap(p -> p.sources().stream()).map(Plan.Source::key).collect(Collectors.toSet());
            known.addAll(damaged);
            List<Plan.Source> chosen = choose(offload.stream().filter(o -> !known.contains(o.key())).toList());
            if (chosen.isEmpty()) {
                break;
            }
            Plan plan = Plan.of(chosen);
            write(folder, plan);
            plans.put(plan.object(), plan);
            rows += finish(folder, plan, plans, damaged);
        }
        if (config.getBoolean("archive.s3.delete.offload")) {
            for (Plan plan : plans.values()) {
                delete(folder, plan, offload);
            }
        }
        if (!damaged.isEmpty()) {
            throw new IllegalStateException(damaged.size() + " objects in bucket [" + offload() + "] do not hold what their names say, they are"
                    + " neither archived nor deleted: " + damaged + "; replay their rows (the numbers in the name) and remove them");
        }
        return rows;
    }

    /** @return rows; 0: a source is damaged, and the plan is given up */
    private long finish(String folder, Plan plan, Map<String, Plan> plans, Set<String> damaged) throws IOException {
        HeadObjectResponse stored = head(folder, plan);
        try {
            if (stored == null || stored.contentLength() != plan.bytes()) {
                copy(folder, plan);
            }
        } catch (DamagedException e) {
            damaged.add(e.source.key());
            forget(folder, plan, plans, e.getMessage());
            return 0;
        }
        try {
            Plan verified = verify(folder, plan);
            write(folder, verified);
            plans.put(plan.object(), verified);
            LOG.info("Archived {} rows of {} objects as [{}], read back and verified", verified.rows(), plan.sources().size(), key(folder, plan));
            return verified.rows();
        } catch (DamagedException e) {
            // What was sent was whole: the sources were checked on the way.
            forget(folder, plan, plans, "what was read back is not what was written: " + e.getMessage());
            throw new IOException("[" + key(folder, plan) + "] in bucket [" + target() + "] was not what was written (" + e.getMessage()
                    + "): it is made anew at the next run", e);
        }
    }

    private void copy(String folder, Plan plan) throws DamagedException {
        Map<String, String> metadata = Map.of("caravan-sources", Integer.toString(plan.sources().size()));
        try (Upload upload = new Upload(s3, target(), key(folder, plan), S3Objects.CONTENT_TYPE, metadata, null,
                Math.toIntExact(config.getLong("archive.s3.part.bytes")))) {
            for (Plan.Source source : plan.sources()) {
                goOn();
                byte[] object = s3.getObjectAsBytes(o -> o.bucket(offload()).key(source.key())).asByteArrayUnsafe();
                if (object.length != source.bytes()) {
                    throw new DamagedException(source, "is [" + object.length + "] bytes long, not [" + source.bytes() + "] as listed");
                }
                count(source, new ByteArrayInputStream(object));
                upload.write(object, 0, object.length);
            }
            upload.finish();
        }
    }

    /** Reads the archive's object and finds in it every source, whole, one after the other, and nothing else. */
    private Plan verify(String folder, Plan plan) throws IOException, DamagedException {
        String key = key(folder, plan);
        long rows = 0;
        ResponseInputStream<GetObjectResponse> stored = s3.getObject(o -> o.bucket(target()).key(key));
        try {
            for (Plan.Source source : plan.sources()) {
                Slice slice = new Slice(stored, source.bytes());
                rows += count(source, slice);
                if (slice.left > 0) {
                    throw new DamagedException(source, "goes on behind its end");
                }
            }
            if (stored.read() >= 0) {
                throw new DamagedException(plan.sources().get(plan.sources().size() - 1), "is followed by something");
            }
            return plan.verified(rows, stored.response().eTag());
        } finally {
            // Not close(): that would read to the end what nobody wants after a failure.
            stored.abort();
        }
    }

    /** @return lines in it */
    private long count(Plan.Source source, InputStream packed) throws DamagedException {
        long rows = 0;
        byte last = '\n';
        try (InputStream in = new GZIPInputStream(packed, BUFFER_BYTES)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] buffer = new byte[BUFFER_BYTES];
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                goOn();
                digest.update(buffer, 0, n);
                for (int i = 0; i < n; i++) {
                    rows += buffer[i] == '\n' ? 1 : 0;
                }
                last = n == 0 ? last : buffer[n - 1];
            }
            String hash = HexFormat.of().formatHex(digest.digest()).substring(0, 16);
            if (last != '\n' || !hash.equals(source.contentHash())) {
                throw new DamagedException(source, "holds other rows than its name says: hash [" + hash + "]");
            }
            return rows;
        } catch (java.util.zip.ZipException | java.io.EOFException e) {
            throw new DamagedException(source, "is no gzip file: " + e.getMessage());
        } catch (IOException e) {
            throw software.amazon.awssdk.core.exception.SdkClientException.create(source.key() + " could not be read: " + e.getMessage(), e);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has SHA-256", e);
        }
    }

    private void delete(String folder, Plan plan, List<Plan.Source> offload) {
        if (!plan.verified()) {
            return;
        }
        HeadObjectResponse stored = head(folder, plan);
        if (stored == null || stored.contentLength() != plan.bytes() || !stored.eTag().equals(plan.etag())) {
            LOG.error("[{}] in bucket [{}] is not what was verified: nothing of it is deleted from bucket [{}]. Remove [{}] to archive it again",
                    key(folder, plan), target(), offload(), manifest(folder, plan));
            return;
        }
        Set<Plan.Source> archived = new HashSet<>(plan.sources());
        for (Plan.Source source : offload) {
            if (archived.contains(source)) {
                goOn();
                s3.deleteObject(o -> o.bucket(offload()).key(source.key()));
            }
        }
    }

    private List<Plan.Source> choose(List<Plan.Source> left) {
        List<Plan.Source> chosen = new ArrayList<>();
        long bytes = 0;
        for (Plan.Source source : left) {
            if (!chosen.isEmpty() && (bytes + source.bytes() > config.getLong("archive.s3.object.bytes") || chosen.size() == SOURCES_MAX)) {
                break;
            }
            chosen.add(source);
            bytes += source.bytes();
        }
        return chosen;
    }

    private List<Plan.Source> sources(String folder) {
        String prefix = config.get("sink.s3.prefix") + folder;
        List<Plan.Source> found = new ArrayList<>();
        try {
            s3.listObjectsV2Paginator(o -> o.bucket(offload()).prefix(prefix)).contents().forEach(object -> {
                if (OBJECT.matcher(object.key().substring(prefix.length())).matches()) {
                    found.add(new Plan.Source(object.key(), object.size(), object.eTag()));
                } else {
                    LOG.debug("[{}] is not an object of the sink: left where it is", object.key());
                }
            });
        } catch (NoSuchBucketException e) {
            LOG.debug("Bucket [{}] does not exist yet: nothing to archive", offload());
        }
        found.sort(java.util.Comparator.comparing(Plan.Source::key));
        return found;
    }

    /** @return by name of the object; the plans of a sink and an archive that share a bucket are not objects of either */
    private Map<String, Plan> plans(String folder) {
        String prefix = config.get("archive.s3.prefix") + "_plan/" + folder;
        Map<String, Plan> plans = new HashMap<>();
        try {
            s3.listObjectsV2Paginator(o -> o.bucket(target()).prefix(prefix)).contents().forEach(object -> {
                byte[] json = s3.getObjectAsBytes(o -> o.bucket(target()).key(object.key())).asByteArrayUnsafe();
                Plan plan = Plan.read(object.key(), json);
                plans.put(plan.object(), plan);
            });
        } catch (NoSuchBucketException e) {
            if (!config.getBoolean("s3.bucket.create")) {
                throw e;
            }
            s3.createBucket(o -> o.bucket(target()));
            LOG.info("Bucket [{}] was missing and has been created", target());
        }
        return plans;
    }

    private void write(String folder, Plan plan) {
        byte[] json = plan.json();
        s3.putObject(o -> o.bucket(target()).key(manifest(folder, plan)).contentType("application/json").contentMD5(Upload.md5(json, json.length)),
                RequestBody.fromBytes(json));
    }

    private void forget(String folder, Plan plan, Map<String, Plan> plans, String why) {
        LOG.warn("Object [{}] is planned anew: {}", key(folder, plan), why);
        // In this order: an object without its plan would never be looked at again.
        s3.deleteObject(o -> o.bucket(target()).key(key(folder, plan)));
        s3.deleteObject(o -> o.bucket(target()).key(manifest(folder, plan)));
        plans.remove(plan.object());
    }

    private HeadObjectResponse head(String folder, Plan plan) {
        try {
            return s3.headObject(o -> o.bucket(target()).key(key(folder, plan)));
        } catch (NoSuchKeyException e) {
            return null;
        } catch (S3Exception e) {
            // An answer to HEAD has no body that could name the error.
            if (e.statusCode() == 404) {
                return null;
            }
            throw e;
        }
    }

    private void goOn() {
        if (closed || Thread.currentThread().isInterrupted()) {
            throw new IllegalStateException("The archive stops; the day is gone on with at the next run");
        }
    }

    private static LocalDate day(String date) {
        try {
            return LocalDate.parse(date);
        } catch (DateTimeParseException e) {
            throw new IllegalArgumentException("CaravanDate [" + date + "] must be a day as 2026-11-21", e);
        }
    }

    private static Exception meaning(SdkException e, String bucket) {
        SinkException meaning = S3Failures.of(e, bucket);
        return meaning == null ? e : meaning;
    }

    private String offload() {
        return config.get("sink.s3.bucket");
    }

    private String target() {
        return config.get("archive.s3.bucket");
    }

    private String key(String folder, Plan plan) {
        return config.get("archive.s3.prefix") + folder + plan.object();
    }

    /** Not beside the objects: whoever reads a day's folder reads all of it. Engines skip names that begin with _. */
    private String manifest(String folder, Plan plan) {
        return config.get("archive.s3.prefix") + "_plan/" + folder + plan.object().replace(".ndjson.gz", ".json");
    }

    /** So many bytes of a stream, which stays open. */
    private static final class Slice extends FilterInputStream {
        private long left;

        Slice(InputStream in, long bytes) {
            super(in);
            left = bytes;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] bytes, int offset, int length) throws IOException {
            if (left == 0) {
                return -1;
            }
            int n = in.read(bytes, offset, (int) Math.min(length, left));
            left -= Math.max(0, n);
            return n;
        }

        @Override
        public int available() throws IOException {
            // GZIPInputStream looks for a further member where this is not 0.
            return (int) Math.min(left, in.available());
        }

        @Override
        public void close() {
            // The stream goes on behind it.
        }
    }
}
