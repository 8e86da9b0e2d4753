// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	r := New(Key{1})
	if got := r.Object("n1"); !regexp.MustCompile(`^[a-z]+-[a-z]+-[0-9a-z]{6}$`).MatchString(got) {
		t.Errorf("a node is %q", got)
	}
	pod := r.Object("default/nginx-6d4cf56db6-x2x7z")
	if pod != r.Object("default")+"/"+r.Object("nginx-6d4cf56db6-x2x7z") {
		t.Errorf("a pod is %q", pod)
	}
	if got := r.Object(""); got != "" {
		t.Errorf("no name is %q", got)
	}
	if got := r.Process("nginx"); len(got) > 15 || got == r.Object("nginx") {
		t.Errorf("a process is %q", got)
	}
	if comm := r.comm([16]byte{'c', 'u', 'r', 'l', 0, 's', 'e', 'c'}); strings.TrimRight(string(comm[:]), "\x00") != r.Process("curl") {
		t.Errorf("a command is %q, elsewhere %q", comm, r.Process("curl"))
	}
	seen := map[string]bool{}
	for _, list := range [][]string{adjectives, nouns} {
		if len(list) != 64 {
			t.Errorf("%d words instead of 64", len(list))
		}
		for _, w := range list {
			if seen[w] || len(w) > 6 {
				t.Errorf("%q is long or occurs twice", w)
			}
			seen[w] = true
		}
	}
	if id := r.ID("0a6f"); !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("an id is %q", id)
	}
	if got := r.Symbol("nf_hook_slow"); got != "nf_hook_slow" {
		t.Errorf("a function is %q", got)
	}
	if got := r.Symbol("bpf_prog_6deef7357e7b4530_acme"); strings.Contains(got, "acme") || !strings.HasPrefix(got, "bpf_prog_") {
		t.Errorf("a program is %q", got)
	}
}

