// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// labFacts are what a caller says of the recordings in the tests.
func labFacts() Facts {
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	node := func(name string, lost uint64) Recording {
		return Recording{
			Name: name + ".hop", Node: name, Kernel: "6.12.48", Tool: "v0.3", Command: "stackhop record -w " + name + ".hop --from 172.23.96.23",
			Filter: "tcp", Start: at, End: at.Add(10 * time.Minute), Events: 31022, Matched: 31022 + lost, Packets: 800,
			Lost: map[string]uint64{"ring": lost, "track": 0}, Missing: []string{"nft_do_chain: not in this kernel"},
			Tables: []Table{{Title: "IPVS services", Head: []string{"service", "destination", "weight"}, Rows: [][]string{{"8.219.164.113:80", "none", ""}}}},
		}
	}
	return Facts{
		Made: at.Add(time.Hour), Tool: "stackhop v0.3", Recordings: []Recording{node("n1", 0), node("n2", 12)},
		Warnings: []string{"n2.hop ends in the middle of a block at offset 4096."},
		Remarks:  []string{"The clock of n2 is 3.000 s behind that of n1 (± 0.2 ms, 412 packets joined)."},
	}
}

func labPage(t *testing.T) []byte {
	t.Helper()
	return pageOf(t, Input{Title: "Refused at nginx1", Traversals: all(captured(t, "6.12-case*.jsonl")), Facts: labFacts})
}

// TestPage clicks through the page of the ten cases: a path, a packet, its
// cause, filters, the search, and the theme.
func TestPage(t *testing.T) {
	b := open(t, labPage(t), 1280, 1000)
	text := func(selector string) string {
		return b.eval(fmt.Sprintf("document.querySelector(%q).innerText", selector))
	}
	count := func(selector string) string {
		return b.eval(fmt.Sprintf("document.querySelectorAll(%q).length", selector))
	}
	contains(t, text("h1"), "Refused at nginx1")
	contains(t, text("#subtitle"), "68 packets on 20 paths", "nodes n1, n2")
	contains(t, text("#overview"), "12 events lost: ring 12", "ends in the middle of a block", "3.000 s behind", "2 recordings")
	if got := count(".path"); got != "20" {
		t.Errorf("%s paths, not 20", got)
	}
	b.shoot("overview-light")

	// What went wrong comes first; its path shows where.
	contains(t, text(".path .headline"), "8.219.164.113:80 has no destination on this node")
	b.click(".path .card")
	b.wait("document.querySelector('.path.open .panel svg')")
	contains(t, b.eval("document.querySelector('.path.open .panel').textContent"),
		"node n1", "centos", "vethcentos", "cni0", "terminated in IPVS", "no destination", "172.23.96.23", "p50", "in n1", "lab 456")
	if got := count(".path.open .sign.bad"); got != "2" {
		t.Errorf("%s places of termination are marked, not one in each diagram", got)
	}
	b.shoot("path-light")

	// The packet, and the answer it caused.
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog').open")
	contains(t, text("dialog"), "tcp S", "ip_vs_leave", "__ip_local_out", "Drop reason NETFILTER_DROP at nf_hook_slow", "Therefore icmp 3/3", "netns 4026532160")
	contains(t, text("dialog .why .decides"), "the virtual service has no destination", "ip_vs_leave")
	contains(t, text("dialog"), "Finding no-destination: ", "Check next `ipvsadm -Ln`", "It is not this if")
	b.shoot("packet-light")
	b.click("dialog .remarks a")
	b.wait("document.querySelector('dialog h2').innerText.startsWith('icmp 3/3')")
	contains(t, text("dialog"), "Because of tcp S", "made by the kernel", "delivered")
	b.eval("history.back()")
	b.wait("document.querySelector('dialog h2').innerText.startsWith('tcp S')")
	b.key("Escape", 27)
	b.wait("!document.querySelector('dialog').open && !location.hash.includes('t=')")

	// Filters.
	b.click(".tile.v-delivered")
	b.wait("document.querySelectorAll('.path').length === 19")
	b.click(".tile.v-delivered")
	b.wait("document.querySelectorAll('.path').length === 20")
	b.write("[name=q]", "ipvs no-destination")
	b.wait("document.querySelectorAll('.path').length === 1")
	contains(t, text("#found"), "1 packet on 1 path")
	b.click("#clear")
	b.wait("document.querySelectorAll('.path').length === 20")
	b.write("[name=addr]", "203.0.113.0/24")
	b.wait("document.querySelectorAll('.path').length === 6")
	b.click("#clear")
	b.eval("location.hash = '#node=n1&proto=icmp'")
	b.wait("document.querySelectorAll('.path').length === 1")
	b.eval("location.hash = '#name=default/nginx1-cluster'")
	b.wait("document.querySelectorAll('.path').length > 1 && document.querySelectorAll('.path').length < 20")
	b.quiet()
}

