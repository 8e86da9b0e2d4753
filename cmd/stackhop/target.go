// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// end is one address range, one port, or both, at one end of a connection; or
// all that names stand for.
type end struct {
	net  netip.Prefix // invalid: any address
	port uint16       // 0: any
	set  *pcapexpr.Set
}

// source matches packets that come from the end, destination those to it.
func (e end) source() *pcapexpr.Expr {
	if e.set != nil {
		return pcapexpr.SrcIn(e.set)
	}
	return e.match(pcapexpr.SrcNet, pcapexpr.SrcPort)
}

func (e end) destination() *pcapexpr.Expr {
	if e.set != nil {
		return pcapexpr.DstIn(e.set)
	}
	return e.match(pcapexpr.DstNet, pcapexpr.DstPort)
}

func (e end) match(net func(netip.Prefix) *pcapexpr.Expr, port func(lo, hi uint16) *pcapexpr.Expr) *pcapexpr.Expr {
	x := pcapexpr.All()
	if e.net.IsValid() {
		x = pcapexpr.And(x, net(e.net))
	}
	if e.port != 0 {
		x = pcapexpr.And(x, port(e.port, e.port))
	}
	return x
}

// targets turns the words of --from, --to and --with into ends.
type targets struct {
	sys       *system
	names     *events.NamesFile // nil: no names file
	namesPath string
	// cluster is nil without Kubernetes. What it knows of the words of a flag is
	// one set, which sets has once there is one.
	cluster cluster
	sets    []*namedSet
	flag    string
	warn    func(string)
	// namespace is that of pods and services that name none; used says
	// whether there were any.
	namespace string
	used      bool
}

const targetForms = "give IP, IP:PORT, [IPv6]:PORT, CIDR, :PORT, pod/[NS/]NAME, svc/[NS/]NAME[:PORT], node/NAME, netns/NAME or netns/INODE"

// resolve returns the ends that one target stands for.
func (t *targets) resolve(s string) ([]end, error) {
	kind, name, _ := strings.Cut(s, "/")
	switch kind {
	case "pod":
		return t.named("pod", s, t.qualify(name), 0)
	case "svc", "service":
		port := uint16(0)
		if base, digits, ok := strings.Cut(name, ":"); ok {
			var err error
			if port, err = parsePort(digits); err != nil {
				return nil, fmt.Errorf("%s: %w", quoted(s), err)
			}
			name = base
		}
		return t.named("svc", s, t.qualify(name), port)
	case "node":
		return t.named("node", s, name, 0)
	case "netns":
		return t.netns(name)
	}
	e, err := parseEnd(s)
	if err != nil {
		return nil, err
	}
	return []end{e}, nil
}

// parseEnd reads a target that is a number.
func parseEnd(s string) (end, error) {
	if digits, ok := strings.CutPrefix(s, ":"); ok && !strings.Contains(digits, ":") {
		port, err := parsePort(digits)
		if err != nil {
			return end{}, fmt.Errorf("%s: %w", quoted(s), err)
		}
		return end{port: port}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return end{net: p.Masked()}, nil
	}
	addr, err := netip.ParseAddr(s)
	port := uint16(0)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(s); err == nil {
			addr, port = ap.Addr(), ap.Port()
			if port == 0 {
				return end{}, fmt.Errorf("%s: %w", quoted(s), errPort)
			}
		}
	}
	if err != nil {
		return end{}, fmt.Errorf("%s is not a target\n  %s", quoted(s), targetForms)
	}
	if addr.Zone() != "" {
		return end{}, fmt.Errorf("%s: an address in a packet has no zone; leave %s out", quoted(s), quoted("%"+addr.Zone()))
	}
	addr = addr.Unmap()
	return end{net: netip.PrefixFrom(addr, addr.BitLen()), port: port}, nil
}

var errPort = errors.New("a port is a number from 1 to 65535")

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errPort
	}
	return uint16(n), nil
}

// qualify puts the namespace in front of the name of a pod or service that has
// none.
func (t *targets) qualify(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	t.used = true
	namespace := t.namespace
	if namespace == "" && t.cluster != nil {
		namespace = t.cluster.Namespace()
	}
	if namespace == "" {
		namespace = "default"
	}
	return namespace + "/" + name
}

