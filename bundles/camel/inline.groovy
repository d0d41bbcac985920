// SPDX-License-Identifier: Apache-2.0
// Unpacks the compile-scope dependencies of a module into target/classes, where bnd (and, in the reactor, the compiler of
// other modules) finds them. Of files that several jars bring it merges Camel's TypeConverterLoader index and the licence
// and notice texts; any other difference between two jars stops the build. META-INF/sbom/inlined.json says what was in it, for
// karaf-assembly/sbom.groovy: the classes themselves do not tell any more.

import groovy.json.JsonOutput
import java.security.MessageDigest
import java.util.zip.ZipFile
import org.apache.maven.project.DefaultProjectBuildingRequest
import org.apache.maven.project.ProjectBuilder

final LOADERS = 'META-INF/services/org/apache/camel/TypeConverterLoader'
final LICENCE = /(?i)META-INF\/(maven\/.*\/)?LICENSE([.-].*)?/
final NOTICE = /(?i)META-INF\/(maven\/.*\/)?NOTICE([.-].*)?/
final METADATA = /META-INF\/(MANIFEST\.MF|INDEX\.LIST|jandex\.idx|[^\/]+\.(SF|RSA|DSA)|(maven|versions|native-image)\/.*)|OSGI-(INF|OPT)\/.*|module-info\.class|pom\.xml/
final POM_PROPERTIES = /META-INF\/maven\/.*\/pom\.properties/
// Indexes of what a jar brings, for tools; nothing reads them at run time.
final CATALOGUE = /(META-INF\/services\/org\/apache\/camel\/)?[a-z-]+\.properties|META-INF\/spring.*/

def property = { name -> project.properties[name]?.replaceAll(/\s/, '') }
def only = property('inline.only') ?: '.*', not = property('inline.not') ?: /(?!)/
def projects = session.container.lookup(ProjectBuilder)
def request = new DefaultProjectBuildingRequest(session.projectBuildingRequest)
request.processPlugins = false
request.project = null

def classes = new File(project.build.outputDirectory)
def origin = [:], content = [:], licences = [:], parts = []
def loaders = new LinkedHashSet<String>()
def texts = [:].withDefault { [] }, notices = [:].withDefault { [] }

classes.deleteDir()
project.artifacts.findAll { it.scope == 'compile' }.sort { "$it.groupId:$it.artifactId" as String }.each { artifact ->
    def poms = []
    new ZipFile(artifact.file).withCloseable { zip ->
        zip.entries().findAll { !it.directory }.each { entry ->
            def name = entry.name
            if (name ==~ POM_PROPERTIES) poms << zip.getInputStream(entry).withCloseable { def p = new Properties(); p.load(it); p }
            def bytes = zip.getInputStream(entry).bytes
            def text = { new String(bytes, 'UTF-8').replace('\r', '').stripIndent().trim() }
            if (name == LOADERS) loaders.addAll(text().readLines()*.trim().findAll { it && !it.startsWith('#') })
            else if (name ==~ LICENCE) texts[text()] << artifact.artifactId
            else if (name ==~ NOTICE) notices[text()] << artifact.artifactId
            else if (name ==~ METADATA || !(name ==~ only) || name ==~ not) return
            else if (!origin.containsKey(name)) {
                origin[name] = artifact
                content[name] = bytes
                def file = new File(classes, name)
                file.parentFile.mkdirs()
                file.bytes = bytes
            } else if (!(name ==~ CATALOGUE) && !Arrays.equals(content[name], bytes)) throw new IllegalStateException(
                "[$name] differs between [${origin[name]}] and [$artifact]: [$project.artifactId] cannot hold both")
        }
    }
    def pom = projects.build(artifact, true, request).project
    licences[artifact] = pom.licenses.collect { it.url ? "$it.name <$it.url>" : it.name }.join(' or ')
    if (!licences[artifact]) throw new IllegalStateException("[$artifact] states no licence, so it cannot be inlined into [$project.artifactId]")
    parts << [group: artifact.groupId, name: artifact.artifactId, version: artifact.version,
              sha256: MessageDigest.getInstance('SHA-256').digest(artifact.file.bytes).encodeHex().toString(),
              licences: pom.licenses.collect { [name: it.name, url: it.url] },
              inside: poms.collect { [group: it.groupId, name: it.artifactId, version: it.version] }
                      .findAll { it.group != artifact.groupId || it.name != artifact.artifactId }.sort { it.toString() }]
}

loaders.each {
    if (!origin.containsKey(it.replace('.', '/') + '.class')) throw new IllegalStateException(
        "$LOADERS names [$it], which [$project.artifactId] does not contain")
}

def write = { name, text ->
    def file = new File(classes, name)
    file.parentFile.mkdirs()
    file.setText(text, 'UTF-8')
}
def rule = '=' * 80
def sections = { title, map -> map.collect { text, jars -> "$rule\n$title ${jars.join(', ')}\n$rule\n\n$text\n" }.join('\n') }

if (loaders) write(LOADERS, loaders.join('\n') + '\n')
write('META-INF/LICENSE', 'This bundle contains classes of the following libraries, under their own licences:\n\n' +
    licences.collect { artifact, licence -> "  $artifact.groupId:$artifact.artifactId:$artifact.version\n    $licence\n" }.join() +
    '\n' + sections('Licence of', texts))
write('META-INF/sbom/inlined.json', JsonOutput.prettyPrint(JsonOutput.toJson(parts)) + '\n')
if (notices) write('META-INF/NOTICE', sections('Notice of', notices))
log.info("Inlined ${licences.size()} jars, ${origin.size()} files")
