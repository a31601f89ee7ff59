package stock

import (
	"bytes"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	"tally/release/publish/oci"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// registries are Debian's docker-registry, of the time before the referrers API, and one that has the API.
var registries = map[string]func(t *testing.T) string{
	"docker-registry": func(t *testing.T) string { return testtool.Registry(t) },
	"referrers API": func(t *testing.T) string {
		srv := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
		t.Cleanup(srv.Close)
		return strings.TrimPrefix(srv.URL, "http://")
	},
}

func repository(host string) *oci.Registry {
	return &oci.Registry{Repository: host + "/acme/enclave", Keychain: authn.NewMultiKeychain(), Transport: http.DefaultTransport}
}

func (c cosign) run(t *testing.T, args ...string) (string, string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.program, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "DOCKER_CONFIG="+t.TempDir())
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	return out.String(), talk.String(), err
}

func (c cosign) verifyImage(t *testing.T, tr trust, typ, image string, more ...string) (string, error) {
	t.Helper()
	args := append([]string{"verify-attestation", "--allow-http-registry", "--trusted-root", tr.root, "--type", typ}, c.image...)
	out, talk, err := c.run(t, slices.Concat(args, tr.signer, more, []string{image})...)
	return out + talk, err
}

// push pushes the world's files with a logged bundle about them.
func push(t *testing.T, w *rt.World, host string, bundle []byte) *oci.Pushed {
	t.Helper()
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	p, err := repository(host).Push(t.Context(), publish.Request{Bundle: bundle, Signer: w.Key.Public(), OutDir: w.Out, Files: out.Files()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// imageWorld is a world whose release names its image.
func imageWorld(t *testing.T) *rt.World {
	t.Helper()
	w := rt.New(t)
	if err := sign.WriteOCI(t.Context(), w.Out); err != nil {
		t.Fatal(err)
	}
	w.Bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	return w
}

// Cosign finds our statements at the image in a registry, by tag and by digest, and verifies each under who signed it;
// what stands beside it by others is not in its way.
func TestImageAttestation(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		for name, start := range registries {
			t.Run(name, func(t *testing.T) {
				w, other, k := imageWorld(t), rt.New(t), rt.Key(t)
				host := start(t)
				p := push(t, w, host, w.Bundle)
				tr, by := byKey(t, w.Key, rootOf(w)), byKey(t, k, rootOf(w))
				check := func(what string, yes bool, tr trust, typ, image string, more ...string) {
					t.Helper()
					out, err := c.verifyImage(t, tr, typ, image, more...)
					wants(t, what, yes, out, err)
				}
				check("by tag", true, tr, release.PredicateType, host+"/acme/enclave:0.1.0")
				check("by digest", true, tr, release.PredicateType, p.Image)
				check("other key", false, byKey(t, other.Key, rootOf(w)), release.PredicateType, p.Image)
				check("other log", false, byKey(t, w.Key, rootOf(other)), release.PredicateType, p.Image)
				check("no rebuild yet", false, by, release.RebuildType, p.Image)

				if _, err := repository(host).Rebuild(t.Context(), w.Rebuild(t, k, w.Bundle, nil), k.Public()); err != nil {
					t.Fatal(err)
				}
				check("rebuild", true, by, release.RebuildType, p.Image)
				check("rebuild by the maintainer", false, tr, release.RebuildType, p.Image)
				check("release by the rebuilder", false, by, release.PredicateType, p.Image)
				check("release beside a rebuild", true, tr, release.PredicateType, p.Image)
				push(t, w, host, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle)
				check("two releases of the same files", true, tr, release.PredicateType, p.Image)

				// A channel statement is about statements, none of which a registry has as an image: what stands under
				// the channel's tag is for us alone.
				channel := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
				tag, err := repository(host).Channel(t.Context(), channel, w.Key.Public())
				if err != nil {
					t.Fatal(err)
				}
				check("channel", false, tr, release.ChannelType, tag)
				check("channel at the image", false, tr, release.ChannelType, p.Image)
			})
		}
	})
}

// The other shapes of bundles stand in registries too.
func TestImageShapes(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, k, second := imageWorld(t), certified(t), secondLog(t)
		host := testtool.Registry(t)
		b, err := release.ParseBundle(w.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		b.Others = []*release.Entry{second.append(t, release.LeafBody(&b.Envelope, w.Key.Public()))}
		image := push(t, w, host, rt.Marshal(t, b)).Image
		secondRoot := second.dir + "/" + log.TrustedRootFile
		for what, root := range map[string]string{"first log": rootOf(w), "second log": secondRoot, "both": merged(t, read(t, rootOf(w)), read(t, secondRoot))} {
			out, err := c.verifyImage(t, byKey(t, w.Key, root), release.PredicateType, image)
			wants(t, what, true, out, err)
		}
		push(t, w, host, k.publish(t, w, sign.Options{Sequence: 3}))
		tr := trust{k.identity(), merged(t, k.Root, read(t, rootOf(w)))}
		out, err := c.verifyImage(t, tr, release.PredicateType, image, c.stamped...)
		wants(t, "keyless", true, out, err)

		witnessed, _ := witnessed(t)
		if err := sign.WriteOCI(t.Context(), witnessed.Out); err != nil {
			t.Fatal(err)
		}
		bundle := witnessed.Publish(t, witnessed.Sign(t, witnessed.Key, sign.Options{Sequence: 2})).Bundle
		image = push(t, witnessed, testtool.Registry(t), bundle).Image
		out, err = c.verifyImage(t, byKey(t, witnessed.Key, rootOf(witnessed)), release.PredicateType, image)
		wants(t, "witnessed", true, out, err)
	})
}

// What cosign downloads from a registry is the bundle that was pushed. What version 3 attaches to an image, spaced
// otherwise, is fetched as ours; version 2 attaches bare envelopes only and refuses a bundle.
func TestDownloadAndAttach(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w := imageWorld(t)
		host := testtool.Registry(t)
		image := push(t, w, host, w.Bundle).Image
		out, talk, err := c.run(t, "download", "attestation", "--allow-http-registry", "--predicate-type", release.PredicateType, image)
		if err != nil || strings.TrimSpace(out) != strings.TrimSpace(string(w.Bundle)) {
			t.Errorf("downloaded %d bytes, %v\n%s", len(out), err, talk)
		}
		newer := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle
		_, talk, err = c.run(t, "attach", "attestation", "--allow-http-registry", "--attestation", write(t, "b.json", newer), image)
		if old := len(c.blob) > 0; old {
			if err == nil || !strings.Contains(talk, "invalid payloadType") {
				t.Errorf("attach: %v\n%s", err, talk)
			}
			return
		}
		if err != nil {
			t.Fatalf("attach: %v\n%s", err, talk)
		}
		got, err := repository(host).Fetch(t.Context(), publish.Want{Name: "minimal", Version: "0.1.0", By: publish.Party{Keys: []release.PublicKey{w.Key.Public()}}})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := release.Verify(got, w.Policy, rt.Now); err != nil || r.Statement.Predicate.Release.Sequence != 3 {
			t.Errorf("not what was attached: %v", err)
		}
	})
}
