package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"tally/release"
)

const (
	witnessTime = 5 * time.Second        // for one round of asking all witnesses
	publishTime = 10 * time.Second       // until a checkpoint is cosigned as the log's policy wants
	batchAge    = 20 * time.Millisecond  // how long one entry waits for company
	checkpoint  = 100 * time.Millisecond // Tessera's minimum between checkpoints
	poll        = 10 * time.Millisecond
	bulk        = 4096 // leaves that AppendAll adds at once; Tessera takes no more that are not in the tree yet
	lockFile    = ".lock"
)

// A Log is an open log. One process at a time holds it.
type Log struct {
	dir      string
	key      release.LogKey
	appender *tessera.Appender
	reader   tessera.LogReader
	awaiter  *tessera.PublicationAwaiter
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	lock     *os.File
	quorum   release.Quorum // who must cosign; zero: nobody
	trace    *answers       // of the witnesses
	refresh  bool           // opened for new cosignatures alone
	failed   bool           // the quorum was not met: closing does not wait for it again
}

// Open opens the log in dir for appending with the private key in keyFile. It waits for another process
// that has the log open, until ctx ends.
//
// A log whose policy.txt names witnesses publishes no checkpoint that the quorum has not cosigned. A cosignature that is further
// ahead of now than [release.Skew] does not count: no client takes it.
func Open(ctx context.Context, dir, keyFile string, now func() time.Time, logger *slog.Logger) (*Log, error) {
	return openKey(ctx, dir, keyFile, logger, settings{batch: 1, weigh: notAhead(now)})
}

// OpenBulk opens the log as Open does, for AppendAll: leaves go in by the thousand, and a single one waits for
// others a moment.
func OpenBulk(ctx context.Context, dir, keyFile string, now func() time.Time, logger *slog.Logger) (*Log, error) {
	return openKey(ctx, dir, keyFile, logger, settings{batch: bulk, weigh: notAhead(now)})
}

// settings differ with what a log is opened for.
type settings struct {
	batch     uint          // leaves that go in together
	republish time.Duration // above 0: a checkpoint of that age is made anew although the tree has not grown

	weigh func(time.Time) error // says what is wrong with the time of a cosignature; nil: no witness is asked
}

func openKey(ctx context.Context, dir, keyFile string, logger *slog.Logger, set settings) (*Log, error) {
	key, err := ReadKey(dir)
	if err != nil {
		return nil, err
	}
	skey, err := readLine(keyFile)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("log key %q: %w", keyFile, err)
	}
	if signer.Name() != key.Origin() || !signs(signer, key) {
		return nil, fmt.Errorf("log key %q: is not the key of the log %q in %q", keyFile, key.Origin(), dir)
	}
	policy, err := readPolicy(dir, key)
	if err != nil {
		return nil, err
	}
	return open(ctx, dir, signer, key, logger, policy, set)
}

// signs reports whether signer is the private half of key: four bytes of key hash alone would not say so.
func signs(signer note.Signer, key release.LogKey) bool {
	text := key.Origin() + "\n0\n" + tlog.Hash{}.String() + "\n"
	msg, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return false
	}
	_, err = key.OpenCheckpoint(msg)
	return err == nil
}

// open opens the log. A policy of nil asks no witness, as for the checkpoint of the empty tree.
func open(ctx context.Context, dir string, signer note.Signer, key release.LogKey, logger *slog.Logger, policy *witnesses, set settings) (*Log, error) {
	lock, err := acquire(ctx, filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	tesseraTo(logger.Handler())
	trace := &answers{weigh: set.weigh}
	driver, err := posix.New(ctx, posix.Config{Path: dir, HTTPClient: &http.Client{Transport: trace, Timeout: witnessTime}})
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	// Tessera's goroutines live until Close, whatever the deadline of the call that opened the log.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(set.batch, batchAge).WithCheckpointInterval(checkpoint).
		WithCheckpointRepublishInterval(set.republish).WithGarbageCollectionInterval(0).WithShutdownTimeout(publishTime)
	if policy != nil {
		opts = opts.WithWitnesses(policy.group, &tessera.WitnessOptions{Timeout: witnessTime})
	}
	app, shutdown, reader, err := tessera.NewAppender(run, driver, opts)
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("log %q: %w", dir, err), lock.Close())
	}
	l := &Log{
		dir: dir, key: key, appender: app, reader: reader, shutdown: shutdown, cancel: cancel, lock: lock, trace: trace, refresh: set.republish > 0,
		awaiter: tessera.NewPublicationAwaiter(run, reader.ReadCheckpoint, poll),
	}
	if policy != nil {
		l.quorum = policy.quorum
	}
	return l, nil
}

// acquire takes an exclusive lock on path, which it makes, waiting until ctx ends.
func acquire(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("log lock %q: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("log lock %q is held by another process: %w", path, ctx.Err()), f.Close())
		case <-time.After(poll):
		}
	}
}

