// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// table is a filter table with these lines behind its built-in chains.
func table(lines ...string) string {
	return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
}

// TestWays: jumps, returns, gotos, marks and what is not decided.
func TestWays(t *testing.T) {
	const packet = "FORWARD tcp 10.0.0.9:4000>10.0.0.1:80"
	for _, tt := range []struct{ name, rules, packet, want string }{
		{"two that may", "-A FORWARD -m limit --limit 1/s -j DROP\n-A FORWARD -p tcp -j DROP", packet, "iptables ip filter FORWARD ?1 (undecided: -m limit)"},
		{"an accept that may be", "-A FORWARD -m limit --limit 1/s -j ACCEPT\n-A FORWARD -p tcp -j DROP", packet, "iptables ip filter FORWARD"},
		{"a return that may be", ":A - [0:0]\n-A FORWARD -j A\n-A A -m recent --rcheck --name x -j RETURN\n-A A -j DROP", packet, "iptables ip filter A ?0 (undecided: -m recent)"},
		{"returned", ":A - [0:0]\n-A FORWARD -j A\n-A A -p tcp -j RETURN\n-A A -j DROP", packet, "none"},
		{"goto does not come back", ":A - [0:0]\n-A FORWARD -g A\n-A FORWARD -j DROP\n-A A -p udp -j DROP", packet, "none"},
		{"goto in a jump", ":A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -g B\n-A A -j ACCEPT\n-A B -p udp -j DROP", packet, "iptables ip filter FORWARD"},
		{"other source", "-A FORWARD -s 10.0.0.8/32 -p tcp -m tcp --dport 80 -j DROP", packet, "none"},
		{"not this source", "-A FORWARD ! -s 10.0.0.8/32 -p tcp -m tcp --dport 80 -j DROP", packet, "iptables ip filter FORWARD"},
		{"a mark set on the way", ":A - [0:0]\n-A FORWARD -j A\n-A FORWARD -m mark --mark 0x4/0x4 -j DROP\n-A A -j MARK --set-xmark 0x4/0x4", packet, "iptables ip filter FORWARD"},
		{"a mark that may be set", "-A FORWARD -m limit --limit 1/s -j MARK --set-xmark 0x4/0x4\n-A FORWARD -m mark --mark 0x4/0x4 -j DROP", packet, "iptables ip filter FORWARD ?0 (undecided: the mark)"},
		{"a mark that was cleared, whatever it was", "-A FORWARD -j MARK --set-xmark 0x0/0x30000\n-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n-A FORWARD -m mark --mark 0x0/0x20000 -j DROP", packet + " nomark", "iptables ip filter FORWARD"},
		{"a bit that may be set", "-A FORWARD -j MARK --set-xmark 0x0/0x30000\n-A FORWARD -m limit --limit 1/s -j MARK --set-xmark 0x10000/0x10000\n-A FORWARD -m mark --mark 0x0/0x20000 -j DROP", packet + " nomark", "iptables ip filter FORWARD"},
		{"a bit that is known to differ", "-A FORWARD -j MARK --set-xmark 0x10000/0x10000\n-A FORWARD -m mark --mark 0x0/0x30000 -j DROP", packet + " nomark", "none"},
		{"a mark nobody saw", "-A FORWARD -m mark ! --mark 0x4/0x4 -j DROP", packet + " nomark", "iptables ip filter FORWARD ?0 (undecided: the mark)"},
		{"a jump that may be", ":A - [0:0]\n-A FORWARD -m limit --limit 1/s -j A\n-A FORWARD -j DROP\n-A A -j LOG", packet, "iptables ip filter FORWARD"},
		{"iprange", "-A FORWARD -m iprange --src-range 10.0.0.8-10.0.0.10 -j DROP", packet, "iptables ip filter FORWARD"},
		{"unknown match", "-A FORWARD -m nosuch --foo bar ! --baz -j DROP", packet, "iptables ip filter FORWARD ?0 (undecided: -m nosuch --baz, -m nosuch --foo)"},
		{"unknown chain", "-A FORWARD -j NOSUCH\n-A FORWARD -j DROP", packet, "iptables ip filter FORWARD ?0 (there are more rules than were looked at)"},
		{"a set nobody read", "-A FORWARD -m set --match-set nosuch src -j DROP", packet, "iptables ip filter FORWARD ?0 (undecided: set nosuch)"},
		{"counted", "[5:300] -A FORWARD -j DROP", packet, "iptables ip filter FORWARD"},
		{"untracked, perhaps", "-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j CT --notrack", packet + " state=none", "iptables ip filter FORWARD ?0 (undecided: conntrack state)"},
		{"multiport", "-A FORWARD -p tcp -m multiport ! --dports 22,443:450 -j DROP", packet, "iptables ip filter FORWARD"},
		{"length", "-A FORWARD -m length --length 100: -j DROP", packet, "none"},
		{"sets", "-A FORWARD -m set --match-set nets src,dst -j DROP", packet, "iptables ip filter FORWARD"},
		{"set of sets", "-A FORWARD -m set --match-set both src,dst -j DROP", packet, "iptables ip filter FORWARD"},
		{"excluded from a set", "-A FORWARD -m set --match-set holes src -j DROP", packet, "none"},
		{"beside what is excluded", "-A FORWARD -m set --match-set holes src -j DROP", "FORWARD tcp 10.0.9.9:4000>10.0.0.1:80", "iptables ip filter FORWARD"},
		{"a set with timeouts", "-A FORWARD -m set --match-set soon src -j DROP", packet, "iptables ip filter FORWARD ?0 (undecided: set soon)"},
		{"a device of a set", "-A FORWARD -m set --match-set devs src,src -j DROP", packet + " in=cni0", "iptables ip filter FORWARD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := New()
			must(t, r.AddIPSets([]byte("create nets hash:net,port family inet\nadd nets 10.0.0.0/24,tcp:80\ncreate both list:set size 8\nadd both nets\n"+
				"create holes hash:net family inet\nadd holes 10.0.0.0/16\nadd holes 10.0.0.0/24 nomatch\n"+
				"create soon hash:ip family inet timeout 60\nadd soon 10.0.0.9 timeout 5\ncreate devs hash:net,iface\nadd devs 10.0.0.0/8,cni0\n")))
			must(t, r.AddIPTables([]byte(table(tt.rules)), false, events.EngineIPTables))
			f, _, ok := r.Find(query(t, tt.packet), n1, 1<<20)
			if got := answer(f, ok); got != tt.want {
				t.Errorf("%s\nwant %s\n%+v", got, tt.want, f)
			}
		})
	}
}

