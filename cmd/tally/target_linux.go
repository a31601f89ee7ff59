package main

import (
	"tally/enclave/channel/vsock"
	"tally/enclave/client"
)

// vsockDialer dials place, CID:PORT.
func vsockDialer(place string) (client.Dialer, error) {
	_, err := vsock.ParseAddr(place)
	return vsock.Dialer{}, err
}
