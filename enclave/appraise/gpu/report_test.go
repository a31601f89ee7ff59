package gpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

func sample(t testing.TB) ([]byte, []byte) {
	t.Helper()
	d := devicesOf(t, "attestation-sdk/hopperAttestationReport.txt hopperCertChain.txt")[0]
	return d.Report, d.Chain
}

// TestReportBytes changes bytes all over a report, one at a time: it is then no report, or not signed. The
// headers are changed byte by byte, the rest at steps that meet every part of a block (55 bytes).
func TestReportBytes(t *testing.T) {
	b, chain := sample(t)
	certs, err := ParseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	key := certs[0].PublicKey.(*ecdsa.PublicKey)
	for i := 0; i < len(b); i++ {
		if i > 50 && i < len(b)-signatureSize-8 {
			i += 12
		}
		c := bytes.Clone(b)
		c[i] ^= 1
		r, err := ParseReport(c)
		if err == nil {
			err = r.VerifySignature(key)
		}
		if err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
	}
	for i := range b {
		if _, err := ParseReport(b[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	if _, err := ParseReport(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a byte more: accepted")
	}
}

// TestBinaryReportEndsInWhiteSpace: one signature in forty ends with a byte that text would lose.
func TestBinaryReportEndsInWhiteSpace(t *testing.T) {
	b, chain := sample(t)
	for _, end := range []byte(" \t\n\v\f\r\x85\xa0") {
		b[len(b)-1] = end
		all, err := ParseEvidence(b, chain)
		if err != nil || !bytes.Equal(all[0].Report, b) || !IsEvidence(b) {
			t.Errorf("a report that ends with %#02x: %v", end, err)
		}
	}
}

func TestReportRefused(t *testing.T) {
	b, _ := sample(t)
	for name, c := range map[string]struct {
		at   int
		to   byte
		want string
	}{
		"request version":  {0, 0x12, "GET_MEASUREMENTS"},
		"unsigned request": {2, 0, "signature was asked for"},
		"response code":    {38, 0x7f, "MEASUREMENTS"},
		"fewer blocks":     {41, 63, "record"},
		"more blocks":      {41, 65, "ends too early"},
		"index 0":          {45, 0, "index from 1"},
		"index twice":      {45, 2, "index 2 twice"},
		"specification":    {46, 0, "specification 1"},
		"short value":      {50, 47, "want 48"},
	} {
		bad := bytes.Clone(b)
		bad[c.at] = c.to
		if _, err := ParseReport(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ParseReport(make([]byte, MaxReport+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long: %v", err)
	}
}

// TestFWIDRefused: a leaf states one digest of firmware, in one extension, by SHA-384.
func TestFWIDRefused(t *testing.T) {
	der := func(v any) []byte {
		t.Helper()
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id := func(alg asn1.ObjectIdentifier, n int) firmwareID { return firmwareID{alg, bytes.Repeat([]byte{7}, n)} }
	composite := func(f firmwareID) pkix.Extension {
		return pkix.Extension{Id: oidCompositeDeviceID, Value: der(compositeDeviceID{1, asn1.RawValue{FullBytes: der([]byte{1})}, f})}
	}
	info := func(all ...firmwareID) pkix.Extension {
		var list []byte
		for _, f := range all {
			list = append(list, der(f)...)
		}
		return pkix.Extension{Id: oidTCBInfo, Value: der([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, IsCompound: true, Bytes: list}})}
	}
	more := composite(id(oidSHA384, 48))
	more.Value = append(more.Value, 0)
	sha256 := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	for name, c := range map[string]struct {
		all  []pkix.Extension
		want string
	}{
		"composite":          {[]pkix.Extension{composite(id(oidSHA384, 48))}, ""},
		"TCB info":           {[]pkix.Extension{info(id(oidSHA384, 48))}, ""},
		"none":               {nil, "0 DICE extensions"},
		"both":               {[]pkix.Extension{composite(id(oidSHA384, 48)), info(id(oidSHA384, 48))}, "2 DICE extensions"},
		"one twice":          {[]pkix.Extension{info(id(oidSHA384, 48)), info(id(oidSHA384, 48))}, "2 DICE extensions"},
		"one, and empty":     {[]pkix.Extension{composite(id(oidSHA384, 48)), info()}, "2 DICE extensions"},
		"TCB info, empty":    {[]pkix.Extension{info()}, "1 DICE extensions"},
		"6 of another class": {[]pkix.Extension{{Id: oidTCBInfo, Value: der([]asn1.RawValue{{Class: asn1.ClassApplication, Tag: 6, IsCompound: true, Bytes: der(id(oidSHA384, 48))}})}}, "1 DICE extensions"},
		"SHA-256":            {[]pkix.Extension{composite(id(sha256, 32))}, "want SHA-384"},
		"named SHA-256":      {[]pkix.Extension{info(id(sha256, 48))}, "want SHA-384"},
		"short":              {[]pkix.Extension{info(id(oidSHA384, 47))}, "want SHA-384"},
		"long":               {[]pkix.Extension{composite(id(oidSHA384, 49))}, "want SHA-384"},
		"a byte more":        {[]pkix.Extension{more}, "too many"},
		"no DER":             {[]pkix.Extension{{Id: oidTCBInfo, Value: []byte{1}}}, "DICE extension"},
	} {
		_, err := fwid(&x509.Certificate{Extensions: c.all})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestChainRefused: a chain is PEM certificates and nothing else.
func TestChainRefused(t *testing.T) {
	_, good := sample(t)
	block, _ := pem.Decode(good)
	one := pem.EncodeToMemory(block)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"empty":       {nil, "empty"},
		"blank":       {[]byte(" \n"), "empty"},
		"text before": {append([]byte("subject=x\n"), good...), "BEGIN CERTIFICATE"},
		"text behind": {append(bytes.Clone(good), "x"...), "BEGIN CERTIFICATE"},
		"a key":       {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes}), "BEGIN CERTIFICATE"},
		"cut":         {one[:len(one)-30], "want whole PEM"},
		"cut, whole":  {append(bytes.Clone(one[:len(one)-30]), "\n"+string(one)...), "undamaged"},
		"bad, whole":  {append([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), one...), "undamaged"},
		"other, cut":  {append([]byte("-----BEGIN CERTIFICATE-----\n-----BEGIN KEY-----\n"), one...), "undamaged"},
		"good, cut":   {append(bytes.Clone(one), one[:len(one)-30]...), "certificate 2: want whole PEM"},
		"bad between": {slices.Concat(one, []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----x\n"), one), "certificate 2: want PEM without"},
		"header":      {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: block.Bytes}), "without headers"},
		"no DER":      {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes[:len(block.Bytes)-1]}), "certificate 1: "},
		"nine":        {bytes.Repeat(one, maxCerts+1), "at most 8 certificates"},
		"oversize":    {bytes.Repeat([]byte(" "), MaxChain+1), "want at most"},
	} {
		if certs, err := ParseChain(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d certificates, %v; want %q", name, len(certs), err, c.want)
		}
	}
}

// TestFieldsRefused: opaque data is fields, each once, and an end to them.
func TestFieldsRefused(t *testing.T) {
	field := func(id, n int) []byte {
		return append([]byte{byte(id), byte(id >> 8), byte(n), byte(n >> 8)}, make([]byte, n)...)
	}
	many := func(n int) (b []byte) {
		for i := range n {
			b = append(b, field(i, 1)...)
		}
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"most":      {many(maxOpaque), ""},
		"too many":  {many(maxOpaque + 1), "more than 64 fields"},
		"twice":     {append(field(20, 48), field(20, 48)...), "field 20 twice"},
		"cut":       {field(20, 48)[:20], "ends too early"},
		"no length": {[]byte{20, 0, 1}, "ends too early"},
	} {
		err := new(Report).fields(&reader{b: c.b})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for v, want := range map[string]string{
		"\x5e\x00\x00\x96\x01\x00\x00\x00": "96.00.00.5E.01", "96.10.5f.00.01": "96.10.5F.00.01", "96.10.5F.00\x00\x00": "96.10.5F.00",
		strings.Repeat("\x00", 9): "", "\x01\x02\x03\x04\x05\x01\x00\x00": "", "\x01\x02\x03\x04\x05\x00\x01\x00": "", "\x01\x02\x03\x04\x05\x00\x00\x01": "",
		"": "", "96.x": "", "96. 10": "", "96.10\x00.5F": "", "96.10\x7f": "", strings.Repeat("1", 65): "",
	} {
		r := &Report{Opaque: map[Field][]byte{FieldVBIOS: []byte(v)}}
		if s, err := r.VBIOS(); (err == nil) != (want != "") || err == nil && s != want {
			t.Errorf("VBIOS %q: %q, %v; want %q", v, s, err, want)
		}
	}
	if _, err := new(Report).VBIOS(); err == nil || !strings.Contains(err.Error(), "no VBIOS version (field 6)") {
		t.Errorf("no VBIOS: %v", err)
	}
	for _, v := range []string{"", "\x00", strings.Repeat("1", 65), "55 0", "550\x7f", "550\n", "\xff"} {
		if s, err := (&Report{Opaque: map[Field][]byte{FieldDriver: []byte(v)}}).Driver(); err == nil || !strings.HasPrefix(err.Error(), "report: ") {
			t.Errorf("driver %q: %q, %v", v, s, err)
		}
	}
	if s, err := new(Report).Driver(); err == nil {
		t.Errorf("no driver: %q", s)
	}
	long := &Report{Opaque: map[Field][]byte{FieldVBIOS: []byte(strings.Repeat("1", 64)), FieldDriver: []byte(strings.Repeat("1", 64))}}
	if _, err := long.VBIOS(); err == nil || !strings.Contains(err.Error(), "want at most eight numbers of base 16") {
		t.Errorf("a long VBIOS: %v", err)
	}
	if s, err := long.Driver(); len(s) != 64 || err != nil {
		t.Errorf("a long driver: %q, %v", s, err)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		base int
		want int
	}{
		{"550.90.07", "550.90.7", 10, 0}, {"550.90.07", "550.144.03", 10, -1}, {"590.12", "580.159.03", 10, 1}, {"545.00", "545.00.01", 10, -1},
		{"96.00.5E.00.01", "96.00.74.00.20", 16, -1}, {"96.00.9f.00.01", "96.00.9F.00.01", 16, 0}, {"97.00", "96.00.9F", 16, 1},
	} {
		if got, err := compareVersions(c.a, c.b, c.base); err != nil || got != c.want {
			t.Errorf("%s, %s: %d (%v), want %d", c.a, c.b, got, err, c.want)
		}
	}
	for _, s := range []string{"", ".", "550.", "+1", "-1", "5e.00", "1.2.3.4.5.6.7.8.9", "4294967296", "550 .1"} {
		if CheckDriverVersion(s) == nil {
			t.Errorf("driver version %q accepted", s)
		}
	}
}

func TestMode(t *testing.T) {
	for _, c := range []struct {
		v    []byte
		want Mode
	}{{nil, ModeUnstated}, {[]byte{0, 0}, ModeSPT}, {[]byte{1, 0}, ModeMPT}, {[]byte{2}, ModePPCIE}, {[]byte{3}, ""}, {[]byte{0, 1}, ""}, {[]byte{}, ""}, {make([]byte, 9), ""}} {
		r := &Report{Opaque: map[Field][]byte{}}
		if c.v != nil {
			r.Opaque[FieldFeatureFlags] = c.v
		}
		if got, err := r.Mode(); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%x: %q (%v), want %q", c.v, got, err, c.want)
		}
	}
}

// TestProtected: before there were flags, a field of its own said PPCIE.
func TestProtected(t *testing.T) {
	for v, want := range map[byte]Mode{0xaa: ModePPCIE, 0x55: ModeUnstated} {
		r := &Report{Opaque: map[Field][]byte{FieldProtected: {v}}}
		if got, err := r.Mode(); err != nil || got != want {
			t.Errorf("%#x: %q (%v), want %q", v, got, err, want)
		}
	}
}

// TestProtectedUnknown: what the field does not say in one of its two words is not off.
func TestProtectedUnknown(t *testing.T) {
	for _, v := range [][]byte{{}, {0}, {1}, {0xab}, {0xaa, 0xaa}, {0x55, 0}} {
		for _, flags := range [][]byte{nil, {0, 0}, {2, 0}} {
			r := &Report{Opaque: map[Field][]byte{FieldProtected: v}}
			if flags != nil {
				r.Opaque[FieldFeatureFlags] = flags
			}
			if got, err := r.Mode(); err == nil || !strings.Contains(err.Error(), "want 0xaa or 0x55") {
				t.Errorf("%x, flags %x: %q (%v)", v, flags, got, err)
			}
		}
	}
}

// TestModeContradicted: a report that says PPCIE in one field and something else in the other says neither.
func TestModeContradicted(t *testing.T) {
	for _, c := range []struct {
		flags, protected byte
		want             Mode
	}{
		{0, 0x55, ModeSPT}, {1, 0x55, ModeMPT}, {2, 0xaa, ModePPCIE}, {0, 0xaa, ""}, {1, 0xaa, ""}, {2, 0x55, ""},
	} {
		r := &Report{Opaque: map[Field][]byte{FieldFeatureFlags: {c.flags, 0}, FieldProtected: {c.protected}}}
		if got, err := r.Mode(); got != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), "and protected PCIe") {
			t.Errorf("flags %d, protected %#x: %q (%v), want %q", c.flags, c.protected, got, err, c.want)
		}
	}
}

func FuzzReport(f *testing.F) {
	b, chain := sample(f)
	f.Add(b)
	s := devicesOf(f, "attestation-sdk/switchAttestationReport.txt switchCertChain.txt")[0]
	f.Add(s.Report)
	certs, err := ParseChain(chain)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if len(r.signed)+len(r.signature) != len(b) || len(r.Blocks) == 0 {
			t.Error("bytes that nothing explains")
		}
		_, _ = r.Driver()
		_, _ = r.VBIOS()
		_, _ = r.Mode()
		if r.VerifySignature(certs[0].PublicKey.(*ecdsa.PublicKey)) == nil && !bytes.HasPrefix(b, []byte{0x11, 0xe0}) {
			t.Error("signature over something else")
		}
	})
}

