// SPDX-License-Identifier: Apache-2.0
// Writes sbom.cdx.json (CycloneDX 1.6) into the assembly before it is packed, and beside the tar.gz: every jar, what was
// inlined into our bundles (META-INF/sbom/inlined.json, npm.json), and what others embedded in theirs (META-INF/maven in the jar, or
// security/embedded.json where the jar does not say). It walks the folder that is shipped: a report of Maven's dependencies
// sees neither the features' bundles nor what is inside them.

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.security.MessageDigest
import java.util.zip.ZipFile
import org.apache.maven.artifact.DefaultArtifact
import org.apache.maven.artifact.handler.DefaultArtifactHandler
import org.apache.maven.project.DefaultProjectBuildingRequest
import org.apache.maven.project.ProjectBuilder

// By name or address, as POMs write them.
final SPDX = [
    (/(?i).*(apache.*2(\.0)?|ALv2).*/): 'Apache-2.0', (/(?i).*MIT-0.*/): 'MIT-0', (/(?i).*\bMIT\b.*/): 'MIT', (/(?i).*CC0.*/): 'CC0-1.0',
    (/(?i).*(EPL|Eclipse Public License)[ -v]*2.*/): 'EPL-2.0', (/(?i).*(EPL|Eclipse Public License)[ -v]*1.*/): 'EPL-1.0',
    (/(?i).*BSD[- ]2.*/): 'BSD-2-Clause', (/(?i).*(BSD[- ]3|EDL|Eclipse Distribution License).*/): 'BSD-3-Clause',
]
def sha256 = { byte[] bytes -> MessageDigest.getInstance('SHA-256').digest(bytes).encodeHex().toString() }
def projects = session.container.lookup(ProjectBuilder)
def request = new DefaultProjectBuildingRequest(session.projectBuildingRequest)
request.processPlugins = false
request.project = null

def licenceCache = [:]
def stated = { group, name, version ->
    def key = "$group:$name:$version" as String
    if (!licenceCache.containsKey(key)) {
        licenceCache[key] = []
        try {
            def artifact = new DefaultArtifact(group, name, version, null, 'jar', null, new DefaultArtifactHandler('jar'))
            licenceCache[key] = projects.build(artifact, false, request).project.licenses.collect { [name: it.name, url: it.url] }
        } catch (Exception e) {
            log.debug("no POM of [$key]: $e.message")
        }
    }
    licenceCache[key]
}
def licences = { list ->
    list.collect { l ->
        def id = SPDX.find { pattern, spdx -> "$l.name $l.url" ==~ pattern }?.value
        [license: id ? [id: id] : [name: l.name ?: l.url] + (l.url ? [url: l.url] : [:])]
    }.unique()
}
def component = { group, name, version, classifier, hash, listed ->
    def purl = "pkg:maven/$group/$name@$version" + (classifier ? "?classifier=$classifier" : '')
    def c = [type: 'library', 'bom-ref': purl as String, group: group, name: name, version: version, purl: purl as String]
    if (hash) c.hashes = [[alg: 'SHA-256', content: hash]]
    def found = licences(listed)
    if (found) c.licenses = found
    c
}
def properties = { zip, entry -> zip.getInputStream(entry).withCloseable { def p = new Properties(); p.load(it); p } }

def assembly = new File(project.build.directory, 'assembly')
def embedded = new JsonSlurper().parse(new File(project.basedir, '../../security/embedded.json')).embedded
def used = new HashSet()
// What is embedded is named once per place: the path of references makes the reference unique, as the format asks for.
def nest
nest = { parent, child ->
    child.'bom-ref' = "${parent.'bom-ref'}/${child.purl}" as String
    if (!(parent.components ?: []).any { it.purl == child.purl }) parent.components = (parent.components ?: []) + child
    child.components?.each { it.'bom-ref' = "${child.'bom-ref'}/${it.purl}" as String }
}
def addEmbedded = { c ->
    embedded.findAll { it.in == c.purl }.each { e ->
        used << e
        def (_, type, group, name, version) = (e.is =~ /pkg:(\w+)\/(?:([^\/]+)\/)?([^@]+)@(.+)/)[0]
        def child = type == 'maven' ? component(group, name, version, null, null, stated(group, name, version))
            : [type: 'library', name: name, version: version, purl: e.is]
        if (e.licence) child.licenses = [[license: [id: e.licence]]]
        child.properties = [[name: 'caravan:packages', value: e.packages]]
        nest(c, child)
    }
}

