package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// runCommands runs the command for every release in the queue, each once, and forgets it whatever came of it.
func (m *Monitor) runCommands(ctx context.Context, rep *Report) error {
	for len(m.mem.file.Queue) > 0 && m.o.Run != nil {
		r := m.mem.file.Queue[0]
		path := m.queuePath(r)
		err := m.o.Run(ctx, r, path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			a := Alert{Reason: Command, Index: &r.Index, Text: fmt.Sprintf("%s %s: %v", r.Name, r.Version, err)}
			rep.Alerts = append(rep.Alerts, a)
			m.mem.file.Unsaid = bounded(append(m.mem.file.Unsaid, a))
		}
		m.mem.file.Queue = slices.Clone(m.mem.file.Queue[1:])
		err = os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) { // the command has taken it
			err = nil
		}
		if err := errors.Join(m.mem.save(), err); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) queuePath(r Release) string {
	return filepath.Join(m.o.Dir, "queue", r.Leaf.String()+".sigstore.json")
}
