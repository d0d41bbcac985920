// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.internal.RouteDeployer;
import java.io.InputStream;
import java.lang.reflect.Proxy;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.jar.JarInputStream;
import java.util.jar.Manifest;
import java.util.zip.ZipEntry;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;

class DeployFolderTest {

    @TempDir
    Path dir;

    @Test
    void fileBecomesABundle() throws Exception {
        Path file = Files.writeString(dir.resolve("sink-x.camel.yaml"), "- route: ü\n");
        try (RouteDeployer deployer = new RouteDeployer(new DefaultCamelContext(), Duration.ZERO)) {
            DeployFolder folder = new DeployFolder(deployer);
            assertTrue(folder.canHandle(file.toFile()));
            URL url = folder.transform(file.toUri().toURL());
            assertEquals("caravan-route:" + file.toUri().toURL(), url.toString());
            try (InputStream in = url.openStream(); JarInputStream jar = new JarInputStream(in)) {
                Manifest manifest = jar.getManifest();
                assertEquals("io.caravan.deploy.sink-x", manifest.getMainAttributes().getValue("Bundle-SymbolicName"));
                assertEquals("0.0.0.yaml", manifest.getMainAttributes().getValue("Bundle-Version"));
                ZipEntry entry = jar.getNextEntry();
                while (!entry.getName().equals("OSGI-INF/camel/sink-x.camel.yaml")) {
                    entry = jar.getNextEntry();
                }
                assertEquals("- route: ü\n", new String(jar.readAllBytes(), StandardCharsets.UTF_8));
            }
        }
    }

    @Test
    void badNameIsListedUntilTheFileIsGone() throws Exception {
        Path file = Files.writeString(dir.resolve("a.b.camel.yaml"), "");
        try (RouteDeployer deployer = new RouteDeployer(new DefaultCamelContext(), Duration.ZERO)) {
            assertNull(new DeployFolder(deployer).transform(file.toUri().toURL()));
            assertEquals("broken", deployer.list().get(0).state());
            Files.delete(file);
            long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
            while (!deployer.list().isEmpty() && System.nanoTime() < deadline) {
                java.util.concurrent.TimeUnit.MILLISECONDS.sleep(20);
            }
            assertTrue(deployer.list().isEmpty());
        }
    }

    /** FileInstall makes the URL of the file, in which a blank is %20. */
    @Test
    void badNameWithABlankIsListedAsItIsAndNotForgottenWhileTheFileIsThere() throws Exception {
        Path folder = Files.createDirectory(dir.resolve("my gateway"));
        Path file = Files.writeString(folder.resolve("Copy of sink.camel.yaml"), "");
        Path good = Files.writeString(folder.resolve("sink-x.camel.yaml"), "");
        try (RouteDeployer deployer = new RouteDeployer(new DefaultCamelContext(), Duration.ZERO)) {
            assertNull(new DeployFolder(deployer).transform(file.toUri().toURL()));
            assertEquals("Copy of sink.camel.yaml", deployer.list().get(0).file());
            assertTrue(deployer.list().get(0).error().contains("[Copy of sink.camel.yaml]"), deployer.list().toString());
            java.util.concurrent.TimeUnit.MILLISECONDS.sleep(2_500); // it looks every second whether the file is gone
            assertEquals(1, deployer.list().size());
            try (InputStream in = new DeployFolder(deployer).transform(good.toUri().toURL()).openStream()) {
                assertTrue(in.readAllBytes().length > 0);
            }
        }
    }

    @Test
    void otherFilesAreLeftToOthers() throws Exception {
        try (RouteDeployer deployer = new RouteDeployer(new DefaultCamelContext(), Duration.ZERO)) {
            DeployFolder folder = new DeployFolder(deployer);
            for (String name : new String[] {"a.jar", "features.xml", "README", ".a.camel.yaml.swp", ".hidden.camel.yaml"}) {
                assertFalse(folder.canHandle(Files.writeString(dir.resolve(name), "").toFile()), name);
            }
        }
    }

    @Test
    void whatLiesThereIsNotTakenBeforeItsBundleIsStarted() throws Exception {
        for (String file : new String[] {"b.camel.yaml", "a.camel.xml", "a.b.camel.yaml", ".hidden.camel.yaml", "notes.txt", "x.jar"}) {
            Files.writeString(dir.resolve(file), "");
        }
        assertEquals(List.of("a.camel.xml", "b.camel.yaml"), DeployFolder.untaken(dir, bundles(Map.of())));
        assertEquals(List.of("b.camel.yaml"), DeployFolder.untaken(dir, bundles(Map.of("io.caravan.deploy.a", Bundle.ACTIVE, "io.caravan.deploy.b", Bundle.INSTALLED, "b", Bundle.ACTIVE))));
        assertEquals(List.of(), DeployFolder.untaken(dir, bundles(Map.of("io.caravan.deploy.a", Bundle.ACTIVE, "io.caravan.deploy.b", Bundle.ACTIVE))));
        assertEquals(List.of(), DeployFolder.untaken(dir.resolve("absent"), bundles(Map.of())));
    }

    /** @param states by symbolic name */
    private static BundleContext bundles(Map<String, Integer> states) {
        Bundle[] bundles = states.entrySet().stream().map(e -> proxy(Bundle.class, Map.of("getSymbolicName", e.getKey(), "getState", e.getValue()))).toArray(Bundle[]::new);
        return proxy(BundleContext.class, Map.of("getBundles", bundles));
    }

    private static <T> T proxy(Class<T> type, Map<String, Object> answers) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, arguments) -> {
            if (!answers.containsKey(method.getName())) {
                throw new UnsupportedOperationException(method.toString());
            }
            return answers.get(method.getName());
        }));
    }
}
