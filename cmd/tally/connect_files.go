package main

import (
	"tally/enclave/appraise"
	"tally/internal/cli"
)

// writeEvidence writes what an accepted enclave showed.
func writeEvidence(c *cli.Context, shown appraise.Input) (written, error) {
	files := []output{{c.String("evidence"), shown.Document}}
	if shown.GPU != nil {
		files = append(files, output{c.String("gpus"), shown.GPU.Document})
	}
	if shown.Session != nil {
		files = append(files, output{c.String("session"), shown.Session.Document})
	}
	return writeOutputs(files...)
}
