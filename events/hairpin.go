// SPDX-License-Identifier: Apache-2.0

package events

// A pod that reaches itself through a service must be masqueraded, or it gets a
// packet of its own address. kube-proxy marks such packets in iptables mode only;
// in the others a rule knows them by a set. Nothing in the packet tells it from the
// masquerading of others, so that here the rules are asked. They are not for every
// masquerade: to list the rules of a large cluster takes a node seconds.

// natHook is where sources are translated: NF_INET_POST_ROUTING.
const natHook = 4

// hairpinAsk makes the question which rule made the translation n of a packet that
// goes back to where it came from. at is the hop that made it. nil: it is another
// translation, not that of a connection's first packet, or too little is known.
func (b *builder) hairpinAsk(hops []hop, at int, n *NAT) *ruleAsk {
	h := hops[at].hdr
	if !n.Masquerade || h == nil || h.Outer() || h.Src != h.Dst || tupleWords(h.Tuple, hasPorts(h)) != n.From {
		return nil
	}
	stay := lastStay(hops[:at+1])
	last := &stay[len(stay)-1]
	q := RuleQuery{Time: last.time, Netns: last.netns, Hook: natHook, Family: nfprotoIPv4, Masquerade: true, Header: *h}
	if h.Src.Is6() && !h.Src.Is4In6() {
		q.Family = nfprotoIPv6
	}
	for i := len(stay) - 1; i >= 0 && stay[i].station != StationNetfilter; i-- {
		if stay[i].station == StationTable {
			q.Engine = b.engine(&stay[i])
			break
		}
	}
	q.markOf(stay)
	q.conntrack(stay)
	if q.CTState != CTStateNew || (q.CT != nil && q.CT.Status&CTConfirmed != 0) {
		return nil // the rules have been asked for an earlier packet
	}
	b.ruleDevices(&q, stay, last)
	return &ruleAsk{query: q, nat: n}
}

// tellNATRule says which rule made a translation.
func (t *Traversal) tellNATRule(f *RuleFacts, which *NAT) {
	was := *which
	tell := func(list []NAT) {
		for i := range list {
			if list[i] == was {
				list[i].Rule = f
			}
		}
	}
	tell(t.NAT)
	for i := range t.Visits {
		tell(t.Visits[i].NAT)
	}
}
