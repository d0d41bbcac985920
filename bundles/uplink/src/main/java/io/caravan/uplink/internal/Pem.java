// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Tells a key that belongs to a certificate from one that does not: the two files of a pair are never replaced at once. */
final class Pem {

    private static final Pattern KEY = Pattern.compile("-----BEGIN PRIVATE KEY-----(.*?)-----END PRIVATE KEY-----", Pattern.DOTALL);

    private Pem() {
    }

    /**
     * @return the key
     * @throws GeneralSecurityException no PKCS#8 key, or not this certificate's
     */
    static PrivateKey checkPair(X509Certificate certificate, byte[] keyPem, String keyName, String certName) throws GeneralSecurityException {
        Matcher pem = KEY.matcher(new String(keyPem, StandardCharsets.US_ASCII));
        if (!pem.find()) {
            throw new GeneralSecurityException(keyName + " must hold a private key in PEM, PKCS#8 without password (BEGIN PRIVATE KEY)");
        }
        String algorithm = certificate.getPublicKey().getAlgorithm();
        String signing = algorithm.equals("EC") ? "SHA256withECDSA" : algorithm.equals("RSA") ? "SHA256withRSA" : algorithm;
        PrivateKey key = null;
        boolean fits;
        try {
            key = KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(pem.group(1))));
            Signature signature = Signature.getInstance(signing);
            signature.initSign(key);
            signature.update((byte) 1);
            byte[] signed = signature.sign();
            signature.initVerify(certificate.getPublicKey());
            signature.update((byte) 1);
            fits = signature.verify(signed);
        } catch (GeneralSecurityException | IllegalArgumentException e) {
            // Another algorithm than the certificate's, or damaged; the cause could quote the key.
            fits = false;
        }
        if (!fits) {
            throw new GeneralSecurityException(keyName + " is not the key of " + certName);
        }
        return key;
    }
}
