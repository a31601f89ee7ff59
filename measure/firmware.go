package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"strings"

	"tally/measure/snp"
	"tally/measure/tdx"
)

// firmware measures the firmware called name for a TEE, once, and returns its bytes.
func (im *image) firmware(ctx context.Context, s *Static, name, tee string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, f := range im.m.Firmware {
		if f.Name != name {
			continue
		}
		if !fs.ValidPath(f.File) {
			return nil, fmt.Errorf("manifest.json: firmware file %.128q: want a clean relative path", f.File)
		}
		data, err := readCapped(im.fsys, f.File, maxFirmware)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		if err := im.checkDigest(f.File, sum); err != nil {
			return nil, err
		}
		if err := s.measureFirmware(Firmware{Name: name, SHA256: sum}, data, tee); err != nil {
			return nil, fmt.Errorf("%s: %w", f.File, err)
		}
		return data, nil
	}
	return nil, fmt.Errorf("firmware %q is not in the image: its manifest lists %s", name, im.firmwareNames())
}

// measureFirmware adds what a TEE takes from a firmware, if it is not there.
func (s *Static) measureFirmware(f Firmware, data []byte, tee string) (err error) {
	at := s.firmware(f.Name)
	if at == nil {
		at = &f
	}
	if tee == "snp" && at.SNP == nil {
		at.SNP, err = snp.ReadFirmware(bytes.NewReader(data), int64(len(data)))
	} else if tee == "tdx" && at.TDX == nil {
		at.TDX, err = tdx.ReadFirmware(data)
	}
	if at == &f && err == nil {
		s.Firmware = append(s.Firmware, f)
	}
	return err
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
