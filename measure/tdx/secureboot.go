package tdx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// Namespaces of variables (UEFI 2.10, sections 3.3 and 32.4).
var (
	globalVariable = fw.ParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurity  = fw.ParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	secureEnable   = fw.ParseGUID("f0a30bc7-af08-4556-99c4-001009c93a44") // edk2's SecureBootEnable
	signatureX509  = fw.ParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
)

// A bootMode is how a firmware starts with respect to Secure Boot.
type bootMode string

// The modes. Off comes in two, which measure different values of SecureBoot.
const (
	modeOn    bootMode = "secure-boot"
	modeOff   bootMode = "secure-boot-off"  // built with it, no keys or disabled: SecureBoot is 0
	modeNever bootMode = "secure-boot-none" // built without it: there is no such variable
)

// A store is the variables that decide over Secure Boot.
type store struct {
	pk, kek, db, dbx, dbt []byte
	hasDBT                bool
	disabled              bool // SecureBootEnable is 0
}

func readStore(cfv []byte) (*store, error) {
	vars, err := fw.ReadVariables(cfv)
	if err != nil {
		return nil, err
	}
	s := new(store)
	for _, v := range vars {
		switch {
		case v.Vendor == globalVariable && v.Name == "PK":
			s.pk = v.Data
		case v.Vendor == globalVariable && v.Name == "KEK":
			s.kek = v.Data
		case v.Vendor == imageSecurity && v.Name == "db":
			s.db = v.Data
		case v.Vendor == imageSecurity && v.Name == "dbx":
			s.dbx = v.Data
		case v.Vendor == imageSecurity && v.Name == "dbt":
			s.dbt, s.hasDBT = v.Data, true
		case v.Vendor == secureEnable && v.Name == "SecureBootEnable":
			if s.disabled, err = fw.SecureBootDisabled(v); err != nil {
				return nil, err
			}
		case v.Vendor == globalVariable && v.Name == "BootOrder":
			// Options that no order names are dead: edk2 numbers its own from 0000 again.
			return nil, fmt.Errorf("variable store: %q: boot options in the firmware's store are not known here", v.Name)
		}
	}
	return s, nil
}

// modes lists the modes that come into question: keys decide, without them the build does.
func (s *store) modes(f Firmware) ([]bootMode, error) {
	built := f.SecureBoot
	switch {
	case len(s.pk) > 0 && built != nil && !*built:
		return nil, fmt.Errorf("firmware: keys are enrolled, but %s is built without Secure Boot", f.Name)
	case len(s.pk) > 0 && !s.disabled:
		return []bootMode{modeOn}, nil
	case len(s.pk) > 0 || built != nil && *built:
		return []bootMode{modeOff}, nil
	case built != nil:
		return []bootMode{modeNever}, nil
	}
	return []bootMode{modeNever, modeOff}, nil
}

func secureBootValue(m bootMode) []byte {
	return map[bootMode][]byte{modeOn: {1}, modeOff: {0}}[m]
}

// policy is what edk2 measures of the variables, with the separator that ends them.
func (s *store) policy(m bootMode) []eventlog.Event {
	events := []eventlog.Event{variable(globalVariable, "SecureBoot", secureBootValue(m)), variable(globalVariable, "PK", s.pk), variable(globalVariable, "KEK", s.kek),
		variable(imageSecurity, "db", s.db), variable(imageSecurity, "dbx", s.dbx)}
	for _, o := range []bootMode{modeOn, modeOff, modeNever} {
		if o != m {
			events[0].Others = append(events[0].Others, eventlog.Other{Cause: "the firmware's mode is " + string(o), Digest: variable(globalVariable, "SecureBoot", secureBootValue(o)).Digest})
		}
	}
	if s.hasDBT {
		events = append(events, variable(imageSecurity, "dbt", s.dbt))
	}
	return append(events, separator())
}

// variable measures a UEFI_VARIABLE_DATA: GUID, u64 characters of the name, u64 bytes of data, name, data
// (TCG PFP 1.06, section 10.2.6).
func variable(vendor fw.GUID, name string, value []byte) eventlog.Event {
	head := binary.LittleEndian.AppendUint64(slices.Clone(vendor[:]), uint64(len(name)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(value)))
	return covering(event("variable "+name, head, utf16le(name), value), eventlog.PartFirmware)
}

// Sizes of signature lists (UEFI 2.10, section 32.4.1), in bytes.
const (
	listHeader      = 28
	signatureOwner  = 16
	maxAuthorities  = 16
	listSizeOffset  = 16
	headSizeOffset  = 20
	entrySizeOffset = 24
)

// authorities lists what may have vouched for an image: each certificate in db. Which one did is in the
// image's signature, which is not read.
func (s *store) authorities() ([]eventlog.Event, error) {
	var all []eventlog.Event
	le := binary.LittleEndian
	for b, off := s.db, 0; len(b) > 0; {
		if len(b) < listHeader {
			return nil, fmt.Errorf("variable db: byte %d: %d stray bytes", off, len(b))
		}
		size, head, entry := uint64(le.Uint32(b[listSizeOffset:])), uint64(le.Uint32(b[headSizeOffset:])), uint64(le.Uint32(b[entrySizeOffset:]))
		if size > uint64(len(b)) || entry < signatureOwner || listHeader+head+entry > size || (size-listHeader-head)%entry != 0 {
			return nil, fmt.Errorf("variable db: byte %d: signature list of %d bytes, header %d, entries of %d", off, size, head, entry)
		}
		if fw.GUID(b) == signatureX509 {
			for e := b[listHeader+head : size]; len(e) > 0; e = e[entry:] {
				a := variable(imageSecurity, "db", e[:entry])
				a.What = fmt.Sprintf("authority: certificate %d of db", len(all)+1)
				if all = append(all, a); len(all) > maxAuthorities {
					return nil, fmt.Errorf("variable db: more than %d certificates", maxAuthorities)
				}
			}
		}
		b, off = b[size:], off+int(size)
	}
	return all, nil
}
