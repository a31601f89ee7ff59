package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
	"tally/release/state"
)

// OpenApart is Open for somebody who watches beside the monitor of o.Dir. What clients remember of the log stays there, shared;
// what was seen by this one and waits for its command is in the directory own, so that neither takes news from the other.
// With adopt, as long as own remembers nothing, it goes on where the monitor of o.Dir stands; from is then the file that said so.
func OpenApart(o Options, own string, adopt bool) (m *Monitor, from string, err error) {
	shared := o.Dir
	o.Dir = own
	if m, err = Open(o); err != nil {
		return nil, "", err
	}
	if m.state, err = state.Open(shared, o.Policy.Log.Key); err != nil {
		return nil, "", err
	}
	if _, err := os.Lstat(m.mem.path); !adopt || err == nil {
		return m, "", nil
	}
	name, err := filepath.Rel(own, m.mem.path)
	if err != nil {
		return nil, "", err
	}
	from = filepath.Join(shared, name)
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return m, "", nil
	}
	return m, from, m.adopt(shared, from)
}

// adopt takes what the file remembers, and the bundles that wait for the command in the directory shared; the memory last, so
// that after a kill it is done again.
func (m *Monitor) adopt(shared, file string) error {
	was, err := openMemory(file, m.o.Policy.Log.Key)
	if err != nil {
		return err
	}
	for _, r := range was.file.Queue {
		to := m.queuePath(r)
		data, err := os.ReadFile(filepath.Join(shared, "queue", filepath.Base(to)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the command had taken it
		}
		if err == nil {
			err = atomicfile.WriteFile(to, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	was.path, m.mem = m.mem.path, was
	return was.save()
}
