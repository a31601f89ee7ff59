package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"tally/internal/cli"
	"tally/measure/snp"
)

func measureIDBlockCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "snp-id-block",
		Usage: "make the ID block that ties an SNP guest to its launch digest and owner",
		Description: "The firmware refuses to start a guest whose digest or policy differs from its ID block, and reports who signed it. Prints\n" +
			"`id-block=BASE64,id-auth=BASE64`, as QEMU's sev-snp-guest object takes it (with author-key-enabled=on when there is an author\n" +
			"key), then `id-key-digest HEX` and `author-key-digest HEX`, as reports hold them. Keys are ECDSA P-384 in PEM (SEC 1 or\n" +
			"PKCS #8). Signatures are deterministic: the same inputs give the same bytes. The defaults are those of snpguest and\n" +
			"snp-create-id-block. --id-block-file and --id-auth-file also write the two structures (96 and 4096 bytes).\n\n" +
			"Example: tally measure snp-id-block --measurement $(tally measure snp …) --id-key id.pem --author-key author.pem\n\n" +
			"--json prints tally.snp-id-block/v1: measurement, policy, guest_svn, id_block and id_auth (base64), id_key_digest,\n" +
			"author_key_digest.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "measurement", Usage: "launch `DIGEST`, 96 hex digits or base64"},
			&cli.StringFlag{Name: "id-key", Usage: "private key `FILE` that signs the block"},
			&cli.StringFlag{Name: "author-key", Usage: "private key `FILE` that signs the ID key"},
			&cli.StringFlag{Name: "family-id", Usage: "32 `HEX` digits"},
			&cli.StringFlag{Name: "image-id", Usage: "32 `HEX` digits"},
			&cli.StringFlag{Name: "guest-svn", Value: "0", Usage: "security version, a `NUMBER`"},
			&cli.StringFlag{Name: "policy", Value: "0x30000", Usage: "guest policy, a `NUMBER`"},
			&cli.StringFlag{Name: "id-block-file", Usage: "write the ID block to `FILE`"},
			&cli.StringFlag{Name: "id-auth-file", Usage: "write the ID authentication to `FILE`"},
		},
		Action: func(c *cli.Context) error { return measureIDBlock(c, e) },
	}
}

// An idBlockAnswer is tally.snp-id-block/v1.
type idBlockAnswer struct {
	Schema      string     `json:"schema"`
	Measurement snp.Digest `json:"measurement"`
	Policy      uint64     `json:"policy"`
	GuestSVN    uint32     `json:"guest_svn"`
	Block       []byte     `json:"id_block"`
	Auth        []byte     `json:"id_auth"`
	*snp.IDKeys
}

func measureIDBlock(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	b, err := idBlockOptions(c)
	if err != nil {
		return err
	}
	id, err := readKey(c.String("id-key"))
	if err != nil {
		return err
	}
	var author *ecdsa.PrivateKey
	if c.IsSet("author-key") {
		if author, err = readKey(c.String("author-key")); err != nil {
			return err
		}
	}
	auth, err := b.Sign(id, author)
	if err != nil {
		return err
	}
	keys, err := snp.VerifyIDAuth(b, auth)
	if err != nil {
		return fmt.Errorf("what was just signed: %w", err)
	}
	if err := writeAll(output{c.String("id-block-file"), b.Marshal()}, output{c.String("id-auth-file"), auth}); err != nil {
		return err
	}
	if e.json {
		return e.printJSON(idBlockAnswer{"tally.snp-id-block/v1", b.Digest, b.Policy, b.GuestSVN, b.Marshal(), auth, keys})
	}
	e.printf("id-block=%s,id-auth=%s\n", base64.StdEncoding.EncodeToString(b.Marshal()), base64.StdEncoding.EncodeToString(auth))
	e.printf("id-key-digest %s\n", keys.ID)
	if keys.Author != nil {
		e.printf("author-key-digest %s\n", keys.Author)
	}
	return nil
}

// idBlockOptions reads everything that is no file.
func idBlockOptions(c *cli.Context) (*snp.IDBlock, error) {
	if err := refuseEmpty(c, "measurement", "id-key", "author-key", "family-id", "image-id", "id-block-file", "id-auth-file"); err != nil {
		return nil, err
	}
	for _, f := range []string{"measurement", "id-key"} {
		if !c.IsSet(f) {
			return nil, usagef("--%s is missing", f)
		}
	}
	if file := c.String("id-auth-file"); file != "" && c.IsSet("id-block-file") && sameFile(file, c.String("id-block-file")) {
		return nil, usagef("--id-auth-file %s: the file is --id-block-file, want another", file)
	}
	b := new(snp.IDBlock)
	text := c.String("measurement")
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) == len(b.Digest) {
		text = hex.EncodeToString(raw)
	}
	if err := b.Digest.UnmarshalText([]byte(text)); err != nil {
		return nil, usagef("--measurement: %w", err)
	}
	for flag, id := range map[string]*[16]byte{"family-id": &b.FamilyID, "image-id": &b.ImageID} {
		if raw, err := hex.DecodeString(c.String(flag)); err != nil || c.IsSet(flag) && len(raw) != len(id) {
			return nil, usagef("--%s %.40q: want 32 hex digits", flag, c.String(flag))
		} else {
			copy(id[:], raw)
		}
	}
	svn, err := strconv.ParseUint(c.String("guest-svn"), 0, 32)
	if err != nil {
		return nil, usagef("--guest-svn %.40q: want a number of 32 bits", c.String("guest-svn"))
	}
	b.GuestSVN = uint32(svn)
	if b.Policy, err = strconv.ParseUint(c.String("policy"), 0, 64); err != nil {
		return nil, usagef("--policy %.40q: want a number of 64 bits", c.String("policy"))
	}
	return b, nil
}

// maxKey is the largest key file read, in bytes.
const maxKey = 64 << 10

// readKey reads an ECDSA private key in PEM: SEC 1 or PKCS #8, not encrypted. Its curve is checked by the signer.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := readAtMost(path, maxKey)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s: no private key in PEM", path)
		}
		if data = rest; block.Type == "EC PARAMETERS" {
			continue // openssl ecparam writes them in front of the key
		}
		k, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return k, nil
	}
}

func parseKey(block *pem.Block) (*ecdsa.PrivateKey, error) {
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if ec, ok := k.(*ecdsa.PrivateKey); ok {
			return ec, nil
		}
		return nil, errors.New("private key: want ECDSA P-384")
	}
	return nil, fmt.Errorf("PEM block %.40q: want EC PRIVATE KEY or PRIVATE KEY", block.Type)
}
