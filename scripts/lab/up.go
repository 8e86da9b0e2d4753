// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netns"
)

// lbTable is the routing table of the VPC router for what comes from the load
// balancer: to the outside directly, where everybody else goes through it.
const lbTable = 100

func clusterNetns() []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.name)
	}
	for _, p := range pods {
		names = append(names, p.name)
	}
	return append(names, networks...)
}

// A plan is what of the cluster can be chosen.
type plan struct {
	iptables string // the variant for the nodes' rules: legacy or nft
	backend  string // Flannel's
	wires    *wires // what connects the nodes with the network; nil: veth pairs
	bare     bool   // nobody plays kube-proxy: the nodes are as CNI leaves them
}

// clusterUp builds the reference cluster in the kernel that it runs on. It changes
// nothing outside the namespaces that it makes.
func clusterUp(c plan) error {
	for _, name := range clusterNetns() {
		if err := createNetns(name); err != nil {
			return err
		}
	}
	if err := each(clusterNetns(), prepareNetns); err != nil {
		return err
	}
	vpc := openHost("vpc")
	defer vpc.close()
	buildVPC(vpc, c)
	if vpc.err != nil {
		return vpc.err
	}
	steps := []func() error{func() error { return setLB(map[string]string{vipLocal: "n2", vipCluster: "n1"}) }}
	for _, n := range nodes {
		steps = append(steps, func() error { return buildNode(n, c) })
	}
	if err := parallel(steps); err != nil {
		return err
	}
	known := services
	if c.bare {
		known = slices.Concat(services, proxyServices)
	}
	return writeJSON(namesFile, clusterNames(c.backend, known))
}

// clusterDown removes the namespaces, and with them all that is in them.
func clusterDown() error {
	var errs []error
	for _, name := range clusterNetns() {
		if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete network namespace %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// prepareNetns sets what devices inherit when they are made, so it comes first.
func prepareNetns(name string) error {
	return inNetns(name, func() error {
		settings := map[string]string{
			"net.ipv4.conf.all.rp_filter":                "0",
			"net.ipv4.conf.default.rp_filter":            "0",
			"net.ipv4.ping_group_range":                  "0 0", // as containerd sets it for pods
			"net.ipv6.conf.default.accept_dad":           "0",
			"net.ipv6.conf.default.router_solicitations": "0",
			// A pod causes more errors in a second here than the kernel would answer.
			"net.ipv4.icmp_ratelimit": "0",
			"net.ipv6.icmp.ratelimit": "0",
		}
		if _, err := findPod(name); err != nil && name != "outside" {
			settings["net.ipv4.ip_forward"] = "1"
			settings["net.ipv6.conf.all.forwarding"] = "1"
		}
		if err := setSysctls(settings); err != nil {
			return err
		}
		lo := openHost("/proc/thread-self/ns/net")
		defer lo.close()
		lo.up("lo")
		return lo.err
	})
}

// buildVPC makes the cloud's router and the hosts' ends of its links. It
// forwards by route only.
func buildVPC(vpc *host, c plan) {
	attach := func(name, ip, ip6 string, table int) {
		h := openHost(name)
		defer h.close()
		if _, err := findNode(name); err == nil && c.wires != nil {
			c.wires.veth(vpc, name, h, "eth0")
		} else {
			vpc.veth(name, h, "eth0")
		}
		vpc.addr(name, gateway, gateway6)
		vpc.route(hop{to: ip, dev: name, table: table}, hop{to: ip6, dev: name, table: table})
		h.addr("eth0", ip, ip6)
		h.route(hop{dev: "eth0", via: gateway}, hop{to: "::/0", dev: "eth0", via: gateway6})
		if h.err != nil && vpc.err == nil {
			vpc.err = h.err
		}
	}
	for _, n := range nodes {
		attach(n.name, n.ip, n.ip6, 0)
		if c.backend == backendRoutes {
			vpc.route(hop{to: n.cidr, dev: n.name, via: n.ip}, hop{to: n.net6, dev: n.name, via: n.ip6})
		}
	}
	attach("lb", lbAddr, lbAddr6, 0)
	// Everything to and from outside passes the load balancer: it must see the
	// answers of the connections that it has translated. So only what comes from
	// there finds the way out.
	attach("outside", outsideIP, outside6, lbTable)
	vpc.route(hop{to: vipLocal, dev: "lb", via: lbAddr}, hop{to: vipCluster, dev: "lb", via: lbAddr},
		hop{to: outsideCIDR, dev: "lb", via: lbAddr})
	vpc.ruleFrom("lb", lbTable)
}

// buildNode makes what CNI and kube-proxy make on a node.
func buildNode(n node, c plan) error {
	h := openHost(n.name)
	defer h.close()
	h.bridge("cni0")
	h.addr("cni0", n.cni, n.cni6)
	for _, p := range pods {
		if p.node == n.name {
			buildPod(h, n, p, c)
		}
	}
	if c.backend == backendVXLAN {
		buildVXLAN(h, n)
		h.mtu("cni0", vxlanMTU)
	}
	if !c.bare {
		h.dummy("kube-ipvs0")
		for _, s := range services {
			h.addr("kube-ipvs0", s.vip)
		}
	}
	if h.err != nil {
		return h.err
	}
	if err := inNetns(n.name, func() error { return setSysctls(cniSysctls) }); err != nil {
		return err
	}
	if c.bare {
		return feed(n.name, withFlannel(cniRules, n, c.backend), restoreTool(c.iptables), "--noflush")
	}
	if err := inNetns(n.name, func() error { return setSysctls(proxySysctls) }); err != nil {
		return err
	}
	if err := setIPVS(n); err != nil {
		return err
	}
	return loadRules(n, c)
}

var cniSysctls = map[string]string{
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
}

var proxySysctls = map[string]string{
	"net.ipv4.vs.conntrack":                 "1",
	"net.ipv4.vs.expire_nodest_conn":        "1",
	"net.ipv4.vs.expire_quiescent_template": "1",
}

// buildPod makes a pod's devices: eth0 in the pod, veth<pod> under cni0.
func buildPod(h *host, n node, p pod, c plan) {
	inPod := openHost(p.name)
	defer inPod.close()
	h.veth("veth"+p.name, inPod, "eth0")
	h.port("veth"+p.name, "cni0")
	inPod.addr("eth0", p.ip+"/26", p.ip6+"/64")
	inPod.route(hop{dev: "eth0", via: n.cniIP()}, hop{to: "::/0", dev: "eth0", via: prefixIP(n.cni6)})
	if c.backend == backendVXLAN {
		h.mtu("veth"+p.name, vxlanMTU)
		inPod.mtu("eth0", vxlanMTU)
	}
	if h.err == nil {
		h.err = inPod.err
	}
}

// each runs fn for every name, all at once.
func each(names []string, fn func(string) error) error {
	var steps []func() error
	for _, name := range names {
		steps = append(steps, func() error { return fn(name) })
	}
	return parallel(steps)
}

func parallel(steps []func() error) error {
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { errs[i] = step() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// writeJSON writes a file that its readers find whole or not at all.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return writeFile(path, string(text)+"\n")
}

// writeFile writes a file that its readers find whole or not at all.
func writeFile(path, text string) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return os.WriteFile(path, []byte(text), 0o644) // /dev/null is not to become a file
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
