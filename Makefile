# SPDX-License-Identifier: Apache-2.0

KERNEL  ?= 6.12
KERNELS ?= 5.10 6.1 6.12 6.18 7
# All of them take half an hour more, see test-verdicts.
VERDICT_KERNELS ?= 7
BENCH_KERNELS   ?= 6.12 7 5.10
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

# Where tests and checks put what they make.
SCRATCH := .cache/scratch
RESULTS ?= $(wildcard $(SCRATCH)/stages.*.json)
FUZZ    ?= 5s
LONG_FUZZ ?= 30m
# How often test-repeat runs the unit tests and the lab's, by itself and in test-long.
REPEAT     ?= 50
REPEAT_LAB ?= 3
LONG_REPEAT     ?= 10
LONG_REPEAT_LAB ?= 1
# FOLDER:TARGET of every fuzz test there is.
FUZZ_TARGETS = $(shell grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sed -E 's,/[^/]*_test.go:func ,:,')

GOFLAGS_STATIC = -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)"

.DEFAULT_GOAL := help
.PHONY: help build generate check-generate lint cross fuzz fmt test test-long test-repeat trust test-unit test-native setup lab lab-kernels lab-check test-lab test-verdicts test-kube demo captures bench bench-quick bench-go bench-growth bench-targets bench-all clean bin/stackhop bin/lab
$(shell mkdir -p $(SCRATCH))

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/stackhop ## The tool, as one static binary

# Go knows what has to be built again.
bin/stackhop:
	CGO_ENABLED=0 go build $(GOFLAGS_STATIC) -o $@ ./cmd/stackhop

bin/lab:
	CGO_ENABLED=0 go build -trimpath -o $@ ./scripts/lab

generate: ## Compile the BPF programs (clang-19, libbpf-dev)
	go generate ./bpf

check-generate: ## Is the committed BPF object what the sources give?
	@cp bpf/stackhop_bpfel.o bpf/stackhop_bpfel.go $(SCRATCH)/ && go generate ./bpf && \
	if cmp -s bpf/stackhop_bpfel.o $(SCRATCH)/stackhop_bpfel.o && cmp -s bpf/stackhop_bpfel.go $(SCRATCH)/stackhop_bpfel.go; then \
		echo "the BPF object is what the sources give"; \
	else \
		echo "bpf/stackhop_bpfel.o or .go is not what the sources give: it has been made anew, commit it" >&2; exit 1; \
	fi

lint: ## gofmt, go vet
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	go vet ./...
	go vet -tags lab ./...
	go vet -tags kube ./...

cross: ## Build for every system that is supported
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -o $(SCRATCH)/ ./cmd/stackhop
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build -o $(SCRATCH)/ ./cmd/stackhop
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -o $(SCRATCH)/ ./cmd/stackhop

fuzz: ## Each fuzz target for a while (FUZZ=5s)
	@scripts/fuzz $(FUZZ) $(FUZZ_TARGETS)

test: setup ## Everything: unit, native (root), fuzzing, a real API server, five kernels in the lab
	@rm -f $(SCRATCH)/stages*; export STAGES=$(SCRATCH)/stages; ok=0; \
	scripts/stage generate $(MAKE) -s check-generate || ok=1; \
	scripts/stage lint $(MAKE) -s lint || ok=1; \
	scripts/stage unit go test -json -race -timeout 20m -skip '^TestNativeChurn' ./... || ok=1; \
	scripts/stage churn go test -json -timeout 15m -run '^Test(NativeChurn|Cut$$)' ./tracer ./events/record || ok=1; \
	scripts/stage cross $(MAKE) -s cross || ok=1; \
	scripts/stage fuzz $(MAKE) -s fuzz || ok=1; \
	scripts/stage kube go test -json -tags kube -count=1 -timeout 20m ./scripts/kubetest || ok=1; \
	scripts/kube/build kube-proxy >/dev/null && scripts/runtime >/dev/null || ok=1; \
	scripts/stage lab go test -json -tags lab -count=1 -timeout 75m -parallel 32 ./scripts/labtest -spread -newest $(VERDICT_KERNELS) || ok=1; \
	scripts/stage --sum && exit $$ok

# No test may pass by chance: one that fails once in so many times ends it.
test-repeat: setup ## The unit tests 50 times and the lab's three times (REPEAT=50 REPEAT_LAB=3 KERNELS='5.10 7')
	go test -count=$(REPEAT) -timeout 12h -failfast -skip '^TestNative' ./...
	for i in $$(seq $(REPEAT_LAB)); do \
		go test -tags lab -count=1 -timeout 120m -parallel 32 -skip '^Test(Verdicts|Healthy|VXLAN|Nested)' ./scripts/labtest -limit 2700 -kernels $$(echo $(KERNELS) | tr ' ' ,) || exit 1; \
	done

# RESULTS may be any files that go test -json wrote.
trust: ## What must hold, and what the tests of the last make test came to: scripts/TRUST.md, printed
	@go run ./scripts/trust $(RESULTS)

