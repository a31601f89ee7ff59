package verity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"tally/verity"
)

func Example() {
	hash, err := os.CreateTemp("", "hash")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(hash.Name())
	defer hash.Close()

	data := bytes.Repeat([]byte("tallystick\n     "), 2*verity.BlockSize/16)
	p := verity.Params{DataBlocks: 2, Salt: []byte{0xca, 0xfe}}
	root, err := verity.Format(context.Background(), bytes.NewReader(data), hash, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verity.Verify(context.Background(), bytes.NewReader(data), hash, root, p))

	data[5000] ^= 1
	err = verity.Verify(context.Background(), bytes.NewReader(data), hash, root, p)
	var bad *verity.BlockError
	fmt.Println(errors.As(err, &bad), err)
	// Output:
	// <nil>
	// true data block 1 (byte 4096): digest differs from the hash tree
}