func FuzzEvidence(f *testing.F) {
	f.Add(read(f, "attestation-sdk/switch_evidence_ls10.json"), []byte{})
	f.Add(read(f, "attestation-sdk/hopperAttestationReport.txt"), read(f, "attestation-sdk/hopperCertChain.txt"))
	f.Fuzz(func(t *testing.T, data, chain []byte) {
		if all, err := ParseEvidence(data, chain); err == nil && len(all) == 0 {
			t.Error("no device and no error")
		}
		if all, err := ParseEvidence(data, nil); err == nil && len(all) == 0 {
			t.Error("no device and no error")
		}
	})
}

func FuzzOCSP(f *testing.F) {
	roots := nvidia(f)
	f.Add([]byte{0x30, 0x03, 0x0a, 0x01, 0x06})
	f.Fuzz(func(t *testing.T, der []byte) {
		index, err := indexResponses([][]byte{der})
		if err != nil {
			return
		}
		if index.check(roots.Device, roots.RIM, now, 1<<62) == nil {
			t.Error("a response that the RIM root did not sign")
		}
	})
}

func FuzzChain(f *testing.F) {
	_, chain := sample(f)
	f.Add(chain)
	roots := nvidia(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := ParseChain(text)
		if err != nil {
			return
		}
		_, _ = fwid(certs[0])
		_, _ = new(memo).verifyChain(certs, roots.Device, now)
	})
}
