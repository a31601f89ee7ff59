// Package enclave serves attested sessions: it holds the Noise key, has the platform attest it, and puts
// every session that a client opens in front of an engine.
//
//	err := enclave.Serve(ctx, ln, insecure.Attester{}, enclave.Echo{}, enclave.Options{…})
//
// The wire is tally/enclave/channel/PROTOCOL.md; a request is a stream of records that ends with END, the
// answer comes back on the same stream, up to 16 exchanges at a time. Clients are tally/enclave/client.
package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/enclave/secrets"
)

// An Attester has the platform make a report.
type Attester interface {
	// Platform names the kind of evidence, such as "snp", or "insecure" for none.
	Platform() string

	// Attest returns a report that carries reportData, and what the vendor says about its signer.
	// It is called once a key, and at most once a window for all sessions that ask for evidence in it.
	Attest(ctx context.Context, reportData [64]byte) (report, endorsements []byte, err error)
}

// An Activator is an Attester whose key clients want shown to be its TPM's.
type Activator interface {
	// Activate returns what the TPM makes of a client's challenge (tpm.Challenge.Blob), at most channel.MaxCredential bytes.
	Activate(ctx context.Context, challenge []byte) ([]byte, error)
}

// An Engine answers requests. It must not keep, log or return in an error what it reads.
type Engine interface {
	// Exchange reads one request to its end and writes the answer. When ctx ends, nobody waits for the
	// answer any more: the client has gone, or the enclave shuts down. An error tells the client that the
	// answer is incomplete; its text goes nowhere.
	Exchange(ctx context.Context, request io.Reader, response io.Writer) error
}

// A PerSession is an Engine that keeps sessions apart. Serve gives each session an engine of its own, with
// a secret that no other session, and nobody outside this process, knows.
type PerSession interface {
	Engine
	Session(secret [32]byte) Engine
}

// Echo is the engine that returns each request, where inference will stand.
type Echo struct{}

// Exchange copies request to response as it comes.
func (Echo) Exchange(ctx context.Context, request io.Reader, response io.Writer) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{response}, request, make([]byte, channel.MaxData))
	return err
}

// Options are what Serve needs. Fields without a stated default must be set.
type Options struct {
	Authority string           // the service that this enclave is (evidence.CheckAuthority)
	Kinds     []channel.Kind   // handshakes accepted; empty: hybrid only
	Rand      io.Reader        // crypto/rand.Reader
	Now       func() time.Time // time.Now
	Logger    *slog.Logger     // told of starts, ends and refusals; never of what is said
	Observe   func(Event)      // told of the same, to be counted; nil: nobody is. It must not block

	MaxSessions      int           // open at a time; 0: 1000
	MaxHandshakes    int           // in progress at a time; 0: 256
	HandshakeTimeout time.Duration // 0: 10 s
	IdleTimeout      time.Duration // of a session without exchanges, and between parts of a request; 0: 5 min
	StallTimeout     time.Duration // for a client to take what it asked for; 0: 30 s
	SessionLifetime  time.Duration // 0: 24 h
	MaxRequest       int64         // bytes; 0: 8 MiB

	// Tick is the grid in time on which answers are sent, so that tokens show neither their lengths nor
	// their times; 0: 50 ms. Below 0 each write of the engine is sent at once.
	Tick time.Duration

	// Cover has a record go out at each Tick while an exchange is open, whether or not there is a token: it
	// costs a client some 5 KiB/s, and hides at which ticks tokens came. It wants a Tick.
	Cover bool

	// SessionWindow is how long a session that asks for evidence of its own waits for others to share the
	// platform's report with, its handshake included; 0: 100 ms.
	SessionWindow time.Duration

	// Beacon fetches a log's checkpoint with its witnesses' cosignatures (evidence.MaxBeacon bytes at most)
	// for a new key: clients that want freshness: key see by it that the key is no older. It comes from the
	// host, and nothing here judges it. Without one a key is made all the same, and those clients refuse it.
	// nil: keys have none.
	Beacon func(ctx context.Context) ([]byte, error)

	KeyLifetime time.Duration // after which a key takes no new session; 0: 24 h
	KeySessions int           // after so many sessions likewise; 0: 1000

	// Secrets takes what an operator sends in a session of his, before the engine sees such a request.
	// nil: such requests are the engine's, which does not understand them.
	Secrets *secrets.Taker

	GPUs        GPUs          // what the engine computes on; nil: evidence says nothing of GPUs
	GPUInterval time.Duration // between looks at them; 0: 1 h
}

