// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.internal.RouteDeployer;
import io.caravan.runtime.internal.RouteSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.MalformedURLException;
import java.net.URISyntaxException;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.jar.Attributes;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import org.apache.felix.fileinstall.ArtifactUrlTransformer;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;

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
        return isRouteFile(artifact);
    }

    private static boolean isRouteFile(File artifact) {
        String name = artifact.getName();
        return artifact.isFile() && !name.startsWith(".")
                && (name.endsWith(".camel.xml") || name.endsWith(".yaml") || name.endsWith(".yml"));
    }

    /** @return null, for FileInstall to leave the file alone: its name breaks the rule for stems */
    @Override
    public URL transform(URL artifact) throws MalformedURLException {
        Path path;
        try {
            path = Path.of(artifact.toURI()); // its own path has a blank as %20
        } catch (URISyntaxException e) {
            throw new MalformedURLException(e.getMessage());
        }
        String file = path.getFileName().toString();
        try {
            RouteSource.stem(file);
        } catch (IllegalArgumentException e) {
            deployer.refuse(file, e.getMessage(), path);
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

    /**
     * Files that lie in a folder and have not come to the deployer, nor been refused by it: FileInstall takes what it found unchanged twice, some
     * time after the framework is up.
     *
     * @return their names, sorted; none where there is no such folder
     * @throws UncheckedIOException it cannot be read
     */
    static List<String> untaken(Path folder, BundleContext bundles) {
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        Set<String> taken = new HashSet<>();
        for (Bundle bundle : bundles.getBundles()) {
            if (bundle.getState() == Bundle.ACTIVE && String.valueOf(bundle.getSymbolicName()).startsWith(RouteTracker.DEPLOY)) {
                taken.add(bundle.getSymbolicName().substring(RouteTracker.DEPLOY.length()));
            }
        }
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(f -> isRouteFile(f.toFile())).map(f -> f.getFileName().toString())
                    .filter(f -> isNamed(f) && !taken.contains(RouteSource.stem(f))).sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** One whose name breaks the rule never comes; the deployer was told. */
    private static boolean isNamed(String file) {
        try {
            RouteSource.stem(file);
            return true;
        } catch (IllegalArgumentException e) {
            return false;
        }
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
