package gpu

import (
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Device is the evidence of one GPU or switch.
type Device struct {
	Arch   Arch
	Report []byte // ParseReport
	Chain  []byte // ParseChain
}

// Arch is a family of devices, in the vendor's word.
type Arch string

// The families that this version verifies.
const (
	Hopper    Arch = "HOPPER"
	Blackwell Arch = "BLACKWELL"
	LS10      Arch = "LS10" // the NVSwitch beside them
)

// Switch reports whether devices of the family are switches.
func (a Arch) Switch() bool { return a == LS10 }

// products are the chips of a family, as manifests and certificates name them: those of which samples were
// verified.
var products = map[Arch][]string{
	Hopper:    {"GH100"},
	Blackwell: {"GB100"},
	LS10:      {"LS10"},
}

// A Floor is the oldest software that is accepted of a family. Empty accepts none.
type Floor struct {
	Driver string // of GPUs, such as "550.90.07"
	VBIOS  string // such as "96.00.5E.00.01"
}

// A Policy says which evidence is accepted. The zero Policy accepts none.
type Policy struct {
	Floors      map[Arch]Floor
	Modes       []Mode        // of GPUs; ModeUnstated admits reports of drivers that state none
	RIMs        [][32]byte    // SHA-256 of the manifests that the release names
	UnpinnedRIM bool          // accept any manifest that the vendor signed and whose signer is valid now
	OCSPMaxAge  time.Duration // of each certificate's response
	NoOCSP      bool          // ask for no responses; revoked devices then pass
	MinGPUs     int           // at least 1
	MinSwitches int
}

// Check returns an error when p accepts nothing.
func (p *Policy) Check() error {
	switch {
	case len(p.Floors) == 0:
		return errors.New("no family of devices is accepted")
	case len(p.Modes) == 0:
		return errors.New("no mode is accepted")
	case len(p.RIMs) == 0 && !p.UnpinnedRIM:
		return errors.New("no manifest is accepted: neither pinned nor any")
	case p.OCSPMaxAge <= 0 && !p.NoOCSP:
		return errors.New("no age of OCSP responses is accepted")
	case p.MinGPUs < 1:
		return errors.New("minimum of GPUs is below 1")
	}
	return nil
}

// An Input is everything that is looked at.
type Input struct {
	Devices  []Device
	Driver   *DriverState // what the driver said of them to an enclave; nil: nobody asked
	RIMs     []*RIM
	OCSP     [][]byte  // DER responses, one certificate each
	Nonce    *[32]byte // what the devices were asked with; nil leaves it unchecked, and the Result says so
	Roots    Roots
	Now      time.Time
	Policy   Policy
	bound    bool // Driver is what the enclave's evidence binds
	Parallel int  // devices verified at a time; 0: as many as there are processors
}

// A verifier holds what devices have in common.
type verifier struct {
	in   Input
	ocsp *responses
	rims []rimState

	deviceChains, rimChains memo
	running                 sync.WaitGroup // of manifests
	mu                      sync.Mutex
	good                    map[string]error // outcome of responses.check by certificate and issuer
}

type rimState struct {
	rim   *RIM
	once  sync.Once
	err   error // of signature, chain, pin, age and revocation
	ended bool  // its signer's certificate has ended: accepted because it is pinned
}

// Verify judges the devices. The Result is never nil; err is nil exactly when Result.Accepted is true, and
// an *Error otherwise. All devices are judged, so that the Result says what is wrong with each.
func Verify(in Input) (*Result, error) {
	res := newResult()
	if err := in.Policy.Check(); err != nil {
		return res.refused(refuse(NoPolicy, "policy: %w", err))
	}
	if err := checkCounts(in.Devices, in.Policy); err != nil {
		return res.refused(err)
	}
	if in.Driver != nil {
		if err := in.Driver.Check(in.Devices); err != nil {
			return res.refused(err)
		}
	}
	res.Checks = append(res.Checks, driverCheck(in))
	v := &verifier{in: in, rims: make([]rimState, len(in.RIMs))}
	for i, r := range in.RIMs {
		v.rims[i].rim = r
	}
	var err error
	if v.ocsp, err = wantedResponses(in); err != nil {
		return res.refused(refuse(BadOCSP, "%w", err))
	}
	res.Devices = v.devices()
	for i := range res.Devices {
		if d := &res.Devices[i]; d.err != nil {
			return res.refused(&Error{d.Reason, fmt.Errorf("device %d (%s): %w", i, d.Arch, d.err)})
		}
	}
	if err := distinct(res.Devices); err != nil {
		return res.refused(err)
	}
	if err := topology(res.Devices); err != nil {
		return res.refused(err)
	}
	res.Accepted = true
	return res, nil
}

func (v *verifier) devices() []DeviceResult {
	all := make([]DeviceResult, len(v.in.Devices))
	n := v.in.Parallel
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	slots, wg := make(chan struct{}, n), sync.WaitGroup{}
	for i := range all {
		wg.Go(func() {
			slots <- struct{}{}
			all[i] = v.device(v.in.Devices[i])
			<-slots
		})
	}
	wg.Wait()
	v.running.Wait()
	return all
}

// MaxDevices bounds a set: a machine has at most 8 GPUs and 4 switches today.
const MaxDevices = 32

func checkCounts(all []Device, p Policy) error {
	gpus, switches := counts(all)
	if gpus < p.MinGPUs || switches < p.MinSwitches || len(all) > MaxDevices {
		return refuse(NoDevices, "evidence of %d GPUs and %d switches, want at least %d and %d, and at most %d in all",
			gpus, switches, p.MinGPUs, p.MinSwitches, MaxDevices)
	}
	return nil
}

// distinct refuses one device counted as several: each has a key of its own, and a chip of its own, which has
// another key for other firmware.
func distinct(all []DeviceResult) error {
	seen := map[string]int{}
	for i, d := range all {
		for _, is := range []string{"key " + d.key, "chip " + string(d.pdi[:])} {
			if j, ok := seen[is]; ok {
				return refuse(NoDevices, "devices %d and %d are one and the same: %s", j, i, d.ID)
			}
			seen[is] = i
		}
	}
	return nil
}

// device makes all checks of one device.
func (v *verifier) device(dev Device) DeviceResult {
	return v.judge(dev, func(d *judged) []func() error {
		return []func() error{d.parse, d.chain, d.signature, d.firmware, d.nonce, d.arch, d.versions, d.mode, d.links, d.revocation, d.manifests, d.measurements}
	})
}

// judge makes checks in order and stops at the first that fails.
func (v *verifier) judge(dev Device, steps func(*judged) []func() error) DeviceResult {
	d := &judged{v: v, dev: dev, DeviceResult: DeviceResult{Arch: dev.Arch, Checks: []Check{}}}
	for _, step := range steps(d) {
		if err := step(); err != nil {
			d.Reason, d.err = reasonOf(err, BadReport), err
			d.Checks = append(d.Checks, Check{Name: string(d.Reason), Status: Failed, Got: err.Error()})
			break
		}
	}
	return d.DeviceResult
}

// manifest makes the checks of a manifest once for all devices.
func (v *verifier) manifest(s *rimState) error {
	s.once.Do(func() { s.err = v.checkManifest(s) })
	return s.err
}

func (v *verifier) checkManifest(s *rimState) error {
	pinned := slices.Contains(v.in.Policy.RIMs, s.rim.SHA256)
	switch {
	case !pinned && !v.in.Policy.UnpinnedRIM && len(v.in.Policy.RIMs) == 0:
		return refuse(RIMUnpinned, "RIM %s %s: file %x: the policy names no manifest, and does not accept any", s.rim.Product, s.rim.Version, s.rim.SHA256)
	case !pinned && !v.in.Policy.UnpinnedRIM:
		return refuse(RIMUnpinned, "RIM %s %s: file %x is none of the %d that are pinned", s.rim.Product, s.rim.Version, s.rim.SHA256, len(v.in.Policy.RIMs))
	}
	at := v.in.Now
	if at.After(s.rim.SignerNotAfter()) || at.Before(s.rim.SignedAfter()) {
		if !pinned || at.Before(s.rim.SignedAfter()) {
			return refuse(RIMExpired, "RIM %s %s: signer's certificate is valid from %s to %s", s.rim.Product, s.rim.Version, day(s.rim.SignedAfter()), day(s.rim.SignerNotAfter()))
		}
		s.ended, at = true, s.rim.SignedAfter()
	}
	chain, err := s.rim.verify(&v.rimChains, v.in.Roots.RIM, at)
	if err != nil {
		return err
	}
	if s.ended { // an ended certificate has no responses any more; the pin stands for it
		chain = chain[1:]
	}
	return v.revocation(chain)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// revocation wants a fresh response for each certificate but the root.
func (v *verifier) revocation(chain []*x509.Certificate) error {
	if v.in.Policy.NoOCSP {
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		if err := v.response(c, chain[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// response judges a certificate's response once: devices have certificates in common. Two that ask at the same time
// both judge it, with the same outcome.
func (v *verifier) response(cert, issuer *x509.Certificate) error {
	key := string(cert.Raw) + string(issuer.Raw)
	v.mu.Lock()
	err, ok := v.good[key]
	v.mu.Unlock()
	if ok {
		return err
	}
	err = v.ocsp.check(cert, issuer, v.in.Now, v.in.Policy.OCSPMaxAge)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good == nil {
		v.good = map[string]error{}
	}
	v.good[key] = err
	return err
}
