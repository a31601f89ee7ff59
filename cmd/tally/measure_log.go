package main

import (
	"fmt"
	"strings"

	"tally/measure/eventlog"
)

// A diffAnswer is the part of a --json answer that --log adds.
type diffAnswer struct {
	Differences []eventlog.Difference `json:"differences,omitempty"`
	Reason      string                `json:"reason,omitempty"`
}

// compareLog lays predicted events beside those of the log in a file; no path is no difference.
func compareLog(path string, a eventlog.Algorithm, registers []string, predicted []eventlog.Event) ([]eventlog.Difference, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readAtMost(path, eventlog.MaxSize)
	if err != nil {
		return nil, err
	}
	l, err := eventlog.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	diffs, err := l.Compare(a, registers, predicted)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return diffs, nil
}

// answerLog is what --json says of differences, and the verdict that goes with them.
func answerLog(diffs []eventlog.Difference) (diffAnswer, error) {
	if len(diffs) == 0 {
		return diffAnswer{}, nil
	}
	d := diffs[0]
	return diffAnswer{diffs, "measurement"}, verdict(exitDiffers, "measurement", "the log differs in %d register(s), first %s at its event %d: %s", len(diffs), d.Register, d.Position, d.Cause)
}

// printEventDifferences prints one block a register and returns the verdict.
func printEventDifferences(e *env, diffs []eventlog.Difference) error {
	for _, d := range diffs {
		e.printf("%s differs at its event %d: %s\n", d.Register, d.Position, d.Kind)
		if d.Predicted != "" {
			e.printf("  predicted  %-44s %s\n", d.Predicted, d.Want)
		}
		if d.Logged != "" {
			e.printf("  logged     %-44s %s (event %d of the log)\n", d.Logged, d.Got, d.Event)
		}
		e.printf("  cause      %s\n", d.Cause)
	}
	_, err := answerLog(diffs)
	return err
}

// explainEvent is one line of an event list.
func explainEvent(ev eventlog.Event) string {
	s := fmt.Sprintf("%-44s %s", ev.What, ev.Digest)
	if ev.Detail != "" {
		s += "  " + ev.Detail
	}
	return s + coversText(ev.Covers)
}

func coversText(covers []eventlog.Part) string {
	if len(covers) == 0 {
		return ""
	}
	parts := make([]string, len(covers))
	for i, p := range covers {
		parts[i] = string(p)
	}
	return "  covers " + strings.Join(parts, ", ")
}
