//go:build nvml

package main

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "nscq.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	appraise "tally/enclave/appraise/gpu"
)

// switches asks every NVSwitch with the nonce, and says how many are not locked. NVML does not know them; a library of their own
// does. Where that is not installed there are none: the enclave, which knows how many there must be, judges that.
func switches(nonce [32]byte) (all []appraise.Device, unlocked int, err error) {
	set := (*C.switch_set)(C.calloc(1, C.sizeof_switch_set)) // large, and C's
	defer C.free(unsafe.Pointer(set))
	if C.collect_switches((*C.uint8_t)(unsafe.Pointer(&nonce[0])), set) == 0 {
		return nil, 0, nil
	}
	if set.failed != nil {
		return nil, 0, fmt.Errorf("switches: %s: NSCQ: code %d", C.GoString(set.failed), int(set.code))
	}
	for i := range int(set.count) {
		s := &set.all[i]
		if s.report.size > C.REPORT_MAX || s.chain.size > C.CHAIN_MAX {
			return nil, 0, fmt.Errorf("switch %d: NSCQ states sizes %d and %d, more than it has room for", i, s.report.size, s.chain.size)
		}
		report, chain := C.GoBytes(unsafe.Pointer(&s.report.data[0]), C.int(s.report.size)), C.GoBytes(unsafe.Pointer(&s.chain.data[0]), C.int(s.chain.size))
		d, err := appraise.ParseEvidence(report, chain)
		if err != nil {
			return nil, 0, fmt.Errorf("switch %d: %w", i, err)
		}
		if s.mode != C.LOCKED {
			unlocked++
		}
		all = append(all, d[0])
	}
	return all, unlocked, nil
}