// named looks a name up in the names file, and then in Kubernetes.
func (t *targets) named(kind, target, name string, port uint16) ([]end, error) {
	if last(name) == "" || strings.Count(name, "/") > 1 || strings.HasPrefix(name, "/") {
		return nil, fmt.Errorf("%s is not a target\n  %s", quoted(target), targetForms)
	}
	if t.names == nil && t.cluster == nil {
		return nil, fmt.Errorf("%s: no names are known\n  say which address it is with --names FILE, for example {\"addresses\":[{\"ip\":\"10.0.0.1\",\"%s\":%s}]}, give the address itself, or tell with --kubeconfig or --runtime-endpoint whom to ask", quoted(target), fieldOf(kind), quoted(name))
	}
	out, known := t.inFile(kind, name, port)
	switch {
	case len(out) > 0:
		return out, nil
	case t.cluster != nil:
		namespace, base, ok := strings.Cut(name, "/")
		if !ok {
			namespace, base = "", name
		}
		return t.want(&wanted{kind: kind, namespace: namespace, name: base, port: port})
	}
	return nil, fmt.Errorf("no address of %s/%s in %s%s", kind, events.Safe(name), events.Safe(t.namesPath), didYouMean(name, known))
}

// inFile returns what a name stands for by the names file, and the names that
// the file has.
func (t *targets) inFile(kind, name string, port uint16) (out []end, known []string) {
	if t.names == nil {
		return nil, nil
	}
	for _, a := range t.names.Addresses {
		have := map[string]string{"pod": a.Pod, "svc": a.Service, "node": a.Node}[kind]
		if have == name {
			addr := netip.MustParseAddr(a.IP) // checked by the parser
			out = append(out, end{net: netip.PrefixFrom(addr, addr.BitLen()), port: port})
		} else if have != "" {
			known = append(known, have)
		}
	}
	return out, known
}

// want puts a name into the flag's set.
func (t *targets) want(w *wanted) ([]end, error) {
	if err := w.ask(t.cluster); err != nil {
		return nil, err
	}
	if n := len(t.sets); n == 0 || t.sets[n-1].Name() != t.flag {
		t.sets = append(t.sets, &namedSet{Set: pcapexpr.NewSet(t.flag)})
	}
	s := t.sets[len(t.sets)-1]
	s.names = append(s.names, w)
	s.fill(t.cluster, t.warn)
	return []end{{set: s.Set}}, nil
}

// fieldOf is the field of the names file that has the names of a kind.
func fieldOf(kind string) string {
	if kind == "svc" {
		return "service"
	}
	return kind
}

// netns stands for the addresses that a namespace has now: those of its
// connections that begin or end there.
func (t *targets) netns(name string) ([]end, error) {
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%s is not a target\n  %s", quoted("netns/"+name), targetForms)
	}
	addrs, err := t.sys.netnsAddrs(name)
	if err != nil {
		return nil, fmt.Errorf("netns/%s: %w%s", events.Safe(name), err, didYouMean(name, t.sys.netnsNames()))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("netns/%s has no address on a device that is up", events.Safe(name))
	}
	var out []end
	for _, a := range addrs {
		out = append(out, end{net: netip.PrefixFrom(a, a.BitLen())})
	}
	return out, nil
}

// inNamespace returns the ends that are pods or services of the namespace.
func (t *targets) inNamespace() ([]end, error) {
	var out []end
	var known []string
	if t.names != nil {
		out, known = t.namespaceInFile()
	}
	switch {
	case len(out) > 0:
		return out, nil
	case t.cluster != nil:
		return t.want(&wanted{kind: kindNamespace, namespace: t.namespace})
	case t.names == nil:
		return nil, fmt.Errorf("--namespace %s: no names are known\n  say which addresses are its pods and services with --names FILE, or give addresses", events.Safe(t.namespace))
	}
	return nil, fmt.Errorf("no address in namespace %s in %s%s", events.Safe(t.namespace), events.Safe(t.namesPath), didYouMean(t.namespace, known))
}

// namespaceInFile returns the ends by the names file, and the namespaces that it
// has.
func (t *targets) namespaceInFile() (out []end, known []string) {
	for _, a := range t.names.Addresses {
		for _, name := range []string{a.Pod, a.Service} {
			ns, _, ok := strings.Cut(name, "/")
			if ok && ns == t.namespace {
				addr := netip.MustParseAddr(a.IP) // checked by the parser
				out = append(out, end{net: netip.PrefixFrom(addr, addr.BitLen())})
			} else if ok {
				known = append(known, ns)
			}
		}
	}
	return out, known
}
