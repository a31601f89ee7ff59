// Gpurun serves generated weights of a real model's shape with llama.cpp's server, on a GPU, and measures what the enclave's
// channel costs: streams asked of the engine itself and through an enclave with its Noise channel, by turns, in one process. It is
// what `make gpu` runs; scripts/gpu builds the engine.
//
//	gpurun weights -shape NAME -o FILE      write random weights (GGUF)
//	gpurun run -server S -model M …         serve them, check that the answers come from the GPU, measure, and print a report
//	gpurun run -backend paced -step 5ms …   measure beside an engine that computes nothing and keeps a GPU's pace
//	gpurun engine -socket S -step 5ms       that engine
//
// With -backend cpu the same is done on the processor, to try the line: the report says that it is no GPU result. The evidence is
// insecure either way: nothing here is about confidential computing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	Server, Model, Shape, Backend, Socket, Doc, Engine, Helper string
	Streams, Tokens, Rounds, Threads                           int
	Load, Step                                                 time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // timeout(1) sends that: the engine ends, too
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "gpurun: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want weights, run or engine")
	}
	o := new(options)
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&o.Shape, "shape", "tiny", "shape of the weights")
	fs.StringVar(&o.Model, "model", "", "weights to serve")
	fs.StringVar(&o.Model, "o", "", "weights to write")
	fs.StringVar(&o.Server, "server", "llama-server", "llama.cpp's server")
	fs.StringVar(&o.Engine, "engine", "llama.cpp", "what the report calls the engine")
	fs.StringVar(&o.Backend, "backend", "cuda", "cuda, cpu to try the line, or paced: an engine that keeps a GPU's pace")
	fs.StringVar(&o.Socket, "socket", "", "socket of the engine that keeps a pace")
	fs.DurationVar(&o.Step, "step", 5*time.Millisecond, "how long that engine takes for a token of every stream")
	fs.StringVar(&o.Doc, "doc", "", "page whose section between the marks of a run is replaced; of a GPU only")
	fs.StringVar(&o.Helper, "helper", "", "the image's helper, to ask the driver as an enclave does")
	fs.IntVar(&o.Streams, "streams", 16, "streams at a time")
	fs.IntVar(&o.Tokens, "tokens", 512, "tokens of a stream")
	fs.IntVar(&o.Rounds, "rounds", 3, "rounds of each kind")
	fs.IntVar(&o.Threads, "threads", 1, "threads of the engine")
	fs.DurationVar(&o.Load, "load", 10*time.Minute, "how long the engine may load")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	s, ok := shapes[o.Shape]
	switch {
	case o.Step <= 0 || fs.NArg() != 0:
		return errors.New("want a -step above 0, and flags alone")
	case args[0] == "engine":
		return (&pacer{step: o.Step}).serve(ctx, o.Socket)
	case !ok || o.Model == "" && o.Backend != "paced":
		return errors.New("want -shape tiny, tinyllama-1.1b or llama-3.1-8b, and -model or -o FILE")
	case o.Backend != "cuda" && o.Backend != "cpu" && o.Backend != "paced" || o.Streams < 1 || o.Tokens < 1 || o.Rounds < 1:
		return errors.New("want -backend cuda, cpu or paced, and numbers from 1")
	case args[0] == "weights":
		return writeWeights(o.Model, s, 1)
	case args[0] == "run":
		return measureRun(ctx, o, s)
	}
	return fmt.Errorf("%.20q: want weights, run or engine", args[0])
}

// measureRun serves, checks and measures.
func measureRun(ctx context.Context, o *options, s shape) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "gpurun")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.Socket = filepath.Join(dir, "engine.sock")
	r := &report{options: *o, Shape: s, At: time.Now()}
	var before uint64
	if o.Backend == "cuda" {
		if r.Device, err = findDevice(ctx); err != nil {
			return err
		}
		u, err := usage(ctx)
		if err != nil {
			return err
		}
		before = sum(u.Used)
		if o.Helper != "" {
			r.Gate = askGate(ctx, o.Helper, len(u.Used), time.Now)
		}
	}
	log := o.Model + ".engine.log"
	if o.Backend == "paced" {
		log = filepath.Join(dir, "engine.log")
	}
	pid, stop, err := startEngine(ctx, o, log)
	if err != nil {
		return err
	}
	defer stop()
	if o.Backend == "cuda" { // at once: minutes of rounds of an engine on the processor are of no use
		if _, err := proveGPU(ctx, log, pid, before, uint64(s.offloaded())); err != nil {
			return err
		}
		if o.Helper != "" {
			r.Gate += helperProof(ctx, o.Helper, pid, uint64(s.offloaded()))
		}
	}
	if err := r.measure(ctx, o); err != nil {
		return err
	}
	if o.Backend == "cuda" {
		if r.Proof, err = proveGPU(ctx, log, pid, before, uint64(s.offloaded())); err != nil {
			return err
		}
	}
	return r.publish(os.Stdout)
}

// proveGPU wants the driver and the engine to say that the engine computes on the GPU.
func proveGPU(ctx context.Context, log string, pid int, before, least uint64) (string, error) {
	u, err := usage(ctx)
	if err != nil {
		return "", err
	}
	proof, err := onGPU(u, pid, before, least)
	if err != nil {
		return "", err
	}
	text, all, err := layers(log)
	if err != nil || !all {
		return "", errors.Join(err, fmt.Errorf("the engine says: %q, want all layers on the GPU", text))
	}
	return proof + "; the engine says that it " + text, nil
}
