// Command engine is what TestOptionalKeys puts behind an enclave. Its arguments are the socket to listen on and a
// secret's file, without which it ends. It answers each chat with the SHA-256 of the secret, in hex; one that
// speaks of patience only after three silent seconds.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	secret, err := os.ReadFile(os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	ln, err := net.Listen("unix", os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"status":"ok"}`) })
	http.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if bytes.Contains(body, []byte("patience")) {
			time.Sleep(3 * time.Second)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"id": "1", "object": "chat.completion", "created": 0, "model": "none",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]string{
				"role": "assistant", "content": fmt.Sprintf("%x", sha256.Sum256(secret))}}}})
	})
	http.Serve(ln, nil)
	os.Exit(1)
}
