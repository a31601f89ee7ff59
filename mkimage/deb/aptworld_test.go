package deb

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// A world is a made-up archive: suites full of packages that need, provide and exclude each other at
// random, for the tool apt and for ours.
type world struct {
	*rand.Rand
	suites []worldSuite
	pins   string // apt_preferences(5)
	hard   bool   // more conflicts, and the rarer fields
}

type worldSuite struct {
	name, release string // name and what its Release file says besides
	priority      int
	packages      strings.Builder
}

func (w *world) pick(words ...string) string { return words[w.IntN(len(words))] }

func (w *world) name() string {
	if w.hard && w.IntN(12) == 0 {
		return fmt.Sprintf("pkg%02d:%s", w.IntN(80), w.pick("any", "any", "any", "amd64", "i386"))
	}
	if w.IntN(4) == 0 {
		return fmt.Sprintf("virt%d", w.IntN(12))
	}
	return fmt.Sprintf("pkg%02d", w.IntN(80))
}

func (w *world) relation() string {
	name := w.name()
	switch w.IntN(6) {
	case 0:
		return fmt.Sprintf("%s (>= %d)", name, w.IntN(3))
	case 1:
		return fmt.Sprintf("%s (<= %d)", name, 2+w.IntN(9))
	}
	return name
}

func (w *world) stanza(name string) string {
	version := fmt.Sprintf("%d%s-%d", w.IntN(9), w.pick("", "~rc1", ".10", ".9", "+b1"), w.IntN(3))
	text := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nPriority: %s\nFilename: pool/%s_%s.deb\nSize: 1\nSHA256: %064x\nDescription: x\nMaintainer: x\n",
		name, version, w.pick("amd64", "all"), w.pick("optional", "optional", "optional", "standard", "important"), name, strings.ReplaceAll(version, ":", ""), w.Uint64())
	if n := w.IntN(4); n > 0 {
		var groups []string
		for range n {
			alts := []string{w.relation()}
			for range w.IntN(3) {
				alts = append(alts, w.relation())
			}
			groups = append(groups, strings.Join(alts, " | "))
		}
		text += "Depends: " + strings.Join(groups, ", ") + "\n"
	}
	if w.IntN(3) == 0 {
		text += fmt.Sprintf("Provides: virt%d%s", w.IntN(12), w.pick("", " (= 1)", " (= 5)"))
		if w.hard && w.IntN(3) == 0 {
			text += fmt.Sprintf(", %s (= 3), virt%d", strings.TrimSuffix(w.name(), ":i386"), w.IntN(12))
		}
		text += "\n"
	}
	if w.IntN(w.oneIn(40, 15)) == 0 {
		text += "Conflicts: " + w.relation() + "\n"
	}
	if w.hard {
		text += w.rare()
	}
	if w.IntN(3) == 0 {
		text += w.pick("Recommends", "Suggests", "Replaces", "Enhances") + ": " + w.relation() + ", " + w.relation() + "\n"
	}
	return text + "\n"
}

func (w *world) oneIn(usual, hard int) int {
	if w.hard {
		return hard
	}
	return usual
}

// rare writes what few packages have: several provisions, conflicts with what is provided, architectures, sources.
func (w *world) rare() (text string) {
	some := func(n int, format string, args ...any) {
		if w.IntN(n) == 0 {
			text += fmt.Sprintf(format, args...)
		}
	}
	some(5, "Breaks: %s, %s\n", w.relation(), w.relation())
	some(3, "Multi-Arch: %s\n", w.pick("allowed", "allowed", "foreign", "same"))
	some(3, "Source: src%d (%d)\n", w.IntN(10), w.IntN(4))
	some(20, "Essential: yes\n")
	some(20, "%s: yes\n", w.pick("Important", "Protected"))
	some(3, "Pre-Depends: %s\n", w.relation())
	return text
}

// newWorld is the world of that seed; a hard one has many conflicts.
func newWorld(seed uint64, hard bool) *world {
	w := &world{hard: hard, Rand: rand.New(rand.NewPCG(seed, 1)), suites: []worldSuite{{name: "base", priority: 500}, {name: "updates", priority: 500},
		{name: "backports", release: "NotAutomatic: yes\nButAutomaticUpgrades: yes\n", priority: 100}, {name: "new", release: "NotAutomatic: yes\n", priority: 1}, {name: "low", priority: 200}}}
	w.pins = "Package: *\nPin: release a=low\nPin-Priority: 200\n"
	for i := range w.suites {
		for n := range 80 {
			if i == 0 && n%8 != 0 || i > 0 && w.IntN(4) == 0 {
				w.suites[i].packages.WriteString(w.stanza(fmt.Sprintf("pkg%02d", n)))
			}
		}
	}
	return w
}

// write makes the archive below dir and lets apt read it.
func (w *world) write(t *testing.T, dir string) (options []string) {
	t.Helper()
	files := map[string]string{"preferences": w.pins, "status": "", "lists/partial/x": "", "archives/partial/x": ""}
	for i := range w.suites {
		s := &w.suites[i]
		base := "repo/dists/" + s.name + "/"
		files[base+"main/binary-amd64/Packages"] = s.packages.String()
		files[base+"Release"] = fmt.Sprintf("Suite: %s\nCodename: %s\nComponents: main\nArchitectures: amd64\n%sDate: Sat, 05 Sep 2026 10:00:00 UTC\nSHA256:\n %x %d main/binary-amd64/Packages\n", s.name, s.name, s.release, sum256(s.packages.String()), s.packages.Len())
		files["sources.list"] += fmt.Sprintf("deb [trusted=yes arch=amd64] file:%s/repo %s main\n", dir, s.name)
	}
	put(t, dir, files)
	options = append(aptOptions(dir), "-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64")
	out, err := exec.Command("apt-get", append(slices.Clone(options), "-qq", "update")...).CombinedOutput()
	if err != nil {
		t.Fatalf("apt-get update: %v\n%s", err, out)
	}
	return options
}

