package gpu

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// A PDI is a chip's identifier on NVLink, 8 bytes. It is the end of the serial number that the certificate of the
// chip's boot ROM states; a switch reports its own as well. GPUs list the switches that they are linked to with the
// bytes in reverse, switches the GPUs as they are. (Seen in the vendor's samples of a machine with eight GPUs and four
// switches, where all lists agree.)
type pdi [8]byte

// switchGPUs is how many GPUs a switch lists; what follows in its field is the ports.
const switchGPUs = 8

// links notes who the device is on NVLink and whom it sees.
func (d *judged) links() error {
	serial, err := hex.DecodeString(d.certs[1].Subject.SerialNumber)
	if err != nil || len(serial) < len(pdi{}) {
		return refuse(BadTopology, "certificate %q: serial number %.40q, want hexadecimal with an identifier of 8 bytes", d.certs[1].Subject.CommonName, d.certs[1].Subject.SerialNumber)
	}
	d.pdi = pdi(serial[len(serial)-len(pdi{}):])
	field, limit := FieldSwitchPDIs, len(d.report.Opaque[FieldSwitchPDIs])
	if d.Arch.Switch() {
		if own := d.report.Opaque[FieldSwitchPDIs]; string(own) != string(d.pdi[:]) {
			return refuse(BadTopology, "switch reports identifier %x, its certificates say %x", own, d.pdi)
		}
		field, limit = FieldSwitchGPUs, min(len(d.report.Opaque[FieldSwitchGPUs]), switchGPUs*len(pdi{}))
	}
	list := d.report.Opaque[field][:limit]
	if len(list)%len(pdi{}) != 0 {
		return refuse(BadTopology, "field %d of %d bytes, want identifiers of 8 bytes", field, len(list))
	}
	d.sees = map[pdi]bool{}
	for p := range slices.Chunk(list, len(pdi{})) {
		id := pdi(p)
		if !d.Arch.Switch() {
			slices.Reverse(id[:])
		}
		if id != (pdi{}) && id != (pdi{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) { // a link that leads nowhere
			d.sees[id] = true
		}
	}
	return nil
}

// topology wants GPUs and switches to see each other and nobody else: in mode PPCIE what goes over the links is
// in the clear for every chip on them. A machine without switches in evidence passes when its GPUs are not in that mode.
func topology(all []DeviceResult) error {
	gpus, switches := map[pdi]bool{}, map[pdi]bool{}
	for _, d := range all {
		if d.Arch.Switch() {
			switches[d.pdi] = true
		} else {
			gpus[d.pdi] = true
		}
	}
	for i, d := range all {
		want, what := switches, "switches"
		if d.Arch.Switch() {
			want, what = gpus, "GPUs"
		} else if len(switches) == 0 && d.Mode != ModePPCIE {
			continue
		} else if len(switches) == 0 { // nor may its report name none
			return refuse(BadTopology, "device %d (%s) is in mode %s, and there is no evidence of a switch", i, d.Arch, d.Mode)
		}
		if !maps.Equal(d.sees, want) {
			return refuse(BadTopology, "device %d (%s) is linked to %s %s, and there is evidence of %s", i, d.Arch, what, names(d.sees), names(want))
		}
	}
	return nil
}

func names(set map[pdi]bool) string {
	all := []string{}
	for id := range set {
		all = append(all, hex.EncodeToString(id[:]))
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}
