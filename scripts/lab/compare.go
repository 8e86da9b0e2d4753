// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// A verified case is one connection of the oracle's with what the tool said of it.
type verified struct {
	c      testCase
	r      result
	want   expectation
	packet []*events.Traversal // of the connection, in the order they came

	// What differs from the expectation, by the columns of the table.
	request, verdict, link, reply, nat, rest []string
}

func (v *verified) faults() []string {
	return slices.Concat(v.request, v.verdict, v.link, v.reply, v.nat, v.rest)
}

// assign gives each case its traversals: the first packet by the client's
// address and port and the address that it dialed, the others by their flow.
// What is left belongs to no case.
func assign(list []*verified, all []*events.Traversal) (left []*events.Traversal) {
	flows := map[string]*verified{}
	for _, v := range list {
		for _, t := range all {
			if t.Direction == "request" && address(t.Src) == v.r.ClientLocal && address(t.Dst) == v.r.Dialed {
				flows[t.Flow] = v
			}
		}
	}
	for _, t := range all {
		if v := flows[t.Flow]; v != nil {
			v.packet = append(v.packet, t)
			continue
		}
		left = append(left, t)
	}
	return left
}

func address(e events.Endpoint) string { return net.JoinHostPort(e.IP, strconv.Itoa(int(e.Port))) }

// compare fills in what differs.
func (v *verified) compare() {
	v.rest = append(v.rest, v.missing()...)
	v.verdict = append(v.verdict, v.compareRule()...)
	late := newAftermath(v.packet)
	for _, t := range v.packet {
		switch {
		case late.refused(t):
		case t.Proto == "icmp" || t.Proto == "icmp6":
			v.compareICMP(t)
		case t.Direction == "request":
			v.compareLeg(t, v.want.request, &v.request)
			v.compareMark(t)
			v.rest = append(v.rest, v.compareEnds(t, t.Src, t.Dst)...)
		default:
			if len(v.c.servers) == 0 {
				v.rest = append(v.rest, v.at(t)+"an answer although there is no server")
				continue
			}
			v.compareLeg(t, v.want.reply, &v.reply)
			v.rest = append(v.rest, v.compareEnds(t, t.Dst, t.Src)...)
		}
	}
}

// at begins a message about one packet.
func (v *verified) at(t *events.Traversal) string {
	return strings.Join(strings.Fields(t.Direction+" "+t.Proto+" "+t.TCPFlags+" "+t.ICMP), " ") + ": "
}

// compareLeg compares one packet with what all of its direction look like.
// Counts and visits go to the column of the direction.
func (v *verified) compareLeg(t *events.Traversal, want leg, counts *[]string) {
	differ := func(column *[]string, what, got, want string) {
		if got != want {
			*column = append(*column, fmt.Sprintf("%s%s is %q, want %q", v.at(t), what, got, want))
		}
	}
	differ(counts, "visits", visitsText(t.Visits), v.fill(want.visits))
	differ(counts, "stacks", number(t.Stacks), number(want.stacks))
	differ(counts, "l3_stacks", number(t.L3Stacks), number(want.l3))
	if string(t.Verdict) != want.verdict {
		v.verdict = append(v.verdict, fmt.Sprintf("%sverdict is %q (%q, notes %q), want %q", v.at(t), t.Verdict, t.Summary, t.Notes, want.verdict))
	}
	if want.verdict != delivered {
		differ(&v.verdict, "where", t.Where, want.where)
		differ(&v.verdict, "reason", t.Reason, want.reason)
	}
	if want.summary != "" {
		differ(&v.verdict, "summary", t.Summary, want.summary)
	}
	if link := strings.Join(t.DataLink, " → "); want.orLink == "" || link != v.fill(want.orLink) {
		differ(&v.link, "data_link", link, v.fill(want.link))
	}
	differ(&v.nat, "nat", strings.Join(natTexts(t.Visits), "; "), v.fill(strings.Join(want.nat, "; ")))
	// The list of the whole traversal is the visits' together.
	if inVisits := len(natTexts(t.Visits)); len(t.NAT) != inVisits {
		v.nat = append(v.nat, fmt.Sprintf("%s%d translations in nat, %d in the visits", v.at(t), len(t.NAT), inVisits))
	}
	if want.note != "" && !slices.ContainsFunc(t.Notes, func(n string) bool { return strings.HasPrefix(n, want.note) }) {
		v.rest = append(v.rest, fmt.Sprintf("%snotes are %q, want one %q", v.at(t), t.Notes, want.note))
	}
	if want.note == "" && slices.ContainsFunc(t.Notes, func(n string) bool { return strings.Contains(n, "address lost") }) {
		v.rest = append(v.rest, fmt.Sprintf("%snotes are %q although the client's address is kept", v.at(t), t.Notes))
	}
	differ(&v.nat, "carried", strings.Join(carriedNotes(t), "; "), strings.Join(want.carried, "; "))
	if !t.Complete || t.Lost != 0 {
		v.rest = append(v.rest, fmt.Sprintf("%scomplete is %t, lost is %d", v.at(t), t.Complete, t.Lost))
	}
}

