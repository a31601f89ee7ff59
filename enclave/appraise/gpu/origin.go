package gpu

import "fmt"

// Origin makes the checks that need no policy: that each report is whole, of a device whose certificates lead
// to the root, signed by it, of the firmware that it says, and answers the nonce. Its Result is never accepted,
// because nothing says what is wanted; the error is nil when all is in order.
func Origin(in Input) (*Result, error) {
	res := newResult()
	if len(in.Devices) == 0 || len(in.Devices) > MaxDevices {
		return res.refused(refuse(NoDevices, "evidence of %d devices, want 1 to %d", len(in.Devices), MaxDevices))
	}
	in.Policy = Policy{Floors: map[Arch]Floor{}}
	for a := range products {
		in.Policy.Floors[a] = Floor{}
	}
	v := &verifier{in: in}
	for i, dev := range in.Devices {
		d := v.judge(dev, func(d *judged) []func() error {
			return []func() error{d.parse, d.chain, d.signature, d.firmware, d.nonce, d.arch, d.state}
		})
		res.Devices = append(res.Devices, d)
		if d.err != nil {
			return res.refused(&Error{d.Reason, fmt.Errorf("device %d (%s): %w", i, d.Arch, d.err)})
		}
	}
	return res, nil
}