// TestPageDiagrams looks at the path with most to show: four stacks, IPVS and
// masquerading, both directions of its flow.
func TestPageDiagrams(t *testing.T) {
	b := open(t, labPage(t), 1280, 1300)
	b.write("[name=q]", "nginx1-cluster masquerade n1")
	b.wait("document.querySelectorAll('.path').length > 0 && document.getElementById('found').innerText !== ''")
	path := b.eval(`[...document.querySelectorAll('.path')].find(e => e.innerText.includes('4 stacks')).dataset.path`)
	b.click("#path-" + path)
	b.wait("document.querySelector('.path.open .panel svg')")
	contains(t, b.eval("document.querySelector('.path.open .panel').textContent"),
		"DNAT by IPVS", "8.219.164.114:80", "→ 172.23.96.163:80", "SNAT (masquerade)", "172.23.96.23", "→ 10.0.0.180", "node n1", "node n2", "not counted", "as sent")
	b.shoot("stacks-light")
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog .flow')")
	contains(t, b.eval("document.querySelector('dialog .flow').innerText"), "tcp S", "tcp SA", "request", "reply")
	contains(t, b.eval("document.querySelector('dialog').innerText"), "╰ DNAT by IPVS: 8.219.164.114:80 (svc default/nginx1-cluster) → 172.23.96.163:80 (default/nginx1a)", "client address lost")
	b.eval("document.querySelector('dialog .flow').scrollIntoView({block: 'end'})")
	b.shoot("flow-light")
	b.key("Escape", 27)
	b.wait("!document.querySelector('dialog').open")
	b.click("#theme")
	b.wait("document.documentElement.dataset.theme === 'dark'")
	b.eval("document.querySelector('.path.open').scrollIntoView()")
	b.shoot("stacks-dark")

	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": true}, nil)
	if got := b.eval("document.documentElement.scrollWidth <= 400"); got != "true" {
		t.Error("on a narrow screen the page is wider than the screen")
	}
	b.shoot("narrow-dark")
	b.quiet()
}

