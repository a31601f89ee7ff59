package source

import (
	"context"
	"fmt"
	"strings"

	"tally/internal/guest"
	"tally/mkimage/tree"
)

// configPath is where a root keeps the configuration of its enclave, in tree's form.
var configPath = strings.TrimPrefix(guest.ConfigPath, "/")

// checkConfig reads the file that the spec names as configuration, as the guest will: what it would refuse
// when it starts is refused before anything is built.
func (l *Local) checkConfig() (data []byte, parsed *guest.Config, err error) {
	c := l.Spec.Config
	if c == nil {
		return nil, nil, nil
	}
	if data, err = l.small(c.Path); err == nil {
		parsed, err = guest.ParseConfig(data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("config %q: %w", c.Path, err)
	}
	return data, parsed, nil
}

// config puts the configuration into the root. One that another source put there is held to the same
// rules, and either is named, with its digest and the wires that it asks for, by the manifest.
func (a *assembler) config(ctx context.Context) error {
	data, parsed, err := a.checkConfig()
	if err != nil {
		return err
	}
	if data != nil {
		if err := a.add(a.in.Root, tree.NewFile(configPath, 0o644, data, "config "+a.Spec.Config.Path), false); err != nil {
			return err
		}
	}
	e := a.in.Root.Get(configPath)
	if e == nil {
		return nil
	}
	if e.Kind != tree.File {
		return fmt.Errorf("path %q from %s: a %s, want the file of the configuration", configPath, e.Source, e.Kind)
	}
	if data == nil {
		if data, err = contents(ctx, e); err == nil {
			parsed, err = guest.ParseConfig(data)
		}
		if err != nil {
			return fmt.Errorf("path %q from %s: %w", configPath, e.Source, err)
		}
	}
	a.in.Config, a.in.Wires = configPath, parsed.Wires()
	return nil
}