// compareRule: some request names the rule that is expected, and none another one.
func (v *verified) compareRule() (faults []string) {
	want := v.want.request.rule
	if want == "" {
		return nil
	}
	named := 0
	for _, t := range v.packet {
		if t.Direction != "request" || t.Rule == nil {
			continue
		}
		if got := ruleText(t.Rule); got != want {
			faults = append(faults, fmt.Sprintf("%sthe rule is %q, want %q", v.at(t), got, want))
		}
		named++
	}
	if named == 0 {
		faults = append(faults, fmt.Sprintf("no packet names the rule %q", want))
	}
	return faults
}

// ruleText is a rule by what its writer calls it. Its handle differs from run to run.
func ruleText(r *events.RuleFacts) string {
	text := strings.Join([]string{r.Engine, r.Family, r.Table, r.Chain, r.Comment}, " ")
	if !r.Sure {
		text += " (perhaps: " + r.Why + ")"
	}
	return text
}

// kubeMark is how kube-proxy marks what is to be masqueraded.
const kubeMark = "0x4000"

// compareMark: all masquerading in the cases is kube-proxy's, or the lab's in its
// place, which the first packet of a connection shows: by its mark or, of a pod that
// reaches itself, by the rule. The rule for what goes out of the cluster is in no
// case.
func (v *verified) compareMark(t *events.Traversal) {
	mark, rule := "", ""
	if t.TCPFlags == "S" {
		mark, rule = v.want.request.mark, v.want.request.masquerade
		if rule == "" {
			mark = kubeMark
		}
	}
	for _, n := range append(slices.Clone(t.NAT), visitNATs(t)...) {
		if n.Masquerade && n.Mark != mark {
			v.nat = append(v.nat, fmt.Sprintf("%sthe masquerade's mark is %q, want %q", v.at(t), n.Mark, mark))
		}
		got := ""
		if n.Rule != nil {
			got = ruleText(n.Rule)
		}
		if n.Masquerade && got != rule {
			v.nat = append(v.nat, fmt.Sprintf("%sthe masquerade's rule is %q, want %q", v.at(t), got, rule))
		}
	}
}

func visitNATs(t *events.Traversal) (all []events.NAT) {
	for i := range t.Visits {
		all = append(all, t.Visits[i].NAT...)
	}
	return all
}

// compareEnds checks the names of both ends, and the processes where the kernel
// knows them: who opened a connection, and who exchanged data on it. The last
// packets may come when the socket has no owner any more.
func (v *verified) compareEnds(t *events.Traversal, client, server events.Endpoint) (faults []string) {
	check := func(what, got, want string) {
		if got != want {
			faults = append(faults, fmt.Sprintf("%s%s is %q, want %q", v.at(t), what, got, want))
		}
	}
	if p, err := findPod(v.c.from); err == nil && client.IP == hostOf(v.r.ClientLocal) {
		check("the client's pod", client.Pod, podName(p.name))
	}
	if t.Direction == "request" {
		check("the source", address(client), v.r.ClientLocal)
		check("the destination", address(server), v.r.Dialed)
		if s := serviceOf(v.r.Dialed); s != "" {
			check("the service", server.Service, s)
		}
	} else {
		check("the source", address(server), v.fill("{backend}:"+portOf(v.r.Dialed)))
		check("the destination", address(client), v.r.SawClient)
		check("the server's pod", server.Pod, podName(v.r.Server))
	}
	if t.TCPFlags == "S" || t.TCPFlags == "PA" || t.Proto == "udp" {
		check("the client's process", fmt.Sprint(client.Process, " ", client.PID), fmt.Sprint("lab ", v.r.PID))
	}
	if t.TCPFlags == "PA" || t.Proto == "udp" {
		check("the server's process", server.Process, "lab")
	}
	return faults
}

