package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"tally/internal/cli"
)

func chatCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "chat", Usage: "chat with the model in an attested enclave", ArgsUsage: "TARGET",
		Flags: sessionFlags(
			&cli.StringFlag{Name: "message", Usage: "say `TEXT`, print the answer and end; without it lines are read from the terminal"},
			&cli.StringFlag{Name: "system", Usage: "`TEXT` of the system message"},
			&cli.StringFlag{Name: "model", Usage: "`NAME` of the model, for engines that serve several"},
			&cli.Int64Flag{Name: "max-tokens", Usage: "`N` tokens of an answer at most; 0: the enclave's limit"}),
		Description: "The release is verified and the enclave appraised as by 'tally connect'. What was checked is shown on stderr before anything is sent.\n" +
			"Then each line of stdin is a message and each answer is printed as it comes; /quit, the end of stdin or Ctrl-C ends the chat and closes the\n" +
			"session. Control characters of a model's answer are left out. With --message the answer is printed once it is whole: an answer that breaks\n" +
			"off is exit 1 and no output.\n" + sessionReasons +
			"--json wants --message and prints tally.chat/v1: connection (tally.connection/v1), reply, finish_reason.\n\n" +
			"   tally chat enclave.example:8443 --policy policy.yaml --bundle llama.sigstore.json",
		Action: func(c *cli.Context) error { return chat(c, e) },
	}
}

// A chatAnswer is tally.chat/v1.
type chatAnswer struct {
	Schema     string         `json:"schema"`
	Connection *connectAnswer `json:"connection"`
	Reply      string         `json:"reply"`
	Finish     string         `json:"finish_reason"`
}

func chat(c *cli.Context, e *env) error {
	if e.json && !c.IsSet("message") {
		return usagef("--json wants --message TEXT")
	}
	if c.Int64("max-tokens") < 0 {
		return usagef("--max-tokens %d: want 0 or more", c.Int64("max-tokens"))
	}
	a, err := newAttested(c, e)
	if err != nil {
		return err
	}
	s, answer, err := a.first(c.Context)
	if err != nil {
		return err
	}
	if err := showChecks(e, answer); err != nil {
		return err
	}
	t := a.transport(s)
	defer t.CloseIdleConnections()
	talk := &conversation{http: &http.Client{Transport: t}, model: c.String("model"), max: c.Int64("max-tokens")}
	if c.IsSet("system") {
		talk.say("system", c.String("system"))
	}
	if c.IsSet("message") {
		return chatOnce(c, e, talk, answer)
	}
	return chatLines(c.Context, e, talk, answer.Note)
}

// showChecks puts the checks on stderr: the answer is the model's.
func showChecks(e *env, a *connectAnswer) error {
	if e.quiet {
		return nil
	}
	talk := *e
	talk.out, talk.json = new(bytes.Buffer), false
	if err := printConnection(&talk, a); err != nil {
		return err
	}
	_, err := talk.out.WriteTo(e.stderr)
	return err
}

// chatOnce asks one thing.
func chatOnce(c *cli.Context, e *env, talk *conversation, answer *connectAnswer) error {
	var reply strings.Builder
	finish, err := talk.ask(c.Context, c.String("message"), &reply)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(chatAnswer{"tally.chat/v1", answer, reply.String(), finish})
	}
	w := &answerWriter{w: e.out, note: answer.Note}
	if _, err := io.WriteString(w, reply.String()); err != nil {
		return err
	}
	return w.end()
}

// chatLines asks line by line and prints as it comes.
func chatLines(ctx context.Context, e *env, talk *conversation, note string) error {
	in := bufio.NewScanner(e.stdin)
	in.Buffer(nil, 1<<20)
	for {
		if terminal(e.stdin) {
			fmt.Fprint(e.stderr, "> ")
		}
		line, err := nextLine(ctx, in)
		if errors.Is(err, io.EOF) || line == "/quit" {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		w := &answerWriter{w: e.stdout, note: note}
		_, err = talk.ask(ctx, line, w)
		if werr := w.end(); werr != nil {
			return werr
		}
		if err != nil {
			return err // what was printed is no whole answer, and the exit code says so
		}
	}
}

// nextLine reads one line, or returns when ctx ends: a terminal may stay silent for ever.
func nextLine(ctx context.Context, in *bufio.Scanner) (string, error) {
	type read struct {
		line string
		err  error
	}
	got := make(chan read, 1)
	go func() {
		if in.Scan() {
			got <- read{in.Text(), nil}
		} else if err := in.Err(); err != nil {
			got <- read{"", fmt.Errorf("stdin: %w", err)}
		} else {
			got <- read{"", io.EOF}
		}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func terminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
