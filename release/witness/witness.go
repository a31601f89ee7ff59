package witness

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"tally/internal/atomicfile"
	"tally/release"
)

// Options are what a witness needs besides its directory.
type Options struct {
	Logs   []release.LogKey // which logs to cosign
	Now    func() time.Time
	Logger *slog.Logger
}

// A Witness cosigns.
type Witness struct {
	dir     string
	key     release.WitnessKey
	private ed25519.PrivateKey
	opt     Options
	logs    map[string]*remembered // by origin
	lock    *os.File
}

// remembered is what is known of one log. The mutex makes checking and remembering one step.
type remembered struct {
	mu   sync.Mutex
	key  release.LogKey
	path string
	tree tlog.Tree
	note []byte // nil: none was cosigned yet
}

// Open starts the witness in dir, made by [Create]. One process at a time holds it.
func Open(dir string, o Options) (*Witness, error) {
	k, private, err := readKey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("witness: %q is not a witness's directory (no %s)", dir, keyFile)
	}
	if err != nil {
		return nil, err
	}
	if len(o.Logs) == 0 {
		return nil, errors.New("witness: no log to cosign")
	}
	w := &Witness{dir: dir, key: k, private: private, opt: o, logs: map[string]*remembered{}}
	if w.lock, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("witness: %q is in use by another process", dir), w.lock.Close())
	}
	for _, l := range o.Logs {
		if err := w.add(l); err != nil {
			return nil, errors.Join(err, w.lock.Close())
		}
	}
	return w, nil
}

func (w *Witness) add(l release.LogKey) error {
	if _, ok := w.logs[l.Origin()]; ok {
		return fmt.Errorf("witness: log %q: named twice", l.Origin())
	}
	id := l.ID()
	r := &remembered{key: l, path: filepath.Join(w.dir, logDir, fmt.Sprintf("%s-%x.txt", l.Origin(), id[:8]))}
	note, err := os.ReadFile(r.path)
	if err == nil {
		r.note = note
		r.tree, err = l.OpenCheckpoint(note)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: without it a fork could be cosigned", r.path, err)
	}
	w.logs[l.Origin()] = r
	return nil
}

// Key is the witness's public key.
func (w *Witness) Key() release.WitnessKey { return w.key }

// Close lets the directory go.
func (w *Witness) Close() error { return w.lock.Close() }

// A refusal is an answer of the protocol other than a cosignature.
type refusal struct {
	status int
	text   string
	size   bool // text is a tree size
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// cosign checks a request, remembers its checkpoint and returns the signature line.
func (w *Witness) cosign(ctx context.Context, q *request) (string, error) {
	r, ok := w.logs[q.origin]
	if !ok {
		return "", refuse(404, "this log is not one that this witness knows")
	}
	tree, err := r.key.OpenCheckpoint(q.checkpoint)
	if err != nil {
		return "", refuse(403, "the checkpoint is not signed by the log's key")
	}
	if q.old > tree.N {
		return "", refuse(400, "the old size is above the checkpoint's")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := r.check(tree, q); err != nil {
		if r.note != nil && tree.N == r.tree.N && tree.Hash != r.tree.Hash {
			if kept := w.keep(r, q.checkpoint); kept != nil { // the peer is refused all the same
				w.opt.Logger.Error("cannot keep the evidence", "error", kept)
			}
		}
		return "", err
	}
	if grown := r.note == nil || tree != r.tree; grown {
		if err := r.remember(tree, q.checkpoint); err != nil {
			return "", err
		}
		w.opt.Logger.Info("cosigned", "origin", q.origin, "from", q.old, "to", tree.N)
	}
	return w.key.Cosign(q.text, w.private, w.opt.Now())
}

// check is the heart: the new tree must contain the remembered one.
func (r *remembered) check(tree tlog.Tree, q *request) error {
	switch {
	case q.old != r.tree.N:
		return &refusal{status: 409, text: fmt.Sprintf("%d\n", r.tree.N), size: true}
	case tree.N == 0 && tree.Hash != tlog.Hash(sha256.Sum256(nil)):
		return refuse(422, "a tree without leaves has another root hash")
	case q.old == 0 && len(q.proof) > 0:
		return refuse(422, "a proof from the empty tree is empty")
	case q.old == tree.N && r.note != nil && tree.Hash != r.tree.Hash:
		return refuse(422, "another tree of the same size was cosigned before")
	case q.old == 0:
		return nil
	}
	if err := tlog.CheckTree(q.proof, tree.N, tree.Hash, q.old, r.tree.Hash); err != nil {
		return refuse(422, "the consistency proof does not hold")
	}
	return nil
}

func (r *remembered) remember(tree tlog.Tree, note []byte) error {
	if err := atomicfile.WriteFile(r.path, note, 0o644); err != nil {
		return err
	}
	// The new name must survive a crash too, or an older one could come back.
	dir, err := os.Open(filepath.Dir(r.path))
	if err != nil {
		return err
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return err
	}
	r.tree, r.note = tree, note
	return nil
}

// keep stores two notes that convict a log. The first two do; a log that signs more of them is not to fill the disk.
func (w *Witness) keep(r *remembered, other []byte) error {
	name := filepath.Join(w.dir, evidence, filepath.Base(r.path))
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.opt.Logger.Error("the log signed two trees of one size", "evidence", name)
	return atomicfile.WriteFile(name, append(append(append([]byte{}, r.note...), '\n'), other...), 0o644)
}
