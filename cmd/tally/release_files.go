package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
)

// releaseFiles are a release's bundle and what is to be verified with it, joined.
type releaseFiles struct {
	data    []byte
	names   []string       // for each bundle the file that it is from, when several files were joined
	refused *release.Error // of a file that holds no bundles
}

// readRelease reads a bundle, and after it those of --channel and --with.
func readRelease(c *cli.Context, e *env, path string) (releaseFiles, error) {
	var f releaseFiles
	data, err := readBundle(e, path)
	if err != nil {
		return f, err
	}
	f.data = data
	more := c.StringSlice("with")
	if channel := c.String("channel"); channel != "" {
		more = append([]string{channel}, more...)
	}
	if len(more) == 0 {
		return f, nil
	}
	if f.named(path, data); f.refused != nil {
		return f, nil
	}
	for _, file := range more {
		data, err := readSmall(file, release.MaxFile)
		if err != nil {
			return f, err
		}
		if f.named(file, data); f.refused != nil {
			return f, nil
		}
		f.data = append(append(f.data, '\n'), data...)
	}
	return f, nil
}

// named notes which bundles are from file. Each file is taken apart by itself: one that ends too early says nothing about
// the next, and an empty one is no revocation.
func (f *releaseFiles) named(file string, data []byte) {
	parts, err := release.Split(data)
	if err != nil {
		f.refused = &release.Error{Reason: release.BadBundle, Err: err}
		f.refused.Err = inFile(file, f.refused)
	}
	for range parts {
		f.names = append(f.names, file)
	}
}

// verify is release.Verify, with refusals that name the file.
func (f *releaseFiles) verify(p *release.Policy, now time.Time) (*release.Result, error) {
	if f.refused != nil {
		return &release.Result{Checks: []release.Check{failedCheck(f.refused)}}, f.refused
	}
	r, err := release.Verify(f.data, p, now)
	var refusal *release.Error
	if errors.As(err, &refusal) && refusal.Part < len(f.names) && (refusal.Part > 0 || refusal.Reason == release.BadBundle) {
		refusal.Err = inFile(f.names[refusal.Part], refusal)
		r.Checks[len(r.Checks)-1] = failedCheck(refusal)
	}
	return r, err
}

// inFile is why a file's bundle is refused, without the reason, which stands before it.
func inFile(file string, refusal *release.Error) error {
	return fmt.Errorf("%s: %s", file, strings.TrimPrefix(refusal.Error(), string(refusal.Reason)+": "))
}

func failedCheck(refusal *release.Error) release.Check {
	return release.Check{Name: string(refusal.Reason), Status: release.Failed, Got: refusal.Err.Error()}
}
