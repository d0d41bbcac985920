// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.internal.RouteDeployer;
import io.caravan.runtime.internal.RouteSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.nio.file.Path;
import java.util.jar.Attributes;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import java.util.zip.ZipEntry;
import org.apache.felix.fileinstall.ArtifactUrlTransformer;

/** Makes a bundle of a route file that is dropped into {@code deploy/}; FileInstall sees to the rest. */
final class DeployFolder implements ArtifactUrlTransformer {

    private static final String PROTOCOL = "caravan-route";

    private final RouteDeployer deployer;

    DeployFolder(RouteDeployer deployer) {
        this.deployer = deployer;
    }

    /** Also other YAML files: nobody else takes them, and a file that has no effect should say why. */
    @Override
    public boolean canHandle(File artifact) {
        String name = artifact.getName();
        return artifact.isFile() && !name.startsWith(".")
                && (name.endsWith(".camel.xml") || name.endsWith(".yaml") || name.endsWith(".yml"));
    }

    /** @return null, for FileInstall to leave the file alone: its name breaks the rule for stems */
    @Override
    public URL transform(URL artifact) throws MalformedURLException {
        String file = artifact.getPath().replaceFirst(".*/", "");
        try {
            RouteSource.stem(file);
        } catch (IllegalArgumentException e) {
            deployer.refuse(file, e.getMessage(), Path.of(artifact.getPath()));
            return null;
        }
        return new URL(null, PROTOCOL + ":" + artifact, new URLStreamHandler() {
            @Override
            protected URLConnection openConnection(URL url) {
                return new URLConnection(url) {
                    @Override
                    public void connect() {
                        // Nothing to do: the file is read when the stream is asked for.
                    }

                    @Override
                    public InputStream getInputStream() throws IOException {
                        try (InputStream in = artifact.openStream()) {
                            return new ByteArrayInputStream(bundle(file, in.readAllBytes()));
                        }
                    }
                };
            }
        });
    }

    static byte[] bundle(String file, byte[] text) throws IOException {
        String stem = RouteSource.stem(file);
        Manifest manifest = new Manifest();
        Attributes attributes = manifest.getMainAttributes();
        attributes.put(Attributes.Name.MANIFEST_VERSION, "1.0");
        attributes.putValue("Bundle-ManifestVersion", "2");
        attributes.putValue("Bundle-SymbolicName", RouteTracker.DEPLOY + stem);
        attributes.putValue("Bundle-Name", "Route file deploy/" + file);
        // Two files of one stem are two bundles: the deployer says which one it takes, and takes the other when that one goes.
        attributes.putValue("Bundle-Version", "0.0.0." + file.substring(file.lastIndexOf('.') + 1));
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (JarOutputStream jar = new JarOutputStream(bytes, manifest)) {
            for (String folder : new String[] {"OSGI-INF/", "OSGI-INF/camel/"}) {
                jar.putNextEntry(new ZipEntry(folder));
            }
            jar.putNextEntry(new ZipEntry("OSGI-INF/camel/" + file));
            jar.write(text);
        }
        return bytes.toByteArray();
    }
}
