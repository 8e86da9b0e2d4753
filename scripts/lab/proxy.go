// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// proxyModes are kube-proxy's.
var proxyModes = []string{"ipvs", "iptables", "nftables"}

const (
	// apiInNode is where the processes of a node find the API server. Its
	// certificate is made out to that address.
	apiInNode = "127.0.0.1:6443"

	// proxyModeFile remembers the mode for whoever makes traffic.
	proxyModeFile = "/run/stackhop/proxy-mode"

	proxyPatience = 3 * time.Minute
)

// serveProxy runs a kube-proxy on each node, and says so once all rules are
// written. It goes on until it is told to end, and ends them with it.
func serveProxy(mode string) error {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	server, err := readKubeconfig(kubeconfigFile)
	if err != nil {
		return err
	}
	at, err := url.Parse(server.url)
	if err != nil {
		return err
	}
	ended := make(chan error, len(nodes))
	for _, n := range nodes {
		if err := forwardFrom(n.name, at.Host); err != nil {
			return err
		}
		cmd, err := startProxy(n, mode)
		if err != nil {
			return err
		}
		defer cmd.Process.Kill()
		go func() { ended <- proxyFailure(n, errors.Join(errors.New("it ended"), cmd.Wait())) }()
	}
	if err := awaitProxies(mode, ended); err != nil {
		return err
	}
	if err := writeFile(proxyModeFile, mode); err != nil {
		return err
	}
	fmt.Printf("lab: a kube-proxy in mode %s has written the rules of each node\n", mode)
	select {
	case <-stop:
		return nil
	case err := <-ended:
		return err
	}
}

// forwardFrom lets a node reach an address of the guest's first namespace, which
// has the card.
func forwardFrom(name, to string) error {
	var l net.Listener
	err := inNetns(name, func() (err error) {
		l, err = net.Listen("tcp", apiInNode)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go forward(conn, to)
		}
	}()
	return nil
}

// forward joins a connection and a new one.
func forward(conn net.Conn, to string) {
	defer conn.Close()
	onward, err := net.Dial("tcp", to)
	if err != nil {
		return // the other side sees the end, and tries again
	}
	defer onward.Close()
	done := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{conn, onward}, {onward, conn}} {
		go func() {
			_, _ = io.Copy(ends[0], ends[1]) // an error is an end, too
			done <- struct{}{}
		}()
	}
	<-done
}

func proxyLog(n node) string { return "/run/stackhop/kube-proxy-" + n.name + ".log" }

// startProxy starts the kube-proxy of a node. Its ports are the namespace's.
func startProxy(n node, mode string) (*exec.Cmd, error) {
	log, err := os.Create(proxyLog(n))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Limits of conntrack are the first namespace's, and not to be set from another.
	cmd := exec.Command("kube-proxy", "--hostname-override", n.name, "--proxy-mode", mode, "--cluster-cidr", podCIDR,
		"--conntrack-max-per-core=0", "--kubeconfig", kubeconfigFile, "--master", "https://"+apiInNode,
		"--healthz-bind-address", "127.0.0.1:10256", "--metrics-bind-address", "127.0.0.1:10249")
	cmd.Stdout, cmd.Stderr = log, log
	if err := startIn(n.name, cmd); err != nil {
		return nil, fmt.Errorf("start the kube-proxy of %s: %w (scripts/kube/build kube-proxy builds it for vm run -f)", n.name, err)
	}
	return cmd, nil
}

func proxyFailure(n node, err error) error {
	text, _ := os.ReadFile(proxyLog(n)) // what there is of it
	return fmt.Errorf("the kube-proxy of %s: %w: %s", n.name, err, lastLines(string(text), 20))
}

// awaitProxies waits until the rules of every node name every service. All of them
// are in the first that a kube-proxy writes.
func awaitProxies(mode string, ended <-chan error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(proxyPatience)
	for _, n := range nodes {
		for {
			missing, err := unwritten(n.name, mode)
			if err != nil {
				return err
			}
			if len(missing) == 0 {
				break
			}
			if time.Now().After(end) {
				return proxyFailure(n, fmt.Errorf("after %v its rules still lack %v", proxyPatience, missing))
			}
			select {
			case err := <-ended:
				return err
			case <-tick.C:
			}
		}
	}
	return nil
}

// proxyWrites are the commands that show what a mode has written, the last part of
// it last, and a word of that.
var proxyWrites = map[string]struct {
	commands [][]string
	last     string
}{
	"ipvs":     {[][]string{{"ipvsadm", "-Sn"}, {"iptables-save", "-t", "nat"}}, "-A KUBE-POSTROUTING"},
	"iptables": {[][]string{{"iptables-save"}}, "-A KUBE-POSTROUTING"},
	"nftables": {[][]string{{"nft", "list", "ruleset"}}, "table ip kube-proxy"},
}

// unwritten are the parts of a node's rules that are not there yet.
func unwritten(name, mode string) (missing []string, err error) {
	var text strings.Builder
	for _, argv := range proxyWrites[mode].commands {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = &text, os.Stderr
		if err := startIn(name, cmd); err != nil {
			return nil, err
		}
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, argv[0], err)
		}
	}
	want := []string{proxyWrites[mode].last}
	for _, s := range slices.Concat(services, proxyServices) {
		if !is6(s.vip) {
			want = append(want, s.vip)
		}
	}
	return slices.DeleteFunc(want, func(w string) bool { return strings.Contains(text.String(), w) }), nil
}
