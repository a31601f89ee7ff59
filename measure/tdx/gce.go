package tdx

import (
	"encoding/hex"
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// A GCEShape is a machine type of Google Compute Engine whose TD HOB and ACPI tables were seen in the event
// log of a real guest. Google's hypervisor is not public: these digests are data, not rules.
type GCEShape struct {
	Name   string    `json:"name"`
	Seen   []gceSeen `json:"seen"`
	Source string    `json:"source"`
	tdHOB  string
}

// A gceSeen is a generation of Google's hypervisor, by the month it was seen in.
type gceSeen struct {
	When                 string `json:"when"`
	loader, rsdp, tables string
}

// Digests of GCE's own variables: Secure Boot off, Google's default keys, and three boot options, the
// virtual disk first.
var gceVariables = []struct{ what, digest string }{
	{"variable SecureBoot", "cfa4e2c606f572627bf06d5669cc2ab1128358d27b45bc63ee9ea56ec109cfafb7194006f847a6a74b5eaed6b73332ec"},
	{"variable PK", "905f6243baf0d7c63cd672f89b16e15f99597e8d0392955e685172d447100123f7c490d178543922faddf896625dabab"},
	{"variable KEK", "be013b0d9188e72b870f598899c35864d6b25f029a7b5f21a037bacf61ca3646207af2bc714d471407c9939317763c4a"},
	{"variable db", "723ad4d64f430bf6d325ab9d6c29147993ded5630002e42e13df696ebc680c4bc14c392d2e113e141154e21723f890f6"},
	{"variable dbx", "c61bae1a3f7b7e6cc3b9b03f630b77292ebd232ae60e0e1916f980955ec38459529574b49f1898c367eaf6d8a62311f5"},
}

var gceBoot = []struct{ what, digest string }{
	{"Boot0001", "a25333c7aec2e0993034938c7f11893b3c2bcaf67e88c342a3d586f6f7fae2c6a1247a9ed86988080a6d4be497d4fbb6"},
	{"Boot0002", "9068065754ff3ae3dd58a5897535eeaf62a19a6757d82dd91349c41bae2e3f208e268abba2a4378bc5c8d1acf2fd260f"},
	{"Boot0000 (UiApp)", "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298"},
}

func gceShapes() []string {
	var all []string
	for _, s := range gceTable {
		all = append(all, s.Name)
	}
	return all
}

// GCEShapes lists the machine types known.
func GCEShapes() []GCEShape { return slices.Clone(gceTable) }

func gceShape(name string) (*GCEShape, error) {
	for i := range gceTable {
		if gceTable[i].Name == name {
			return &gceTable[i], nil
		}
	}
	return nil, fmt.Errorf("profile: gce shape %.40q: want one of %v", name, gceShapes())
}

// narrow is the shape in the one generation seen in a month.
func (g *GCEShape) narrow(when string) (*GCEShape, error) {
	one := *g
	one.Seen = nil
	var months []string
	for _, s := range g.Seen {
		months = append(months, s.When)
		if s.When == when {
			one.Seen = []gceSeen{s}
		}
	}
	if one.Seen == nil {
		return nil, fmt.Errorf("profile: gce/%s seen %.20q: want one of %v", g.Name, when, months)
	}
	return &one, nil
}

// known is an event whose digest was seen and is not computed.
func known(what, digest string) eventlog.Event {
	b, err := hex.DecodeString(digest)
	if err != nil || len(b) != 48 {
		panic("tdx: bad digest constant of " + what)
	}
	return eventlog.Event{What: what, Digest: b}
}

// rtmr0 lists the events of RTMR0 in one generation, with the firmware's own one, of its configuration volume.
func (g *GCEShape) rtmr0(s gceSeen, cfv eventlog.Event) []eventlog.Event {
	events := []eventlog.Event{known("TD HOB", g.tdHOB), cfv}
	for _, v := range gceVariables {
		events = append(events, known(v.what, v.digest))
	}
	events = append(events, separator(), known("ACPI table-loader", s.loader), known("ACPI rsdp", s.rsdp), known("ACPI tables", s.tables))
	events = append(events, event("BootOrder", []byte{1, 0, 2, 0, 0, 0}))
	for _, v := range gceBoot {
		events = append(events, known(v.what, v.digest))
	}
	return events
}

// gce adds RTMR0 to RTMR2 of a UKI that Google's firmware starts from the disk.
func (c *collector) gce(in Input, sections []fw.TDSection, b *boot) error {
	cfv, err := configuration(in.firmware().R, sections)
	if err != nil {
		return err
	}
	shape := c.profile.GCE
	for _, s := range shape.Seen {
		events := shape.rtmr0(s, covering(event("configuration firmware volume", cfv), eventlog.PartFirmware))
		c.add(who{note: "seen-" + s.When}, "rtmr0", Replay(events), events)
	}
	if b == nil {
		return nil
	}
	rules := Firmware{Release: 202411}
	events, err := b.rtmr1(rules, false, modeOff)
	if err := c.addEvents(who{}, "rtmr1", events, err); err != nil {
		return err
	}
	return c.addEvents(who{}, "rtmr2", b.rtmr2(rules), nil)
}
