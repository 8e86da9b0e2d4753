// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netns"
)

// A pair is the smallest cluster: two pods on the bridge of one node, each a
// namespace with a name of its own, so that it can be built on a developer's
// machine beside anything else. It loads no module by name and sets nothing
// outside its namespaces.
type pairInfo struct {
	ID    string `json:"id"`
	Node  string `json:"node"`
	A     string `json:"a"`
	B     string `json:"b"`
	AddrA string `json:"a_addr"`
	AddrB string `json:"b_addr"`
	Names string `json:"names"` // a file for the tool's --names
}

const (
	pairCNI   = "10.245.77.1/24"
	pairAddrA = "10.245.77.2"
	pairAddrB = "10.245.77.3"
)

func pairOf(id string) pairInfo {
	p := pairInfo{ID: id, Node: "shp-" + id + "-node", A: "shp-" + id + "-a", B: "shp-" + id + "-b",
		AddrA: pairAddrA, AddrB: pairAddrB}
	p.Names = filepath.Join(os.TempDir(), "shp-"+id+"-names.json")
	return p
}

func (p pairInfo) netns() []string { return []string{p.Node, p.A, p.B} }

func (p pairInfo) names() nameTable {
	return nameTable{
		Netns: []netnsName{
			{Name: p.Node, Kind: "node"},
			{Name: p.A, Kind: "pod", Node: p.Node, Pod: "default/a"},
			{Name: p.B, Kind: "pod", Node: p.Node, Pod: "default/b"},
		},
		Addresses: []addressName{{IP: p.AddrA, Pod: "default/a"}, {IP: p.AddrB, Pod: "default/b"}},
	}
}

// pairUp builds a pair and prints what it made. A failure removes what was made.
func pairUp(id string) error {
	p := newPair(id)
	if err := p.build(); err != nil {
		return errors.Join(err, pairDown(p.ID))
	}
	return json.NewEncoder(os.Stdout).Encode(p)
}

// newPair is a pair of this name, or of one that nothing else has.
func newPair(id string) pairInfo {
	if id == "" {
		var b [3]byte
		rand.Read(b[:])
		id = hex.EncodeToString(b[:])
	}
	return pairOf(id)
}

func (p pairInfo) build() error {
	for _, name := range p.netns() {
		if err := createNetns(name); err != nil {
			return err
		}
		err := inNetns(name, func() error {
			return setSysctls(map[string]string{
				"net.ipv6.conf.default.accept_dad":           "0",
				"net.ipv6.conf.default.router_solicitations": "0",
			})
		})
		if err != nil {
			return err
		}
	}
	node := openHost(p.Node)
	defer node.close()
	node.up("lo")
	node.bridge("cni0")
	node.addr("cni0", pairCNI)
	for i, name := range []string{p.A, p.B} {
		pod := openHost(name)
		defer pod.close()
		dev := "veth" + string(rune('a'+i))
		pod.up("lo")
		node.veth(dev, pod, "eth0")
		node.port(dev, "cni0")
		pod.addr("eth0", []string{p.AddrA, p.AddrB}[i]+"/24")
		pod.route(hop{dev: "eth0", via: prefixIP(pairCNI)})
		if pod.err != nil {
			return pod.err
		}
	}
	if node.err != nil {
		return node.err
	}
	return writeJSON(p.Names, p.names())
}

// pairDown removes a pair, also one that was built in part only.
func pairDown(id string) error {
	p := pairOf(id)
	var errs []error
	for _, name := range p.netns() {
		if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete network namespace %s: %w", name, err))
		}
	}
	if err := os.Remove(p.Names); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
