package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
	"tally/release/publish/oci"
	"tally/release/sign"
)

func releasePublishCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "publish", Usage: "log a signed release and store it with its files in the log's directory or a registry", ArgsUsage: "BUNDLE OUT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "log", Usage: "the log's `DIR` (tally log create)"},
			&cli.StringFlag{Name: "log-key", Usage: "the log's private key `FILE` (default: DIR.key)"},
			&cli.StringFlag{Name: "signer", Usage: "public key `FILE` of who signed BUNDLE"},
			&cli.StringFlag{Name: "policy", Usage: "in place of --signer: `FILE` (tally.policy/v1) that names who signed, by key or identity"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the complete bundle to `FILE` (default: BUNDLE itself)"},
			&cli.StringFlag{Name: "registry", Usage: "also push files and bundle to the container registry's repository `HOST/PATH`"},
			&cli.StringFlag{Name: "rekor", Usage: "first log the same entry in the Rekor v2 log at `URL`"},
			&cli.StringFlag{Name: "rekor-key", Usage: "that log's verifier key, or a `FILE` that holds it"},
			tlogProofFlag(),
		},
		Description: "OUT is the directory that was signed; its files are stored by digest, so that 'tally rebuild' finds spec, lock and\n" +
			"sources beside the bundle. Publishing the same payload by the same signer again gives the first publication; a certificate's\n" +
			"signer is the workflow in its repository, or the account.\n" +
			"With --rekor the bundle gets a second log entry, checked against --rekor-key; our log is not written to unless Rekor took it. Stock Sigstore verifiers\n" +
			"count both, our own the one of their policy's log.\n" +
			"With --registry the files go to HOST/PATH as the OCI artifact that the statement names (release sign --oci), tagged with the version, and the bundle\n" +
			"as its referrer, where stock cosign finds it; without --log the bundle must have been logged before. Credentials are docker's.\n" +
			"The files of --output and --tlog-proof are written last: a failure leaves none. What the log has by then it keeps, and the same command goes on from there.\n" +
			"Other releases and rebuilds that earlier runs logged in DIR and did not store are stored first; what cannot be is named.\n" +
			"--json prints tally.release/v1 as 'release sign' does, with log: origin, index, tree_size, leaf_hash, path (of the bundle in DIR),\n" +
			"already_published; and registry: image, tag, referrer.\n" + tlogProofText + "\n   tally release publish minimal.sigstore.json OUT --log pub --signer cosign.pub",
		Action: func(c *cli.Context) error { return releasePublish(c, e) },
	}
}

func releasePublish(c *cli.Context, e *env) error {
	if err := wantArgs(c, "BUNDLE", "OUT"); err != nil {
		return err
	}
	need := "log"
	if c.IsSet("registry") {
		need = "registry"
	}
	if err := requireFlags(c, need); err != nil {
		return err
	}
	if c.IsSet("output") && !c.IsSet("log") {
		return usagef("--output goes with --log: without it the bundle stays as it is")
	}
	path := c.Args().Get(0)
	if proof := c.String("tlog-proof"); proof != "" { // before anything is logged
		if err := noneAt(proof, []output{{path: path}, {path: c.String("output")}}); err != nil {
			return err
		}
	}
	req, err := publishRequest(c, e, path)
	if err != nil {
		return err
	}
	if req.Rekor, err = rekorFlags(c); err != nil {
		return err
	}
	a := published{req: req}
	if c.IsSet("log") {
		if err := a.toLog(c, e); err != nil {
			return err
		}
	}
	if repository := c.String("registry"); repository != "" {
		if err := a.toRegistry(c, repository); err != nil {
			return err
		}
	}
	if err := a.write(c, path); err != nil {
		return err
	}
	return a.print(e, path)
}

// rekorFlags reads --rekor and --rekor-key.
func rekorFlags(c *cli.Context) (*tlog.Rekor, error) {
	place := c.String("rekor")
	switch {
	case place == "" && !c.IsSet("rekor-key"):
		return nil, nil
	case place == "" || !c.IsSet("rekor-key") || !c.IsSet("log"):
		return nil, usagef("--rekor, --rekor-key and --log go together")
	}
	key, err := logKeyArg(c.String("rekor-key"))
	if err != nil {
		return nil, err
	}
	return tlog.OpenRekor(place, key, http.DefaultClient)
}

// published is what became of a release.
type published struct {
	req    publish.Request // its bundle is complete once it is logged
	path   string          // where the complete bundle was written
	stored string          // where it lies in the log's directory
	key    release.LogKey
	p      *publish.Published
	pushed *oci.Pushed
}

// toLog logs the release.
func (a *published) toLog(c *cli.Context, e *env) error {
	dir := strings.TrimRight(c.String("log"), "/")
	keyFile := c.String("log-key")
	if keyFile == "" {
		keyFile = dir + ".key"
	}
	l, err := tlog.Open(c.Context, dir, keyFile, time.Now, e.logger())
	if err != nil {
		return err
	}
	var p *publish.Published
	if err = finishBegun(c.Context, e, l, a.req.Bundle); err == nil {
		p, err = publish.Publish(c.Context, l, a.req)
	}
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	a.stored, a.key, a.p = filepath.Join(dir, p.Path), l.Key(), p
	a.req.Bundle = p.Bundle
	return nil
}

