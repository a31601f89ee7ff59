package pcr

import "encoding/binary"

// fakeUKI is a UKI in form, with a stub of the given release; change replaces sections, nil removes one.
func fakeUKI(stub string, change map[string][]byte) []byte {
	sections := map[string][]byte{".text": []byte("code"), ".osrel": []byte("ID=x\n"), ".cmdline": []byte("quiet"), ".uname": []byte("6.12"), ".sbat": []byte("sbat"),
		".linux": image([]string{".text"}, map[string][]byte{".text": []byte("kernel")}), ".initrd": []byte("initrd archive"), ".dtbauto": nil}
	if stub != "" {
		sections[".sdmagic"] = []byte("#### LoaderInfo: systemd-stub " + stub + " ####\x00")
	}
	for name, data := range change {
		sections[name] = data
	}
	return image([]string{".text", ".sdmagic", ".osrel", ".cmdline", ".uname", ".sbat", ".splash", ".dtb", ".linux", ".initrd", ".ucode", ".pcrsig", ".pcrpkey", ".dtbauto"}, sections)
}

// image makes a small PE32+ image of the sections that are there.
func image(names []string, data map[string][]byte) []byte {
	le := binary.LittleEndian
	const opt, headers = 0x80 + 24, 0x400
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+60:], headers)
	le.PutUint32(b[opt+108:], 16)
	n := 0
	for _, name := range names {
		d := data[name]
		if d == nil {
			continue
		}
		h := b[opt+240+n*40:]
		copy(h, name)
		raw := (len(d) + 511) &^ 511
		le.PutUint32(h[8:], uint32(len(d)))
		le.PutUint32(h[12:], uint32(len(b)+4096)) // apart, in memory as in the file
		le.PutUint32(h[16:], uint32(raw))
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(append(b, d...), make([]byte, raw-len(d))...)
		n++
	}
	le.PutUint16(b[0x86:], uint16(n))
	return b
}
