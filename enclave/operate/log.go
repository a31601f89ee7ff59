package operate

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// LogKeys are the keys that a log line of the enclave may have.
var LogKeys = []string{"authority", "cgroup", "devices", "ends", "epoch", "hostname", "level", "locked", "not in this kernel", "platform", "reason", "starts again in", "status", "uid"}

// maxText is how much of a message or value is logged, in bytes.
const maxText = 400

// Handler passes on to next what LogKeys allow: other attributes and all groups are left out, and text is
// cut at maxText and freed of control characters.
func Handler(next slog.Handler) slog.Handler { return handler{next} }

type handler struct{ next slog.Handler }

func (h handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, plain(r.Message), 0)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(allowed([]slog.Attr{a})...)
		return true
	})
	return h.next.Handle(ctx, out)
}

func (h handler) WithAttrs(all []slog.Attr) slog.Handler {
	return handler{h.next.WithAttrs(allowed(all))}
}

// WithGroup drops the group's name, not its lines: their keys still have to be known ones.
func (h handler) WithGroup(string) slog.Handler { return h }

func allowed(all []slog.Attr) (out []slog.Attr) {
	for _, a := range all {
		if !slices.Contains(LogKeys, a.Key) {
			continue
		}
		switch v := a.Value.Resolve(); v.Kind() {
		case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration:
			out = append(out, a)
		case slog.KindGroup:
		default: // errors and lists as their text
			out = append(out, slog.String(a.Key, plain(v.String())))
		}
	}
	return out
}

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s[:min(len(s), maxText)])
}
