package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/channel/ws"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/measure"
)

// An onlooker is on the way between client and enclave: it sees when something comes back, and how much.
type onlooker struct {
	mu   sync.Mutex
	seen []arrival
}

type arrival struct {
	at    time.Time
	bytes int
}

type watched struct {
	net.Conn
	o *onlooker
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	w.o.seen = append(w.o.seen, arrival{time.Now(), n})
	return n, err
}

// between is how many bytes came in that time.
func (o *onlooker) between(from, to time.Time) (bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.seen {
		if a.at.After(from) && a.at.Before(to) {
			bytes += a.bytes
		}
	}
	return bytes
}

// client speaks to the enclave's engine past the onlooker. What the enclave proves is looked at by others.
func (o *onlooker) client(port int) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return watched{c, o}, err
	}
	d := ws.Dialer{Scheme: "ws", Path: "/tally", Client: &http.Client{Transport: &http.Transport{DialContext: dial}}}
	open := func(ctx context.Context) (*client.Session, error) {
		return client.Dial(ctx, d, fmt.Sprintf("127.0.0.1:%d", port), client.Config{Authority: "default", Policy: appraise.Policy{Platforms: []string{"insecure"}},
			Reference: &measure.ReferenceValues{Values: []measure.Value{{}}}, Rand: rand.Reader, Now: time.Now, Timeout: 2 * time.Minute})
	}
	return &http.Client{Transport: &client.Transport{Open: open, Now: time.Now}}
}

// ask has a chat of one message.
func ask(ctx context.Context, c *http.Client, message string) (status int, answer string, err error) {
	return post(ctx, c, infer.PathChat, fmt.Sprintf(`{"messages":[{"role":"user","content":%q}]}`, message), nil)
}

// post asks with a body of JSON, whether or not it is some.
func post(ctx context.Context, c *http.Client, path, body string, header http.Header) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://enclave"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// covered: while the engine thinks for three seconds and says nothing, the wire is as busy as if it spoke; and it is silent when
// nothing is asked.
func (o *onlooker) covered(t *testing.T, talk *http.Client) {
	t.Helper()
	quiet := time.Now()
	time.Sleep(time.Second)
	asked := time.Now()
	if n := o.between(quiet, asked); n > 0 {
		t.Errorf("%d bytes came in a second in which nothing was asked", n)
	}
	if code, answer, err := ask(t.Context(), talk, "patience"); code != http.StatusOK {
		t.Errorf("%d, %s, %v", code, answer, err)
	}
	silence := asked.Add(3 * time.Second)
	if now := time.Now(); now.Before(silence) {
		t.Fatalf("an answer after %v", now.Sub(asked))
	}
	const parts = 4 // of the silence, each with cover: the grid has 60 ticks there
	n, least := o.between(asked, silence), 1<<30
	for i := range parts {
		least = min(least, o.between(asked.Add(time.Duration(i)*3*time.Second/parts), asked.Add(time.Duration(i+1)*3*time.Second/parts)))
	}
	t.Logf("%d bytes of cover in 3 s in which the engine said nothing, at least %d in each quarter", n, least)
	if least < 2*256 { // two records, of the shortest that there are
		t.Errorf("%d bytes came in a quarter of the time in which the engine said nothing, of %d in all", least, n)
	}
}
