package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/infer"
)

// dated beacons say their time themselves.
type dated struct{}

func (dated) Cosigned(b []byte) (time.Time, error) { return time.Parse(time.RFC3339, string(b)) }

func (dated) String() string { return "log.example" }

// yes is an engine that speaks infer's wire form.
type yes struct{}

func (yes) Exchange(_ context.Context, request io.Reader, response io.Writer) error {
	if _, err := io.Copy(io.Discard, request); err != nil {
		return err
	}
	if _, err := (infer.ResponseHead{Status: 200, Type: "text/plain"}).WriteTo(response); err != nil {
		return err
	}
	_, err := io.WriteString(response, "yes")
	return err
}

// TestTransportRenews: an idle session whose key evidence has become too old costs no request: the enclave has newer
// evidence for a new session. Where it has not, that is said.
func TestTransportRenews(t *testing.T) {
	c, cfg := newClock(), config()
	cfg.Now, cfg.After, cfg.Policy.Reappraise, cfg.Pins = c.Now, c.After, 10*time.Minute, new(Pins)
	cfg.Policy.Freshness, cfg.Policy.Beacons = appraise.FreshKey, &appraise.Beacons{Dates: dated{}, MaxAge: 30 * time.Hour}
	at := func(left time.Duration) string { // an enclave whose key is new enough for so long
		stamp := []byte(c.Now().Add(left - 30*time.Hour).UTC().Format(time.RFC3339))
		return serveOn(t, insecure.Attester{}, yes{}, enclave.Options{Beacon: func(context.Context) ([]byte, error) { return stamp, nil }})
	}
	addrs := []string{at(30 * time.Minute), at(2 * time.Hour), at(2 * time.Hour)}
	opened := 0
	tr := &Transport{Now: time.Now, Open: func(ctx context.Context) (*Session, error) {
		opened++
		return Dial(ctx, new(net.Dialer), addrs[opened-1], cfg)
	}}
	defer tr.CloseIdleConnections()
	ask := func() error {
		resp, err := (&http.Client{Transport: tr}).Get("http://x/v1/models")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "yes" {
			t.Errorf("%q, %v", b, err)
		}
		return nil
	}
	for i, want := range []int{1, 1, 2} {
		if err := ask(); err != nil || opened != want {
			t.Fatalf("request %d: %v; %d sessions were opened, want %d", i, err, opened, want)
		}
		c.advance(20 * time.Minute)
	}
	c.advance(2 * time.Hour) // the third one's key is too old, too
	var refused *appraise.Error
	if err := ask(); !errors.As(err, &refused) || refused.Result.Reason != appraise.BadFreshness || opened != 3 {
		t.Errorf("%v; %d sessions were opened", err, opened)
	}
}
