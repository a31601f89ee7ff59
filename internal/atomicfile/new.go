package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// WriteNew writes data durably to path, where nothing may be. On error nothing stays there: it would bar the next attempt.
// The file has its name before it is whole, so that of many who write at once one begins.
func WriteNew(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	return fill(f, path, data)
}

// fill writes data to the new file f at path, and closes it.
func fill(f interface {
	io.WriteCloser
	Sync() error
}, path string, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
