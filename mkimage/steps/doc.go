// Package steps runs commands in build roots: a tree made of locked packages and inputs, on a machine of its
// own that looks the same everywhere. What the command makes, by name, goes into the image.
//
// # What is isolated, and how
//
// A step is a process in new user, mount, process, network, UTS, IPC and cgroup namespaces of Linux (5.12 or
// later). It needs no root and no other program: tally starts itself again as their init ([Main]). The
// one user inside is 0:0, and is the caller outside.
//
//   - Files: an empty tmpfs, filled with the build root through a pipe, becomes the root by pivot_root(2);
//     the host's is unmounted. Nothing is written to the host's disk, so nothing can stay there. All
//     files belong to 0:0 whoever owns them in their package; extended attributes and device nodes are left
//     out; times are those of the packages, none after the epoch.
//   - /dev holds null, zero, full, random, urandom, shm and links to /proc/self/fd. The devices are mounted
//     read-only: their bytes flow, their modes and owners cannot be changed. /proc shows processes alone
//     (subset=pid): no settings, no cpuinfo, no meminfo. There is no /sys and no terminal.
//   - Network: a loopback interface that is down. No socket of any kind leads out.
//   - Rights: no capability, now or after any exec, no_new_privs, and no further user namespace. So files
//     cannot be given to another owner, and a file that its mode forbids to write cannot be written.
//   - The caller's environment, open files, keyrings, ignored signals, umask and working directory do not
//     come along.
//   - Programs are 64-bit: a seccomp filter answers the system calls of others with ENOSYS.
//
// # What is fixed
//
// User, host name (tally), what uname(2) says (Linux 5.12.0-tally x86_64, whatever runs), umask 022,
// environment ([Step.Environment]), locale C.UTF-8, time zone UTC, limits of files, stack and core dumps,
// addresses (no randomisation), the kind of file system, and the order in which files were made, which
// decides how a tmpfs lists them.
//
// # What is not: the clock, and more
//
// Linux has no namespace for the time of day, so the command can see it. SOURCE_DATE_EPOCH and
// KBUILD_BUILD_TIMESTAMP, _USER, _HOST and _VERSION are set, which compilers, archivers and the kernel's
// build obey; the times of outputs are the epoch's whatever they were. A program that puts the date into
// the contents of an output all the same needs a flag of its own, or a clock that stands still, which Debian's
// package libfaketime has for programs that are linked dynamically:
//
//	env: [LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1, "FAKETIME=2026-01-01 00:00:00"]
//
// Seen too: the CPU (cpuid) and the number of CPUs, process numbers, memory, load and free space (sysinfo,
// statfs), the priority and further limits of the caller, what /proc/self/mountinfo says of the host's /dev,
// how long things take, random bytes, and how many further groups the caller has, unless that is root.
//
// A second run, varied ([Options].Vary), finds what of this reaches an output: it has one CPU, random
// addresses, other process numbers, files made in reverse order, and another time and other random bytes
// as any run has. It does not find what is the same in both: the kind of CPU, the machine's memory, and a
// date without the time of day.
//
// # Limits
//
// Time (the whole step is killed), disk (the size of the tmpfs, which is memory: packages, inputs and all that
// the command writes count) and memory (address space of each process, not the sum). They protect the
// machine against mistakes; who wrote the spec is trusted with more than that.
//
// When the command ends, what it left running is killed before anything is read. The end of tally, by
// whatever signal, is the end of the step: its init dies with the pipe, and the kernel kills the namespace.
//
// # Outputs and cache
//
// An output is a file, a symbolic link, or a directory with all below it. Directories get mode 0755, files 0755
// or 0644 by their owner's executable bit unless the step names a mode; owners are the step's; hard links
// become files; anything else is refused. Outputs are kept by [Key], the SHA-256 of the definition, the
// build root's digest and [Version], and are checked by their own hash when they are taken from there.
// Whoever wants to know runs the step again: no cache is given to Run then.
package steps
