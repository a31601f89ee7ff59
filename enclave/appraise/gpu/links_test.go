package gpu

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
)

// TestLinks: who a chip is on NVLink stands at the end of its certificate's serial number.
func TestLinks(t *testing.T) {
	for serial, want := range map[string]string{
		"0102030405060708": "0102030405060708", "ff0102030405060708": "0102030405060708", "01020304050607": "", "": "", "0x02030405060708": "", "010203040506070": "",
	} {
		d := &judged{DeviceResult: DeviceResult{Arch: Hopper}, report: &Report{}, certs: []*x509.Certificate{{}, {Subject: pkix.Name{SerialNumber: serial}}}}
		err := d.links()
		if got := names(map[pdi]bool{d.pdi: true}); (err == nil) != (want != "") || err == nil && got != "["+want+"]" || err != nil && reasonOf(err, "") != BadTopology {
			t.Errorf("%q: %s, %v", serial, got, err)
		}
	}
}