// finishBegun finishes what earlier runs logged and did not store, but for the bundle that is about to be published, and names
// what it cannot finish: nobody else would, and monitors miss the bundle.
func finishBegun(ctx context.Context, e *env, l *tlog.Log, but []byte) error {
	var payload release.Digest
	if b, err := release.ParseBundle(but); err == nil { // else there is none, or publishing it says why not
		payload = release.PayloadDigest(b)
	}
	all, err := publish.FinishBegun(ctx, l, payload)
	for _, f := range all {
		if file := filepath.Join(l.Dir(), f.Path); f.Err != nil {
			e.complain("%s of an earlier run is not finished and stays: %v", file, f.Err)
		} else {
			e.logf("%s of an earlier run is finished, at index %d", file, f.Index)
		}
	}
	return err
}

// toRegistry pushes the logged release. When that fails the log has it all the same, which is said; the files of the
// command are not written, so that nobody takes the release for published.
func (a *published) toRegistry(c *cli.Context, repository string) (err error) {
	if a.pushed, err = registryAt(repository).Push(c.Context, a.req); err != nil && a.p != nil {
		err = withHint(fmt.Errorf("%w (logged in %s at index %d and stored as %s; no file was written)", err, a.key.Origin(), a.p.Index, a.stored),
			"the same command again pushes what was logged")
	}
	return err
}

// write writes the files that the command was asked for.
func (a *published) write(c *cli.Context, path string) error {
	proof, err := tlogProof(c, a.req.Bundle)
	if err != nil {
		return err
	}
	a.path = firstOf(c.String("output"), path)
	if a.p == nil || a.path == "-" {
		return writeAll(proof)
	}
	return writeAll(proof, output{a.path, a.p.Bundle})
}

func publishRequest(c *cli.Context, e *env, path string) (publish.Request, error) {
	r := publish.Request{OutDir: c.Args().Get(1)}
	if c.IsSet("signer") == c.IsSet("policy") {
		return r, usagef("release publish wants either --signer or --policy")
	}
	var err error
	if r.Bundle, err = readBundle(e, path); err != nil {
		return r, err
	}
	if _, err := release.ParseBundle(r.Bundle); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Signer, err = publishSigner(c, r.Bundle); err != nil {
		return r, err
	}
	out, err := sign.ReadOut(c.Context, r.OutDir)
	if err != nil {
		return r, err
	}
	r.Files = out.Files()
	return r, nil
}

// publishSigner says who must have signed: the key of --signer, or whoever of --policy's did.
func publishSigner(c *cli.Context, bundle []byte) (release.PublicKey, error) {
	if !c.IsSet("policy") {
		text, err := readSmall(c.String("signer"), 64<<10)
		if err != nil {
			return release.PublicKey{}, err
		}
		k, err := release.ParsePublicKey(text)
		if err != nil {
			return k, fmt.Errorf("%s: %w", c.String("signer"), err)
		}
		return k, nil
	}
	p, err := loadPolicy(c)
	if err != nil {
		return release.PublicKey{}, err
	}
	b, err := release.ParseBundle(bundle)
	if err != nil {
		return release.PublicKey{}, err
	}
	k, _, err := release.Identify(b, &p.Release)
	return k, err
}

func (a *published) print(e *env, path string) error {
	data := a.req.Bundle
	if a.p != nil {
		data, path = a.p.Bundle, a.path
	}
	b, err := release.ParseBundle(data)
	if err != nil {
		return err
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		return err
	}
	out := newReleaseAnswer(path, b, a.req.Signer, s)
	out.Registry = a.pushed
	if a.p != nil {
		out.Log = &loggedAnswer{a.key.Origin(), a.p.Index, a.p.Size, a.p.Leaf, a.stored, a.p.Already}
	}
	if e.json {
		return e.printJSON(out)
	}
	if p := a.p; p != nil {
		verb := "published"
		if p.Already {
			verb = "was published before:"
		}
		e.printf("%s %s %s in log %s at index %d (tree size %d)\nleaf %s\nbundle %s\nstored %s\n",
			verb, out.Name, out.Version, a.key.Origin(), p.Index, p.Size, p.Leaf, path, a.stored)
	}
	if p := a.pushed; p != nil {
		e.printf("pushed %s tag %s\nreferrer %s\n", p.Image, p.Tag, p.Referrer)
	}
	return nil
}

const tlogProofText = "With --tlog-proof index, inclusion proof and cosigned checkpoint also go to a file in C2SP's form; its record is the leaf\n" +
	"(canonicalizedBody of the bundle).\n"

func tlogProofFlag() cli.Flag {
	return &cli.StringFlag{Name: "tlog-proof", Usage: "also write the log entry as a C2SP tlog-proof to `FILE`"}
}

// tlogProof makes the file of --tlog-proof, of the first bundle in data.
func tlogProof(c *cli.Context, data []byte) (output, error) {
	path := c.String("tlog-proof")
	if path == "" {
		return output{}, nil
	}
	parts, err := release.Split(data)
	if err != nil {
		return output{}, err
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return output{}, err
	}
	return output{path, b.Entry.TLogProof()}, nil
}