// An Event is something that Serve counts. Its words are constants, whatever a peer sends.
type Event struct {
	What   What
	Reason string        // of ends, refusals and secrets: the log's word; of reports: what they were about, "key" or "session"; of Rekeyed: see there
	Kind   channel.Kind  // of SessionOpened
	Took   time.Duration // by Options.Now: NewKey, SessionOpened (its handshake), SessionEnded (all of it), reports and records
}

// A What says what has happened.
type What string

// What happens. Sessions that are open are those opened less those ended.
const (
	NewKey          What = "new key"   // serves from now on
	KeyReady        What = "key ready" // the next one, made and attested ahead
	KeyForgotten    What = "key forgotten"
	Rekeyed         What = "rekeyed"         // Reason: sent or received
	RecordSealed    What = "record sealed"   // one in 64
	RecordOpened    What = "record opened"   // one in 64
	HandshakeBegun  What = "handshake begun" // one of SessionOpened and HandshakeFailed follows
	HandshakeFailed What = "handshake failed"
	SessionOpened   What = "session opened"
	SessionEnded    What = "session ended"
	SessionRefused  What = "session refused"
	ReportMade      What = "report made" // by the platform
	ReportFailed    What = "report failed"
	BeaconFailed    What = "no beacon"           // for a new key
	EvidenceFailed  What = "no session evidence" // the platform made none for a session that asked
	GPUsVerified    What = "GPUs verified"       // for a key, or again
	GPUsRefused     What = "GPUs refused"        // GPUsLost follows where they served
	GPUsLost        What = "GPUs lost"           // all sessions end
	GPUsServe       What = "GPUs serve"          // at first, or again
	SecretsTaken    What = "secrets taken"
	SecretsRefused  What = "secrets refused"
)

func (o Options) observe(w What, reason string) { o.tell(Event{What: w, Reason: reason}) }

func (o Options) tell(e Event) {
	if o.Observe != nil {
		o.Observe(e)
	}
}

// reported tells of a report that the platform was asked for.
func (o Options) reported(about string, since time.Time, err error) {
	e := Event{What: ReportMade, Reason: about, Took: o.Now().Sub(since)}
	if err != nil {
		e.What = ReportFailed
	}
	o.tell(e)
}

// record tells of a session's records.
func (o Options) record(e channel.RecordEvent) {
	switch way := map[bool]string{true: "sent", false: "received"}[e.Sent]; {
	case e.Rekeyed:
		o.observe(Rekeyed, way)
	case e.Sent:
		o.tell(Event{What: RecordSealed, Took: e.Took})
	default:
		o.tell(Event{What: RecordOpened, Took: e.Took})
	}
}

// withDefaults checks o and fills in the defaults.
func (o Options) withDefaults() (Options, error) {
	if err := evidence.CheckAuthority(o.Authority); err != nil {
		return o, fmt.Errorf("enclave: %w", err)
	}
	if o.Rand == nil || o.Now == nil || o.Logger == nil {
		return o, errors.New("enclave: options: want Rand, Now and Logger")
	}
	setInt(&o.MaxSessions, 1000)
	setInt(&o.MaxHandshakes, 256)
	setInt(&o.KeySessions, 1000)
	setInt(&o.MaxRequest, 8<<20)
	setInt(&o.HandshakeTimeout, channel.HandshakeTimeout)
	setInt(&o.IdleTimeout, 5*time.Minute)
	setInt(&o.StallTimeout, channel.DefaultStall)
	setInt(&o.Tick, channel.DefaultTick)
	setInt(&o.SessionWindow, SessionWindow)
	setInt(&o.SessionLifetime, 24*time.Hour)
	setInt(&o.KeyLifetime, 24*time.Hour)
	setInt(&o.GPUInterval, defaultGPUInterval)
	if o.Cover && o.Tick < 0 {
		return o, errors.New("enclave: options: cover without a tick")
	}
	if o.MaxSessions < 1 || o.MaxHandshakes < 1 || o.KeySessions < 1 || o.MaxRequest < 1 || o.HandshakeTimeout < 1 || o.IdleTimeout < 1 || o.StallTimeout < 1 || o.SessionLifetime < 1 || o.KeyLifetime < time.Second || o.GPUInterval < 1 {
		return o, errors.New("enclave: options: a limit below its minimum")
	}
	return o, nil
}

func setInt[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
