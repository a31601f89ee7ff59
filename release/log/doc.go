// Package log is the embedded transparency log: a C2SP tlog-tiles directory written by Tessera's POSIX
// driver in process, which any static web server can serve.
//
//	DIR/checkpoint         signed note: origin, size, root hash (C2SP tlog-checkpoint)
//	DIR/tile/…             hash tiles and entry bundles (C2SP tlog-tiles)
//	DIR/log.vkey           the log's verifier key, one line
//	DIR/policy.txt         C2SP tlog-policy: the log, and who must cosign it
//	DIR/trusted_root.json  Sigstore trusted root, for stock cosign
//	DIR/.state/            Tessera's own; not to be served
//
// The log's private key is a signed-note signer key in a file of its own outside DIR, so that serving the
// directory cannot give it away. Whoever holds it can show different people different logs; what stops
// that are the witnesses of policy.txt, without whose cosignatures nothing is published, and monitors.
package log
