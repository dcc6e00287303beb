# `make demo` builds a hardened nginx image from the machine's own signed
# archives; `make test` passes the tests. Each sets up what it needs.
GO      ?= go
BIN     := bin/kiln
OUT     := out/demo
STATE   := $(OUT)/state
PASS    := $(OUT)/passphrase

export CGO_ENABLED ?= 0

.PHONY: all demo test e2e bench lint reference clean $(BIN)

all: $(BIN)

$(BIN):
	$(GO) build -trimpath -o $(BIN) ./cmd/kiln

demo:
	hack/setup.sh build
	$(MAKE) --no-print-directory $(BIN)
	hack/demo.sh $(BIN) $(OUT) $(STATE) $(PASS)

test: lint
	hack/setup.sh test
	CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...

lint:
	hack/lint.sh

# The parts of docs/reference that are generated from the source and the catalogue.
reference:
	$(GO) test ./catalogue -run Reference -update
	$(GO) test ./internal/line/harden -run Reference -update
	$(GO) test ./internal/line/recipe -run Schema -update

e2e: $(BIN)
	hack/setup.sh e2e
	CGO_ENABLED=0 $(GO) test -tags e2e -timeout 60m -count 1 -v ./e2e/...
	CGO_ENABLED=0 KILN_HOSTILE_USERS=1000000 $(GO) test -timeout 20m -count 1 -run TestHostileSizes ./internal/line/harden

bench: $(BIN)
	hack/setup.sh e2e
	hack/bench.sh $(BIN)

clean:
	rm -rf bin out
