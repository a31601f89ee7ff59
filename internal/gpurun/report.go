package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tally/enclave/channel"
)

// A report is what a run found.
type report struct {
	options options
	Shape   shape
	Device  *device // nil: the processor
	Proof   string  // by what the answers are known to come from the GPU
	Gate    string  // what the enclave's helper and gate make of these GPUs; empty: not asked
	At      time.Time

	Kinds []kind
	One   kind // one stream at a time, through the channel on its grid: not compared
}

// A kind is a way to the engine, with its rounds.
type kind struct {
	Name   string
	client *http.Client
	Rounds []round
}

// measure asks by turns, so that what changes on the machine meanwhile meets all kinds alike. A round of each comes before, and does
// not count.
func (r *report) measure(ctx context.Context, o *options) error {
	grid, err := channelClient(ctx, o, channel.DefaultTick)
	if err != nil {
		return err
	}
	once, err := channelClient(ctx, o, -1)
	if err != nil {
		return err
	}
	r.Kinds = []kind{{Name: "engine alone", client: directClient(o.Socket)}, {Name: "channel, at once", client: once}, {Name: "channel, on its grid of 50 ms", client: grid}}
	for i := range o.Rounds + 1 {
		for k := range r.Kinds {
			got, err := run(ctx, r.Kinds[k].client, o.Streams, o.Tokens, i)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Kinds[k].Name, err)
			}
			fmt.Fprintf(os.Stderr, "gpurun: round %d of %d: %s: %.0f tokens/s, by the engine's clock %.0f\n", i, o.Rounds, r.Kinds[k].Name, got.rate(), got.Engine)
			if i > 0 {
				r.Kinds[k].Rounds = append(r.Kinds[k].Rounds, got)
			}
		}
	}
	r.One = kind{Name: "one stream, engine alone", client: r.Kinds[0].client}
	got, err := run(ctx, r.One.client, 1, o.Tokens, 0)
	r.One.Rounds = []round{got}
	return err
}

// overhead is what a round took more time for a token than the round of the engine alone beside it, in per cent, by one of a
// round's rates: the median over the pairs.
func overhead(alone, other []round, rate func(round) float64) float64 {
	var all []float64
	for i := range alone {
		all = append(all, (rate(alone[i])/rate(other[i])-1)*100)
	}
	return median(all)
}

func median(all []float64) float64 {
	slices.Sort(all)
	return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
}

// spread is by how much the rounds of one way differ, in per cent of their median.
func (k *kind) spread(of func(round) float64) float64 {
	var all []float64
	for _, r := range k.Rounds {
		all = append(all, of(r))
	}
	return (slices.Max(all) - slices.Min(all)) / median(all) * 100
}

func (k *kind) median(of func(round) float64) float64 {
	var all []float64
	for _, r := range k.Rounds {
		all = append(all, of(r))
	}
	return median(all)
}

func (r *report) text() string {
	var b bytes.Buffer
	o := r.options
	b.WriteString(r.title())
	fmt.Fprintf(&b, "%d streams of %d tokens, %d rounds of each by turns, medians. Insecure evidence; engine, enclave\nand client on one machine.\n\n", o.Streams, o.Tokens, o.Rounds)
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "| way\t| tokens/s\t| overhead\t| by the engine's clock\t| overhead\t| first token\t| our user CPU a token\t|\n|%s\n", strings.Repeat(" ---\t|", 7))
	for i, k := range r.Kinds {
		var whole, own string
		if i > 0 {
			whole, own = percent(overhead(r.Kinds[0].Rounds, k.Rounds, round.rate)), percent(overhead(r.Kinds[0].Rounds, k.Rounds, engineRate))
		}
		fmt.Fprintf(w, "| %s\t| %.0f\t| %s\t| %s\t| %s\t| %.1f ms\t| %.1f us\t|\n", k.Name, k.median(round.rate), whole, said(k.median(engineRate)), own,
			k.median(func(r round) float64 { return float64(r.First.Microseconds()) / 1000 }),
			k.median(func(r round) float64 { return float64(r.CPU.Nanoseconds()) / 1000 / float64(r.Tokens) }))
	}
	one := r.One.Rounds[0]
	fmt.Fprintf(w, "| %s\t| %.0f\t| \t| %s\t| \t| %.1f ms\t| \t|\n", r.One.Name, one.rate(), said(one.Engine), float64(one.First.Microseconds())/1000)
	_ = w.Flush() // to memory
	b.WriteString(r.verdict())
	return b.String()
}

