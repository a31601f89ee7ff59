package release_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func TestVerifyLog(t *testing.T) {
	l, other := newBareLog(t, "log.example"), newBareLog(t, "log.example")
	w := newCosigner(t, "w")
	q := quorum(t, "witness w %s\nquorum w\n", w.key)
	root := tlog.Hash{1}
	plain := l.checkpoint(2, root)
	text := plain[:strings.Index(plain, "\n\n")+1]
	cosigned := plain + w.line(text, uint64(rt.Now.Unix()))
	seen := func(n int64, h tlog.Hash) []release.SeenTree {
		return []release.SeenTree{{Tree: tlog.Tree{N: n, Hash: h}, Note: "seen"}}
	}
	for name, tt := range map[string]struct {
		edit func(p *release.LogPolicy)
		now  time.Time
		want release.Reason
	}{
		"good":                   {func(*release.LogPolicy) {}, rt.Now, ""},
		"at its oldest":          {func(*release.LogPolicy) {}, rt.Now.Add(time.Hour), ""},
		"older":                  {func(*release.LogPolicy) {}, rt.Now.Add(time.Hour + 1), release.Expired},
		"of any age":             {func(p *release.LogPolicy) { p.MaxAge = 0 }, rt.Now.AddDate(9, 0, 0), ""},
		"clock a little behind":  {func(*release.LogPolicy) {}, rt.Now.Add(-5 * time.Minute), ""},
		"clock behind":           {func(*release.LogPolicy) {}, rt.Now.Add(-5*time.Minute - 1), release.BadWitness},
		"no time":                {func(*release.LogPolicy) {}, time.Time{}, release.BadWitness},
		"no word on witnesses":   {func(p *release.LogPolicy) { p.Quorum = release.Quorum{} }, rt.Now, release.PolicyEmpty},
		"both words":             {func(p *release.LogPolicy) { p.Unwitnessed = true }, rt.Now, release.PolicyEmpty},
		"unwitnessed":            {func(p *release.LogPolicy) { p.Unwitnessed, p.Quorum = true, release.Quorum{} }, rt.Now, ""},
		"not cosigned":           {func(p *release.LogPolicy) { p.View.Checkpoint = []byte(plain) }, rt.Now, release.BadWitness},
		"not asked":              {func(p *release.LogPolicy) { p.View = nil }, rt.Now, release.BadLog},
		"no key":                 {func(p *release.LogPolicy) { p.Key = release.LogKey{} }, rt.Now, release.BadLog},
		"another's":              {func(p *release.LogPolicy) { p.Key = other.key }, rt.Now, release.BadLog},
		"remembered":             {func(p *release.LogPolicy) { p.Seen = seen(2, root) }, rt.Now, ""},
		"another remembered":     {func(p *release.LogPolicy) { p.Seen = seen(2, tlog.Hash{2}) }, rt.Now, release.LogFork},
		"more remembered":        {func(p *release.LogPolicy) { p.Seen = seen(3, root) }, rt.Now, release.LogStale},
		"less, without a proof":  {func(p *release.LogPolicy) { p.Seen = seen(1, root) }, rt.Now, release.NoProof},
		"nothing was remembered": {func(p *release.LogPolicy) { p.Seen = seen(0, tlog.Hash{2}) }, rt.Now, ""},
	} {
		p := release.LogPolicy{Key: l.key, Quorum: q, MaxAge: time.Hour, View: &release.LogView{
			Checkpoint: []byte(cosigned), Prove: func(int64) (tlog.TreeProof, error) { return nil, errors.New("none") },
		}}
		tt.edit(&p)
		r, err := release.VerifyLog(&p, tt.now)
		if got := reason(t, err); got != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if whole := len(r.Trees) == 1 && r.Proved && r.Trees[0].Tree.N == 2; (tt.want == "" || tt.want == release.Expired) && !whole {
			t.Errorf("%s: result %+v", name, r)
		}
		if p.View != nil && len(p.Seen) > 0 {
			if err := p.View.Contains(p.Seen[0], p.Key); reason(t, err) != tt.want {
				t.Errorf("%s: contains: %v", name, err)
			}
		}
	}
	v := release.LogView{Checkpoint: []byte(cosigned)}
	if err := v.Contains(release.SeenTree{}, other.key); reason(t, err) != release.BadLog {
		t.Errorf("another's checkpoint: %v", err)
	}
}

// grownLog is a log of n leaves with its proofs.
func grownLog(t *testing.T, l *bareLog, n int64) (roots []tlog.Hash, view *release.LogView) {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	roots = []tlog.Hash{must(tlog.TreeHash(0, read))}
	for i := range n {
		stored = append(stored, must(tlog.StoredHashes(i, []byte{byte(i)}, read))...)
		roots = append(roots, must(tlog.TreeHash(i+1, read)))
	}
	return roots, &release.LogView{Checkpoint: []byte(l.checkpoint(n, roots[n])), Prove: func(old int64) (tlog.TreeProof, error) { return tlog.ProveTree(n, old, read) }}
}

