package gpu

import "fmt"

// Usage is who computes on the GPUs, as the driver says.
type Usage struct {
	Processes []Process `json:"processes"`
	Used      []uint64  `json:"used"` // bytes in use on each GPU
}

// A Process computes on a GPU.
type Process struct {
	GPU    int     `json:"gpu"`
	PID    int     `json:"pid"`
	Memory *uint64 `json:"memory,omitempty"` // bytes; nil: the driver does not say
}

// Serves returns an error unless processes that are owned are among those that compute on the GPUs, and hold at least so
// many bytes there. An engine that found no GPU, or whose library did not start, answers from the CPU without a word, and
// then no process of it is there. Where the driver does not say what a process holds, all that is in use counts: the engine is
// the only one that computes.
func (u *Usage) Serves(owned func(pid int) bool, least uint64) error {
	var held uint64
	found, said := false, true
	for _, p := range u.Processes {
		if !owned(p.PID) {
			continue
		}
		found = true
		if p.Memory == nil {
			said = false
			continue
		}
		held += *p.Memory
	}
	if !found {
		return fmt.Errorf("none of the %d processes that compute on the GPUs is the engine's: it answers from the CPU", len(u.Processes))
	}
	if !said {
		held = 0
		for _, n := range u.Used {
			held += n
		}
	}
	if held < least {
		return fmt.Errorf("the engine holds %d MiB on the GPUs, want at least %d: it answers from the CPU", held>>20, least>>20)
	}
	return nil
}
