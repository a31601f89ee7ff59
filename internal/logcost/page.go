package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

const head = `# How the cost of a log grows

Logs of %s to %s leaves of %d bytes, as a release's leaf has, on a local disk, without witnesses (each adds its round trip).
*Fill* is an import in bulk, *publish* and *verify* are whole commands about one release of eleven small files, the first after
the leaves, *with the log* asks it for consistency too, *audit* reads every leaf and hash tile and computes the root. Every leaf
of a release has a bundle beside it, which a monitor checks when it is new and in full rounds: BenchmarkLeaf of release/monitor says how long one takes.
A load average well above the number of CPUs means that others used the machine: then the CPU times (user and system) hold and
the wall times do not.

| leaves | fill s | leaves/s | fill CPU s | fill MiB | disk MB | files | publish ms | publish CPU ms | verify ms | with the log ms | audit s | audit CPU s | audit MiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

func ms(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Microseconds())/1000) }

// row is one line of the table.
func (p point) row() string {
	return fmt.Sprintf("| %s | %.2f | %.0f | %.2f | %d | %.1f | %d | %s | %s | %s | %s | %.2f | %.2f | %d |",
		thousands(p.n), p.fill.wall.Seconds(), float64(p.n)/p.fill.wall.Seconds(), p.fill.cpu.Seconds(), p.fill.rss>>10, float64(p.disk)/1e6, p.files,
		ms(p.publish.wall), ms(p.publish.cpu), ms(p.verify.wall), ms(p.prove.wall), p.audit.wall.Seconds(), p.audit.cpu.Seconds(), p.audit.rss>>10)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// page is the table with how it was made.
func page(points []point, runs int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, head, thousands(points[0].n), thousands(points[len(points)-1].n), leafBytes)
	for _, p := range points {
		b.WriteString(p.row() + "\n")
	}
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	fmt.Fprintf(&b, "\nMeasured on %s, median of %d runs (fill: one): %d CPUs, %s/%s, %s, load average %s.\n", time.Now().UTC().Format(time.DateOnly), runs,
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), first)
	b.WriteString("Made by `make build && go run ./internal/logcost -out docs/log-cost.md`.\n" + past)
	return b.Bytes()
}

// past is what is argued, not measured.
const past = `
## Past a million

Ten million leaves were not measured. What would grow, and by what:

- An inclusion proof has at most as many hashes as the tree has levels: 20 at a million, 24 at ten million, 47 bytes each in a
  bundle. Verifying one hashes that many times more; the rest of a verification does not know how large the log is. A
  consistency proof has about as many, out of the same three levels of tiles (a fourth begins at 2^24).
- A publication writes one tile a level, but first looks through the leaves' hashes for one that a killed publisher may have
  left, 32 bytes each: that is what makes its CPU time grow with the log, and it grows on in proportion. Nothing else in it does.
- Fill, disk, files and audit are in proportion to the leaves: each leaf is written, and read, once.
- Memory is not: an audit keeps at most 255 hashes of each level, one level more at 2^24 leaves, and a fill what it was
  given at once. A monitor remembers names, versions and channels, however many leaves speak of them, and
  which leaves have no bundle that holds.
`
