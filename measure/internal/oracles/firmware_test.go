package oracles

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gce-tcb-verifier/ovmf"
	"github.com/google/gce-tcb-verifier/sev"
	sgpb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/ulikunitz/xz"
	"github.com/virtee/sev-snp-measure-go/guest"
	virtee "github.com/virtee/sev-snp-measure-go/ovmf"
	"github.com/virtee/sev-snp-measure-go/vmmtypes"

	"tally/measure/internal/fw"
	"tally/measure/snp"
)

// debianOVMF is Debian's OVMF.fd, the vector of package snp. (gce-tcb-verifier does not know the section of
// kernel hashes, so it cannot read the AmdSev build.)
func debianOVMF(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("../../snp/testdata/vectors/ovmf/OVMF.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func firmware(t testing.TB, b []byte) *snp.Firmware {
	t.Helper()
	f, err := snp.ReadFirmware(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestGCEBesideVerifier: Google's own computation, for both widths of address.
func TestGCEBesideVerifier(t *testing.T) {
	image := debianOVMF(t)
	f := firmware(t, image)
	for vmm, product := range map[snp.VMM]sgpb.SevProduct_SevProductName{snp.GCE: sgpb.SevProduct_SEV_PRODUCT_MILAN, snp.GCEGenoa: sgpb.SevProduct_SEV_PRODUCT_GENOA} {
		for _, n := range []int{1, 2, 8, 240} {
			want, err := sev.LaunchDigest(&sev.LaunchOptions{Vcpus: n, Product: product}, image)
			if err != nil {
				t.Fatal(err)
			}
			got, err := snp.Measure(snp.Input{VMM: vmm, Firmware: f, VCPUs: n, Features: 1})
			if err != nil || !bytes.Equal(got.Digest[:], want) {
				t.Errorf("%s, %d vcpus: %v, %v; gce-tcb-verifier says %x", vmm, n, got, err, want)
			}
		}
	}
}

// TestBesideMeasureGo: virtee's Go program, for each monitor and CPU type that it has. Its EC2 is the fleet
// of 2023, its QEMU one with KVM_SEV_INIT2.
func TestBesideMeasureGo(t *testing.T) {
	image := debianOVMF(t)
	f := firmware(t, image)
	path := filepath.Join(t.TempDir(), "OVMF.fd")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := virtee.New(path)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := guest.OVMFHash(o)
	if err != nil || !bytes.Equal(hash, f.Digest[:]) {
		t.Fatalf("firmware digest %s, theirs %x, %v", f.Digest, hash, err)
	}
	for vmm, theirs := range map[snp.VMM]vmmtypes.VMMType{snp.QEMU: vmmtypes.QEMU, snp.EC22023: vmmtypes.EC2, snp.GCE: vmmtypes.GCE} {
		for _, cpu := range []string{"EPYC-v4", "EPYC-Rome", "EPYC-Milan-v2", "EPYC-Genoa"} {
			for _, n := range []int{1, 3, 512} {
				want, err := guest.LaunchDigestFromOVMF(o, 0x21, n, hash, theirs, cpu)
				if err != nil {
					t.Fatal(err)
				}
				in := snp.Input{VMM: vmm, Firmware: f, VCPUs: n, Features: 0x21}
				if vmm.NeedsVCPU() {
					if in.Signature, err = snp.VCPUSignature(cpu); err != nil {
						t.Fatal(err)
					}
				}
				got, err := snp.Measure(in)
				if err != nil || !bytes.Equal(got.Digest[:], want) {
					t.Errorf("%s, %s, %d vcpus: %v, %v; sev-snp-measure-go says %x", vmm, cpu, n, got, err, want)
				}
			}
		}
	}
}

// sections reads the SEV metadata with Google's reader.
func sections(image []byte) (all []fw.Section, eip uint32, err error) {
	d := &ovmf.SevData{SevEs: true, SevSnp: true}
	if err := d.ExtractFromFirmware(image); err != nil {
		return nil, 0, err
	}
	block, err := d.SevEsResetBlock()
	if err != nil {
		return nil, 0, err
	}
	theirs, err := d.SnpMetadataSections()
	if err != nil {
		return nil, 0, err
	}
	for _, s := range theirs {
		all = append(all, fw.Section{GPA: s.Address, Size: s.Length, Type: fw.SectionType(s.Kind)})
	}
	return all, block.Addr, nil
}

// FuzzFirmware changes the tables of a real firmware. What both readers accept they must read alike.
func FuzzFirmware(f *testing.F) {
	image := debianOVMF(f)
	tail := image[len(image)-4096:]
	f.Add(0, byte(0))
	for _, off := range []int{4096 - 32 - 18, 4096 - 32 - 1, 4096 - 100, 4096 - 200, 3000} {
		f.Add(off, byte(1))
	}
	f.Fuzz(func(t *testing.T, off int, change byte) {
		b := bytes.Clone(tail)
		b[uint(off)%4096] ^= change
		ours, err := fw.Parse(b)
		if err != nil || !ours.HasSEV || !ours.HasResetEIP {
			return
		}
		theirs, eip, err := sections(b)
		if err != nil {
			return // theirs wants the sections of GCE's own firmware: one CPUID, one SECRETS, none without length
		}
		if eip != ours.ResetEIP || len(theirs) != len(ours.Sections) {
			t.Fatalf("reset %#x and %#x, %d and %d sections", eip, ours.ResetEIP, len(theirs), len(ours.Sections))
		}
		for i, s := range theirs {
			if s != ours.Sections[i] {
				t.Errorf("section %d: %+v, gce-tcb-verifier says %+v", i, ours.Sections[i], s)
			}
		}
	})
}
