package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"tally/internal/atomicfile"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
	"tally/release/sign"
)

func releasePublishCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "publish", Usage: "log a signed release and store it with its files in the log's directory", ArgsUsage: "BUNDLE OUT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "log", Usage: "the log's `DIR` (tally log create)"},
			&cli.StringFlag{Name: "log-key", Usage: "the log's private key `FILE` (default: DIR.key)"},
			&cli.StringFlag{Name: "signer", Usage: "public key `FILE` of who signed BUNDLE"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the complete bundle to `FILE` (default: BUNDLE itself)"},
			tlogProofFlag(),
		},
		Description: "OUT is the directory that was signed; its files are stored by digest, so that 'tally rebuild' finds spec, lock and\n" +
			"sources beside the bundle. Publishing the same payload by the same signer again gives the first publication.\n" +
			"--json prints tally.release/v1 as 'release sign' does, with log: origin, index, tree_size, leaf_hash, path (of the bundle in DIR),\n" +
			"already_published.\n" + tlogProofText + "\n   tally release publish minimal.sigstore.json OUT --log pub --signer cosign.pub",
		Action: func(c *cli.Context) error { return releasePublish(c, e) },
	}
}

func releasePublish(c *cli.Context, e *env) error {
	if err := wantArgs(c, "BUNDLE", "OUT"); err != nil {
		return err
	}
	if err := requireFlags(c, "log", "signer"); err != nil {
		return err
	}
	path, dir := c.Args().Get(0), strings.TrimRight(c.String("log"), "/")
	req, err := publishRequest(c, e, path)
	if err != nil {
		return err
	}
	keyFile := c.String("log-key")
	if keyFile == "" {
		keyFile = dir + ".key"
	}
	l, err := tlog.Open(c.Context, dir, keyFile, e.logger())
	if err != nil {
		return err
	}
	p, err := publish.Publish(c.Context, l, req)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if o := c.String("output"); o != "" {
		path = o
	}
	if path != "-" {
		if err := atomicfile.WriteFile(path, p.Bundle, 0o644); err != nil {
			return err
		}
	}
	if err := writeTLogProof(c, p.Bundle); err != nil {
		return err
	}
	return printPublished(e, path, filepath.Join(dir, p.Path), l.Key(), req, p)
}

func publishRequest(c *cli.Context, e *env, path string) (publish.Request, error) {
	r := publish.Request{OutDir: c.Args().Get(1)}
	text, err := os.ReadFile(c.String("signer"))
	if err != nil {
		return r, err
	}
	if r.Signer, err = release.ParsePublicKey(text); err != nil {
		return r, err
	}
	if r.Bundle, err = readBundle(e, path); err != nil {
		return r, err
	}
	out, err := sign.ReadOut(c.Context, r.OutDir)
	if err != nil {
		return r, err
	}
	r.Files = out.Files()
	return r, nil
}

func printPublished(e *env, path, stored string, key release.LogKey, req publish.Request, p *publish.Published) error {
	b, err := release.ParseBundle(p.Bundle)
	if err != nil {
		return err
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		return err
	}
	a := newReleaseAnswer(path, b, req.Signer, s)
	a.Log = &loggedAnswer{key.Origin(), p.Index, p.Size, p.Leaf, stored, p.Already}
	if e.json {
		return e.printJSON(a)
	}
	verb := "published"
	if p.Already {
		verb = "was published before:"
	}
	e.printf("%s %s %s in log %s at index %d (tree size %d)\nleaf %s\nbundle %s\nstored %s\n",
		verb, a.Name, a.Version, key.Origin(), p.Index, p.Size, p.Leaf, path, stored)
	return nil
}

const tlogProofText = "With --tlog-proof index, inclusion proof and cosigned checkpoint also go to a file in C2SP's form; its record is the leaf\n" +
	"(canonicalizedBody of the bundle).\n"

func tlogProofFlag() cli.Flag {
	return &cli.StringFlag{Name: "tlog-proof", Usage: "also write the log entry as a C2SP tlog-proof to `FILE`"}
}

// writeTLogProof writes what --tlog-proof asks for, of the first bundle in data.
func writeTLogProof(c *cli.Context, data []byte) error {
	path := c.String("tlog-proof")
	if path == "" {
		return nil
	}
	parts, err := release.Split(data)
	if err != nil {
		return err
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, b.Entry.TLogProof(), 0o644)
}
