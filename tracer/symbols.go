// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
)

// symbols are the kernel's functions, from /proc/kallsyms.
type symbols struct {
	addrs  []uint64 // ascending
	names  []string
	module map[string]string // function → module, "" for the kernel itself
}

// readSymbols reads the kernel's symbol table. Without the right to see
// addresses (kptr_restrict) functions are known by name only.
func readSymbols() (*symbols, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("kernel symbols: %w", err)
	}
	defer f.Close()
	return parseSymbols(f)
}

func parseSymbols(r io.Reader) (*symbols, error) {
	s := &symbols{module: make(map[string]string)}
	in := bufio.NewScanner(r)
	for in.Scan() {
		addr, kind, name, module, ok := splitSymbol(in.Text())
		if !ok || name == "" || (kind != 't' && kind != 'T' && kind != 'w' && kind != 'W') {
			continue
		}
		// BPF programs of others have symbols too; they are not the kernel's.
		if module == "bpf" {
			continue
		}
		s.module[name] = module
		if addr != 0 {
			s.addrs = append(s.addrs, addr)
			s.names = append(s.names, name)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("kernel symbols: %w", err)
	}
	if !sort.IsSorted(s) {
		sort.Sort(s)
	}
	return s, nil
}

// splitSymbol takes "ffffffffc0a1 t ip_vs_in_hook\t[ip_vs]" apart.
func splitSymbol(line string) (addr uint64, kind byte, name, module string, ok bool) {
	hex, rest, ok := strings.Cut(line, " ")
	if !ok || len(rest) < 3 || rest[1] != ' ' {
		return 0, 0, "", "", false
	}
	addr, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return 0, 0, "", "", false
	}
	name, module, _ = strings.Cut(rest[2:], "\t")
	return addr, rest[0], name, strings.Trim(module, "[]"), true
}

func (s *symbols) Len() int           { return len(s.addrs) }
func (s *symbols) Less(i, j int) bool { return s.addrs[i] < s.addrs[j] }
func (s *symbols) Swap(i, j int) {
	s.addrs[i], s.addrs[j] = s.addrs[j], s.addrs[i]
	s.names[i], s.names[j] = s.names[j], s.names[i]
}

// find says whether a function exists, and in which module.
func (s *symbols) find(name string) (module string, ok bool) {
	module, ok = s.module[name]
	return module, ok
}

// name returns the function that holds a kernel address, "" if unknown.
func (s *symbols) name(addr uint64) string {
	i := sort.Search(len(s.addrs), func(i int) bool { return s.addrs[i] > addr })
	if i == 0 {
		return ""
	}
	return s.names[i-1]
}