def top = []
assembly.eachFileRecurse { file ->
    if (!file.name.endsWith('.jar')) return
    def path = assembly.toPath().relativize(file.toPath()).toString().replace(File.separator, '/')
    new ZipFile(file).withCloseable { zip ->
        def poms = zip.entries().findAll { it.name ==~ /META-INF\/maven\/.*\/pom\.properties/ }.collect { properties(zip, it) }
        def group, name, version, classifier = null
        if (path.startsWith('system/')) {
            def parts = path.substring('system/'.length()).split('/')
            (group, name, version) = [parts[0..-4].join('.'), parts[-3], parts[-2]]
            def rest = file.name.substring("$name-$version".length()) - '.jar'
            if (rest) classifier = rest.substring(1)
        } else {
            def own = poms.find { file.name == "$it.artifactId-${it.version}.jar" as String }
            if (!own) throw new IllegalStateException("[$path] does not say what it is (META-INF/maven): put it into system/, or extend sbom.groovy")
            (group, name, version) = [own.groupId, own.artifactId, own.version]
        }
        def c = component(group, name, version, classifier, sha256(file.bytes), stated(group, name, version))
        if (group == project.groupId && !c.licenses) c.licenses = [[license: [id: 'Apache-2.0']]]
        if (!c.licenses) throw new IllegalStateException("[$c.purl] states no licence: its POM could not be resolved, or has none")
        // Where it is: lib/ has some jars a second time.
        c.'bom-ref' = "$path" as String
        c.properties = [[name: 'caravan:path', value: path]]
        def inlined = zip.getEntry('META-INF/sbom/inlined.json')
        if (inlined) {
            new JsonSlurper().parse(zip.getInputStream(inlined).bytes).each { i ->
                def child = component(i.group, i.name, i.version, null, i.sha256, i.licences)
                i.inside.each { nest(child, component(it.group, it.name, it.version, null, null, stated(it.group, it.name, it.version))) }
                addEmbedded(child)
                nest(c, child)
            }
        }
        // What npm put into the phone app's script.
        def npm = zip.getEntry('META-INF/sbom/npm.json')
        if (npm) {
            new JsonSlurper().parse(zip.getInputStream(npm).bytes).each { n ->
                def child = [type: 'library', 'bom-ref': "pkg:npm/$n.name@$n.version" as String, name: n.name, version: n.version,
                             purl: "pkg:npm/$n.name@$n.version" as String, licenses: [[license: [id: n.licence]]]]
                def integrity = n.integrity =~ /sha512-(.+)/
                if (integrity) child.hashes = [[alg: 'SHA-512', content: integrity[0][1].decodeBase64().encodeHex().toString()]]
                nest(c, child)
            }
        }
        poms.findAll { it.groupId != group || it.artifactId != name }.each {
            nest(c, component(it.groupId, it.artifactId, it.version, null, null, stated(it.groupId, it.artifactId, it.version)))
        }
        addEmbedded(c)
        top << c
    }
}
top.sort { it.'bom-ref' }
top.each { c -> c.components?.sort(true) { it.'bom-ref' } }

def root = [type: 'application', 'bom-ref': "pkg:maven/$project.groupId/$project.artifactId@$project.version?type=tar.gz" as String,
            group: project.groupId, name: project.artifactId, version: project.version,
            purl: "pkg:maven/$project.groupId/$project.artifactId@$project.version?type=tar.gz" as String, licenses: [[license: [id: 'Apache-2.0']]]]
def bom = [
    '$schema': 'http://cyclonedx.org/schema/bom-1.6.schema.json', bomFormat: 'CycloneDX', specVersion: '1.6',
    serialNumber: 'urn:uuid:' + UUID.nameUUIDFromBytes(JsonOutput.toJson(top).getBytes('UTF-8')), version: 1,
    metadata: [timestamp: project.properties['project.build.outputTimestamp'], component: root],
    components: top, dependencies: [[ref: root.'bom-ref', dependsOn: top*.'bom-ref']],
]
def text = JsonOutput.prettyPrint(JsonOutput.toJson(bom)) + '\n'
new File(assembly, 'sbom.cdx.json').setText(text, 'UTF-8')
new File(project.build.directory, "$project.artifactId-${project.version}.sbom.cdx.json").setText(text, 'UTF-8')
// What etc/ is as shipped, so that an upgrade knows what an operator has changed; sha256sum -c etc.sha256 tells too.
def etc = []
new File(assembly, 'etc').eachFileRecurse(groovy.io.FileType.FILES) { etc << assembly.toPath().relativize(it.toPath()).toString().replace(File.separator, '/') }
new File(assembly, 'etc.sha256').setText(etc.sort().collect { "${sha256(new File(assembly, it).bytes)}  $it\n" }.join(), 'UTF-8')
def count
count = { list -> list.sum(0) { 1 + count(it.components ?: []) } }
log.info("SBOM: ${top.size()} jars, ${count(top)} components")
