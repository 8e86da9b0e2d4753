// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/hex"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keywords are the words of filters and command lines that name nothing of the
// user's.
var keywords = wordSet(`
	and or not host net port portrange src dst gateway proto protochain ip ip6 tcp udp icmp icmp6 sctp arp rarp ether
	vlan mpls pppoed broadcast multicast less greater len mask inbound outbound igmp esp ah vrrp fddi
	in --from --to --with --namespace
	trace record replay report export redact hooks doctor topology completion version
	line tree json summary auto tracepoints true false stackhop kubectl-stackhop`)

// accessWords are named offsets and values of byte accesses (tcp[tcpflags]).
var accessWords = wordSet(`
	icmptype icmpcode icmp6type icmp6code tcpflags tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr
	icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert icmp-routersolicit
	icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply`)

func wordSet(text string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(text) {
		set[w] = true
	}
	return set
}

var (
	tokens    = regexp.MustCompile(`[\p{L}\p{N}_.:/%@\\\-]+|[^\x00-\x7f]+`)
	number    = regexp.MustCompile(`^[0-9]+$`)
	numerals  = regexp.MustCompile(`0[xX][0-9a-fA-F]+|[0-9]+`)
	offset    = regexp.MustCompile(`^(?:0[xX][0-9a-fA-F]+|[0-9]+(?::[0-9]+)?)$`)
	partialIP = regexp.MustCompile(`^([0-9]{1,3})((?:\.[0-9]{1,3}){0,2})(?:/([0-9]{1,2}))?$`)
	portRange = regexp.MustCompile(`^([0-9]{1,5})-([0-9]{1,5})$`)
	duration  = regexp.MustCompile(`^(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+$`)
	size      = regexp.MustCompile(`^[0-9]+(?:[kKMGT]i?B?|B)$`)
	ring      = regexp.MustCompile(`^[0-9]+[x×][0-9]+[kKMGT]?i?B?$`)
	sample    = regexp.MustCompile(`^1/[0-9]+$`)
	flag      = regexp.MustCompile(`^--?[a-z][a-z-]*$`)
	mac       = regexp.MustCompile(`^[0-9a-fA-F]{1,2}(?:[:-][0-9a-fA-F]{1,2}){5}$`)
	targets   = []string{"pod/", "svc/", "service/", "node/", "netns/"}
)

// The flags of the tool by what their values are: quantities and the tool's own
// words, which stay, ends of connections, and names.
var (
	plainFlags  = []string{"for", "count", "sample", "rate", "max-bytes", "ring", "on-failure", "snaplen", "hooks", "output", "o", "since", "until"}
	targetFlags = []string{"from", "to", "with"}
	nameFlags   = []string{"namespace", "n", "only-node", "names", "write", "w", "ready-file", "redact", "key", "capture", "title", "kubeconfig", "context"}
)

// Args returns a command line in pseudonyms. The tool's own words, its flags and
// quantities stay; what is neither a flag nor its value, an expression, stands
// behind them; the command behind "--" is left out.
func (r *Redactor) Args(args []string) []string {
	out := make([]string, 0, len(args))
	var words, tail []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			tail = []string{"--", "…"}
			break
		}
		name, value, has := strings.Cut(a, "=")
		if i == 0 || !flag.MatchString(name) {
			if i == 0 {
				a = filepath.Base(filepath.ToSlash(a))
			}
			if i < 2 { // the tool and its command
				out = append(out, r.Filter(a))
			} else {
				words = append(words, a)
			}
			continue
		}
		kind := strings.TrimLeft(name, "-")
		switch takes := slices.Contains(plainFlags, kind) || slices.Contains(targetFlags, kind) || slices.Contains(nameFlags, kind); {
		case has:
			out = append(out, name+"="+r.value(kind, value))
		case takes && kind != "redact" && kind != "on-failure" && i+1 < len(args):
			i++
			out = append(out, a, r.value(kind, args[i]))
		default:
			out = append(out, a)
		}
	}
	if len(words) > 0 {
		out = append(out, r.Filter(strings.Join(words, " ")))
	}
	return append(out, tail...)
}

// selection returns what selected, in the words of a command line.
func (r *Redactor) selection(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	return r.Args(append([]string{"stackhop", "record"}, words...))[2:]
}

// value returns the value of a flag.
func (r *Redactor) value(flag, v string) string {
	switch {
	case slices.Contains(plainFlags, flag) && (quantity(v) || keywords[v]):
		return v
	case slices.Contains(targetFlags, flag):
		ends := strings.Split(v, ",")
		for i, e := range ends {
			if keywords[e] {
				ends[i] = r.Object(e)
			} else {
				ends[i] = r.Filter(e)
			}
		}
		return strings.Join(ends, ",")
	}
	return r.Object(v)
}

func quantity(v string) bool {
	return number.MatchString(v) || duration.MatchString(v) || size.MatchString(v) || ring.MatchString(v) || sample.MatchString(v)
}

