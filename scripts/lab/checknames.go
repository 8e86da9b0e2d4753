// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// kubeconfigFile is how a guest that can reach an API server does.
const kubeconfigFile = "/lab/kubeconfig"

// A namedWay is a case chosen by addresses, and by the names of the same.
type namedWay struct {
	id               string
	addresses, names []string
	service          string // that the request is sent to
}

var namedWays = []namedWay{
	{"5", []string{"--from", "172.23.96.23", "--to", vipNginx1 + ":80"},
		[]string{"--from", "pod/default/centos", "--to", "svc/default/nginx1:80"}, "default/nginx1"},
	{"9", []string{"--from", outsideIP, "--to", vipCluster + ":80"},
		[]string{"--from", outsideIP, "--to", "svc/default/nginx1-cluster:80"}, "default/nginx1-cluster"},
}

// apiNames: by names that only an API server knows the same traversals come as by
// the addresses, with the same names, and the endpoints of a service are followed.
func (c *checker) apiNames() error {
	byAPI, remove, err := c.askingAPI()
	if err != nil {
		return err
	}
	defer remove()
	var faults []string
	for _, way := range namedWays {
		more, err := c.compareNamed(byAPI, way)
		if err != nil {
			return fmt.Errorf("case %s: %w", way.id, err)
		}
		faults = append(faults, more...)
	}
	if err := faultsError(faults); err != nil {
		return err
	}
	return c.endpointsFollowed(byAPI)
}

// askingAPI is the checker with a tool that is told which namespaces are whose
// node's, which an API server does not know of a kernel with several nodes, and
// that asks it for all names of pods, services and nodes.
func (c *checker) askingAPI() (_ *checker, remove func(), err error) {
	dir, err := os.MkdirTemp("", "lab-names-")
	if err != nil {
		return nil, nil, err
	}
	other := *c
	other.tool.names = filepath.Join(dir, "nodes.json")
	table := nameTable{Addresses: []addressName{}}
	for _, n := range clusterNames(backendRoutes, nil).Netns {
		n.Pod = ""
		table.Netns = append(table.Netns, n)
	}
	return &other, func() { os.RemoveAll(dir) }, writeJSON(other.tool.names, table)
}

// compareNamed makes a case's traffic twice.
func (c *checker) compareNamed(byAPI *checker, way namedWay) (faults []string, err error) {
	var seen [2]map[string]string
	for i, by := range []struct {
		what    string
		checker *checker
		args    []string
	}{
		{"addresses", c, append([]string{"--no-kube"}, way.addresses...)},
		{"names", byAPI, append([]string{"--kubeconfig", kubeconfigFile}, way.names...)},
	} {
		list, all, s, err := by.checker.runTraced(by.args, way.id)
		if err != nil {
			return nil, fmt.Errorf("by %s: %w", by.what, err)
		}
		left := assign(list, all)
		v := list[0]
		v.compare()
		for _, f := range v.faults() {
			faults = append(faults, fmt.Sprintf("case %s by %s: %s", way.id, by.what, f))
		}
		for _, t := range left {
			faults = append(faults, fmt.Sprintf("case %s by %s: also %s → %s: %s", way.id, by.what, address(t.Src), address(t.Dst), t.Summary))
		}
		for _, line := range s.summary() {
			if strings.HasPrefix(line, "warning: ") {
				faults = append(faults, fmt.Sprintf("case %s by %s: %s", way.id, by.what, line))
			}
		}
		if by.checker == byAPI {
			faults = append(faults, c.lines(v, way)...)
			faults = append(faults, knownToAPI(v, way.service)...)
		}
		c.fact("case %s by %s (%s): %d traversals", way.id, by.what, strings.Join(by.args, " "), len(v.packet))
		if seen[i], err = normalised(v); err != nil {
			return nil, err
		}
	}
	return append(faults, difference(fmt.Sprintf("case %s by names", way.id), seen[0], seen[1])...), nil
}

// lines shows how a SYN is told, and wants the names in it.
func (c *checker) lines(v *verified, way namedWay) (faults []string) {
	for _, t := range v.packet {
		if t.TCPFlags != "S" {
			continue
		}
		var text bytes.Buffer
		if err := (&events.LineRenderer{W: &text}).Render(t); err != nil {
			return []string{err.Error()}
		}
		c.fact("%s", strings.TrimSpace(text.String()))
		want := []string{way.service, "n1", "n2"}
		if way.id == "5" {
			want = append(want, "default/centos")
		}
		for _, name := range want {
			if !strings.Contains(text.String(), name) {
				faults = append(faults, fmt.Sprintf("case %s: the line does not say %s: %s", way.id, name, text.String()))
			}
		}
		return faults
	}
	return []string{"case " + way.id + ": no SYN"}
}

