package main

import (
	"fmt"

	"tally/enclave/appraise"
	"tally/enclave/appraise/intel"
	"tally/internal/cli"
)

func quoteShowCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "print what a report or quote says; nothing is verified", ArgsUsage: "FILE",
		Description: quoteFiles +
			"Each field stands on a line under its vendor's name; bytes are hex in the order of the report. Exit 0: it is a report. Exit 1: it is none.\n" +
			"--json prints tally.quote/v1: kind snp|tdx|vtpm-azure|vtpm-svsm|vtpm-unendorsed|insecure, note (where the host can forge it), fields (list of name, value).\n\n" +
			"   tally quote show report.bin",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, "FILE"); err != nil {
				return err
			}
			q, a, err := openQuote(e, c.Args().First())
			if err != nil {
				return err
			}
			if err := q.describe(a); err != nil {
				return fmt.Errorf("%s: %w", c.Args().First(), err)
			}
			return printQuote(e, a)
		},
	}
}

// openQuote reads FILE and begins the answer.
func openQuote(e *env, path string) (*quoteFile, *quoteAnswer, error) {
	data, err := e.argument, error(nil)
	if data == nil {
		data, err = readAtMost(path, intel.MaxQuote)
	}
	if err != nil {
		return nil, nil, err
	}
	q, err := readQuote(path, data)
	if err != nil {
		return nil, nil, err
	}
	return q, &quoteAnswer{Schema: "tally.quote/v1", Kind: q.kind, Fields: []quoteField{}, Note: appraise.Note(q.kind)}, nil
}