func TestDeviceNames(t *testing.T) {
	r := New(Key{1})
	for _, same := range []string{"", "lo", "eth0", "cni0", "docker0", "flannel.1", "cilium_host", "kube-ipvs0", "tunl0", "enp0s31f6", "ens5", "bond0", "vxlan.calico"} {
		if got := r.DeviceName(same); got != same {
			t.Errorf("%s became %s", same, got)
		}
	}
	for in, prefix := range map[string]string{
		"vethcentos": "veth", "veth1a2b3c4": "veth", "cali12345678901": "cali", "lxc0a1b2c3d": "lxc", "enx005056aabbcc": "dev",
		"br-6f2a1b3c4d5e": "br-", "acme-uplink": "dev", "eth0.acme": "dev", "lo\n": "dev", "vxlan-acme": "vxlan", "eni1234acme": "eni",
	} {
		got := r.DeviceName(in)
		if !strings.HasPrefix(got, prefix) || len(got) > 15 || len(got) != len(prefix)+8 {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestTexts(t *testing.T) {
	r := New(Key{1})
	addr := func(s string) string { return r.Addr(netip.MustParseAddr(s)).String() }
	prefix := func(s string) string { return r.Prefix(netip.MustParsePrefix(s)).String() }
	mac := func(s string) string { m, _ := r.macText(s); return m }
	for _, tt := range []struct{ name, got, want string }{
		{"expression", r.Filter("(host 172.23.96.23 && tcp port 80) or not net 10.1.0.0/16"), "(host " + addr("172.23.96.23") + " && tcp port 80) or not net " + prefix("10.1.0.0/16")},
		{"short net", r.Filter("net 192.168 or net 10/8"), "net " + prefix("192.168.0.0/16") + " or net " + prefix("10.0.0.0/8")},
		{"port range", r.Filter("portrange 80-90"), "portrange 80-90"},
		{"host name", r.Filter("host www.acme.example"), "host " + r.Object("www.acme.example")},
		{"link address", r.Filter("ether host 00:50:56:aa:bb:cc"), "ether host " + mac("00:50:56:aa:bb:cc")},
		{"bytes of an address", r.Filter("ip[12:4] = 0xac176017 and ip[19]=23"), "ip[N:N] = N and ip[N]=N"},
		{"bytes with names", r.Filter("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0"), "tcp[tcpflags] & (tcp-syn|tcp-fin) != N"},
		{"target", r.Filter("pod/default/centos"), "pod/" + r.Object("default/centos")},
		{"service", r.Filter("svc/nginx1:80"), "svc/" + r.Object("nginx1") + ":80"},
		{"inode", r.Filter("netns/4026532361"), "netns/" + netnsText(r, 4026532361)},
		{"end", r.Filter("172.23.96.23:80"), addr("172.23.96.23") + ":80"},
		{"port", r.Filter(":80"), ":80"},
		{"IPv6 end", r.Filter("[fd00::23]:80"), "[" + addr("fd00::23") + "]:80"},
		{"IPv6 host", r.Filter("host fd00:10::1"), "host " + addr("fd00:10::1")},
		{"sentence", r.Text("bind to 10.0.0.1:80: no such function (see 10.0.0.2)."), "bind to " + addr("10.0.0.1") + ":80: no such function (see " + addr("10.0.0.2") + ")."},
		{"sysctl", r.Sysctl("net.ipv4.conf.vethcentos.forwarding"), "net.ipv4.conf." + r.DeviceName("vethcentos") + ".forwarding"},
		{"sysctl of a VLAN", r.Sysctl("net.ipv4.conf.acme/5.forwarding"), "net.ipv4.conf." + r.DeviceName("acme.5") + ".forwarding"},
		{"sysctl of a tunnel", r.Sysctl("net.ipv4.conf.flannel/1.forwarding"), "net.ipv4.conf.flannel/1.forwarding"},
		{"sysctl of all", r.Sysctl("net.ipv4.conf.all.forwarding"), "net.ipv4.conf.all.forwarding"},
		{"sysctl without", r.Sysctl("net.ipv4.vs.conntrack"), "net.ipv4.vs.conntrack"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}

func netnsText(r *Redactor, n uint32) string { return strconv.FormatUint(uint64(r.Netns(n)), 10) }

func TestArgs(t *testing.T) {
	r := New(Key{1})
	got := r.Args([]string{
		"/opt/acme/stackhop", "record", "-w", "/tmp/acme.hop", "--for", "30s", "--ring", "4x16M", "--sample", "1/10", "-n", "prod",
		"--from=pod/prod/web", "--redact", "host 10.0.0.1", "-o", "json", "--", "curl", "http://acme.example/",
	})
	want := []string{
		"stackhop", "record", "-w", r.Object("/tmp/acme.hop"), "--for", "30s", "--ring", "4x16M", "--sample", "1/10", "-n", r.Object("prod"),
		"--from=pod/" + r.Object("prod/web"), "--redact", "-o", "json", "host " + r.Addr(netip.MustParseAddr("10.0.0.1")).String(), "--", "…",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	if s := strings.Join(got, " "); strings.Contains(s, "acme") || strings.Contains(s, "prod") {
		t.Errorf("a name is left: %s", s)
	}
}

// TestArgsNumbers: what looks like a quantity may be an address.
func TestArgsNumbers(t *testing.T) {
	r := New(Key{1})
	for _, secret := range [][]string{
		{"trace", "--with", "172.23.96.23"}, {"trace", "--with=172.23.96.23"}, {"trace", "host", "172.23.96.23"},
		{"trace", "--to", "172.23.96.23:80"}, {"trace", "net", "172.23"}, {"trace", "--all", "net", "172.23.96"},
	} {
		if got := strings.Join(r.Args(secret), " "); strings.Contains(got, "172.23") {
			t.Errorf("%v became %s", secret, got)
		}
	}
	// What names something is no quantity and no word of ours, whatever it looks like.
	for _, secret := range [][]string{
		{"trace", "--all", "-n", "4711"}, {"trace", "--all", "--namespace=4711"}, {"trace", "--all", "-n", "gateway"},
		{"trace", "--all", "--only-node", "17"}, {"trace", "--all", "--names", "proto"}, {"trace", "--with", "host"},
	} {
		_, word, has := strings.Cut(secret[len(secret)-1], "=")
		if !has {
			word = secret[len(secret)-1]
		}
		if got := r.Args(secret); strings.Contains(got[len(got)-1], word) {
			t.Errorf("%v became %v", secret, got)
		}
	}
	for text, want := range map[string]string{"net 10": "net 10", "ip[12:2] = 2561": "2561", "src 192": "192"} {
		if got := strings.Join(r.Args(append([]string{"stackhop", "trace"}, strings.Fields(text)...)), " "); strings.HasSuffix(got, want) {
			t.Errorf("%q became %q", text, got)
		}
	}
	for _, plain := range [][]string{
		{"trace", "--for", "1m30.5s"}, {"trace", "--count", "5"}, {"trace", "--count=5"}, {"record", "--max-bytes", "500MiB"},
	} {
		if got := r.Args(plain); !slices.Equal(got[1:], plain[1:]) {
			t.Errorf("%v became %v", plain, got)
		}
	}
}
