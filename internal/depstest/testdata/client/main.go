// A client that only verifies: what TestClientIsSmall measures.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"tally/policy"
	"tally/release"
	"tally/release/state"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client POLICY STATE BUNDLE")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify(file, dir, bundle string) error {
	p, err := policy.Load(file)
	if err != nil {
		return err
	}
	s, err := state.Open(dir, p.Release.Log.Key)
	if err != nil {
		return err
	}
	s.Fill(&p.Release)
	data, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	r, err := release.Verify(data, &p.Release, time.Now())
	return errors.Join(err, s.Remember(r)) // of a refused release it is what revokes it
}
