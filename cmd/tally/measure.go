package main

import (
	"fmt"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/internal/strictyaml"
	"tally/measure"
)

func measureCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:        "measure",
		Usage:       "compute offline what hardware will report",
		Subcommands: []*cli.Command{measureSNPCommand(e), measureIDBlockCommand(e), measurePCRCommand(e), measureTDXCommand(e), measureACPICommand(e), measureImageCommand(e), measureVerifyCommand(e), measureProfilesCommand(e)},
	}
}

func measureImageCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "image",
		Usage:     "compute the reference values of a built image",
		ArgsUsage: "OUT",
		Description: "Writes OUT/reference-values.json (tally.reference-values/v1, measure/SPEC.md) and prints one line a shape and register:\n" +
			"platform, vcpus or register and bank, digest, and what the digest covers. --json prints the file itself. The platforms are those of the image's\n" +
			"spec; --platforms FILE (a YAML or JSON list of the same form) takes their place.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "platforms", Usage: "measure for the platforms in `FILE`"},
			&cli.BoolFlag{Name: "explain", Usage: "print the event list behind every value"},
		},
		Action: func(c *cli.Context) error { return measureImage(c, e) },
	}
}

func measureImage(c *cli.Context, e *env) error {
	if err := wantArgs(c, "OUT"); err != nil {
		return err
	}
	platforms, err := readPlatforms(c.String("platforms"))
	if err != nil {
		return err
	}
	out := c.Args().First()
	rv, err := measure.Image(c.Context, os.DirFS(out), platforms)
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	data, err := rv.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(filepath.Join(out, "reference-values.json"), data, 0o644); err != nil {
		return err
	}
	if e.json {
		e.printf("%s", data)
		return nil
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

// explainValue prints the events behind a value.
func explainValue(e *env, rv *measure.ReferenceValues, v measure.Value) error {
	for _, ev := range v.Events {
		e.printf("  %s\n", explainEvent(ev))
	}
	if v.Platform.TEE != "snp" {
		return nil
	}
	launches, err := rv.Static.Launches(v.Platform)
	if err != nil {
		return err
	}
	explainSNP(e, launches[0])
	return nil
}

// readPlatforms reads a list of platforms; none when path is empty.
func readPlatforms(path string) ([]measure.Platform, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readSmall(path, 1<<20)
	if err != nil {
		return nil, err
	}
	asJSON, err := strictyaml.ToJSON(data, path)
	if err != nil {
		return nil, err
	}
	ps, err := measure.ParsePlatforms(asJSON)
	if err != nil {
		return nil, &strictyaml.Error{File: path, Msg: err.Error()}
	}
	return ps, nil
}