// target is what the channel may take of an engine's tokens a second, in per cent.
const target = 1.0

// verdict holds each way against the target: by the engine's clock, since what waits for the sending grid at a stream's end keeps no
// engine from the next one; by ours where the engine has none. Where rounds of the engine alone differ by more than the target, nothing
// can be said of so little.
func (r *report) verdict() string {
	rate, clock := engineRate, "the engine's clock"
	if r.Kinds[0].median(engineRate) == 0 {
		rate, clock = round.rate, "ours"
	}
	spread := r.Kinds[0].spread(rate)
	s := fmt.Sprintf("\nTarget: at most %g %% of tokens/s, by %s. Rounds of the engine alone differ by %.2f %%.", target, clock, spread)
	if spread > target {
		return s + " So this run cannot tell.\n"
	}
	for _, k := range r.Kinds[1:] {
		met := "missed"
		if overhead(r.Kinds[0].Rounds, k.Rounds, rate) <= target {
			met = "met"
		}
		s += fmt.Sprintf(" %s: %s.", strings.ToUpper(k.Name[:1])+k.Name[1:], met)
	}
	return s + "\n"
}

func engineRate(r round) float64 { return r.Engine }

// said is a rate, or nothing where the engine gave none; percent likewise.
func said(rate float64) string {
	if rate == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", rate)
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return fmt.Sprintf("%+.2f %%", v)
}

// title says what ran where.
func (r *report) title() string {
	o := r.options
	switch {
	case o.Backend == "paced":
		return fmt.Sprintf("NOT A GPU RESULT: an engine that computes nothing and keeps a GPU's pace, a token for every stream each %s.\n\n", o.Step)
	case r.Device == nil:
		return fmt.Sprintf("NOT A GPU RESULT: the engine ran on the processor, to try the line.\n\n%s, ", r.weights())
	}
	return fmt.Sprintf("%s, %s, compute capability %s, driver %s, %s. %s.\n\n%s%s, ", r.Device.Name, r.Device.Memory, r.Device.Capability, r.Device.Driver, r.At.UTC().Format(time.DateOnly), r.Proof, r.gate(), r.weights())
}

func (r *report) gate() string {
	if r.Gate == "" {
		return ""
	}
	return r.Gate + "\n\n"
}

func (r *report) weights() string {
	return fmt.Sprintf("%s, random weights in the shape of %s (%.1f GB, F16)", r.options.Engine, r.options.Shape, float64(r.Shape.size())/1e9)
}

// Marks around the section of a page that a run replaces.
const (
	beginMark = "<!-- make gpu: begin -->\n"
	endMark   = "<!-- make gpu: end -->\n"
)

// publish prints the report and, when it is a GPU's, puts it into the page.
func (r *report) publish(out io.Writer) error {
	if _, err := io.WriteString(out, r.text()); err != nil || r.Device == nil || r.options.Doc == "" {
		return err
	}
	page, err := os.ReadFile(r.options.Doc)
	if err != nil {
		return err
	}
	if page, err = replaceSection(page, r.text()); err != nil {
		return fmt.Errorf("%s: %w", r.options.Doc, err)
	}
	return os.WriteFile(r.options.Doc, page, 0o644)
}

func replaceSection(page []byte, text string) ([]byte, error) {
	head, rest, ok := bytes.Cut(page, []byte(beginMark))
	_, tail, ends := bytes.Cut(rest, []byte(endMark))
	if !ok || !ends {
		return nil, fmt.Errorf("no section between %q and %q", beginMark, endMark)
	}
	return slices.Concat(head, []byte(beginMark), []byte(text), []byte(endMark), tail), nil
}