# Losses of all kernels' captures, ten million events, 200 starts,
# half and twice the capacity, bulk data, every fuzz target for half an hour.
test-long: setup bin/stackhop bin/lab ## What takes hours: all losses of all captures, a long flood, 200 starts, ten minutes of overload, repeats, fuzzing (LONG_FUZZ=30m)
	@ok=0; \
	STACKHOP_LONG=1 go test -timeout 60m -v -run 'TestEachLoss|TestManyLosses' ./events || ok=1; \
	go test -timeout 60m -v -run '^TestNativeFlood' ./tracer -flood 10000000 || ok=1; \
	go test -timeout 60m -run '^TestNativeCycles' ./tracer -cycles 200 || ok=1; \
	bin/lab growth -only load,memory -time 10m $(SCRATCH)/growth || ok=1; \
	bin/lab bench -pair -loads bulk -ways nothing,everything -dir $(SCRATCH) >/dev/null || ok=1; \
	bin/lab targets -must 'events lost at half;memory;bulk' $(SCRATCH) || ok=1; \
	$(MAKE) -s test-repeat REPEAT=$(LONG_REPEAT) REPEAT_LAB=$(LONG_REPEAT_LAB) || ok=1; \
	$(MAKE) -s fuzz FUZZ=$(LONG_FUZZ) || ok=1; \
	exit $$ok

test-unit: ## What needs no root, with the race detector
	go test -race -skip '^TestNative' ./...

test-native: ## What traces real packets in this kernel (root)
	go test -timeout 15m -run '^TestNative' ./tracer ./cmd/stackhop

fmt: ## Format the Go sources
	gofmt -w bpf cmd events internal kube scripts tracer

setup: ## Install what building and testing need (Debian 12, root)
	scripts/setup

lab: bin/lab ## A shell in the reference cluster, in a virtual machine (KERNEL=6.12)
	scripts/vm shell -k $(KERNEL)

demo: setup bin/stackhop bin/lab ## The ten cases, expected against seen (KERNEL=6.12; HERE=1: in this kernel)
ifdef HERE
	scripts/here
else
	@echo "booting Linux $(KERNEL) under emulation; the cases take about half a minute" >&2
	scripts/vm run -k $(KERNEL) -t 600 -f bin/lab -f bin/stackhop -- sh -c 'lab up && lab serve -detach && lab verify'
endif

test-lab: ## The lab's checks alone, on all kernels
	go test -tags lab -count=1 -timeout 120m -parallel 32 -v -skip '^Test(Verdicts|Healthy|VXLAN|Nested)' ./scripts/labtest -limit 2700

test-verdicts: ## Every failure, on all kernels: the matrix of findings; healthy traffic, which has none; tunnels
	go test -tags lab -count=1 -timeout 90m -parallel 32 -v ./scripts/labtest -run 'Test(Verdicts|Healthy|VXLAN|Nested)' -matrix $(CURDIR)/testdata/kernels/verdicts.md

test-kube: ## The tests with a real API server and etcd
	go test -tags kube -count=1 -timeout 20m -v ./scripts/kubetest

lab-check: bin/stackhop bin/lab ## The lab's checks on one kernel (KERNEL=6.12, CHECKS="cases churn")
	scripts/vm run -k $(KERNEL) -t 1800 -f bin/lab -f bin/stackhop -- sh -c 'lab up && lab check $(CHECKS)'

captures: bin/stackhop bin/lab ## Record the cases' events on all kernels, for the tests of stitching
	scripts/captures $(KERNELS)
	go test ./events -run TestCaptures -update-stitch

bench: bin/stackhop bin/lab ## What the tool costs, beside bpftrace: in this kernel (root) and the lab's (BENCH_KERNELS, PEER='cmd …')
	scripts/bench $(BENCH_KERNELS)

bench-quick: bin/stackhop bin/lab ## Request rate in the lab: untraced, nothing selected, everything selected
	scripts/vm run -k $(KERNEL) -t 900 -f bin/lab -f bin/stackhop -- sh -c 'lab up && lab bench -loads request -ways nothing,everything'

bench-go: SHELL := /bin/bash
bench-go: ## Decoding, stitching, rendering, writing, reading, merging, reporting, for benchstat
	@set -o pipefail; go test -run '^$$' -bench . -benchmem -count 6 ./tracer ./events ./events/record ./events/merge ./events/report ./cmd/stackhop | tee $(SCRATCH)/bench-go.txt

bench-growth: bin/stackhop bin/lab ## Plots: cost against traffic, flows, devices and time, in this kernel (root; GROWTH_FLAGS="-time 10m")
	bin/lab growth $(GROWTH_FLAGS) $(SCRATCH)/growth

bench-targets: bin/lab ## Each bound beside what bench, bench-growth and bench-go have left
	@bin/lab targets $(SCRATCH)

bench-all: bench bench-growth bench-go bench-targets ## All of these, for a night: ends with the table of targets

lab-kernels: ## Fetch the lab's kernels
	scripts/kernels $(KERNELS)

clean: ## Remove what was built; the lab's cache stays
	rm -rf bin
