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

// ErrKeep in an error of Options.Run keeps the release in the queue: the next round runs it again.
var ErrKeep = errors.New("tried again in the next round")

// runCommands runs the command for every release in the queue, each once, and forgets it whatever came of it but ErrKeep.
func (m *Monitor) runCommands(ctx context.Context, rep *Report) error {
	if m.o.Run == nil {
		return nil
	}
	mem, queue, kept := &m.mem.file, m.mem.file.Queue, []Release(nil)
	for i, r := range queue {
		path := m.queuePath(r)
		err := m.o.Run(ctx, r, path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			rep.Alerts = append(rep.Alerts, Alert{Reason: Command, Index: &r.Index, Text: fmt.Sprintf("%s %s: %v", r.Name, r.Version, err)})
		}
		if errors.Is(err, ErrKeep) {
			kept = append(kept, r)
			continue
		}
		if err != nil {
			mem.Unsaid = bounded(append(mem.Unsaid, rep.Alerts[len(rep.Alerts)-1]))
		}
		mem.Queue = slices.Concat(kept, queue[i+1:])
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