// Filter returns a tcpdump expression, or a target of a selection, in
// pseudonyms. It is for reading: where it accesses bytes of the packet, the
// numbers are left out, since they may spell an address.
func (r *Redactor) Filter(text string) string {
	access := strings.Contains(text, "[") && !bracketed.MatchString(text)
	before := ""
	return tokens.ReplaceAllStringFunc(text, func(t string) string {
		after := before
		before = t
		if m := partialIP.FindStringSubmatch(t); m != nil && slices.Contains([]string{"net", "host", "src", "dst"}, after) {
			return r.partial(m) // a bare number is the beginning of an address there
		}
		switch {
		case access && accessWords[t]:
			return t
		case access && offset.MatchString(t):
			return numerals.ReplaceAllString(t, "N")
		}
		return r.token(t)
	})
}

// bracketed is [IPv6] or [IPv6]:PORT as a whole.
var bracketed = regexp.MustCompile(`^\[[0-9a-fA-F:.]+\](?::[0-9]+)?$`)

// token is one word of a filter.
func (r *Redactor) token(t string) string {
	if keywords[t] {
		return t
	}
	if p, ok := r.address(t); ok {
		return p
	}
	for _, kind := range targets {
		if rest, ok := strings.CutPrefix(t, kind); ok {
			return kind + r.target(rest)
		}
	}
	if rest, ok := strings.CutPrefix(t, ":"); ok && number.MatchString(rest) {
		return ":" + r.portWord(rest)
	}
	if m := portRange.FindStringSubmatch(t); m != nil {
		return r.portWord(m[1]) + "-" + r.portWord(m[2])
	}
	if number.MatchString(t) {
		return r.portWord(t)
	}
	if m := partialIP.FindStringSubmatch(t); m != nil {
		return r.partial(m)
	}
	return r.Object(t)
}

// target is a pod, service, node or namespace, with a port or not. An inode
// number is one of a namespace.
func (r *Redactor) target(t string) string {
	if n, err := strconv.ParseUint(t, 10, 32); err == nil {
		return strconv.FormatUint(uint64(r.Netns(uint32(n))), 10)
	}
	if name, port, ok := strings.Cut(t, ":"); ok && number.MatchString(port) {
		return r.Object(name) + ":" + r.portWord(port)
	}
	return r.Object(t)
}

// portWord is a decimal number: a port as far as it can be one. Larger ones are
// a name for all that is known.
func (r *Redactor) portWord(t string) string {
	n, err := strconv.ParseUint(t, 10, 16)
	if err != nil {
		return r.Object(t)
	}
	return strconv.FormatUint(uint64(r.Port(uint16(n))), 10)
}

// partial is the beginning of an IPv4 address, as in "net 192.168".
func (r *Redactor) partial(m []string) string {
	given := 1 + strings.Count(m[2], ".")
	bits := 8 * given
	if m[3] != "" {
		bits, _ = strconv.Atoi(m[3])
	}
	p, err := netip.ParsePrefix(m[1] + m[2] + strings.Repeat(".0", 4-given) + "/" + strconv.Itoa(bits))
	if err != nil {
		return r.Object(m[0])
	}
	return r.Prefix(p).String()
}

// address is an address in one of its written forms.
func (r *Redactor) address(t string) (string, bool) {
	if a, err := netip.ParseAddr(t); err == nil {
		return r.Addr(a).String(), true
	}
	if p, err := netip.ParsePrefix(t); err == nil {
		return r.Prefix(p).String(), true
	}
	if a, err := netip.ParseAddrPort(t); err == nil {
		return r.AddrPort(a).String(), true
	}
	if mac.MatchString(t) {
		return r.macText(t)
	}
	return "", false
}

func (r *Redactor) macText(t string) (string, bool) {
	parts := strings.FieldsFunc(t, func(c rune) bool { return c == ':' || c == '-' })
	var m [6]byte
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 16, 8)
		if err != nil {
			return "", false
		}
		m[i] = byte(v)
	}
	m = r.MAC(m)
	for i := range parts {
		parts[i] = hex.EncodeToString(m[i : i+1])
	}
	return strings.Join(parts, ":"), true
}

// Text returns a sentence of the kernel or of the tool, such as the reason why a
// hook is missing, with the addresses in it replaced. It is not for texts that
// hold names.
func (r *Redactor) Text(text string) string {
	return tokens.ReplaceAllStringFunc(text, func(t string) string {
		body := strings.TrimRight(t, ".:")
		if p, ok := r.address(body); ok {
			return p + t[len(body):]
		}
		return t
	})
}

// Sysctl returns the name of a sysctl with the device in it, if it has one, in
// pseudonyms: net.ipv4.conf.DEVICE.forwarding. As sysctl(8) writes them, a dot of
// the device's name is a slash there.
func (r *Redactor) Sysctl(name string) string {
	parts := strings.Split(name, ".")
	at := slices.IndexFunc(parts, func(p string) bool { return p == "conf" || p == "neigh" })
	if at < 0 || len(parts) < at+3 {
		return name
	}
	switch dev := strings.Join(parts[at+1:len(parts)-1], "."); dev {
	case "all", "default":
		return name
	default:
		dev = r.DeviceName(strings.ReplaceAll(dev, "/", "."))
		return strings.Join(parts[:at+1], ".") + "." + strings.ReplaceAll(dev, ".", "/") + "." + parts[len(parts)-1]
	}
}
