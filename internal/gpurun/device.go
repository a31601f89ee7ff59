package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"tally/enclave/attest/gpu"
)

// A device is the first GPU, in the words of nvidia-smi.
type device struct {
	Name, Driver, Capability, Memory string
}

// query runs nvidia-smi and returns its lines, each split into fields.
func query(ctx context.Context, what string) ([][]string, error) {
	out, err := exec.CommandContext(ctx, "nvidia-smi", what, "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi %s: %w", what, err)
	}
	return fields(string(out)), nil
}

func fields(csv string) (rows [][]string) {
	for line := range strings.Lines(csv) {
		var row []string
		for f := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			row = append(row, strings.TrimSpace(f))
		}
		if len(row) > 1 || row[0] != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

func findDevice(ctx context.Context) (*device, error) {
	rows, err := query(ctx, "--query-gpu=name,driver_version,compute_cap,memory.total")
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(rows[0]) != 4 {
		return nil, errors.New("nvidia-smi names no GPU")
	}
	r := rows[0]
	return &device{r[0], r[1], r[2], r[3] + " MiB"}, nil
}

// usage is what the helper would say, by nvidia-smi: this is for machines that are no enclave.
func usage(ctx context.Context) (*gpu.Usage, error) {
	apps, err := query(ctx, "--query-compute-apps=pid,used_memory")
	if err != nil {
		return nil, err
	}
	used, err := query(ctx, "--query-gpu=memory.used")
	if err != nil {
		return nil, err
	}
	return usageOf(apps, used)
}

func usageOf(apps, used [][]string) (*gpu.Usage, error) {
	u := new(gpu.Usage)
	for _, row := range apps {
		pid, err := strconv.Atoi(row[0])
		if err != nil || len(row) != 2 {
			return nil, fmt.Errorf("nvidia-smi: process %q: want its number and memory", row)
		}
		p := gpu.Process{PID: pid}
		if n, err := strconv.ParseUint(row[1], 10, 32); err == nil { // or "[N/A]"
			n <<= 20
			p.Memory = &n
		}
		u.Processes = append(u.Processes, p)
	}
	for _, row := range used {
		n, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("nvidia-smi: memory in use %q: want MiB", row)
		}
		u.Used = append(u.Used, n<<20)
	}
	return u, nil
}

// onGPU says by what the engine is known to compute on the GPU, or that it does not. before is the memory in use before it
// started, least what its weights need.
func onGPU(u *gpu.Usage, pid int, before, least uint64) (string, error) {
	err := u.Serves(func(p int) bool { return p == pid }, least)
	if err == nil {
		return "The driver lists the engine's process with at least the weights' memory", nil
	}
	now := sum(u.Used)
	if now >= before+least && !slices.ContainsFunc(u.Processes, func(p gpu.Process) bool { return seen(p.PID) }) {
		return fmt.Sprintf("The driver lists no processes of this PID namespace (a container); memory in use rose by %d MiB with the engine", (now-before)>>20), nil
	}
	return "", err
}

// seen reports whether there is such a process here. In a container the driver lists none, or those of the host by the host's numbers.
func seen(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func sum(all []uint64) (n uint64) {
	for _, v := range all {
		n += v
	}
	return n
}
