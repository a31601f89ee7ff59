package main

import (
	"tally/enclave/appraise"
	"tally/internal/atomicfile"
	"tally/internal/cli"
)

// writeEvidence writes what an accepted enclave showed; the files have their names when they are committed.
func writeEvidence(c *cli.Context, shown appraise.Input) (files evidenceFiles, err error) {
	documents := map[string][]byte{"evidence": shown.Document}
	if shown.GPU != nil {
		documents["gpus"] = shown.GPU.Document
	}
	if shown.Session != nil {
		documents["session"] = shown.Session.Document
	}
	for _, flag := range []string{"evidence", "gpus", "session"} {
		if document, ok := documents[flag]; ok && c.IsSet(flag) {
			f, err := atomicfile.Create(c.String(flag), 0o644)
			if err == nil {
				files = append(files, f)
				_, err = f.Write(document)
			}
			if err != nil {
				files.abort()
				return nil, err
			}
		}
	}
	return files, nil
}

type evidenceFiles []*atomicfile.File

func (files evidenceFiles) commit() error {
	for _, f := range files {
		if err := f.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (files evidenceFiles) abort() {
	for _, f := range files {
		f.Abort()
	}
}
