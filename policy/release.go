package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tally/release"
)

type releaseYAML struct {
	Signers     []signerYAML   `yaml:"signers"`
	Identities  []identityYAML `yaml:"identities"`
	TrustedRoot string         `yaml:"trusted-root"`
	OCIManifest string         `yaml:"oci-manifest"`
	OtherWires  string         `yaml:"other-wires"`
	Log         *logYAML       `yaml:"log"`
	Channel     *channelYAML   `yaml:"channel"`

	Rebuilders *rebuildersYAML `yaml:"rebuilders"`
	Revokers   []signerYAML    `yaml:"revocation-keys"`

	RevokerIdentities []identityYAML `yaml:"revocation-identities"`
}

type channelYAML struct {
	Name    string       `yaml:"name,required"`
	MaxAge  string       `yaml:"max-age,required"`
	Signers []signerYAML `yaml:"signers"`
}

type signerYAML struct {
	PEM       string `yaml:"pem"`
	File      string `yaml:"file"`
	NotBefore string `yaml:"not-before"`
	NotAfter  string `yaml:"not-after"`
}

type logYAML struct {
	VKey      string `yaml:"vkey"`
	File      string `yaml:"file"`
	Witnesses string `yaml:"witnesses"`
	Policy    string `yaml:"witness-policy"`
	MaxAge    string `yaml:"cosignature-max-age"`
	From      string `yaml:"from"`
}

// release reads who may release, and what else a release needs.
func (r *reader) release(y *releaseYAML, p *Policy) {
	p.Release.Signers = r.signers(y.Signers, "release.signers")
	if y.Log != nil {
		p.Release.Log = r.log(y.Log, "release.log")
		p.LogFrom = y.Log.From
	}
	if y.Channel != nil {
		p.Release.Channel = r.channel(y.Channel, "release.channel")
	}
	p.Release.Revokers = r.signers(y.Revokers, "release.revocation-keys")
	if y.Rebuilders != nil {
		r.rebuilders(y.Rebuilders, "release.rebuilders", p)
	}
	r.identities(y, &p.Release)
	if p.Release.OCIManifest = y.OCIManifest != ""; p.Release.OCIManifest && y.OCIManifest != "require" {
		r.fail("release.oci-manifest", "oci-manifest %.64q: want require", y.OCIManifest)
	}
	if p.Release.RefuseWires = y.OtherWires != ""; p.Release.RefuseWires && y.OtherWires != "refuse" {
		r.fail("release.other-wires", "other-wires %.64q: want refuse", y.OtherWires)
	}
}

func (r *reader) signers(list []signerYAML, path string) (out []release.Signer) {
	for i := range list {
		out = append(out, r.signer(&list[i], fmt.Sprintf("%s.%d", path, i)))
	}
	return out
}

func (r *reader) channel(y *channelYAML, path string) release.ChannelPolicy {
	c := release.ChannelPolicy{Name: y.Name, Signers: r.signers(y.Signers, path+".signers")}
	if !release.ValidLabel(y.Name) {
		r.fail(path+".name", "channel %.64q: want letters, digits and ._+~- beginning with a letter or digit", y.Name)
	}
	var err error
	if c.MaxAge, err = time.ParseDuration(y.MaxAge); err != nil || c.MaxAge <= 0 {
		r.fail(path+".max-age", "age %.64q: want a time such as \"168h\"", y.MaxAge)
	}
	return c
}

func (r *reader) signer(y *signerYAML, path string) release.Signer {
	s := release.Signer{NotBefore: r.time(y.NotBefore, path+".not-before"), NotAfter: r.time(y.NotAfter, path+".not-after")}
	text := r.inlineOrFile(y.PEM, y.File, "pem", path)
	if r.err != nil {
		return s
	}
	var err error
	if s.Key, err = release.ParsePublicKey([]byte(text)); err != nil {
		r.fail(path, "%v", err)
	}
	return s
}

func (r *reader) log(y *logYAML, path string) (p release.LogPolicy) {
	if y.Witnesses != "" && y.Witnesses != "none" {
		r.fail(path+".witnesses", "witnesses %.64q: want none; witnesses are named by a file under witness-policy", y.Witnesses)
	}
	p.Unwitnessed = y.Witnesses == "none"
	text := strings.TrimSuffix(r.inlineOrFile(y.VKey, y.File, "vkey", path), "\n")
	if r.err != nil {
		return p
	}
	var err error
	if p.Key, err = release.ParseLogKey(text); err != nil {
		r.fail(path, "%v", err)
	}
	r.witnesses(y, path, &p)
	return p
}

// witnesses reads the rule about who must have cosigned.
func (r *reader) witnesses(y *logYAML, path string, p *release.LogPolicy) {
	if y.MaxAge != "" {
		var err error
		if p.MaxAge, err = time.ParseDuration(y.MaxAge); err != nil || p.MaxAge <= 0 || y.Policy == "" {
			r.fail(path+".cosignature-max-age", "age %.64q: want a time such as \"168h\", beside a witness-policy", y.MaxAge)
		}
	}
	if r.err != nil || y.Policy == "" {
		return
	}
	if p.Unwitnessed {
		r.fail(path+".witness-policy", "want either \"witness-policy\" or \"witnesses: none\"")
		return
	}
	data, err := r.read(y.Policy)
	if err != nil {
		r.fail(path+".witness-policy", "%v", err)
		return
	}
	w, err := release.ParseWitnessPolicy(data, y.Policy)
	switch {
	case err != nil:
		r.fail(path+".witness-policy", "%v", err)
	case w.Quorum.IsZero():
		r.fail(path+".witness-policy", "%s: quorum none: say \"witnesses: none\" here, so that it is seen", y.Policy)
	case len(w.Logs) > 0 && !slices.ContainsFunc(w.Logs, func(k release.LogKey) bool { return k.String() == p.Key.String() }):
		r.fail(path+".witness-policy", "%s: is about other logs than %s", y.Policy, p.Key.Origin())
	default:
		p.Quorum = w.Quorum
	}
}