// TestBounded: rules that call each other, or that are too many, end a walk, and
// it is said that there is more.
func TestBounded(t *testing.T) {
	for name, rules := range map[string]string{
		"loop":   ":A - [0:0]\n-A FORWARD -j A\n-A A -j A\n-A FORWARD -j DROP",
		"bombs":  bomb(),
		"doubts": doubts(),
		"long":   strings.Repeat("-A FORWARD -s 10.9.9.9/32 -j DROP\n", 2000) + "-A FORWARD -m limit --limit 1/s -j DROP",
	} {
		r := New()
		must(t, r.AddIPTables([]byte(table(rules)), false, events.EngineIPTables))
		f, looked, ok := r.Find(query(t, "FORWARD tcp 10.0.0.9:4000>10.0.0.1:80"), n1, 1000)
		if n := strings.Count(f.Why, ","); n >= maxWhy {
			t.Errorf("%s: %d reasons", name, n+1)
		}
		if looked > 1000 || (ok && f.Sure) {
			t.Errorf("%s: %d rules looked at, %+v", name, looked, f)
		}
	}
}

// doubts is a drop behind many returns that may be.
func doubts() string {
	var b strings.Builder
	b.WriteString(":A - [0:0]\n-A FORWARD -j A\n")
	for i := range 900 {
		fmt.Fprintf(&b, "-A A -m nosuch --n%d -j RETURN\n", i)
	}
	return b.String() + "-A A -j DROP"
}

// bomb is chains each of which calls the next twice.
func bomb() string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, ":C%d - [0:0]\n", i)
	}
	b.WriteString("-A FORWARD -j C0\n")
	for i := range 39 {
		fmt.Fprintf(&b, "-A C%d -j C%d\n-A C%d -j C%d\n", i, i+1, i, i+1)
	}
	return b.String() + "-A C39 -p udp -j DROP"
}

func TestSplitWords(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`-A INPUT -j DROP`, `-A|INPUT|-j|DROP`},
		{`-A INPUT -m comment --comment "a \"b\" c" -j DROP`, `-A|INPUT|-m|comment|--comment|a "b" c|-j|DROP`},
		{`-A X --nfacct-name  y`, `-A|X|--nfacct-name|y`},
		{`-A X --log-prefix "" -j LOG`, `-A|X|--log-prefix||-j|LOG`},
		{`-A X "open`, ``},
		{`-A`, ``},
	} {
		words, err := splitWords(tt.line)
		if got := strings.Join(words, "|"); got != tt.want || (err == nil) == (tt.want == "") {
			t.Errorf("%s: %q, %v", tt.line, got, err)
		}
	}
}