// resolver is ours for w.
func (w *world) resolver(t *testing.T) *Resolver {
	t.Helper()
	var all []*Package
	priority := map[string]int{}
	for i := range w.suites {
		s := &w.suites[i]
		ps, err := ParseIndex(strings.NewReader(s.packages.String()))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			p.Suite = s.name
		}
		priority[s.name] = s.priority
		all = append(all, ps...)
	}
	return NewResolver(all, "amd64", func(p *Package) int { return priority[p.Suite] })
}

// roots names one to three packages.
func (w *world) roots() []string {
	all := []string{fmt.Sprintf("pkg%02d", w.IntN(80))}
	for range w.IntN(3) {
		if name := fmt.Sprintf("pkg%02d", w.IntN(80)); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// TestAptWorlds asks apt and us for the same packages of made-up archives: versions, priorities of suites,
// alternatives, versioned provisions, conflicts, candidates that cannot be had. Our answer is apt's, or we both
// refuse.
func TestAptWorlds(t *testing.T) {
	a := &apt{tool: testtool.Need(t, "apt-get")}
	same, refused := 0, 0
	for seed := range uint64(6) {
		w := newWorld(seed, seed >= 4)
		a.options = w.write(t, t.TempDir())
		r := a.resolver(t, w.resolver(t))
		for range 40 {
			roots := w.roots()
			theirs, aptErr := a.ask(roots)
			ps, err := r.Resolve(roots)
			switch ours := render(ps); {
			case (err == nil) != (aptErr == nil):
				t.Errorf("seed %d, %v: %v, apt: %v", seed, roots, err, aptErr)
			case !slices.Equal(theirs, ours):
				t.Errorf("seed %d, %v (-apt +tally):\n%s", seed, roots, cmp.Diff(theirs, ours))
			case err == nil:
				closed(t, ps)
				same++
			default:
				refused++
			}
		}
	}
	t.Logf("%d answers are apt's, %d times we both refuse", same, refused)
	if same < 120 || refused < 40 {
		t.Errorf("%d answers are apt's, %d times we both refuse: want at least 120 and 40", same, refused)
	}
}

// recorded are answers of the apt of Debian 13: see SOURCE beside it.
const recorded = "testdata/vectors/apt3/answers.txt"

// TestRecordedApt3 holds us against answers of apt 3.0, which has the second solver, whichever apt is here. With
// TALLY_RECORD set it asks the apt that is here, and records.
func TestRecordedApt3(t *testing.T) {
	if os.Getenv("TALLY_RECORD") != "" {
		record(t)
	}
	b, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	var r *Resolver
	second := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), " : ")
		if len(f) == 1 {
			r = parseWorld(t, f[0]).resolver(t)
			continue
		}
		r.once = true
		_, first := r.Resolve(strings.Fields(f[0]))
		r.once = false
		ps, err := r.Resolve(strings.Fields(f[0]))
		if first != nil && err == nil {
			second++
		}
		if got := answer(render(ps), err); got != f[1] {
			t.Errorf("%s: %s (%v)\napt has %s", f[0], got, err, f[1])
		}
	}
	if second < 5 {
		t.Errorf("%d answers of the second solver, want at least 5", second)
	}
}

func answer(names []string, err error) string {
	if err != nil {
		return "refused"
	}
	return strings.Join(names, " ")
}

// parseWorld makes the world of a line "world SEED HARD SHA256": that of its packages.
func parseWorld(t *testing.T, line string) *world {
	t.Helper()
	var seed uint64
	var hard bool
	var sum string
	if _, err := fmt.Sscanf(line, "world %d %t %s", &seed, &hard, &sum); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	w := newWorld(seed, hard)
	if got := w.sum(); got != sum {
		t.Fatalf("%s: now has SHA-256 %s: record the answers again", line, got)
	}
	return w
}

func (w *world) sum() string {
	h := sha256.New()
	for i := range w.suites {
		fmt.Fprintf(h, "%s %d\n%s", w.suites[i].name, w.suites[i].priority, w.suites[i].packages.String())
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func record(t *testing.T) {
	a := &apt{tool: testtool.Need(t, "apt-get")}
	var b strings.Builder
	for seed := range uint64(14) {
		w := newWorld(1000+seed, seed%2 == 1)
		if a.resolver(t, w.resolver(t)).once {
			t.Fatal("the apt here has no second solver")
		}
		a.options = w.write(t, t.TempDir())
		fmt.Fprintf(&b, "world %d %t %s\n", 1000+seed, w.hard, w.sum())
		for range 25 {
			roots := w.roots()
			names, err := a.ask(roots)
			fmt.Fprintf(&b, "%s : %s\n", strings.Join(roots, " "), answer(names, err))
		}
	}
	put(t, ".", map[string]string{recorded: b.String()})
}

func sum256(s string) [32]byte { return sha256.Sum256([]byte(s)) }
