// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"strings"
	"testing"
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
		s, err := parseSymbols(strings.NewReader(text))
		if err != nil {
			return
		}
		for i, addr := range s.addrs {
			if i > 0 && s.addrs[i-1] > addr {
				t.Fatal("not in order")
			}
			if _, ok := s.find(s.names[i]); !ok {
				t.Fatalf("%q has an address and is not known", s.names[i])
			}
			if s.name(addr) == "" && s.names[i] != "" {
				t.Fatalf("nothing at %#x", addr)
			}
		}
	})
}
