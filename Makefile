# Everything that is fetched or built for development goes to .cache/ and bin/.

GO            ?= go
GOLANGCI_LINT := v2.15.0
FUZZTIME      ?= 10s
BENCHTIME     ?= 1s
SEEDS         ?= 1000
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# As in internal/embedded/library.go, which a test holds it to.
CHDB_VERSION  := 26.7.3-stable.1
CHDB := .cache/chdb/$(CHDB_VERSION)/libchdb.so

# As go run ./bench -list has them, but isolation.
BENCHES := one hundred fanout sink latency latency-kafka memory million wide backlog matching retries parked scaling replay

LINT := .cache/bin/golangci-lint-$(GOLANGCI_LINT)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/posthorn
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/posthorn ./cmd/posthorn

.PHONY: demo
demo: build chdb ## See the line at work; DEMO_EXIT=1 ends it after the demo, with failure if anything was lost
	@env -u DEMO_EXIT bin/posthorn dev --demo $(if $(filter-out 0 false,$(DEMO_EXIT)),--demo-exit)

.PHONY: test
test: unit line ledger conformance-api simulation integration ## Run all tests: unit, the line, the ledger, the API from its document, simulation, and those against Apache Kafka (where Java 17+ and Maven are)

# The tag synctests has kgo's locks wait in virtual time too: without it a test
# in which a commit waits for a rebalance would stand still.
.PHONY: unit
unit: build chdb receivers ## Run the unit tests, all but the lanes' (which know no goroutines) under the race detector
	$(GO) test -race -tags synctests $$($(GO) list ./... | grep -vE '/internal/app$$|/analytics/|/dispatcher/lanes$$')
	$(GO) test -tags synctests ./dispatcher/lanes

# A promise's test is one endpoint's story over minutes of virtual time, most of it
# the bookkeeping of an idle line, for which the race detector takes six times as long.
PROMISES := ^Test(Bunship|Bunjang|BigCommerce)_

.PHONY: line
line: chdb receivers ## Run the whole line's tests, all but the platforms' promises under the race detector
	$(GO) test -tags synctests -run '$(PROMISES)' ./internal/app
	$(GO) test -race -tags synctests -skip '$(PROMISES)' -timeout 20m ./internal/app

.PHONY: conformance
conformance: chdb ## Run the test of every promise of the reference platforms, and print a line for each
	@GO='$(GO)' scripts/conformance.sh

.PHONY: ledger
ledger: chdb ## Run the ledger's tests against the embedded ClickHouse and, where it is installed, clickhouse-server
	$(GO) test -race ./analytics/...

.PHONY: simulation
simulation: ## Run SEEDS (1000) seeds of faults in virtual time (a failing one prints how to replay it), and the largest fan-outs
	POSTHORN_SIM_SEEDS=$(SEEDS) $(GO) test -tags synctests -count 1 -timeout 20m \
		-run 'TestNoFaultLosesOrRepeatsADelivery|TestTheSimulationSeesRepeats' ./internal/app
	POSTHORN_FANOUT_FULL=1 $(GO) test -tags synctests -count 1 -timeout 15m \
		-run 'TestAPollThatFansOutToAMillion|TestAFanOutIsDelivered' ./internal/app

.PHONY: integration
integration: chdb ## Run the tests against Apache Kafka; POSTHORN_REQUIRE_KAFKA=1 fails where they can't run
	@GO='$(GO)' scripts/integration.sh

.PHONY: lint
lint: $(LINT) ## Check form, vet, and the linters of .golangci.yml
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, make fmt does it:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags integration ./...
	$(LINT) run --timeout 15m

.PHONY: fmt
fmt: $(LINT) ## Format the code
	$(LINT) fmt

.PHONY: chdb
chdb: $(CHDB) ## Fetch libchdb, the ClickHouse of development and tests (with npm; does nothing without)

$(CHDB):
	@scripts/chdb.sh $@ $(CHDB_VERSION)

.PHONY: conformance-api
conformance-api: chdb ## Lint the OpenAPI document and have schemathesis drive the API from it, EXAMPLES (6) requests an operation and key (with npm and Python; does nothing without)
	@GO='$(GO)' scripts/api.sh .cache/api

.PHONY: receivers
receivers: ## Fetch the published libraries for receivers that tests run (with npm and pip; does nothing without)
	@scripts/receivers.sh .cache/receivers

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' scripts/fuzz.sh

.PHONY: bench
bench: build chdb ## Measure everything, see docs/performance.md; RUNS=1 is quicker
	$(GO) run ./bench $(if $(RUNS),-runs $(RUNS))

.PHONY: bench-isolation
bench-isolation: build ## Measure healthy endpoints beside sick ones, 180 s for each kind
	$(GO) run ./bench -long isolation

# One row of make bench: bench-one, bench-hundred, bench-fanout, …
.PHONY: $(BENCHES:%=bench-%)
$(BENCHES:%=bench-%): bench-%: build chdb
	$(GO) run ./bench $(if $(RUNS),-runs $(RUNS)) $*

.PHONY: bench-go
bench-go: ## Run the Go benchmarks, each for BENCHTIME (1s)
	$(GO) test -run '^$$' -bench . -benchmem -benchtime '$(BENCHTIME)' ./...

.PHONY: bench-ledger
bench-ledger: chdb ## Measure the ledger: inserts, a backlog of a million, parts of an hour, questions of ten million attempts
	POSTHORN_BENCH_LEDGER=1 $(GO) test -run '^$$' -bench 'InsertAttempts|BacklogOf' -benchtime 3x -timeout 20m ./analytics/sink
	POSTHORN_BENCH_LEDGER=1 $(GO) test -run '^$$' -bench 'PartsOfAnHour' -benchtime 1x -timeout 20m ./analytics/sink
	POSTHORN_BENCH_LEDGER=1 $(GO) test -run '^$$' -bench 'QuestionsOf' -benchtime 10x -timeout 20m ./analytics/ledger

.PHONY: clean
clean: ## Remove what was built; .cache/ stays
	rm -rf bin

$(LINT):
	@mkdir -p $(@D)
	GOBIN='$(CURDIR)/.cache/bin' $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv .cache/bin/golangci-lint $@
