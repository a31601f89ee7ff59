package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
)

// A shape is that of a published model's tensors; speed depends on it and on nothing that training found.
type shape struct {
	Vocab, Width, Blocks, FeedForward, Heads, KVHeads int
}

// shapes by the models that have them; tiny is for trying the line.
var shapes = map[string]shape{
	"tiny":           {512, 256, 4, 704, 8, 4},
	"tinyllama-1.1b": {32000, 2048, 22, 5632, 32, 4},
	"llama-3.1-8b":   {128256, 4096, 32, 14336, 32, 8},
}

// A tensor of the file. Norms are ones in F32, everything else random in F16. The fastest dimension comes first.
type tensor struct {
	name string
	dims []int
	norm bool
}

func (t *tensor) bytes() int64 {
	n := int64(2)
	if t.norm {
		n = 4
	}
	for _, d := range t.dims {
		n *= int64(d)
	}
	return n
}

func (s shape) tensors() []tensor {
	kv := s.Width / s.Heads * s.KVHeads
	all := []tensor{{"token_embd.weight", []int{s.Width, s.Vocab}, false}}
	for i := range s.Blocks {
		p := fmt.Sprintf("blk.%d.", i)
		all = append(all,
			tensor{p + "attn_norm.weight", []int{s.Width}, true}, tensor{p + "attn_q.weight", []int{s.Width, s.Width}, false},
			tensor{p + "attn_k.weight", []int{s.Width, kv}, false}, tensor{p + "attn_v.weight", []int{s.Width, kv}, false},
			tensor{p + "attn_output.weight", []int{s.Width, s.Width}, false}, tensor{p + "ffn_norm.weight", []int{s.Width}, true},
			tensor{p + "ffn_gate.weight", []int{s.Width, s.FeedForward}, false}, tensor{p + "ffn_up.weight", []int{s.Width, s.FeedForward}, false},
			tensor{p + "ffn_down.weight", []int{s.FeedForward, s.Width}, false})
	}
	return append(all, tensor{"output_norm.weight", []int{s.Width}, true}, tensor{"output.weight", []int{s.Width, s.Vocab}, false})
}

// size is how many bytes the tensors have.
func (s shape) size() (n int64) {
	for _, t := range s.tensors() {
		n += t.bytes()
	}
	return n
}

// offloaded is how many of them llama.cpp puts on a GPU that takes all layers: the embeddings of the input stay with the processor.
func (s shape) offloaded() int64 {
	input := s.tensors()[0]
	return s.size() - input.bytes()
}

const align = 32

// writeWeights writes a GGUF file (version 3) of random weights, the same for the same shape and seed.
func writeWeights(path string, s shape, seed uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	head := s.header()
	if _, err := w.Write(head); err != nil {
		return err
	}
	if _, err := w.Write(make([]byte, pad(int64(len(head))))); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for _, t := range s.tensors() {
		if err := t.write(w, r); err != nil {
			return err
		}
	}
	return w.Flush()
}

func pad(n int64) int64 { return (align - n%align) % align }

func (t *tensor) write(w *bufio.Writer, r *rand.Rand) error {
	n := t.bytes()
	var b []byte
	if t.norm {
		for range t.dims[0] {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(1))
		}
		_, err := w.Write(append(b, make([]byte, pad(n))...))
		return err
	}
	b = make([]byte, 64<<10)
	for left := n; left > 0; {
		m := min(left, int64(len(b)))
		// Four halves of a random word: sign, mantissa and the exponent's last bit at random, the rest of it such that all have
		// a size between 1/128 and 1/32.
		for i := int64(0); i < m; i += 8 {
			binary.LittleEndian.PutUint64(b[i:i+8], r.Uint64()&0x87ff_87ff_87ff_87ff|0x2000_2000_2000_2000)
		}
		if _, err := w.Write(b[:m]); err != nil {
			return err
		}
		left -= m
	}
	_, err := w.Write(make([]byte, pad(n)))
	return err
}

// header is what stands before the data.
func (s shape) header() []byte {
	tensors, meta := s.tensors(), s.metadata()
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(meta)))
	for _, m := range meta {
		b = appendValue(appendString(b, m.key), m.value)
	}
	offset := int64(0)
	for _, t := range tensors {
		b = appendString(b, t.name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.dims)))
		for _, d := range t.dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		kind := uint32(1) // F16
		if t.norm {
			kind = 0 // F32
		}
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = binary.LittleEndian.AppendUint64(b, uint64(offset))
		offset += t.bytes() + pad(t.bytes())
	}
	return b
}

type entry struct {
	key   string
	value any
}

func (s shape) metadata() []entry {
	tokens, kinds := s.vocabulary()
	return []entry{
		{"general.architecture", "llama"}, {"general.name", "random"}, {"general.file_type", uint32(1)},
		{"llama.block_count", uint32(s.Blocks)}, {"llama.context_length", uint32(8192)}, {"llama.embedding_length", uint32(s.Width)},
		{"llama.feed_forward_length", uint32(s.FeedForward)}, {"llama.attention.head_count", uint32(s.Heads)},
		{"llama.attention.head_count_kv", uint32(s.KVHeads)}, {"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(s.Width / s.Heads)}, {"llama.rope.freq_base", float32(10000)}, {"llama.vocab_size", uint32(s.Vocab)},
		{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "gpt-2"}, {"tokenizer.ggml.tokens", tokens}, {"tokenizer.ggml.token_type", kinds},
		{"tokenizer.ggml.merges", []string{}}, {"tokenizer.ggml.bos_token_id", uint32(256)}, {"tokenizer.ggml.eos_token_id", uint32(257)},
		{"tokenizer.ggml.add_bos_token", false},
		{"tokenizer.chat_template", "{% for m in messages %}{{ m.content }}\n{% endfor %}"},
	}
}

// vocabulary is the 256 bytes as GPT-2 writes them, begin and end, and words that no text has, which all the same can be said.
func (s shape) vocabulary() (tokens []string, kinds []int32) {
	shifted := 0
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			r = rune(256 + shifted)
			shifted++
		}
		tokens, kinds = append(tokens, string(r)), append(kinds, 1)
	}
	tokens, kinds = append(tokens, "<|begin|>", "<|end|>"), append(kinds, 3, 3)
	for i := len(tokens); i < s.Vocab; i++ {
		tokens, kinds = append(tokens, fmt.Sprintf("w%d", i)), append(kinds, 1)
	}
	return tokens, kinds
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue writes the kinds of values that the metadata has, each after its number.
func appendValue(b []byte, v any) []byte {
	le := binary.LittleEndian
	switch v := v.(type) {
	case uint32:
		return le.AppendUint32(le.AppendUint32(b, 4), v)
	case float32:
		return le.AppendUint32(le.AppendUint32(b, 6), math.Float32bits(v))
	case bool:
		return append(le.AppendUint32(b, 7), map[bool]byte{true: 1}[v])
	case string:
		return appendString(le.AppendUint32(b, 8), v)
	case []string:
		b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, 9), 8), uint64(len(v)))
		for _, s := range v {
			b = appendString(b, s)
		}
	case []int32:
		b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, 9), 5), uint64(len(v)))
		for _, n := range v {
			b = le.AppendUint32(b, uint32(n))
		}
	default:
		panic(fmt.Sprintf("gguf: a value of type %T", v))
	}
	return b
}
