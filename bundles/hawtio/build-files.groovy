// SPDX-License-Identifier: Apache-2.0
// Takes hawtio's static files out of its war into target/classes, texts compressed; servlets and libraries of the war stay out.

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.security.MessageDigest
import java.util.zip.GZIPOutputStream
import java.util.zip.ZipFile

def war = project.artifacts.find { it.artifactId == 'hawtio-war' }
def folder = new File(project.build.outputDirectory, 'io/caravan/hawtio/internal/files')
new ZipFile(war.file).withCloseable { zip ->
    zip.entries().findAll { !it.directory && !(it.name ==~ /(WEB-INF|META-INF)\/.*|robots\.txt|hawtconfig\.json/) }.each { entry ->
        def text = entry.name ==~ /.*\.(js|css|html|svg|txt|json)/
        def file = new File(folder, entry.name + (text ? '.gz' : ''))
        file.parentFile.mkdirs()
        def bytes = zip.getInputStream(entry).bytes
        if (!text) file.bytes = bytes
        else new GZIPOutputStream(new FileOutputStream(file)).withCloseable { it.write(bytes) }
    }
}

// For the SBOM, with what was inlined.
def sbom = new File(project.build.outputDirectory, 'META-INF/sbom/inlined.json')
def parts = new JsonSlurper().parse(sbom)
parts << [group: war.groupId, name: war.artifactId, version: war.version, sha256: MessageDigest.getInstance('SHA-256').digest(war.file.bytes).encodeHex().toString(),
          licences: [[name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0']], inside: []]
sbom.text = JsonOutput.toJson(parts)