// TestPageNames: what is known of pods, services and nodes stands where the
// addresses stand, and is found.
func TestPageNames(t *testing.T) {
	list := captured(t, "6.12-case[67].jsonl")
	facts := &events.ServiceFacts{Name: "shop/cart", Port: "http", Type: "LoadBalancer", Policy: events.PolicyLocal, Affinity: true, Elsewhere: 2, Stale: true,
		Endpoints: &events.ServiceEndpoints{LeftOut: 1, List: []events.ServiceEndpoint{{Addr: netip.MustParseAddrPort("172.23.96.163:80"), Node: "n2", Zone: "z", Ready: true}}}}
	for _, tr := range list {
		if tr.Verdict == events.Terminated {
			tr.Service, tr.Notes = facts, []string{facts.String(), "another"}
			tr.Src.Stale, tr.Visits[0].Pod = true, "shop/only-visited"
		}
		for i := range tr.Visits {
			for j := range tr.Visits[i].NAT {
				if n := &tr.Visits[i].NAT[j]; n.Kind == "snat" && n.Masquerade {
					n.Node, n.Stale = "hidden-behind", true
				}
			}
		}
	}
	b := open(t, pageOf(t, Input{Traversals: all(list)}), 1280, 1000)
	b.click(".path .card")
	b.wait("document.querySelector('.path.open .panel svg')")
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog').open")
	dialog := b.eval("document.querySelector('dialog').innerText")
	contains(t, dialog, "default/centos, perhaps no longer, lab", "centos (shop/only-visited)", "Note another",
		"Service shop/cart port http, LoadBalancer, session affinity: policy Local, 2 endpoints on other nodes, none here, by what the API server last said",
		"Endpoints 172.23.96.163:80 on n2 in z ready; 1 more")
	if n := strings.Count(dialog, facts.String()); n != 1 {
		t.Errorf("the policy is said %d times", n)
	}
	b.shoot("names-refused")
	b.key("Escape", 27)
	b.wait("!document.querySelector('dialog').open")

	everything := b.eval("document.querySelectorAll('.path').length")
	b.write("[name=q]", "hidden-behind")
	b.wait("document.querySelectorAll('.path').length === 1")
	path := b.eval("document.querySelector('.path').dataset.path")
	b.click("#path-" + path)
	b.wait("document.querySelector('.path.open .panel svg')")
	contains(t, b.eval("document.querySelector('.path.open .panel').textContent"),
		"svc default/nginx1-cluster", "default/nginx1a", "node hidden-behind", "8.219.164.114:80 svc default/nginx1-cluster")
	b.shoot("names-path")
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog').open")
	contains(t, b.eval("document.querySelector('dialog').innerText"),
		"╰ SNAT (masquerade, mark 0x4000): 172.23.96.23:", "(node hidden-behind, perhaps no longer)", "172.23.96.163:80 (default/nginx1a)")
	b.shoot("names-packet")
	b.key("Escape", 27)
	b.wait("!document.querySelector('dialog').open")
	b.click("#clear")
	b.wait("document.querySelectorAll('.path').length === " + everything)
	b.write("[name=q]", "only-visited")
	b.wait("document.querySelectorAll('.path').length === 1 && !document.getElementById('clear').hidden")
	b.click("#clear")
	b.wait("document.querySelectorAll('.path').length === " + everything)
	b.eval("location.hash = '#name=default/nginx1a'")
	b.wait("document.querySelectorAll('.path').length > 0 && document.querySelectorAll('.path').length < " + everything)
	if options := b.eval("[...document.querySelectorAll('[name=name] option')].map(o => o.value).join()"); !strings.Contains(options, "shop/only-visited") {
		t.Errorf("to choose from: %s", options)
	}
	b.quiet()
}

// evil are names that a workload may choose.
var evil = []string{
	`<script>document.title='owned'</script>`, `</script><img src=x onerror="document.title='owned'">`, `"'><svg/onload=alert(1)>`,
	"a\u202etxt.exe", "\x1b[31mred\x1b[0m", "bell\a\r\nnew", "\u2028\u2029", "bad\xff\xfe", `<!--`, `]]>`, "{{data}}{{script}}{{style}}",
}