// compareICMP: a refused client gets an ICMP error because of its SYN. Other
// connections may meet redirects, as they pass routers that send a packet back
// where it came from; nothing else.
func (v *verified) compareICMP(t *events.Traversal) {
	want := v.want.reply
	if want.icmp == "" {
		if !strings.HasPrefix(t.ICMP, "5/") {
			v.rest = append(v.rest, v.at(t)+"not expected in this case")
		}
		return
	}
	v.compareLeg(t, want, &v.reply)
	source := cmp.Or(want.source, hostOf(v.r.Dialed))
	if t.ICMP != want.icmp || t.Src.IP != source || t.Dst.IP != want.destination {
		v.reply = append(v.reply, fmt.Sprintf("ICMP %s from %s to %s, want %s from %s to %s",
			t.ICMP, t.Src.IP, t.Dst.IP, want.icmp, source, want.destination))
	}
	if t.Dst.PID != uint32(v.r.PID) {
		v.reply = append(v.reply, fmt.Sprintf("the ICMP error went to process %q %d, want lab %d", t.Dst.Process, t.Dst.PID, v.r.PID))
	}
	cause := slices.IndexFunc(v.packet, func(p *events.Traversal) bool { return p.ID == t.CausedBy })
	if cause < 0 || v.packet[cause].TCPFlags != "S" || !slices.Contains(v.packet[cause].Causes, t.ID) {
		v.reply = append(v.reply, fmt.Sprintf("the ICMP error %s is not linked to the SYN that it is because of (caused_by %q)", t.ID, t.CausedBy))
	}
}

// missing names what a whole connection must have and this one has not.
func (v *verified) missing() (faults []string) {
	seen := map[string]int{}
	for _, t := range v.packet {
		what := t.TCPFlags
		if t.Proto != "tcp" {
			what = t.Proto + t.ICMP
		}
		seen[t.Direction+" "+what]++
	}
	want := []string{"request S", "request A", "request PA", "request FA", "reply SA", "reply PA", "reply FA"}
	switch {
	case v.c.silent:
		want = []string{"request S"}
	case len(v.c.servers) == 0:
		want = []string{"request S", "reply icmp" + v.want.reply.icmp}
	case v.c.network == "udp":
		want = []string{"request udp", "reply udp"}
	}
	for _, w := range want {
		if seen[w] == 0 {
			faults = append(faults, "no "+w+" was seen")
		}
	}
	return faults
}

// fill puts what the oracle knows into an expectation's text.
func (v *verified) fill(text string) string {
	backend, node := "", ""
	if p, err := findPod(v.r.Server); err == nil {
		backend, node = p.ip, p.node
		if strings.HasPrefix(v.r.Dialed, "[") {
			backend = "[" + p.ip6 + "]"
		}
	}
	return strings.NewReplacer("{client}", v.r.ClientLocal, "{seen}", v.r.SawClient,
		"{server}", v.r.Server, "{backend}", backend, "{node}", node).Replace(text)
}

// visitsText is the order of visits in words; what is not said of how one was
// entered and left is: by a device.
func visitsText(visits []events.Visit) string {
	var out []string
	for _, v := range visits {
		s := v.Name
		if v.Entered != events.ViaDevice {
			s = v.Entered + ">" + s
		}
		if v.Left != events.ViaDevice {
			s += ">" + v.Left
		}
		if v.Bridged {
			s += " bridged"
		}
		out = append(out, s)
	}
	return strings.Join(out, " | ")
}

// natTexts are the translations with where they were made.
func natTexts(visits []events.Visit) []string {
	var out []string
	for _, v := range visits {
		for _, n := range v.NAT {
			kind := n.Kind
			if n.Masquerade {
				kind += " masquerade"
			}
			out = append(out, fmt.Sprintf("%s: %s %s %s = %s", v.Name, n.By, kind, n.From, n.To))
		}
	}
	return out
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func hostOf(addr string) string { host, _, _ := net.SplitHostPort(addr); return host }
func portOf(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }

// serviceOf is the service whose virtual address was dialed, if it was one.
func serviceOf(dialed string) string {
	for _, s := range slices.Concat(services, proxyServices) {
		if s.vip == hostOf(dialed) {
			return s.name
		}
	}
	return ""
}
