# Two commands for a newcomer: make demo, make test. Both set up what they need.
#
# GOTOOLCHAIN is go.mod's exact release, whatever the caller's environment says: the go command
# fetches and verifies it through the module proxy when another release is installed.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)
export GOFLAGS := -buildvcs=false
export CGO_ENABLED := 0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo devel)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
TALLY := bin/tally

.PHONY: all build setup demo test bench gpu image-gpu fuzz man fmt clean

all: build

build:
	@mkdir -p bin
	go build -trimpath -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/ ./cmd/tally ./cmd/tally-keyless

# Debian packages that the demo, the tests and the benchmarks use as oracles and to boot.
setup:
	@scripts/setup

demo: setup build
	@scripts/demo

# Everything: formatting, vet, every test. In CI a missing tool is a failure.
test: setup
	@scripts/test

bench: setup build
	@scripts/bench

# The image of examples/gpu, twice; its record in docs/gpu-image.md. Half an hour, and too large for `make test`.
image-gpu: setup build
	@scripts/image-gpu

# Each fuzz target for FUZZTIME; the corpora under testdata run in every `make test`.
FUZZTIME ?= 20s
fuzz:
	@scripts/fuzz $(FUZZTIME)

# A GPU, where there is one: llama.cpp from carried source, generated weights, the channel's cost. Without one it says so.
gpu:
	@scripts/gpu

man: build
	@$(TALLY) man man

fmt:
	"$$(go env GOROOT)/bin/gofmt" -l -w .

clean:
	rm -rf bin man out
