// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// symbols are the kernel's functions, from /proc/kallsyms. There are some hundred
// thousand, so all names are one text.
type symbols struct {
	text    string
	list    []symbol // ascending by address; 0 where it is not to be seen
	modules []string // the first is "", the kernel itself
}

type symbol struct {
	addr         uint64
	begin        uint32 // in text
	size, module uint16
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

// There are about as many functions, and their names are about as long: growing to that
// step by step touches four times the memory.
const (
	manySymbols = 1 << 17
	longName    = 24
)

// errManySymbols says that something else than a symbol table was read.
var errManySymbols = errors.New("kernel symbols: more modules or longer names than any kernel has")

func parseSymbols(r io.Reader) (*symbols, error) {
	s := &symbols{modules: []string{""}, list: make([]symbol, 0, manySymbols)}
	var text strings.Builder
	text.Grow(manySymbols * longName)
	in := bufio.NewScanner(r)
	for in.Scan() {
		addr, kind, name, module, ok := splitSymbol(in.Bytes())
		if !ok || len(name) == 0 || (kind != 't' && kind != 'T' && kind != 'w' && kind != 'W') {
			continue
		}
		// BPF programs of others have symbols too; they are not the kernel's.
		if string(module) == "bpf" {
			continue
		}
		// The symbols of a module stand together.
		at := len(s.modules) - 1
		if len(module) == 0 {
			at = 0
		} else if s.modules[at] != string(module) {
			s.modules = append(s.modules, string(module))
			at++
		}
		if at > math.MaxUint16 || len(name) > math.MaxUint16 || text.Len() > math.MaxInt32 {
			return nil, errManySymbols
		}
		s.list = append(s.list, symbol{addr: addr, begin: uint32(text.Len()), size: uint16(len(name)), module: uint16(at)})
		text.Write(name)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("kernel symbols: %w", err)
	}
	s.text, s.list = strings.Clone(text.String()), slices.Clone(s.list) // without room to grow
	slices.SortFunc(s.list, func(a, b symbol) int { return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(a.begin, b.begin)) })
	return s, nil
}

func (s *symbols) nameOf(one *symbol) string { return s.text[one.begin:][:one.size] }

// splitSymbol takes "ffffffffc0a1 t ip_vs_in_hook\t[ip_vs]" apart.
func splitSymbol(line []byte) (addr uint64, kind byte, name, module []byte, ok bool) {
	hex, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(rest) < 3 || rest[1] != ' ' {
		return 0, 0, nil, nil, false
	}
	addr, err := strconv.ParseUint(string(hex), 16, 64)
	if err != nil {
		return 0, 0, nil, nil, false
	}
	name, module, _ = bytes.Cut(rest[2:], []byte("\t"))
	return addr, rest[0], name, bytes.Trim(module, "[]"), true
}

// find says whether a function exists, and in which module: of several with this
// name the last that the kernel lists. It looks at all of them: for the two hundred
// names of a run that takes less than to sort a hundred thousand.
func (s *symbols) find(name string) (module string, ok bool) {
	if name == "" {
		return "", false
	}
	var found *symbol
	for i := range s.list {
		one := &s.list[i]
		if int(one.size) == len(name) && s.nameOf(one) == name && (found == nil || one.begin > found.begin) {
			found = one
		}
	}
	if found == nil {
		return "", false
	}
	return s.modules[found.module], true
}

// visible says whether the kernel shows addresses.
func (s *symbols) visible() bool { return len(s.list) > 0 && s.list[len(s.list)-1].addr != 0 }

// textPage is what the kernel gives to modules at a time.
const textPage = 4096

// name returns the function that holds a kernel address, "" if unknown: what lies
// in a page behind the last function of a module may be one that came later.
func (s *symbols) name(addr uint64) string {
	after := sort.Search(len(s.list), func(i int) bool { return s.list[i].addr > addr })
	if after == 0 || s.list[after-1].addr == 0 {
		return ""
	}
	last := &s.list[after-1]
	ends := after == len(s.list) || s.list[after].module != last.module
	if last.module != 0 && ends && addr/textPage != last.addr/textPage {
		return ""
	}
	return s.nameOf(last)
}
