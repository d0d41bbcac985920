// SPDX-License-Identifier: Apache-2.0
// Makes an OSGi bundle of every route file and attaches it under the classifier <side>-<stem>.

import java.time.OffsetDateTime
import java.util.jar.Attributes
import java.util.jar.JarOutputStream
import java.util.jar.Manifest
import java.util.zip.ZipEntry
import org.apache.maven.project.MavenProjectHelper

final ROUTE_FILE = /([a-z0-9]+(?:-[a-z0-9]+)*)\.camel\.(yaml|xml)/

def helper = session.container.lookup(MavenProjectHelper)
def built = OffsetDateTime.parse(project.properties['project.build.outputTimestamp']).toLocalDateTime()
def target = new File(project.build.directory)
target.deleteDir()
target.mkdirs()

['gateway', 'cloud'].each { side ->
    def files = new File(project.basedir, side).listFiles()?.sort() ?: []
    def stems = [:]
    files.findAll { it.name.contains('.camel.') }.each { file ->
        def match = file.name =~ ROUTE_FILE
        if (!match.matches()) throw new IllegalArgumentException(
            "routes/$side/$file.name: a route file must be named <stem>.camel.yaml or <stem>.camel.xml, the stem in kebab-case without a dot")
        def stem = match.group(1)
        if (stems.put(stem, file)) throw new IllegalArgumentException("routes/$side: two files have the stem [$stem]")

        def manifest = new Manifest()
        def headers = manifest.mainAttributes
        headers.put(Attributes.Name.MANIFEST_VERSION, '1.0')
        headers.putValue('Bundle-ManifestVersion', '2')
        headers.putValue('Bundle-SymbolicName', "io.caravan.route.$stem")
        headers.putValue('Bundle-Version', project.version)
        headers.putValue('Bundle-Name', "Caravan :: route :: $side :: $stem")
        def jar = new File(target, "$project.artifactId-$project.version-$side-${stem}.jar")
        new JarOutputStream(jar.newOutputStream()).withCloseable { out ->
            def add = { String name, byte[] bytes ->
                def entry = new ZipEntry(name)
                entry.timeLocal = built
                out.putNextEntry(entry)
                out.write(bytes)
                out.closeEntry()
            }
            def bytes = new ByteArrayOutputStream()
            manifest.write(bytes)
            add('META-INF/MANIFEST.MF', bytes.toByteArray())
            // Entries for the folders: without them findEntries does not find the file.
            ['OSGI-INF/', 'OSGI-INF/camel/'].each { add(it, new byte[0]) }
            add("OSGI-INF/camel/$file.name", file.bytes)
        }
        helper.attachArtifact(project, 'jar', "$side-$stem", jar)
    }
    log.info("$side: ${stems.keySet().join(', ')}")
}
