# SPDX-License-Identifier: Apache-2.0

KERNEL  ?= 6.12
KERNELS ?= 5.10 6.1 6.12 6.18 7
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

GOFLAGS_STATIC = -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)"

.DEFAULT_GOAL := help
.PHONY: help build generate check-generate fmt lint lab lab-kernels lab-check clean bin/stackhop bin/lab

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

lab: bin/lab ## A shell in the reference cluster, in a virtual machine (KERNEL=6.12)
	scripts/vm shell -k $(KERNEL)

lab-kernels: ## Fetch the lab's kernels
	scripts/kernels $(KERNELS)

clean: ## Remove what was built; the lab's cache stays
	rm -rf bin
