package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"tally/enclave/evidence"
)

// beaconFrom fetches a log's checkpoint from the URL of the measured configuration. The way there is the
// host's and is not protected: what comes is foreign text that clients verify. nil where there is no URL.
func beaconFrom(url string) func(context.Context) ([]byte, error) {
	if url == "" {
		return nil
	}
	c := &http.Client{
		// No proxy of an environment, no connection kept, nowhere else than the configuration says.
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		rsp, err := c.Do(req)
		if err != nil {
			return nil, err
		}
		defer rsp.Body.Close()
		if rsp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("beacon: status %d, want 200", rsp.StatusCode)
		}
		b, err := io.ReadAll(io.LimitReader(rsp.Body, evidence.MaxBeacon+1))
		if err == nil && len(b) > evidence.MaxBeacon {
			err = errors.New("beacon: too long")
		}
		return b, err
	}
}
