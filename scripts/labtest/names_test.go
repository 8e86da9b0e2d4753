// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackhop/stackhop/scripts/internal/apitest"
	"github.com/stackhop/stackhop/scripts/internal/manifest"
)

// serviceRanges hold the lab's virtual addresses.
const serviceRanges = "192.168.0.0/16,fd00:10:96:ff::/112"

// TestNames runs the lab's checks of names against a real API server, for which
// one kernel does.
//
//	go test -tags lab -timeout 30m ./scripts/labtest -run TestNames -v
func TestNames(t *testing.T) {
	bin := build(t)
	slots.take(t, 5*time.Minute)
	m := clusterOf(t, bin)
	c := apitest.Start(t, apitest.Config{ServiceRange: serviceRanges})
	k := c.Client(t)
	apitest.CreateManifest(t, k, &m)
	check := func(t *testing.T, name string) {
		run(t, bin, "6.12", fmt.Sprintf("lab up && lab check -seed %d %s", *seed, name),
			"-g", fmt.Sprint(c.APIPort), "-f", c.GuestKubeconfig(t)+":/lab/kubeconfig").check(t, name)
	}
	t.Run("names", func(t *testing.T) { check(t, "names") })
	t.Run("many", func(t *testing.T) {
		// In the order of names these are listed before the lab's own.
		apitest.Populate(t, k, "crowd", 10_000, 2_000)
		check(t, "many")
	})
}

// clusterOf is what `lab manifest` tells.
func clusterOf(t *testing.T, bin string, args ...string) (m manifest.Cluster) {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "lab"), append([]string{"manifest"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A guest with a card reaches the one port of this machine, and nothing else.
func TestCard(t *testing.T) {
	bin := build(t)
	slots.take(t, time.Minute)
	var others atomic.Int32
	allowed := listen(t, "127.0.0.1:0", func(c net.Conn) { _, _ = io.WriteString(c, "allowed\n") })
	loopback := listen(t, "127.0.0.1:0", func(net.Conn) { others.Add(1) })
	anywhere := listen(t, ":0", func(net.Conn) { others.Add(1) })

	refused := []string{fmt.Sprint("10.0.2.2 ", allowed), fmt.Sprint("10.0.2.2 ", anywhere), fmt.Sprint("10.0.2.100 ", loopback), "10.0.2.3 53"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			refused = append(refused, fmt.Sprint(n.IP, " ", anywhere))
		}
	}
	var script strings.Builder
	fmt.Fprintf(&script, "nc 10.0.2.100 %d\n", allowed)
	for _, to := range refused {
		fmt.Fprintf(&script, "timeout 10 nc -w 5 %s </dev/null && echo ARRIVED %s\n", to, to)
	}
	script.WriteString("timeout 10 nslookup localhost. 10.0.2.3 && echo ARRIVED DNS\n")
	script.WriteString("ip netns add other && ip -n other -o link | grep -c eth && echo ARRIVED from a namespace; echo done\n")
	m := run(t, bin, "6.12", script.String(), "-g", fmt.Sprint(allowed))
	said := strings.Join(m.log, "\n")
	if m.err != nil || !strings.Contains(said, "allowed") || !strings.Contains(said, "done") {
		t.Errorf("the guest ended with %v and said\n%s", m.err, said)
	}
	if strings.Contains(said, "ARRIVED") || others.Load() > 0 {
		t.Errorf("%d connections came where none may; the guest said\n%s", others.Load(), said)
	}
}

// listen serves every connection to an address until the test ends.
func listen(t *testing.T, address string, serve func(net.Conn)) (port int) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
