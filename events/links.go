// SPDX-License-Identifier: Apache-2.0

package events

// links remembers the traversals finished last, to say in words which ones
// another one is linked to.
type links struct {
	words map[string]string // by Traversal.ID
	age   ageRing[string]
}

// maxLinks bounds the traversals that are remembered. An ICMP error that the
// kernel's rate limit held up may come a second behind its cause.
const maxLinks = 4096

func (l *links) init() {
	l.words = make(map[string]string)
	l.age.limit = maxLinks
}

// put remembers a traversal.
func (l *links) put(t *Traversal) {
	if _, ok := l.words[t.ID]; !ok {
		if old, full := l.age.add(t.ID); full {
			delete(l.words, old)
		}
	}
	l.words[t.ID] = packetText(t) + ", " + string(t.Verdict)
}

// fill says in t how those ended that it is linked to, as far as they have by
// now.
func (l *links) fill(t *Traversal) {
	if w, ok := l.words[t.CausedBy]; ok {
		t.CausedByText = w
	}
	for i, id := range t.Causes {
		if w, ok := l.words[id]; ok {
			t.CausesText[i] = w
		}
	}
}

// openText is what is known of a packet that has not been given out.
func openText(p *packet) string {
	if p == nil {
		return ""
	}
	for i := range p.steps {
		if st := &p.steps[i]; st.extKind == ExtHeader {
			t := Traversal{}
			if p.reply {
				t.Direction = directionReply
			}
			t.take(&p.headers[st.ext])
			return packetText(&t)
		}
	}
	return ""
}

// packetText is a packet in a few words: "tcp S 10.0.0.1:5 → 10.0.0.2:80".
func packetText(t *Traversal) string {
	return protoText(t) + " " + addressText(t.Src, t.Proto) + " → " + addressText(t.Dst, t.Proto)
}