// knownToAPI takes out what only an API server tells, and the names file of the
// other run does not, and checks it.
func knownToAPI(v *verified, service string) (faults []string) {
	facts := 0
	for _, t := range v.packet {
		for _, list := range translations(t) {
			for i := range list {
				if s := list[i].Service; s != "" && s != service {
					faults = append(faults, fmt.Sprintf("%sa translation is of service %q, want %s", v.at(t), s, service))
				}
				if ofNodePort(&list[i]) {
					list[i].Service = "" // node ports are in no names file
				}
			}
		}
		for _, e := range []*events.Endpoint{&t.Src, &t.Dst} {
			i := slices.IndexFunc(pods, func(p pod) bool { return p.ip == e.IP })
			if i < 0 {
				continue
			}
			if e.Node != pods[i].node || e.Pod != podName(pods[i].name) || e.Stale {
				faults = append(faults, fmt.Sprintf("%s%s is %q on node %q, stale %t, want %s on %s",
					v.at(t), e.IP, e.Pod, e.Node, e.Stale, podName(pods[i].name), pods[i].node))
			}
			e.Node = ""
		}
		if t.Service != nil {
			facts++
			if t.Service.Name != service {
				faults = append(faults, fmt.Sprintf("%sthe facts are of %q, want %s", v.at(t), t.Service.Name, service))
			}
			t.Service = nil
		}
	}
	if facts == 0 {
		faults = append(faults, "no request carries facts of "+service)
	}
	return faults
}

// ofNodePort says whether a translation's service is known by its node port.
func ofNodePort(n *events.NAT) bool {
	port := fmt.Sprint(":", portCluster)
	return n.Kind == "dnat" && strings.HasSuffix(n.From, port) || n.Kind == "snat" && strings.Contains(n.To, port+"→")
}

// translations are the lists of a packet's, the visits' and its own.
func translations(t *events.Traversal) [][]events.NAT {
	lists := [][]events.NAT{t.NAT}
	for _, v := range t.Visits {
		lists = append(lists, v.NAT)
	}
	return lists
}

// endpointsFollowed: a pod that becomes an endpoint of a service while this is
// followed is selected from then on, and was not before.
func (c *checker) endpointsFollowed(byAPI *checker) (err error) {
	const service = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/nginx1-ipv4"
	server, err := readKubeconfig(kubeconfigFile)
	if err != nil {
		return err
	}
	s, err := byAPI.tool.start("--kubeconfig", kubeconfigFile, "--from", "pod/default/centos", "--to", "svc/default/nginx1:80")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.interrupt()) }()
	before, err := connectPod("centos", "nginx1b")
	if err != nil {
		return err
	}
	if err := server.patch(service, endpointsPatch("nginx1b")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.patch(service, endpointsPatch("nginx1a"))) }()
	changed, connections := time.Now(), 0
	err = s.await(func() bool {
		var all []*events.Traversal
		if _, err = connectPod("centos", "nginx1b"); err == nil {
			all, err = s.soFar()
		}
		connections++
		return err != nil || slices.ContainsFunc(all, func(t *events.Traversal) bool { return t.Dst.Pod == "default/nginx1b" })
	})
	if err != nil {
		return err
	}
	c.fact("a new endpoint was followed %.1f s after it was told, with connection %d", time.Since(changed).Seconds(), connections)
	all, err := s.soFar()
	if err == nil && slices.ContainsFunc(all, func(t *events.Traversal) bool { return address(t.Src) == before }) {
		err = fmt.Errorf("the connection %s was selected before its end was an endpoint", before)
	}
	return err
}

// endpointsPatch makes a pod the only endpoint of a slice.
func endpointsPatch(name string) string {
	p, err := findPod(name)
	if err != nil {
		panic(err) // a name of this file
	}
	return fmt.Sprintf(`{"endpoints":[{"addresses":[%q],"nodeName":%q,"targetRef":{"kind":"Pod","name":%q},"conditions":{"ready":true}}]}`,
		p.ip, p.node, p.name)
}

// connectPod opens and ends a connection from one pod to port 80 of another one.
func connectPod(from, to string) (local string, err error) {
	p, err := findPod(to)
	if err != nil {
		return "", err
	}
	err = inNetns(from, func() error {
		conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.ParseIP(p.ip), Port: 80})
		if err != nil {
			return err
		}
		local = conn.LocalAddr().String()
		return conn.Close()
	})
	return local, err
}

// An apiServer is one as a kubeconfig of the tests names it.
type apiServer struct{ url, token string }

func readKubeconfig(path string) (s apiServer, err error) {
	var config struct {
		Clusters []struct{ Cluster struct{ Server string } }
		Users    []struct{ User struct{ Token string } }
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err == nil && (len(config.Clusters) == 0 || len(config.Users) == 0) {
		err = fmt.Errorf("%s names no server", path)
	}
	if err != nil {
		return s, fmt.Errorf("%w (this check needs an API server, see scripts/README.md)", err)
	}
	return apiServer{config.Clusters[0].Cluster.Server, config.Users[0].User.Token}, nil
}
