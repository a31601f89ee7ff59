package appraise

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/enclave/evidence"
)

// stamped dates are what a test says they are.
type stamped map[string]time.Time

func (s stamped) Cosigned(note []byte) (time.Time, error) {
	if at, ok := s[string(note)]; ok {
		return at, nil
	}
	return time.Time{}, errors.New("cosigned by nobody")
}

func (s stamped) String() string { return "log.example (w)" }

// TestBeacon holds keys of fake hardware to the age of the beacon in their evidence.
func TestBeacon(t *testing.T) {
	m, p, rv := machine(t)
	at := now.Add(time.Hour) // of the appraisal
	dates := stamped{"fresh": at.Add(-time.Minute), "just so": at.Add(-36 * time.Hour), "old": at.Add(-36*time.Hour - time.Second), "ahead": at.Add(5 * time.Minute), "of tomorrow": at.Add(5*time.Minute + time.Second)}
	p.Freshness, p.Beacons = FreshKey, &Beacons{dates, 36 * time.Hour}
	with := func(beacon string) Input {
		d := &evidence.Document{Platform: "snp", Claims: claims}
		d.Claims.Beacon = []byte(beacon)
		d.Report, d.Endorsements = m.Attest(t, d.Claims.ReportData())
		b, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return Input{Document: b, Static: claims.Static, Authority: "default", Reference: rv, Now: at}
	}
	for _, beacon := range []string{"fresh", "just so", "ahead"} {
		r, err := Appraise(with(beacon), p)
		if err != nil {
			t.Errorf("%s: %v", beacon, err)
			continue
		}
		last := r.Checks[len(r.Checks)-1]
		if last.Name != "freshness" || last.Status != OK || !strings.Contains(last.Got, dates[beacon].UTC().Format(time.RFC3339)) || !strings.Contains(last.Want, "log.example (w), cosigned at most 36h0m0s ago") {
			t.Errorf("%s: %+v", beacon, last)
		}
	}
	for beacon, words := range map[string]string{"": "no beacon in the key evidence", "old": "36h0m1s ago", "of tomorrow": "which is not yet", "forged": "cosigned by nobody"} {
		refused(t, "beacon "+beacon, with(beacon), p, BadFreshness, words)
	}
	// The report is about the beacon: another one, however good, does not stand beside it.
	d, err := evidence.Parse(with("old").Document)
	if err != nil {
		t.Fatal(err)
	}
	d.Claims.Beacon = []byte("fresh")
	swapped := with("old")
	if swapped.Document, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	refused(t, "a beacon put in later", swapped, p, BadReportData, "claims")
	// Session evidence is no beacon, and a beacon is no session evidence.
	refused(t, "session evidence and no beacon", withSession(t, with(""), m, 3), p, BadFreshness, "no beacon")
	if r, err := Appraise(withSession(t, with("fresh"), m, 3), p); err != nil || !r.Accepted {
		t.Errorf("both: %v", err)
	}
	wrong := withSession(t, with("fresh"), m, 3)
	wrong.Session.Nonce[0]++
	refused(t, "wrong session evidence beside a beacon", wrong, p, BadReportData, "handshake")
	p.Freshness = FreshSession
	refused(t, "a beacon where the session is wanted", with("fresh"), p, BadFreshness, "evidence about this session")
	p.Freshness = FreshNone
	if _, err := Appraise(with("forged"), p); err != nil {
		t.Errorf("a beacon that nobody asks for: %v", err)
	}
	p.Freshness = FreshKey
	for name, b := range map[string]*Beacons{"none": nil, "no log": {nil, time.Hour}, "no age": {dates, 0}} {
		p.Beacons = b
		refused(t, "policy with "+name, with("fresh"), p, PolicyEmpty, "whose checkpoints")
	}
}

// TestBegin: what the handshake alone decides is decided there, and what is left is said. Both ways of asking
// come to the same Result.
func TestBegin(t *testing.T) {
	m, p, rv := machine(t)
	in := about(t, m, rv)
	full := withSession(t, in, m, 2)
	for _, c := range []struct {
		fresh   Freshness
		wants   Wants
		session *Session
	}{{FreshNone, Wants{}, nil}, {FreshSession, Wants{Session: true}, full.Session}, {FreshSession, Wants{Session: true}, nil}, {FreshSession, Wants{Session: true}, &Session{Missing: "no time"}}} {
		p.Freshness = c.fresh
		pending, err := Begin(in, p)
		if err != nil || pending.Wants != c.wants {
			t.Fatalf("freshness %s: %v, %+v", c.fresh, err, pending)
		}
		got, gotErr := pending.Finish(c.session, nil, nil)
		once := in
		once.Session = c.session
		want, wantErr := Appraise(once, p)
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || got.Accepted != (gotErr == nil) {
			t.Errorf("freshness %s: %v, %v, %s", c.fresh, gotErr, wantErr, diff)
		}
	}
	// What signs the key evidence is looked at by Finish, whoever forgot to, and by nothing that comes before Prove.
	forged := *mustParse(t, in.Document)
	forged.Report = bytes.Clone(forged.Report)
	forged.Report[0x2a0] ^= 1
	unproved := full
	var err error
	if unproved.Document, err = forged.Marshal(); err != nil {
		t.Fatal(err)
	}
	p.Freshness = FreshSession
	for _, prove := range []bool{true, false} {
		pending, err := Open(unproved, p)
		if err != nil {
			t.Fatalf("claims: %v", err)
		}
		var e *Error
		if prove {
			if err := pending.Prove(); !errors.As(err, &e) || e.Result.Reason != BadSignature {
				t.Errorf("proved: %v", err)
			}
		}
		if r, err := pending.Finish(full.Session, nil, nil); r.Accepted || !errors.As(err, &e) || e.Result.Reason != BadSignature {
			t.Errorf("forged key evidence beside good session evidence: %+v, %v", r, err)
		}
	}
	if pending, err := Begin(unproved, p); pending != nil || err == nil {
		t.Errorf("forged: %+v, %v", pending, err)
	}
	bad := in
	bad.Static[0]++
	for name, c := range map[string]struct {
		in     Input
		p      Policy
		reason Reason
	}{"another key": {bad, p, BadKey}, "zero policy": {in, Policy{}, PolicyEmpty}} {
		pending, err := Begin(c.in, c.p)
		var e *Error
		if pending != nil || !errors.As(err, &e) || e.Result.Reason != c.reason {
			t.Errorf("%s: %+v, %v", name, pending, err)
		}
	}
	in.Session = &Session{Missing: "the enclave has no session evidence"}
	refused(t, "missing", in, p, BadFreshness, "the enclave has no session evidence, want evidence about this session")
}

func mustParse(t *testing.T, b []byte) *evidence.Document {
	t.Helper()
	d, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
