package main

import (
	"errors"
	"fmt"

	"tally/internal/cli"
	"tally/measure"
)

func measureVerifyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "compute reference values again from their own inputs",
		ArgsUsage: "FILE",
		Description: "FILE is a reference-values.json. Every value in it is computed again from the few hundred bytes of inputs beside it (no image,\n" +
			"no firmware) and printed, one a line, as `measure image` does. Exit 4, reason measurement: a value does not follow from\n" +
			"its inputs. Whether the inputs are those of an image is another question: `tally rebuild` answers it.\n\n" +
			"Example: tally measure verify OUT/reference-values.json\n\n" +
			"--json prints tally.measure-verify/v1: name, version, values (platform, profile, register, digest, covers, mark, events),\n" +
			"or reason and error.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "explain", Usage: "print the event list behind every value"}},
		Action: func(c *cli.Context) error { return measureVerify(c, e) },
	}
}

// A measureVerifyAnswer is tally.measure-verify/v1.
type measureVerifyAnswer struct {
	Schema  string          `json:"schema"`
	Name    string          `json:"name,omitempty"`
	Version string          `json:"version,omitempty"`
	Values  []measure.Value `json:"values,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// maxReferenceValues is the largest file read, in bytes.
const maxReferenceValues = 16 << 20

func measureVerify(c *cli.Context, e *env) error {
	if err := wantArgs(c, "FILE"); err != nil {
		return err
	}
	path := c.Args().First()
	data, err := readAtMost(path, maxReferenceValues)
	if err != nil {
		return err
	}
	rv, err := measure.Parse(data)
	if errors.Is(err, measure.ErrUnfounded) {
		bad := verdict(exitUnverified, "measurement", "%s: %w", path, err)
		if e.json {
			return errors.Join(bad, e.printJSON(measureVerifyAnswer{Schema: "tally.measure-verify/v1", Reason: "measurement", Error: err.Error()}))
		}
		if mismatch := new(measure.MismatchError); errors.As(err, &mismatch) {
			e.printf("%s %s\n  says   %s\n  gives  %s\n", mismatch.Says.Platform.Name, mismatch.Says.Register, mismatch.Says.Digest, mismatch.Gives.Digest)
		} else {
			e.printf("%s\n", err)
		}
		return bad
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if e.json {
		return e.printJSON(measureVerifyAnswer{Schema: "tally.measure-verify/v1", Name: rv.Name, Version: rv.Version, Values: rv.Values})
	}
	for _, v := range rv.Values {
		e.printf("%s\n", v)
		if !c.Bool("explain") {
			continue
		}
		if err := explainValue(e, rv, v); err != nil {
			return err
		}
	}
	return nil
}
