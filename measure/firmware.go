package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"strings"

	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// firmware measures the firmware that p names, once for each TEE and bank, and returns its bytes.
func (im *image) firmware(ctx context.Context, s *Static, p Platform) ([]byte, error) {
	f, data, err := im.firmwareFile(ctx, p.Firmware, maxFirmware)
	if err != nil {
		return nil, err
	}
	if err := s.measureFirmware(Firmware{Name: f.name, SHA256: f.sum}, data, p); err != nil {
		return nil, fmt.Errorf("%s: %w", f.file, err)
	}
	return data, nil
}

// A firmwareFile is one that was read.
type firmwareFile struct {
	name, file string
	sum        Hash
}

// firmwareFile reads the firmware file called name, of at most limit bytes, checked against the manifest.
func (im *image) firmwareFile(ctx context.Context, name string, limit int64) (firmwareFile, []byte, error) {
	if err := ctx.Err(); err != nil {
		return firmwareFile{}, nil, err
	}
	for _, f := range im.m.Firmware {
		if f.Name != name {
			continue
		}
		if !fs.ValidPath(f.File) {
			return firmwareFile{}, nil, fmt.Errorf("manifest.json: firmware file %.128q: want a clean relative path", f.File)
		}
		data, err := readCapped(im.fsys, f.File, limit)
		if err != nil {
			return firmwareFile{}, nil, err
		}
		sum := sha256.Sum256(data)
		return firmwareFile{f.Name, f.File, sum}, data, im.checkDigest(f.File, sum)
	}
	return firmwareFile{}, nil, fmt.Errorf("firmware %q is not in the image: its manifest lists %s", name, im.firmwareNames())
}

// measureFirmware adds what a platform takes from a firmware, if it is not there.
func (s *Static) measureFirmware(f Firmware, data []byte, p Platform) (err error) {
	at := s.firmware(f.Name)
	if at == nil {
		at = &f
	}
	switch {
	case p.TEE == "snp" && at.SNP == nil:
		at.SNP, err = snp.ReadFirmware(bytes.NewReader(data), int64(len(data)))
	case p.TEE == "tdx" && at.TDX == nil:
		at.TDX, err = tdx.ReadFirmware(data)
	case p.TEE == "vtpm":
		err = at.measureVTPM(data, p.Bank)
	}
	if at == &f && err == nil {
		s.Firmware = append(s.Firmware, f)
	}
	return err
}

// measureVTPM adds what the firmware measures of itself in one bank. A firmware that does not decide PCR 0 is an
// error: the platform names it to have that register.
func (f *Firmware) measureVTPM(data []byte, bank pcr.Bank) error {
	if f.VTPM != nil && f.VTPM.Digests[bank].DXE != nil {
		return nil
	}
	read, err := pcr.ReadFirmware(data, bank)
	if err != nil {
		return err
	}
	if reason := read.Reason(); reason != "" {
		return fmt.Errorf("PCR 0 cannot be computed: %s (leave firmware out of the platform)", reason)
	}
	if f.VTPM == nil {
		f.VTPM = read
	}
	f.VTPM.Digests[bank] = read.Digests[bank]
	return nil
}

func (im *image) firmwareNames() string {
	var names []string
	for _, f := range im.m.Firmware {
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
