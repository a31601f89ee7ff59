// Package spec reads image.yaml, the description of an image that a maintainer writes. It is strict: an
// unknown or duplicate key, a wrong type and an impossible value are errors with file, line and column.
//
//	name: minimal                 # lower-case letters, digits, dots, hyphens
//	version: 0.1.0
//	epoch: 1767225600             # seconds since 1970; nothing in the image is newer
//	suites:                       # what the names of suites below do not say; without an entry, a name is a suite of Debian
//	  - {name: trixie-backports, priority: 100, valid-until: enforce}
//	  - {name: vendor, archive: vendor, suite: stable, keyring: vendor.asc}
//	root:                         # sources in order; each is exactly one of
//	  - debian: {suites: [trixie], components: [main], packages: [libc6], base: false, scripts: ignore, pins: [{suite: trixie, packages: [libc6]}], omit: [usr/share/man]}
//	  - oci: {image: registry.example/team/app@sha256:HEX, target: opt/app}
//	  - oci: {layout: app.oci, digest: sha256:HEX, override: [{path: etc/shadow, mode: 0640, gid: 42}]}
//	  - dir: {path: rootfs, target: srv, uid: 0, gid: 0, override: [{path: bin/tool, mode: 04755}]}
//	  - file: {path: a.xz, decompress: xz, target: etc/a, executable: false}      # or mode: 0640; uid, gid
//	  - tar: {path: b.tar.xz, decompress: xz, target: opt, override: [{path: x, uid: 7}]}
//	  - go: {module: ../.., package: ./cmd/enclave, target: sbin/init, mode: 0755, uid: 0, gid: 0, experiments: [runtimesecret]}
//	  - model:                  # a volume of its own, mounted at target
//	      name: tiny
//	      target: srv/models/tiny
//	      files: [{name: tiny.gguf, url: https://models.example/tiny.gguf, sha256: HEX, size: 1234}, {name: LICENSE, path: LICENSE.tiny}]
//	steps:                        # commands in build roots (mkimage/steps), run in order after the sources
//	  - name: hello
//	    root: {suites: [trixie], packages: [base-files, dash, gcc, libc6-dev]}
//	    inputs: [{dir: {path: hello, target: build}}]       # or file, tar
//	    command: [gcc, -o, hello, hello.c]
//	    outputs: [{path: build/hello, target: usr/bin/hello}]   # or module: true in place of target, for NAME.ko
//	config: {path: enclave.json}  # checked as the guest reads it (internal/guest), to /etc/tally/enclave.json
//	                              # `replace: true` in oci, dir, tar, file and go: files may take the place of earlier sources' files
//	devices:                      # the only device nodes of the root
//	  - {path: dev/null, type: char, major: 1, minor: 3, mode: 0666}
//	init: {go: {module: ../.., package: ./cmd/init}}      # or file
//	kernel: {debian: {suites: [trixie], package: linux-image-cloud-amd64}}
//	modules: [sha256-ssse3, dm-verity]
//	stub: {debian: {suites: [trixie], package: systemd-boot-efi, path: usr/lib/systemd/boot/efi/linuxx64.efi.stub}}
//	firmware:                     # debian or file; vars: as-is or blank
//	  - {name: ovmf, debian: {suites: [trixie], package: ovmf, path: usr/share/ovmf/OVMF.fd}, vars: as-is}
//	cmdline: console=ttyS0        # behind the words of the build
//	platforms: [...]              # for tally measure; opaque here
//	outputs: [disk.qcow2]         # beside what is always written: disk.qcow2, disk.tar.gz
//	variants:                     # several images of this machine
//	  - {name: plain}
//	  - {name: other, config: {path: other.json}}           # in place of config
//
// Paths are slash-separated. A path of the maintainer's disk is relative to the spec's directory and may
// leave it by leading "..": a module above the example. A target is relative to the image's root. A JSON
// Schema of the same grammar, for editors, is [Schema].
//
// # Variants
//
// A spec may describe several images of one machine, such as one for each of two engines. `only: [other]` in a
// source or step leaves it to the variants named; what has no such key is in all of them. A lock is of one
// variant, which it names: the first, unless `tally lock --variant` says another. Any but the first has an image of
// its own name, NAME-VARIANT. Everything else is shared and cannot differ. Every variant is checked, whichever
// is wanted. A lock has a source as root.N, by its place in the document.
//
// # Suites
//
// Each package has one candidate, as in apt_preferences(5): the version of the suite with the highest
// priority; among equal ones the highest as dpkg orders versions. Nothing but candidates is ever chosen. A
// suite without a priority of its own has the one that apt gives it by its InRelease file: 500; 100 when that
// says NotAutomatic and ButAutomaticUpgrades (backports: only for what no other suite has); 1 when it says
// NotAutomatic alone (experimental). Debian's sid has 500: beside a release its newer versions win,
// unless it gets a lower priority here. A pin takes single packages from one suite, whatever the
// priorities: apt's Pin-Priority 1000 for them.
//
// An archive is the tree of a mirror in which a suite is: Debian's are "debian" and, for suites that end in
// -security, "debian-security". Any other needs the file of its signing keys (ASCII-armored, as gpg --export
// --armor writes it), which the lock pins like every file. Where an archive's mirror is, is not the
// spec's business.
//
// valid-until says what `tally lock` does with an index whose Valid-Until has passed: enforce, the default,
// refuses it; ignore takes it, for a suite that is no longer updated. The lock repeats the policy and
// records the date.
package spec
