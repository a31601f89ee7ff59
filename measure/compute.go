package measure

import (
	"fmt"
	"io"

	"tally/measure/internal/once"
	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// Artifacts are the bytes of one image, or what remains of them where a hash is all that counts.
type Artifacts struct {
	Name, Version string
	Static                    // kernel, initrd, command line and the firmware measured so far
	UKI           []byte      // nil: none is measured
	Disk          io.ReaderAt // the disk image with its GPT; nil: none is measured

	// Of tdx, which measures more of a file than its hash.
	FirmwareBytes []byte // of the platform's firmware
	Kernel        []byte
	InitrdFile    *tdx.Initrd

	hashes *once.Hashes // of what is held in memory above
}

// Compute returns the reference values that a machine of the profile's platform reports for a, one for each
// shape and register, each with what is needed to compute it again. Nothing is read but a and p.
func Compute(a *Artifacts, p Profile) (*ReferenceValues, error) {
	rv := &ReferenceValues{Schema: Schema, Name: a.Name, Version: a.Version, Static: a.Static}
	var err error
	switch p.TEE {
	case "snp":
		if err = a.checkUKI(p); err == nil {
			rv.Values, err = a.Static.snp(p)
		}
	case "tdx":
		rv.Values, err = a.tdx(p)
	case "vtpm":
		rv.Values, err = a.vtpm(p)
	default:
		return nil, fmt.Errorf("profile %q: tee %.20q: want snp, tdx or vtpm", p.Name, p.TEE)
	}
	if err != nil {
		return nil, err
	}
	return rv, nil
}

// snp computes the launch digests of one platform's shapes.
func (s *Static) snp(p Profile) ([]Value, error) {
	launches, err := s.Launches(p.Platform)
	if err != nil {
		return nil, err
	}
	values := make([]Value, len(launches))
	for i, l := range launches {
		covers := l.Covers()
		if p.Platform.KernelHashes {
			if _, err := rootHash(s.Cmdline); err != nil {
				return nil, err
			}
			covers = append(covers, PartRoot)
		}
		one := p.Platform
		one.VCPUs = []int{p.Platform.VCPUs[i]}
		values[i] = Value{Platform: one, Profile: p.ID(), Register: snp.Register, Digest: l.Digest[:], Covers: covers, Mark: p.Mark}
	}
	return values, nil
}

// checkUKI wants the UKI that a platform is handed as its kernel to hold the image's command line: the one that
// QEMU hashes is empty then.
func (a *Artifacts) checkUKI(p Profile) error {
	if p.Platform.Boot != bootUKI {
		return nil
	}
	cmdline, err := pcr.Cmdline(a.UKI)
	if err == nil && cmdline != a.Cmdline {
		err = fmt.Errorf("UKI: command line %.80q, the image's is %.80q", cmdline, a.Cmdline)
	}
	return err
}
