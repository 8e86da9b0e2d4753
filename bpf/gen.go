// SPDX-License-Identifier: Apache-2.0

package bpf

// One little-endian object serves amd64 and arm64: arguments are fetched by
// instructions that package tracer generates for the machine it runs on.
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types -cflags "-O2 -Wall -Werror -mcpu=v3" stackhop stackhop.bpf.c
