// SPDX-License-Identifier: Apache-2.0

package events

// links remembers the traversals finished last, to say in words which ones
// another one is linked to.
type links struct {
	words recent[string, linked] // by Traversal.ID
}

// linked is what the words for a traversal are made of, once somebody wants them:
// few are linked to others.
type linked struct {
	direction, proto, flags, icmp string
	src, dst                      linkedEnd
	verdict                       Verdict
}

type linkedEnd struct {
	ip   string
	port uint16
}

func (l *linked) String() string {
	return packetText(&Traversal{
		Direction: l.direction, Proto: l.proto, TCPFlags: l.flags, ICMP: l.icmp,
		Src: Endpoint{IP: l.src.ip, Port: l.src.port}, Dst: Endpoint{IP: l.dst.ip, Port: l.dst.port},
	}) + ", " + string(l.verdict)
}

// maxLinks bounds the traversals that are remembered. An ICMP error that the
// kernel's rate limit held up may come a second behind its cause.
const maxLinks = 4096

func (l *links) init() { l.words.init(maxLinks) }

// put remembers a traversal.
func (l *links) put(t *Traversal) {
	words, _ := l.words.put(t.ID)
	*words = linked{
		t.Direction, t.Proto, t.TCPFlags, t.ICMP, linkedEnd{t.Src.IP, t.Src.Port}, linkedEnd{t.Dst.IP, t.Dst.Port}, t.Verdict,
	}
}

// fill says in t how those ended that it is linked to, as far as they have by
// now.
func (l *links) fill(t *Traversal) {
	if w := l.words.get(t.CausedBy); w != nil {
		t.CausedByText = w.String()
	}
	for i, id := range t.Causes {
		if w := l.words.get(id); w != nil {
			t.CausesText[i] = w.String()
		}
	}
}

// openText is what is known of a packet that has not been given out.
func openText(p *packet) string {
	if p == nil {
		return ""
	}
	first := p.firstTold()
	if first == nil {
		return ""
	}
	t := Traversal{}
	if p.reply {
		t.Direction = directionReply
	}
	h := p.header(first)
	t.take(&h)
	return packetText(&t)
}

// packetText is a packet in a few words: "tcp S 10.0.0.1:5 → 10.0.0.2:80".
func packetText(t *Traversal) string {
	return protoText(t) + " " + addressText(t.Src, t.Proto) + " → " + addressText(t.Dst, t.Proto)
}
