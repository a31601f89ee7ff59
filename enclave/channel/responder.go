package channel

import (
	"crypto/mlkem"
	"errors"
	"fmt"

	"github.com/flynn/noise"
)

// server is the server's side of every handshake.
func (h *half) server(id *Identity) error {
	if id.Static == nil || len(id.Payload) > DefaultMaxPayload {
		return errors.New("channel: no static key, or too much evidence")
	}
	head, wire, msg, err := h.readHello()
	if err != nil {
		return err
	}
	if head.kind.reconnects() {
		ended, err := h.answerReconnect(id, head.kind, wire, msg)
		if ended || err != nil {
			return err
		}
		if head, wire, msg, err = h.readHello(); err != nil {
			return err
		}
		if head.kind.reconnects() {
			return h.refuse(RefusedKind, errors.New("channel: a second reconnect on one connection"))
		}
	}
	if err := h.start(head.kind, id.Static, wire, noise.Config{}); err != nil {
		return err
	}
	ek, _, _, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 1)", ErrDecrypt)
	}
	if err := h.reply(ek, id.Payload); err != nil {
		return err
	}
	return h.readLast()
}

// readHello reads a client's first frame, and splits it into its header, that as it stood on the wire, and
// what follows.
func (h *half) readHello() (head header, wire, msg []byte, err error) {
	frame, err := readFrame(h.in, nil, MaxHello)
	if err != nil {
		return head, nil, nil, err
	}
	head, size, err := parseHeader(frame)
	if err != nil {
		return head, nil, nil, h.refuse(RefusedHeader, err)
	}
	if have := carrierOf(h.conn); head.carrier != have {
		return head, nil, nil, h.refuse(RefusedHeader, fmt.Errorf("channel: carrier %d, came by %d", head.carrier, have))
	}
	if code := h.cfg.judge(&head); code != 0 {
		return head, nil, nil, h.refuse(code, fmt.Errorf("channel: refused a client: %v", code))
	}
	return head, frame[:size:size], frame[size:], nil
}

// readLast reads message 3 of XX and XXpsk3, message 2 of XXfallback: the client's word that it accepts.
func (h *half) readLast() error {
	msg, err := readFrame(h.in, nil, MaxHello)
	if err != nil {
		return err
	}
	rest, first, second, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 3)", ErrDecrypt)
	}
	if len(rest) != 0 {
		return errors.New("channel: message 3 has a payload")
	}
	h.split(h.isClient, first, second)
	h.peer.Static = PublicKey(h.hs.PeerStatic())
	return nil
}

// reply writes message 2. ek is the payload of message 1.
func (h *half) reply(ek, payload []byte) error {
	want := 0
	var ct []byte
	if h.peer.Kind == Hybrid {
		want = mlkem.EncapsulationKeySize768
	}
	if len(ek) != want {
		return fmt.Errorf("channel: message 1 has a payload of %d bytes, want %d", len(ek), want)
	}
	if h.peer.Kind == Hybrid {
		key, err := mlkem.NewEncapsulationKey768(ek)
		if err != nil {
			return fmt.Errorf("channel: ML-KEM key: %w", err)
		}
		var psk []byte
		psk, ct = key.Encapsulate()
		if err := h.hs.SetPresharedKey(psk); err != nil {
			return err
		}
	}
	return h.write([]byte{h.peer.Kind.reply()}, append(ct, payload...))
}

// refuse tells the client why in one byte and ends with err. Only what stood in clear in message 1 is
// ever answered: a refusal is no oracle about keys.
func (h *half) refuse(code Refusal, err error) error {
	_ = h.tell(code) // a courtesy: err is what counts
	return err
}

func (h *half) tell(code Refusal) error { return writeFrame(h.conn, []byte{0, 0, refusal, byte(code)}) }