// Close waits until everything appended is published and lets the log go.
func (l *Log) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if l.failed {
		cancel() // what was appended stays in the tree, and the next to open the log publishes it
	}
	err := l.shutdown(ctx)
	if l.failed {
		err = nil // it was reported when it happened
	}
	l.cancel()
	return errors.Join(err, l.lock.Close())
}

// Key is the log's public key.
func (l *Log) Key() release.LogKey { return l.key }

// Dir is the directory of the log.
func (l *Log) Dir() string { return l.dir }

// Append adds a leaf, unless the log has it already, waits until a checkpoint commits to it, and returns
// the entry with a proof that has been checked.
func (l *Log) Append(ctx context.Context, body []byte) (*release.Entry, error) {
	// What an earlier run left unpublished must be found below, or it would be added twice.
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	index, found, err := l.find(ctx, release.LeafHash(body))
	if err != nil {
		return nil, err
	}
	if !found {
		wait, cancel := context.WithTimeout(ctx, publishTime)
		defer cancel()
		i, _, err := l.awaiter.Await(wait, l.appender.Add(ctx, tessera.NewEntry(body)))
		if err != nil {
			return nil, l.unpublished(ctx, "append", err)
		}
		index = i.Index
	}
	return l.entry(ctx, index, body)
}

// AppendAll adds many leaves in their order, for an import, to a log that OpenBulk opened. It looks for none that the
// log has already, and returns when a checkpoint commits to all of them; then Append finds each and its proof.
func (l *Log) AppendAll(ctx context.Context, bodies [][]byte) error {
	if err := l.settle(ctx); err != nil {
		return err
	}
	var size uint64
	for chunk := range slices.Chunk(bodies, bulk) {
		futures := make([]tessera.IndexFuture, len(chunk))
		for i, body := range chunk {
			futures[i] = l.appender.Add(ctx, tessera.NewEntry(body))
		}
		for _, f := range futures {
			index, err := f()
			if err != nil {
				return fmt.Errorf("log %q: append: %w", l.dir, err)
			}
			size = max(size, index.Index+1)
		}
	}
	wait, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	return l.until(ctx, wait, "append", func(n int64, _ []byte) bool { return uint64(n) >= size })
}

// tree reads and checks the latest checkpoint.
func (l *Log) tree(ctx context.Context) (tlog.Tree, []byte, error) {
	text, err := l.reader.ReadCheckpoint(ctx)
	if err != nil {
		return tlog.Tree{}, nil, fmt.Errorf("log %q: %w", l.dir, err)
	}
	t, err := l.key.OpenCheckpoint(text)
	return t, text, err
}

func (l *Log) entry(ctx context.Context, index uint64, body []byte) (*release.Entry, error) {
	tree, text, err := l.tree(ctx)
	if err != nil {
		return nil, err
	}
	pb, err := client.NewProofBuilder(ctx, uint64(tree.N), l.reader.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("log %q: proof: %w", l.dir, err)
	}
	hashes, err := pb.InclusionProof(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("log %q: proof: %w", l.dir, err)
	}
	e := &release.Entry{LogID: l.key.ID(), Index: int64(index), TreeSize: tree.N, RootHash: tree.Hash, Checkpoint: string(text), Body: body}
	var proof tlog.RecordProof
	for _, h := range hashes {
		e.Proof = append(e.Proof, [32]byte(h))
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, e.Index, tlog.RecordHash(body)); err != nil {
		return nil, fmt.Errorf("log %q: its own proof does not hold, the directory is damaged: %w", l.dir, err)
	}
	return e, nil
}

// Has reports whether the log has the leaf with that hash, once what an earlier run left is published.
func (l *Log) Has(ctx context.Context, leaf release.Digest) (bool, error) {
	if err := l.settle(ctx); err != nil {
		return false, err
	}
	_, found, err := l.find(ctx, leaf)
	return found, err
}

// find looks a leaf up by its hash in the level-0 tiles: 32 bytes a leaf, no index to keep in step.
func (l *Log) find(ctx context.Context, leaf release.Digest) (uint64, bool, error) {
	tree, _, err := l.tree(ctx)
	if err != nil {
		return 0, false, err
	}
	const width = 256
	for first := int64(0); first < tree.N; first += width {
		partial := uint8(min(tree.N-first, width) % width)
		tile, err := l.reader.ReadTile(ctx, 0, uint64(first/width), partial)
		if err != nil {
			return 0, false, fmt.Errorf("log %q: %w", l.dir, err)
		}
		for i := 0; i+32 <= len(tile); i += 32 {
			if release.Digest(tile[i:i+32]) == leaf {
				return uint64(first) + uint64(i/32), true, nil
			}
		}
	}
	return 0, false, nil
}
