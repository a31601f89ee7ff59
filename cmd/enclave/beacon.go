package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"tally/enclave/evidence"
)

// beaconFrom fetches a log's checkpoint from the URL of the measured configuration. nil where there is no URL.
func beaconFrom(url string) func(context.Context) ([]byte, error) {
	if url == "" {
		return nil
	}
	return func(ctx context.Context) ([]byte, error) {
		b, err := fetch(ctx, url, evidence.MaxBeacon)
		if err != nil {
			err = fmt.Errorf("beacon: %w", err)
		}
		return b, err
	}
}

// fetch gets at most limit bytes from a URL of the measured configuration. The way there is the host's and is not
// protected: what comes is foreign, and clients verify it.
func fetch(ctx context.Context, url string, limit int64) ([]byte, error) {
	c := &http.Client{
		// No proxy of an environment, no connection kept, nowhere else than the configuration says.
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
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
		return nil, fmt.Errorf("status %d, want 200", rsp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(rsp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}
