// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import java.io.ByteArrayInputStream;
import java.io.OutputStream;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.CompletedPart;

/**
 * One object, written as a stream of unknown length with one part of it in memory. What fits into one part is put in one
 * request, so that no server needs to know multipart uploads for it. The object is there when {@link #finish} returns, whole
 * or not at all; {@link #close} without it leaves nothing behind.
 *
 * <p>The component's own multipart upload loses the user metadata, and takes no stream of unknown length. Not thread-safe.
 */
final class Upload extends OutputStream {
    private static final Logger LOG = LoggerFactory.getLogger(Upload.class);

    private final S3Client s3;
    private final String bucket;
    private final String key;
    private final String contentType;
    private final Map<String, String> metadata;
    private final String ifNoneMatch;
    private final byte[] part;
    private final List<CompletedPart> parts = new ArrayList<>();
    private int size;
    private String uploadId;
    private boolean finished;

    /**
     * @param ifNoneMatch {@code *}: fail with 412 if the object exists; null: whatever is there is replaced
     * @param partBytes   size of a part and of the buffer; S3 takes parts from 5 MiB
     */
    Upload(S3Client s3, String bucket, String key, String contentType, Map<String, String> metadata, String ifNoneMatch, int partBytes) {
        this.s3 = s3;
        this.bucket = bucket;
        this.key = key;
        this.contentType = contentType;
        this.metadata = metadata;
        this.ifNoneMatch = ifNoneMatch;
        this.part = new byte[partBytes];
    }

    @Override
    public void write(int b) {
        write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] bytes, int offset, int length) {
        int from = offset;
        int left = length;
        while (left > 0) {
            // Only now: the last part must not be empty.
            if (size == part.length) {
                sendPart();
            }
            int n = Math.min(left, part.length - size);
            System.arraycopy(bytes, from, part, size, n);
            size += n;
            from += n;
            left -= n;
        }
    }

    /**
     * The object is stored when this returns.
     *
     * @throws software.amazon.awssdk.services.s3.model.S3Exception 412: it exists, and {@code ifNoneMatch} is given
     */
    void finish() {
        if (uploadId == null) {
            s3.putObject(o -> o.bucket(bucket).key(key).contentType(contentType).metadata(metadata).ifNoneMatch(ifNoneMatch)
                    .contentMD5(md5(part, size)), body());
        } else {
            sendPart();
            s3.completeMultipartUpload(o -> o.bucket(bucket).key(key).uploadId(uploadId).ifNoneMatch(ifNoneMatch)
                    .multipartUpload(m -> m.parts(parts)));
        }
        finished = true;
    }

    @Override
    public void close() {
        if (uploadId != null && !finished) {
            try {
                s3.abortMultipartUpload(o -> o.bucket(bucket).key(key).uploadId(uploadId));
            } catch (SdkException e) {
                // The failure that led here counts; parts that stay are a matter of the bucket's lifecycle rule.
                LOG.warn("Upload of [{}] into bucket [{}] could not be aborted, its parts stay: {}", key, bucket, e.getMessage());
            }
        }
    }

    static String md5(byte[] bytes, int size) {
        try {
            MessageDigest digest = MessageDigest.getInstance("MD5");
            digest.update(bytes, 0, size);
            return Base64.getEncoder().encodeToString(digest.digest());
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has MD5", e);
        }
    }

    private void sendPart() {
        if (uploadId == null) {
            uploadId = s3.createMultipartUpload(o -> o.bucket(bucket).key(key).contentType(contentType).metadata(metadata)).uploadId();
        }
        int number = parts.size() + 1;
        String etag = s3.uploadPart(o -> o.bucket(bucket).key(key).uploadId(uploadId).partNumber(number).contentMD5(md5(part, size)), body()).eTag();
        parts.add(CompletedPart.builder().partNumber(number).eTag(etag).build());
        size = 0;
    }

    /** Of the buffer itself: fromBytes would copy it. */
    private RequestBody body() {
        int length = size;
        return RequestBody.fromContentProvider(() -> new ByteArrayInputStream(part, 0, length), length, contentType);
    }
}
