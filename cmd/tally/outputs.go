package main

import "tally/internal/atomicfile"

// An output is a file to be written; one without path is not wanted.
type output struct {
	path string
	data []byte
}

// written are files that were written whole and have no names yet.
type written []*atomicfile.File

// writeOutputs writes files, all or none; they have their names when they are committed.
func writeOutputs(outputs ...output) (files written, err error) {
	for i, o := range outputs {
		if o.path == "" {
			continue
		}
		if err := noneAt(o.path, outputs[:i]); err != nil {
			files.abort()
			return nil, err
		}
		f, err := atomicfile.Create(o.path, 0o644)
		if err == nil {
			files = append(files, f)
			_, err = f.Write(o.data)
		}
		if err != nil {
			files.abort()
			return nil, err
		}
	}
	return files, nil
}

// noneAt refuses a second output at one place: one of the two would be lost.
func noneAt(path string, others []output) error {
	for _, o := range others {
		if o.path != "" && sameFile(o.path, path) {
			return usagef("%s and %s are one file, and two are to be written: want another name", o.path, path)
		}
	}
	return nil
}

func (w written) commit() error {
	for _, f := range w {
		if err := f.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (w written) abort() {
	for _, f := range w {
		f.Abort()
	}
}

// writeAll writes files, of which none appears unless all could be written.
func writeAll(outputs ...output) error {
	files, err := writeOutputs(outputs...)
	if err != nil {
		return err
	}
	defer files.abort()
	return files.commit()
}
