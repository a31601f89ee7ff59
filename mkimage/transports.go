package mkimage

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"

	"tally/mkimage/qcow2"
	"tally/mkimage/targz"
)

// A transport is a form of the disk for a cloud that does not take raw files.
type transport struct {
	role  string
	write func(ctx context.Context, w io.Writer, disk io.ReaderAt, size, epoch int64) (int64, error)
}

// transports are the files that a spec may ask for under outputs.
var transports = map[string]transport{
	"disk.qcow2": {"qcow2", func(ctx context.Context, w io.Writer, disk io.ReaderAt, size, _ int64) (int64, error) {
		return qcow2.Write(ctx, w, disk, size)
	}},
	"disk.tar.gz": {"tar.gz", targz.Write},
}

// buildTransports writes the forms of disk.raw that were asked for.
func (b *builder) buildTransports(ctx context.Context) error {
	for _, name := range b.in.Outputs {
		if err := b.buildTransport(ctx, name, transports[name]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) buildTransport(ctx context.Context, name string, t transport) error {
	disk, err := os.Open(filepath.Join(b.dir, "disk.raw"))
	if err != nil {
		return err
	}
	defer disk.Close()
	path := filepath.Join(b.dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := t.write(ctx, io.MultiWriter(f, h), disk, b.m.Artifact("disk.raw").Size, b.in.Epoch)
	if err != nil {
		return err
	}
	b.m.Artifacts = append(b.m.Artifacts, Artifact{Name: name, Role: t.role, SHA256: Digest(h.Sum(nil)), Size: n})
	if err := f.Close(); err != nil {
		return err
	}
	return os.Chmod(path, 0o644) // the same under any umask
}
