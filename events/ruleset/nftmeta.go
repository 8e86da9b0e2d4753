// SPDX-License-Identifier: Apache-2.0

package ruleset

import "github.com/stackhop/stackhop/events"

func (b *nftCompiler) meta(l *left, key string) {
	switch key {
	case "l4proto":
		l.domains = []domain{domainProto}
		l.eval = func(p *packet) (value, tri) { return number(uint64(p.h.Proto)) }
	case "mark":
		l.domains, l.why = []domain{domainNumber}, "the mark"
		l.eval = func(p *packet) (value, tri) {
			if p.markKnown != allMark {
				return value{}, maybe
			}
			return number(p.mark)
		}
	case "nfproto", "protocol":
		l.domains = []domain{domainText}
		l.eval = func(p *packet) (value, tri) {
			word := map[bool]string{false: "ipv4", true: "ipv6"}[p.isV6()]
			if key == "protocol" {
				word = map[bool]string{false: "ip", true: "ip6"}[p.isV6()]
			}
			return value{kind: kindText, text: word}, yes
		}
	case "length":
		l.domains = []domain{domainNumber}
		l.eval = func(p *packet) (value, tri) { return number(uint64(p.h.Length)) }
	case "iifname", "iif":
		l.domains = []domain{domainText}
		l.eval = func(*packet) (value, tri) { return value{kind: kindIn}, yes }
	case "oifname", "oif":
		l.domains = []domain{domainText}
		l.eval = func(*packet) (value, tri) { return value{kind: kindOut}, yes }
	}
}

// ct: without an entry only its state can be asked for.
func (b *nftCompiler) ct(l *left, args map[string]any) {
	key, _ := args["key"].(string)
	get := func(c *events.Conntrack) (value, bool) { return value{}, false }
	tuple := func(c *events.Conntrack) *events.Tuple {
		if args["dir"] == "reply" {
			return &c.Reply
		}
		return &c.Original
	}
	l.domains = []domain{domainNumber}
	switch key {
	case "state":
		l.domains = []domain{domainState}
		l.eval = func(p *packet) (value, tri) {
			if p.state == 0 {
				return value{}, maybe
			}
			return number(p.state)
		}
		return
	case "status":
		l.domains = []domain{domainStatus}
		get = func(c *events.Conntrack) (value, bool) { return value{number: uint64(c.Status)}, true }
	case "saddr", "ip saddr", "ip6 saddr":
		l.domains = []domain{domainAddr}
		get = func(c *events.Conntrack) (value, bool) {
			return value{kind: kindAddr, addr: tuple(c).Src.Unmap()}, args["dir"] != nil
		}
	case "daddr", "ip daddr", "ip6 daddr":
		l.domains = []domain{domainAddr}
		get = func(c *events.Conntrack) (value, bool) {
			return value{kind: kindAddr, addr: tuple(c).Dst.Unmap()}, args["dir"] != nil
		}
	case "proto-dst":
		get = func(c *events.Conntrack) (value, bool) {
			return value{number: uint64(tuple(c).DstPort)}, args["dir"] != nil
		}
	case "proto-src":
		get = func(c *events.Conntrack) (value, bool) {
			return value{number: uint64(tuple(c).SrcPort)}, args["dir"] != nil
		}
	}
	l.eval = func(p *packet) (value, tri) {
		if p.q.CT == nil {
			return value{}, maybe.and(triOf(p.state != ctInvalid))
		}
		v, ok := get(p.q.CT)
		return v, maybe.or(triOf(ok))
	}
}

// fib: only whether an address is the namespace's own is known.
func (b *nftCompiler) fib(l *left, args map[string]any) {
	flags := listOf(args["flags"])
	if args["result"] != "type" || len(flags) != 1 {
		return
	}
	src := flags[0] == "saddr"
	l.domains = []domain{domainText}
	l.eval = func(p *packet) (value, tri) { return value{kind: kindType, addr: p.addr(src)}, yes }
}
