// Package gpu verifies the evidence of NVIDIA's GPUs (Hopper, Blackwell) and NVSwitches (LS10) without a
// network: report, certificate chain, reference integrity manifests and stapled OCSP responses in, a
// [Result] with reasons out. It asks nobody; what has to be fresh is handed to it, and its age is judged.
//
// # The report
//
// A report is the transcript of one SPDM 1.1 exchange (DMTF DSP0274 1.1.0, 10.11), as NVML and NSCQ hand it
// out: the request, the response, all integers little-endian.
//
//	GET_MEASUREMENTS  11 e0 param1 param2 nonce[32] slot                           37 bytes
//	MEASUREMENTS      11 60 param1 param2 blocks u8, length u24, record[length],
//	                  nonce[32], length u16, opaque[length], signature[96]
//
// The record holds blocks, indexed from 1: index u8, specification u8 = 1 (DMTF), size u16, then type u8,
// size u16, value. A GPU has 64 blocks of SHA-384 values, an LS10 31. The opaque data is a list of fields:
// type u16, length u16, value; the types are the constants Field….
// The signature is ECDSA P-384 with SHA-384, r and s of 48 bytes each, over request and response without it.
//
// # The chain
//
// Leaf first: the key of the firmware (FMC), the chip (BROM), its provisioner, the family's identity, NVIDIA's
// device root. The leaf states the firmware's digest (FWID) in a DICE extension: 2.23.133.5.4.1, CompositeDeviceID (Hopper, LS10),
// or 2.23.133.5.4.1.1, TCBInfo, of whose FWIDs the first counts (Blackwell). A report that states one too must state the same.
// Signatures between the vendor's own authorities are known (known.go); all others are computed.
//
// # The manifests
//
// A RIM is a SWID tag (ISO/IEC 19770-2, TCG RIM Information Model 1.01) with an enveloped XML signature
// (C14N 1.1, SHA-384, ECDSA P-384) whose certificates lead to NVIDIA's RIM root. Its Payload lists the
// measurements by index, from 0: RIM index i is block i+1. An active one has alternatives Hash0…HashN, of which one must
// be what the report says. A GPU needs two manifests, its driver's and its VBIOS's; no index may be
// active in both. A switch needs its VBIOS's. Index 35 is passed over, as the vendor's verifier
// does, when the signed report says that NVDEC0 is disabled. Of XML a manifest may have what the vendor's have (scan.go): no
// comments, instructions, CDATA or document types, names in ASCII, no control character in an attribute.
//
// # The machine
//
// Devices name each other on NVLink (topology.go). Where there are switches, GPUs and switches must see each other and
// nobody else; GPUs in mode PPCIE, whose links are in the clear for the chips on them, must have their switches in evidence, at least one.
//
// # What this does not prove
//
// No field of a report is known to state developer mode, or confidential computing off; that both are as they should be
// is the driver's word ([DriverState]), which measured code asks for (tally/enclave/attest/gpu) and binds. Files of the vendor's hold none.
//
// A report is about a GPU, not about the machine it is in. That the GPU serves the enclave rests on the enclave's
// measured code, which asked for the report, until PCIe devices join the trust domain (TDISP).
package gpu
