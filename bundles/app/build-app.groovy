// SPDX-License-Identifier: Apache-2.0
// Builds app/ into target/app. npm ci runs when package-lock.json is another than that of node_modules, the build when a source,
// the lock or this script is another than last time: an unchanged app costs a build nothing but the look, and no network.

import java.security.MessageDigest

def app = new File(project.basedir, '../../app').canonicalFile
def out = new File(project.build.directory, 'app')
def digest = { List<File> files ->
    def sha = MessageDigest.getInstance('SHA-256')
    files.each { file ->
        sha.update(file.path.getBytes('UTF-8'))
        sha.update(file.bytes)
    }
    sha.digest().encodeHex().toString()
}
def run = { List<String> command, String advice ->
    def output = new StringBuffer()
    def status
    try {
        def process = new ProcessBuilder(command).directory(app).redirectErrorStream(true).start()
        process.outputStream.close()
        process.consumeProcessOutputStream(output).join()
        status = process.waitFor()
    } catch (IOException e) {
        status = e.message
    }
    if (status != 0) throw new IllegalStateException("[${command.join(' ')}] in [$app] ended with [$status]: $advice\n$output")
    log.debug(output.toString())
}

def lock = new File(app, 'package-lock.json')
def modules = new File(app, 'node_modules/.caravan-lock')
def installed = digest([lock, new File(app, '.npmrc')])
if (!modules.exists() || modules.text != installed) {
    log.info('npm ci in app/')
    run(['npm', 'ci', '--prefer-offline', '--no-audit', '--no-fund'],
        'bin/install-deps installs Node.js and npm; npm needs its registry once, after that app/node_modules is enough')
    modules.text = installed
}
def sources = [lock, new File(app, 'package.json'), new File(app, 'build.mjs'), new File(project.basedir, 'build-app.groovy')]
new File(app, 'src').eachFileRecurse(groovy.io.FileType.FILES) { sources << it }
def inputs = digest(sources.sort { it.path })
def stamp = new File(out, 'inputs')
if (!stamp.exists() || stamp.text != inputs) {
    log.info('building app/')
    stamp.delete()
    run(['node', 'build.mjs', '--out', out.path], 'the lines below say why')
    stamp.text = inputs
}
