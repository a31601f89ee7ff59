package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tally/policy"
	"tally/release"
)

const workflow = `
    - issuer: https://token.actions.githubusercontent.com
      repository: https://github.com/acme/enclave
      workflow: .github/workflows/release.yml
      tag: v*
      commit: "*"
`

func parseIdentities(text string) (*policy.Policy, error) {
	return policy.Parse([]byte("schema: tally.policy/v1\nrelease:\n  log: {vkey: "+vkey+", witnesses: none}\n"+text), "p", func(name string) ([]byte, error) {
		if name == "root.json" {
			return []byte("{}"), nil
		}
		if name == "empty.json" {
			return nil, nil
		}
		return nil, errors.New("no such file")
	})
}

func TestIdentities(t *testing.T) {
	p, err := parseIdentities("  identities:" + workflow + "    - {issuer: https://accounts.example, subject: a@b.example}\n  trusted-root: root.json\n")
	if err != nil {
		t.Fatal(err)
	}
	ids := p.Release.Identities
	want := release.Identity{
		Issuer: "https://token.actions.githubusercontent.com", Repository: "https://github.com/acme/enclave", Workflow: ".github/workflows/release.yml", Tag: "v*", Commit: "*",
	}
	if len(ids.List) != 2 || ids.List[0] != want || ids.List[1] != (release.Identity{Issuer: "https://accounts.example", Subject: "a@b.example"}) || string(ids.TrustedRoot) != "{}" {
		t.Errorf("%+v", ids)
	}
	if ids.Verifier != nil {
		t.Error("a policy file brings a verifier: every client would link it")
	}
	if err := p.Release.Check(); err != nil {
		t.Error(err)
	}
}

func TestIdentityTimes(t *testing.T) {
	timed := strings.TrimSuffix(workflow, "\n") + "\n      not-before: \"2026-01-01T00:00:00Z\"\n      not-after: \"2027-01-01T00:00:00Z\"\n"
	p, err := parseIdentities("  identities:" + timed + "  trusted-root: root.json\n")
	if err != nil {
		t.Fatal(err)
	}
	id := p.Release.Identities.List[0]
	if !id.NotBefore.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || !id.NotAfter.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", id)
	}
	for text, want := range map[string]string{
		strings.Replace(timed, "2027", "2025", 1):             "its time ends before it begins",
		strings.Replace(timed, "2027-01-01T00", "2027-01", 1): "want RFC 3339",
		timed + strings.TrimPrefix(workflow, "\n"):            "same identity twice",
	} {
		if _, err := parseIdentities("  identities:" + text + "  trusted-root: root.json\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestBadIdentities(t *testing.T) {
	const root = "  trusted-root: root.json\n"
	without := func(line string) string { return strings.Replace(workflow, line, "", 1) }
	for text, want := range map[string]string{
		"  identities:" + workflow: "trusted-root",
		root:                       "nobody is named",
		"  identities:" + workflow + "  trusted-root: absent.json\n":                        "no such file",
		"  identities:" + workflow + "  trusted-root: empty.json\n":                         "empty.json: the file is empty",
		"  identities:" + workflow + strings.TrimPrefix(workflow, "\n") + root:              "same identity twice",
		"  identities:" + without("      tag: v*\n") + root:                                 "want repository, workflow, tag and commit",
		"  identities:" + without("      commit: \"*\"\n") + root:                           "want repository, workflow, tag and commit",
		"  identities:" + without("      workflow: .github/workflows/release.yml\n") + root: "want repository, workflow, tag and commit",
		"  identities:" + strings.Replace(workflow, "tag:", "tags:", 1) + root:              `unknown key "tags"`,
		"  identities:" + strings.Replace(workflow, "https://token", "https://*", 1) + root: "want an issuer",
		"  identities:\n    - {subject: a@b.example}\n" + root:                              "issuer",
		"  identities:\n    - {issuer: https://a, subject: a, tag: v1}\n" + root:            "want either a subject",
		"  identities:\n    - {issuer: https://a}\n" + root:                                 "or a subject",
		"  identities:\n    - {issuer: https://a, subject: a, subject: b}\n" + root:         "subject",
		"  identities:\n    - {issuer: https://a, subject: \"a\\nb\"}\n" + root:             "printable",
	} {
		if _, err := parseIdentities(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p:") {
			t.Errorf("%s: %v, want %q with its place", text, err, want)
		}
	}
}
