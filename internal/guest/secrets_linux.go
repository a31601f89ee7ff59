package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MountSecrets makes the place for the secrets of e: a small tmpfs without swap, which nobody but the enclave (as
// root) and the engine's group can enter, and into which only the enclave can write. Without secrets it does nothing.
func MountSecrets(e *Engine) error {
	if !e.Secrets {
		return nil
	}
	if err := os.Mkdir(SecretsDir, 0o700); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	// Each file takes whole pages, which is less than as much again.
	data := fmt.Sprintf("mode=0550,uid=0,gid=%d,size=%d,nr_inodes=%d,noswap", e.UID, 2*maxSecretTotal, 2*maxSecrets)
	if err := unix.Mount("tmpfs", SecretsDir, "tmpfs", noExec, data); err != nil {
		return fmt.Errorf("secrets: %w", &os.PathError{Op: "mount", Path: SecretsDir, Err: err})
	}
	return nil
}

// KeepSecrets writes what e is to be started with, all of it or, with an error, nothing. It keeps no value.
func KeepSecrets(e *Engine, values map[string][]byte) (err error) {
	if !e.Secrets {
		return errors.New("secrets: the engine has none")
	}
	var kept []string
	defer func() {
		for _, path := range kept {
			if err != nil {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	for name, value := range values {
		if !secretName().MatchString(name) {
			return errors.New("secrets: a name that is no secret's")
		}
		path := filepath.Join(SecretsDir, name)
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
		if err != nil {
			return err
		}
		kept = append(kept, path)
		_, err = f.Write(value)
		if err := errors.Join(err, f.Chmod(0o400), f.Chown(e.UID, e.UID), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// A place is a directory that the engine shares with the enclave. It is opened before the engine's own /run
// hides it.
type place struct {
	path  string
	fd    int
	flags uintptr // of the mount in the engine's namespace; 0: as it is
}

func openPlace(path string, flags uintptr) (place, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return place{path, fd, flags}, nil
}

// bind puts the directory where it was.
func (p place) bind() error {
	if err := os.Mkdir(p.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", p.fd), p.path, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind", Path: p.path, Err: err}
	}
	if p.flags == 0 {
		return nil
	}
	if err := unix.Mount("", p.path, "", unix.MS_REMOUNT|unix.MS_BIND|p.flags, ""); err != nil {
		return &os.PathError{Op: "remount", Path: p.path, Err: err}
	}
	return nil
}
