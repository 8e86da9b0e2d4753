// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

const someSymbols = `ffffffff81000000 T _stext
ffffffff81000400 t ip_rcv
ffffffff81000200 T ip_output
ffffffff81000600 D init_net
ffffffff81000700 W weak_function
0000000000000000 A fixed_percpu_data
ffffffffc0a10000 t ip_vs_in_hook	[ip_vs]
ffffffffc0b10000 t bpf_prog_6deef7357e7b4530_sh_path	[bpf]
ffffffff81000800 t name with spaces
garbage
zzzz t not_hex
ffffffff81000900 t
 t nothing

ffffffff81000a00 tt two_letters
`

func TestParseSymbols(t *testing.T) {
	s, err := parseSymbols(strings.NewReader(someSymbols))
	if err != nil {
		t.Fatal(err)
	}
	for name, module := range map[string]string{"ip_rcv": "", "ip_output": "", "weak_function": "", "ip_vs_in_hook": "ip_vs"} {
		if got, ok := s.find(name); !ok || got != module {
			t.Errorf("%s: module %q, %v; want %q", name, got, ok, module)
		}
	}
	for _, name := range []string{"init_net", "fixed_percpu_data", "bpf_prog_6deef7357e7b4530_sh_path", "not_hex", "two_letters", "", "garbage"} {
		if _, ok := s.find(name); ok {
			t.Errorf("%q was taken for a function", name)
		}
	}
}

func TestSymbolName(t *testing.T) {
	s, err := parseSymbols(strings.NewReader(someSymbols))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		addr uint64
		want string
	}{
		{0, ""},
		{0xffffffff80ffffff, ""},
		{0xffffffff81000000, "_stext"},
		{0xffffffff810001ff, "_stext"},
		{0xffffffff81000200, "ip_output"}, // the list was not in order
		{0xffffffff81000401, "ip_rcv"},
		{0xffffffffc0a10010, "ip_vs_in_hook"},
		{0xffffffffc0a11010, ""}, // of a module that was loaded later
	}
	for _, tt := range tests {
		if got := s.name(tt.addr); got != tt.want {
			t.Errorf("%#x: %q, want %q", tt.addr, got, tt.want)
		}
	}
}

// Without the right to see addresses all of them are zero.
func TestSymbolsWithoutAddresses(t *testing.T) {
	s, err := parseSymbols(strings.NewReader("0000000000000000 T ip_rcv\n0000000000000000 T ip_output\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.find("ip_rcv"); !ok {
		t.Error("known by name no more")
	}
	if got := s.name(0xffffffff81000000); got != "" {
		t.Errorf("an address is called %q", got)
	}
}

// Several static functions of one name: the last counts, and each has its address.
func TestSymbolsOfOneName(t *testing.T) {
	s, err := parseSymbols(strings.NewReader("10 t init\n20 t init\t[b]\n30 t other\t[b]\n18 t init\t[a]\n40 t last\n"))
	if err != nil {
		t.Fatal(err)
	}
	if module, ok := s.find("init"); !ok || module != "a" {
		t.Errorf("module %q, %t", module, ok)
	}
	if module, ok := s.find("last"); !ok || module != "" {
		t.Errorf("what follows a module is of %q, %t", module, ok)
	}
	for addr, want := range map[uint64]string{0x10: "init", 0x27: "init", 0x30: "other"} {
		if got := s.name(addr); got != want {
			t.Errorf("%#x: %q, want %q", addr, got, want)
		}
	}
}

// What is kept of a kernel's functions is about their names and addresses.
func TestSymbolsMemory(t *testing.T) {
	const functions, limit = 100_000, 6 << 20
	var text strings.Builder
	for i := range functions {
		fmt.Fprintf(&text, "%016x t some_function_of_the_kernel_%d\n", 0xffffffff81000000+uint64(i)*64, i)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s, err := parseSymbols(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(heap()) - int64(before)
	t.Logf("%d functions: %d KiB", functions, kept>>10)
	if kept > limit {
		t.Errorf("%d functions take %d bytes, want at most %d", functions, kept, limit)
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(&text)
}

func TestSymbolsOfThisKernel(t *testing.T) {
	s, err := readSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.find("ip_rcv"); !ok {
		t.Error("this kernel has no ip_rcv")
	}
}

func TestSymbolsLineTooLong(t *testing.T) {
	if _, err := parseSymbols(strings.NewReader(strings.Repeat("a", 1<<20))); err == nil {
		t.Error("a line of 1 MiB was accepted without a word")
	}
}

func FuzzParseSymbols(f *testing.F) {
	f.Add(someSymbols)
	f.Add("ffffffffc0a1 t ip_vs_in_hook\t[ip_vs]\n")
	f.Fuzz(func(t *testing.T, text string) {
		defer cpubound.Run(t)()
		s, err := parseSymbols(strings.NewReader(text))
		if err != nil {
			return
		}
		for i, one := range s.list {
			name := s.nameOf(&s.list[i])
			if i > 0 && s.list[i-1].addr > one.addr {
				t.Fatal("not in order")
			}
			if _, ok := s.find(name); !ok {
				t.Fatalf("%q is listed and not known", name)
			}
			if one.addr != 0 && s.name(one.addr) == "" {
				t.Fatalf("nothing at %#x", one.addr)
			}
		}
	})
}