// TestPageEscapes: whatever names and sentences say, the page shows it as text.
func TestPageEscapes(t *testing.T) {
	list := captured(t, "6.12-case7.jsonl")
	var poisoned []*events.Traversal
	for i, name := range evil {
		for _, tr := range list {
			poisoned = append(poisoned, poison(tr, name, fmt.Sprintf("%016x", i)))
		}
	}
	facts := labFacts()
	facts.Tool, facts.Warnings, facts.Remarks = evil[0], evil, evil
	facts.Recordings = []Recording{{Name: evil[0], Node: evil[1], Kernel: evil[2], Command: evil[3], Filter: evil[4], Lost: map[string]uint64{evil[0]: 3},
		Missing: evil, Notes: evil, Tables: []Table{{Title: evil[1], Head: evil, Rows: [][]string{evil}}}}}
	page := pageOf(t, Input{Title: evil[1], Traversals: all(poisoned), Facts: func() Facts { return facts }})
	for _, r := range string(page) {
		if (r < ' ' && r != '\n') || (r >= 0x7f && r < 0xa0) || (r >= 0x2028 && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			t.Fatalf("the page has the character %U", r)
		}
	}
	b := open(t, page, 1280, 1000)
	b.click(".path .card")
	b.wait("document.querySelector('.path.open .panel svg')")
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog').open")
	b.shoot("evil-light")
	if got := b.eval("document.querySelectorAll('script:not([type]), img, iframe, [onerror], [onload], [style*=url]').length"); got != "1" {
		t.Errorf("the page has %s scripts and the like, not its own alone", got)
	}
	title := b.eval("document.title")
	if title != evil[1] {
		t.Errorf("title %q", title)
	}
	whole := b.eval("document.body.textContent")
	contains(t, whole, evil[0], evil[2], `a\u202etxt.exe`, `\x1b[31mred`, `bell\a\r\nnew`, `\u2028\u2029`, `bad\xff\xfe`)
	b.quiet()
}

// poison is a copy of a traversal that has a name everywhere.
func poison(tr *events.Traversal, name, id string) *events.Traversal {
	t := *tr
	t.ID, t.Flow, t.Summary, t.Where, t.Reason, t.Node, t.Proto, t.KernelReason, t.Location = id+name, name, "1 stack: "+name, name, name, name, name, name, name
	for _, e := range []*events.Endpoint{&t.Src, &t.Dst} {
		e.Pod, e.Process, e.Service, e.Node = name, name, name, name
	}
	t.Visits = append([]events.Visit(nil), t.Visits...)
	for i := range t.Visits {
		v := &t.Visits[i]
		v.Name, v.Node, v.Pod, v.Devices = name, name, name, []string{name, name}
		v.NAT = []events.NAT{{By: name, Kind: name, Hook: name, From: name + "→" + name, To: name, Service: name, Pod: name, Node: name, Stale: true}}
		v.Hooks = append([]events.HookVisit(nil), v.Hooks...)
		for j := range v.Hooks {
			v.Hooks[j].Device, v.Hooks[j].Detail, v.Hooks[j].Hook = name, name, name
		}
	}
	t.Service = &events.ServiceFacts{Name: name, Port: name, Type: name, Policy: name, Endpoints: &events.ServiceEndpoints{List: []events.ServiceEndpoint{{Node: name, Zone: name}}}}
	t.Notes, t.NotObserved, t.DataLink = []string{name}, []string{name}, []string{name}
	t.CausedBy, t.CausedByText, t.Causes, t.CausesText = name, name, []string{name}, []string{name}
	t.Conntrack = &events.CTSummary{Original: name, Reply: name, State: name}
	return &t
}

// TestPageEmpty: a page without packets says so, also under a title that looks
// like a part of the page's frame.
func TestPageEmpty(t *testing.T) {
	page := pageOf(t, Input{Title: evil[len(evil)-1]})
	contains(t, string(page), "<title>{{data}}{{script}}{{style}}</title>", `"title":"{{data}}{{script}}{{style}}"`)
	b := open(t, page, 800, 600)
	contains(t, b.eval("document.body.innerText"), "No packet was traced", "{{data}}{{script}}{{style}}")
	b.quiet()
}

