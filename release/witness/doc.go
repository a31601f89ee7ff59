// Package witness is a small transparency-log witness (C2SP tlog-witness): it remembers the latest checkpoint
// of each log it is told about and cosigns a newer one only when that contains the older one. A client that
// wants its cosignature cannot be shown a log that others do not see.
//
// A witness is a directory:
//
//	DIR/witness.key              its private key, "PRIVATE+KEY+NAME+HASH+BASE64": type 4 and the 32-byte seed
//	DIR/witness.vkey             its verifier key (C2SP signed-note)
//	DIR/logs/ORIGIN-ID.txt       the latest checkpoint cosigned, as the log signed it
//	DIR/evidence/ORIGIN-ID.txt   two checkpoints of one log of which neither contains the other; the first two found
//	DIR/.lock                    held while it runs
//
// What is remembered is on disk before a cosignature is given: a witness that forgets can be made to cosign a
// fork. ID are the first eight bytes of the log's identity in hex, so that a new key is a new log.
package witness