// TestDamaged: what is cut off or not a rule is an error, and no panic.
func TestDamaged(t *testing.T) {
	for _, text := range []string{
		"-A INPUT -j DROP", "*filter\n-A INPUT -j DROP\nCOMMIT", "*filter\n:INPUT\nCOMMIT", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP",
		"*filter\nnonsense\nCOMMIT", "[1:2]", "*filter\n:INPUT ACCEPT\n-A INPUT\nCOMMIT\n*nat",
	} {
		if err := New().AddIPTables([]byte(text), false, events.EngineIPTables); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	whole := string(file(t, "nftables-n1.json"))
	for _, text := range []string{"", "[]", "{}", `{"nftables": 3}`, whole[:len(whole)/2], `{"nftables":[{"rule":{"chain":"x"}}]}`} {
		if err := New().AddNFTables([]byte(text), nil); err == nil {
			t.Errorf("%.80q was taken", text)
		}
	}
	if err := New().AddIPSets([]byte("add a 1.2.3.4")); err == nil {
		t.Error("an element without its set was taken")
	}
}

func TestTexts(t *testing.T) {
	texts := NFTTexts(file(t, "nftables-n1.txt"))
	for key, want := range map[textKey]string{
		{"ip", "kube-proxy", 48}:  "ip daddr . meta l4proto . th dport vmap @no-endpoint-services",
		{"ip", "kube-proxy", 55}:  `ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"`,
		{"ip6", "kube-proxy", 48}: "", {"ip", "kube-proxy", 27}: "", // of a set
	} {
		if got := texts[key]; got != want {
			t.Errorf("%v: %q", key, got)
		}
	}
}

// FuzzIPTables: any text is read or refused, and what was read can be walked.
func FuzzIPTables(f *testing.F) {
	f.Add(string(file(f, "ipvs-n1-sets.txt")), string(file(f, "ipvs-n1.txt")), uint16(80))
	f.Add("create a list:set\nadd a a\nadd a a\n", table("-A FORWARD -m set --match-set a src -j DROP"), uint16(1))
	f.Fuzz(func(t *testing.T, sets, rules string, port uint16) {
		defer cpubound.Run(t)()
		r := New()
		if r.AddIPSets([]byte(sets)) != nil || r.AddIPTables([]byte(rules), false, events.EngineIPTables) != nil {
			return
		}
		walkAll(t, r, port)
	})
}

func FuzzNFTables(f *testing.F) {
	f.Add(file(f, "nftables-n1.json"), file(f, "nftables-n1.txt"), uint16(80))
	f.Add(file(f, "mixed.json"), file(f, "mixed.txt"), uint16(22))
	f.Fuzz(func(t *testing.T, listing, text []byte, port uint16) {
		defer cpubound.Run(t)()
		r := New()
		if r.AddNFTables(listing, NFTTexts(text)) == nil {
			walkAll(t, r, port)
		}
	})
}

// walkAll looks for a packet at all hooks. Only one rule may be sure.
func walkAll(t *testing.T, r *Ruleset, port uint16) {
	for _, hook := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
		for _, ends := range []string{"10.0.0.9:4000>192.168.13.27", "[fd00::9]:4000>[fd00::1]"} {
			q := query(t, fmt.Sprintf("%s tcp %s:%d", hook, ends, port))
			f, looked, ok := r.Find(q, n1, 10000)
			if looked > 10000 || (ok && f.Sure && f.Others > 0) || len(f.Candidates) > min(f.Others, maxTold) {
				t.Fatalf("%d looked at, %+v", looked, f)
			}
		}
	}
}

// TestFamilies: base chains are called by priority, those of inet as well.
func TestFamilies(t *testing.T) {
	r := New()
	for _, c := range []struct {
		table, family string
		prio          int
	}{{"b", "inet", 5}, {"a", "ip", -5}, {"c", "inet", 5}, {"d", "ip6", 0}} {
		r.addNFTChain(&nftChain{Family: c.family, Table: c.table, Name: "x", Type: "filter", Hook: "input", Prio: float64(c.prio)})
	}
	var order []string
	for _, c := range r.base {
		if slices.Contains(families(nfprotoIPv4), c.family) {
			order = append(order, c.table)
		}
	}
	if got := strings.Join(order, ""); got != "abc" {
		t.Errorf("called in the order %s", got)
	}
}