// TestPageKernels opens each path and each packet of the cases on several kernels,
// as one node alone sees them, and with events missing.
func TestPageKernels(t *testing.T) {
	list := captured(t, "script-*.jsonl")
	list = append(list, captured(t, "5.10-case*.jsonl")...)
	list = append(list, stitched(t, "6.12-case*.jsonl", events.Config{OnlyNode: "n1"}, 0)...)
	list = append(list, stitched(t, "7*-case*.jsonl", events.Config{OnlyNode: "n2"}, 23)...)
	b := open(t, pageOf(t, Input{Traversals: all(list)}), 1280, 1000)
	got := b.eval(`(async () => {
		const seen = {paths: 0, packets: 0, drawn: 0, verdicts: new Set()};
		const settled = () => new Promise(yes => addEventListener('hashchange', () => setTimeout(yes), {once: true}));
		for (const id of [...document.querySelectorAll('.path')].map(e => e.dataset.path)) {
			let next = settled();
			location.hash = '#path=' + id;
			await next;
			const path = document.querySelector('.path.open');
			if (path.dataset.path !== id) return 'path ' + id + ' is not open';
			seen.paths++;
			seen.drawn += path.querySelectorAll('svg').length > 0;
			for (const link of [...path.querySelectorAll('.list tbody a')].map(a => a.hash)) {
				next = settled();
				location.hash = link;
				await next;
				const box = document.querySelector('dialog');
				if (!box.open || box.querySelectorAll('svg').length === 0) return 'packet ' + link + ' is not drawn';
				if (/undefined|NaN|\[object/.test(box.innerText)) return link + ': ' + box.innerText;
				seen.packets++;
				seen.verdicts.add(box.querySelector('.badge').innerText);
			}
			if (/undefined|NaN|\[object/.test(document.body.innerText)) return id + ': ' + document.body.innerText;
		}
		return JSON.stringify({...seen, verdicts: [...seen.verdicts].length});
	})()`)
	var seen struct{ Paths, Packets, Drawn, Verdicts int }
	if err := json.Unmarshal([]byte(got), &seen); err != nil {
		t.Fatalf("%.3000s", got)
	}
	if seen.Packets != len(list) || seen.Drawn != seen.Paths || seen.Verdicts != 5 {
		t.Errorf("of %d packets: %+v", len(list), seen)
	}
	b.quiet()
}

// TestPagePolicy: the browser holds the page to loading nothing, and to putting
// in text as text.
func TestPagePolicy(t *testing.T) {
	b := open(t, labPage(t), 800, 600)
	b.quiet()
	for _, forbidden := range []string{
		`document.body.innerHTML = '<b>x</b>'`,
		`fetch('data:text/plain,x')`,
		`new Promise((yes, no) => { const i = new Image(); i.onload = yes; i.onerror = no; i.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='; document.body.append(i); })`,
		`new Promise((yes, no) => { const s = document.createElement('script'); s.onload = yes; s.onerror = no; s.src = 'data:text/javascript,1'; document.body.append(s); })`,
	} {
		if got := b.eval(`(async () => { try { await (() => { return ` + forbidden + ` })(); return 'allowed'; } catch (e) { return 'refused'; } })()`); got != "refused" {
			t.Errorf("%s: %s", forbidden, got)
		}
	}
}

// TestPageLarge: a page of 100,000 packets is up and filtered in seconds.
func TestPageLarge(t *testing.T) {
	page := pageOf(t, Input{Traversals: many(captured(t, "6.12-case*.jsonl"), 100_000), Facts: labFacts})
	start := time.Now()
	b := open(t, page, 1280, 1000)
	loaded := time.Since(start)
	if b.eval("document.querySelectorAll('.path').length") != "20" {
		t.Errorf("not 20 paths: %s", b.eval("document.getElementById('paths').innerText"))
	}
	start = time.Now()
	b.write("[name=q]", "no-destination")
	b.wait("document.querySelectorAll('.path').length === 1")
	searched := time.Since(start)
	contains(t, b.eval("document.getElementById('found').innerText"), "1,470 packets on 1 path of 100,000 listed")
	b.click(".path .card")
	b.wait("document.querySelector('.path.open .list tbody tr')")
	b.click("#clear")
	b.wait("document.querySelectorAll('.path').length === 20")
	b.shoot("large-light")
	t.Logf("%d bytes: browser and page up in %v, searched in %v", len(page), loaded, searched)
	b.quiet()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in: %.2000s", p, text)
		}
	}
}