// Of the trees that are remembered each one counts that no later one was proved to contain.
func TestRememberedTrees(t *testing.T) {
	l := newBareLog(t, "log.example")
	roots, view := grownLog(t, l, 5)
	type tree = release.SeenTree
	good := func(n int64, proved bool) tree {
		return tree{Tree: tlog.Tree{N: n, Hash: roots[n]}, Note: "good", Proved: proved}
	}
	bad := func(n int64, proved bool) tree {
		return tree{Tree: tlog.Tree{N: n, Hash: tlog.Hash{9}}, Note: "bad", Proved: proved}
	}
	for name, tt := range map[string]struct {
		seen []tree
		want release.Reason
	}{
		"good":                             {[]tree{good(1, false), good(3, true), good(4, false), good(5, false)}, ""},
		"bad":                              {[]tree{bad(3, false)}, release.LogFork},
		"bad before a good one":            {[]tree{bad(3, false), good(4, false)}, release.LogFork},
		"bad after a good one":             {[]tree{good(4, false), bad(3, false)}, release.LogFork},
		"bad, in one that is proved":       {[]tree{bad(3, true), good(4, true)}, ""},
		"the same, in another order":       {[]tree{good(4, true), bad(3, true)}, ""},
		"the largest proved one":           {[]tree{good(3, true), bad(4, true)}, release.LogFork},
		"the same, first":                  {[]tree{bad(4, true), good(3, true)}, release.LogFork},
		"bad, with one proved beside":      {[]tree{good(4, true), bad(2, false)}, release.LogFork},
		"of no leaves, which says nothing": {[]tree{bad(0, false), bad(0, true)}, ""},
	} {
		p := release.LogPolicy{Key: l.key, Unwitnessed: true, View: view, Seen: tt.seen}
		if _, err := release.VerifyLog(&p, rt.Now); reason(t, err) != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// What is not checked is said, in the words that the threat model promises.
func TestWhatIsSaid(t *testing.T) {
	k, b, _ := unlogged(t)
	l, w := newBareLog(t, "log.example"), newCosigner(t, "w")
	channel := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now.Add(-time.Hour), ValidUntil: rt.Now.Add(time.Hour),
		Current: []release.CurrentRelease{{Statement: release.PayloadDigest(b), Version: "0.1.0", Sequence: 1}}}), k))
	l.both(b, k.Public(), channel, k.Public())
	plain := []string{b.Entry.Checkpoint, channel.Entry.Checkpoint}
	file := func(first, second time.Duration) []byte {
		for i, e := range []*release.Entry{b.Entry, channel.Entry} {
			text := plain[i][:strings.Index(plain[i], "\n\n")+1]
			e.Checkpoint = plain[i] + w.line(text, uint64(rt.Now.Add(-[]time.Duration{first, second}[i]).Unix()))
		}
		return join(rt.Marshal(t, b), rt.Marshal(t, channel))
	}
	q := quorum(t, "witness w %s\nquorum w\n", w.key)
	for name, tt := range map[string]struct {
		file []byte
		edit func(p *release.Policy)
		want release.Reason
		said map[string]string // of the checks' names: what is found, or "-" where none is to be
	}{
		"unwitnessed": {file(0, 0), func(p *release.Policy) { p.Log.Unwitnessed, p.Log.Quorum = true, release.Quorum{} }, "", map[string]string{
			"witnesses": "could show you another log", "cosignature age": "-", "log consistency": "was not asked", "log state": "no tree of this size"}},
		"of any age":           {file(0, 0), nil, "", map[string]string{"witnesses": "since ", "channel witnesses": "since ", "cosignature age": "may be withheld"}},
		"of an age":            {file(time.Minute, 2*time.Minute), func(p *release.Policy) { p.Log.MaxAge = time.Hour }, "", map[string]string{"cosignature age": "1m0s"}},
		"the channel's is old": {file(0, 2*time.Hour), func(p *release.Policy) { p.Log.MaxAge = time.Hour }, "", nil},
		"the release's is old": {file(2*time.Hour, 0), func(p *release.Policy) { p.Log.MaxAge = time.Hour }, "", nil},
		"both are old":         {file(2*time.Hour, 2*time.Hour), func(p *release.Policy) { p.Log.MaxAge = time.Hour }, release.Expired, nil},
		"remembered": {file(0, 0), func(p *release.Policy) {
			p.Log.Seen = []release.SeenTree{{Tree: tlog.Tree{N: 2, Hash: b.Entry.RootHash}}}
		}, "", map[string]string{"log state": "size 2"}},
	} {
		p := &release.Policy{Signers: signers(k), Log: release.LogPolicy{Key: l.key, Quorum: q}}
		if tt.edit != nil {
			tt.edit(p)
		}
		r, err := release.Verify(tt.file, p, rt.Now)
		if reason(t, err) != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for check, want := range tt.said {
			i := slices.IndexFunc(r.Checks, func(c release.Check) bool { return c.Name == check })
			if (i < 0) != (want == "-") || i >= 0 && !strings.Contains(r.Checks[i].Got, want) {
				t.Errorf("%s: %s: want %q in %+v", name, check, want, r.Checks)
			}
		}
	}
}

// Two trees of one size in one file convict the log, whether anybody asks it or not.
func TestForkInOneFile(t *testing.T) {
	k, b, _ := unlogged(t)
	l := newBareLog(t, "log.example")
	channel := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Current: []release.CurrentRelease{{Statement: release.PayloadDigest(b), Version: "0.1.0", Sequence: 1}}}), k))
	p := &release.Policy{Signers: signers(k), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}}
	l.both(b, k.Public(), channel, k.Public())
	file := join(rt.Marshal(t, b), rt.Marshal(t, channel))
	if r, err := release.Verify(file, p, rt.Now); err != nil || len(r.Trees) != 2 {
		t.Fatalf("one tree: %v", err)
	}
	l.add(channel, k.Public())
	if _, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, channel)), p, rt.Now); err != nil {
		t.Fatalf("two trees of two sizes, which nobody can compare: %v", err)
	}
	l.add(b, k.Public())
	r, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, channel)), p, rt.Now)
	var e *release.Error
	if !errors.As(err, &e) || e.Reason != release.LogFork || len(e.Evidence) != 2 || e.Evidence[0] != b.Entry.Checkpoint || e.Evidence[1] != channel.Entry.Checkpoint || r.InForce != nil {
		t.Errorf("two trees of one size: %v", err)
	}
}
