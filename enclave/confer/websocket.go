package confer

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/coder/websocket"
)

// DialWebSocket opens a session with the confer-proxy at url (ws: or wss:, with its token in the query: whoever ends the
// TLS learns it). client may be nil.
func DialWebSocket(ctx context.Context, url string, client *http.Client, cfg Config) (*Client, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, errors.New("confer: the WebSocket did not open") // the library's text would quote the token
	}
	ws.SetReadLimit(MaxNoiseMessage)
	return Open(ctx, WebSocket(ws), cfg)
}

// WebSocket carries messages in c, whose read limit must be MaxNoiseMessage.
func WebSocket(c *websocket.Conn) Messages { return webSocket{c} }

type webSocket struct{ c *websocket.Conn }

func (w webSocket) Read(ctx context.Context) ([]byte, error) {
	kind, b, err := w.c.Read(ctx)
	if err == nil && (kind != websocket.MessageBinary || len(b) == 0) {
		err = fmt.Errorf("a message that is not binary, or empty")
	}
	return b, err
}

func (w webSocket) Write(ctx context.Context, b []byte) error {
	return w.c.Write(ctx, websocket.MessageBinary, b)
}

func (w webSocket) Close() error { return w.c.CloseNow() }
