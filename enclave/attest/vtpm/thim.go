package vtpm

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"

	"tally/enclave/appraise/hcl"
)

// AzureCertificatesURL is where a machine on Azure gets the certificates of its processor: the host's "trusted hardware
// identity management". Whoever answers there is not trusted: a certificate is as good as AMD's signature on it.
const AzureCertificatesURL = "http://169.254.169.254/metadata/THIM/amd/certification"

// AzureCertificates asks url for the certificate of the processor's key, VCEK, and returns it as DER.
func AzureCertificates(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("vtpm: %w", err)
	}
	req.Header.Set("Metadata", "true") // it answers nobody who was merely redirected there
	rsp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("vtpm: certificates: %w", err)
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(rsp.Body, hcl.MaxCertificates+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("vtpm: certificates: %w", err)
	case rsp.StatusCode != http.StatusOK || len(b) > hcl.MaxCertificates:
		return nil, fmt.Errorf("vtpm: certificates: status %d with %d bytes, want 200 and at most %d", rsp.StatusCode, len(b), hcl.MaxCertificates)
	}
	var v struct {
		VCEK string `json:"vcekCert"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, errors.New("vtpm: certificates: not JSON")
	}
	block, _ := pem.Decode([]byte(v.VCEK))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("vtpm: certificates: vcekCert: want a certificate in PEM")
	}
	return block.Bytes, nil
}
