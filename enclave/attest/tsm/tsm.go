// Package tsm asks the kernel for attestation reports through configfs-tsm
// (/sys/kernel/config/tsm/report, Documentation/ABI/testing/configfs-tsm-report).
package tsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/report"
)

// MaxBlob is the size in bytes of the largest report or certificate table taken.
const MaxBlob = 32 << 10

// The host may throttle requests, and others may ask at the same time: a busy answer is asked for again.
const (
	tries = 6
	pause = 50 * time.Millisecond
)

// A Source asks one provider. The TSM takes one request at a time, and so does a Source.
type Source struct {
	client   configfsi.Client
	provider string
	aux      bool // ask for what the host adds, such as certificates

	mu sync.Mutex
}

// New returns a source of the provider that the kernel names so: sev_guest or tdx_guest.
func New(client configfsi.Client, provider string, aux bool) *Source {
	return &Source{client: client, provider: provider, aux: aux}
}

// A Service is something beneath the guest that has the processor sign its manifest (configfs-tsm: service_provider and so on).
type Service struct{ Provider, GUID, ManifestVersion string }

// GetService returns a report about a service's manifest, asked for with nonce, the manifest, and what the host added or nothing.
func (s *Source) GetService(ctx context.Context, service Service, nonce [64]byte) (out, manifest, aux []byte, err error) {
	r, aux, err := s.get(ctx, &report.Request{InBlob: nonce[:], ServiceProvider: service.Provider, ServiceGuid: service.GUID, ServiceManifestVersion: service.ManifestVersion})
	if err != nil {
		return nil, nil, nil, err
	}
	if len(r.ManifestBlob) == 0 || len(r.ManifestBlob) > MaxBlob {
		return nil, nil, nil, fmt.Errorf("configfs-tsm: manifest of %d bytes, want 1 to %d", len(r.ManifestBlob), MaxBlob)
	}
	return r.OutBlob, r.ManifestBlob, aux, nil
}

// Get returns a report that carries reportData, and what the host added to it, or nothing.
func (s *Source) Get(ctx context.Context, reportData [64]byte) (out, aux []byte, err error) {
	r, aux, err := s.get(ctx, &report.Request{InBlob: reportData[:]})
	if err != nil {
		return nil, nil, err
	}
	return r.OutBlob, aux, nil
}

func (s *Source) get(ctx context.Context, req *report.Request) (r *report.Response, aux []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range tries {
		if r, aux, err = s.once(req); err == nil || !busy(err) {
			break
		}
		t := time.NewTimer(pause << i)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, nil, context.Cause(ctx)
		case <-t.C:
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	return r, aux, nil
}

func busy(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EAGAIN) || report.GetGenerationErr(err) != nil ||
		strings.Contains(err.Error(), syscall.EBUSY.Error()) // the library does not always wrap
}

func (s *Source) once(req *report.Request) (resp *report.Response, aux []byte, err error) {
	r, err := report.Create(s.client, req)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if derr := r.Destroy(); err == nil {
			err = derr
		}
	}()
	resp, err = r.Get()
	if err != nil {
		return nil, nil, err
	}
	if p := strings.TrimSpace(resp.Provider); p != s.provider {
		return nil, nil, fmt.Errorf("provider %.40q, want %q", p, s.provider)
	}
	if s.aux {
		if aux, err = r.ReadOption("auxblob"); errors.Is(err, fs.ErrNotExist) || err != nil && report.GetGenerationErr(err) == nil {
			aux, err = nil, nil // a host need not add certificates; clients may have them
		}
	}
	if len(resp.OutBlob) == 0 || len(resp.OutBlob) > MaxBlob || len(aux) > MaxBlob {
		return nil, nil, fmt.Errorf("report of %d bytes with %d added, want 1 to %d", len(resp.OutBlob), len(aux), MaxBlob)
	}
	return resp, aux, err
}

// ErrNone means that the kernel knows configfs-tsm and has no provider for it.
var ErrNone = errors.New("configfs-tsm: no provider")

// Provider returns the name of the kernel's provider, or ErrNone.
func Provider(client configfsi.Client) (string, error) { return attribute(client, "provider") }

// Floor returns the lowest privilege level that a guest of sev_guest may ask for a report of: its own VMPL. Above 0 an SVSM
// is beneath it.
func Floor(client configfsi.Client) (uint64, error) {
	s, err := attribute(client, "privlevel_floor")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("configfs-tsm: privlevel_floor %.20q: want a number", s)
	}
	return n, nil
}

func attribute(client configfsi.Client, attr string) (string, error) {
	// Not through package report, which would not let ENXIO be told from a provider that fails.
	entry, err := client.MkdirTemp((&configfsi.TsmPath{Subsystem: "report"}).String(), "entry")
	if errors.Is(err, syscall.ENXIO) {
		return "", ErrNone
	}
	if err != nil {
		return "", fmt.Errorf("configfs-tsm: %w", err)
	}
	value, err := client.ReadFile(entry + "/" + attr)
	if derr := client.RemoveAll(entry); err == nil {
		err = derr
	}
	if err != nil {
		return "", fmt.Errorf("configfs-tsm: %w", err)
	}
	return strings.TrimSpace(string(value)), nil
}
