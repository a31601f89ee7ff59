package pcr

import (
	"encoding/binary"
	"fmt"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// A SecureBootForm says how a firmware with Secure Boot off measures the SecureBoot variable.
type SecureBootForm string

// The two forms seen: Debian's OVMF 2025.02 and later measure an empty value, 2022.11 one zero byte, and so
// do builds with Secure Boot whose store has no keys or disables it.
const (
	SecureBootEmpty SecureBootForm = "empty"
	SecureBootZero  SecureBootForm = "zero"
)

// Namespaces of variables (UEFI 2.10, sections 3.3 and 32.4) and edk2's switch.
var (
	globalVariable = fw.ParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurity  = fw.ParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	secureEnable   = fw.ParseGUID("f0a30bc7-af08-4556-99c4-001009c93a44")
	signatureX509  = fw.ParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
)

// measuredVariables are those of PCR 7, in order; dbt only when it is there.
var measuredVariables = []struct {
	vendor fw.GUID
	name   string
}{{globalVariable, "PK"}, {globalVariable, "KEK"}, {imageSecurity, "db"}, {imageSecurity, "dbx"}, {imageSecurity, "dbt"}}

// A keyStore is what of a variable store decides over Secure Boot.
type keyStore struct {
	values map[string][]byte // by name
	on     bool
}

// readKeys reads a variable store: a firmware volume, or a whole firmware image that starts with one. nil is
// a store without keys.
func readKeys(store []byte) (*keyStore, error) {
	k := &keyStore{values: map[string][]byte{}}
	if store == nil {
		return k, nil
	}
	vars, err := fw.ReadVariables(store)
	if err != nil {
		return nil, err
	}
	disabled := false
	for _, v := range vars {
		for _, m := range measuredVariables {
			if v.Vendor == m.vendor && v.Name == m.name {
				k.values[v.Name] = v.Data
			}
		}
		if v.Vendor == secureEnable && v.Name == "SecureBootEnable" {
			if disabled, err = fw.SecureBootDisabled(v); err != nil {
				return nil, err
			}
		}
	}
	k.on = len(k.values["PK"]) > 0 && !disabled
	return k, nil
}

// secureBoot measures the variables of Secure Boot into PCR 7.
func (l *eventLog) secureBoot(k *keyStore, form SecureBootForm) error {
	values := map[string][]byte{"empty": nil, "zero": {0}, "on": {1}}
	chosen := string(form)
	switch {
	case k.on:
		chosen = "on"
	case form == "":
		return nil
	case form != SecureBootEmpty && form != SecureBootZero:
		return fmt.Errorf("secure boot form %.20q: want empty or zero", form)
	case len(k.values["PK"]) > 0:
		chosen = "zero" // keys, and disabled: the variable is there
	}
	e := l.measure(7, "variable SecureBoot", variableData(globalVariable, "SecureBoot", values[chosen]))
	for _, o := range []struct{ form, cause string }{
		{"zero", "the firmware writes Secure Boot off as a zero byte (OVMF 2022.11 does), not as nothing"},
		{"empty", "the firmware writes Secure Boot off as nothing (OVMF 2025.02 and later do), not as a zero byte"},
		{"on", "Secure Boot is on"},
	} {
		if o.form != chosen {
			e.Others = append(e.Others, eventlog.Other{Cause: o.cause, Digest: l.digest(variableData(globalVariable, "SecureBoot", values[o.form]))})
		}
	}
	for _, m := range measuredVariables {
		if value, ok := k.values[m.name]; ok || m.name != "dbt" {
			l.measure(7, "variable "+m.name, variableData(m.vendor, m.name, value))
		}
	}
	l.separator(7)
	return nil
}

// authority measures the entry of db that vouches for the UKI when Secure Boot is on. Which one does is in
// the UKI's signature, which is not read: db must have one certificate and nothing else.
func (l *eventLog) authority(k *keyStore) error {
	if !k.on {
		return nil
	}
	const header, owner = 28, 16 // of a list and of an entry (UEFI 2.10, section 32.4.1)
	db, le := k.values["db"], binary.LittleEndian
	if len(db) < header+owner || fw.GUID(db) != signatureX509 || uint64(le.Uint32(db[16:])) != uint64(len(db)) || le.Uint32(db[20:]) != 0 || uint64(le.Uint32(db[24:])) != uint64(len(db)-header) {
		return fmt.Errorf("variable store: Secure Boot is on and db is not one certificate: which entry vouches for the UKI is not known here")
	}
	l.measure(7, "authority of the UKI", variableData(imageSecurity, "db", db[header:]))
	return nil
}

// variableData is a UEFI_VARIABLE_DATA (TCG PFP 1.06, section 10.2.6).
func variableData(guid fw.GUID, name string, value []byte) []byte {
	text := utf16z(name)
	text = text[:len(text)-2]
	b := append([]byte(nil), guid[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, text...), value...)
}
