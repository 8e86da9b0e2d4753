// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A chore is one kind of healthy traffic, made again and again.
type chore struct {
	name, from string
	every      time.Duration
	once       func(seq int) (result, error)
}

// A healthyConn is one connection and what both of its ends saw.
type healthyConn struct {
	Chore  string `json:"chore"`
	Proto  string `json:"proto"`
	Local  string `json:"local"`
	Dialed string `json:"dialed"`
	// Lost: the server saw another address than the client's.
	Lost bool `json:"lost"`
}

// asks is a request and its answer, through whatever is dialed.
func asks(name, from, network, dial string, every time.Duration) chore {
	c := testCase{id: name, from: from, network: network, dial: dial}
	return chore{name, from, every, func(seq int) (result, error) {
		r := connect(c, seq)
		if r.Err != "" {
			return r, errors.New(r.Err)
		}
		return r, nil
	}}
}

// carries is a transfer of much data, there and back.
func carries(name, from, network, dial string, bytes int, every time.Duration) chore {
	o := oddity{from: from, network: network, dial: dial, bytes: bytes}
	return chore{name, from, every, func(int) (result, error) {
		var or oddResult
		err := o.talk(&or)
		// Nothing translates these: both ends see the same.
		return result{ClientLocal: or.Local, SawClient: or.Local, Dialed: dial}, err
	}}
}

// chores go on side by side, at a pace at which an emulated guest on a busy
// machine loses no events: some thousand a second.
var chores = []chore{
	asks("http-clusterip", "centos", "tcp", vipNginx1+":80", 1200*time.Millisecond),
	asks("http-same-node", "centos", "tcp", vipNginx+":80", 1600*time.Millisecond),
	asks("dns", "centos", "udp", vipDNS+":53", 480*time.Millisecond),
	asks("dns-same-node", "nginx1b", "udp", vipDNS+":53", 1200*time.Millisecond),
	asks("hairpin", "nginx1a", "tcp", vipNginx1+":80", 3200*time.Millisecond),
	asks("node-port", "centos", "tcp", "10.0.1.206:30875", 3200*time.Millisecond),
	asks("node-port-local", "centos", "tcp", "10.0.1.206:32580", 3200*time.Millisecond),
	carries("bulk", "centos", "tcp", nginx1aEcho, 1<<15, 12000*time.Millisecond),
	carries("bulk-same-node", "centos", "tcp", "172.23.96.24:7", 1<<15, 12000*time.Millisecond),
	carries("bulk-v6", "centos", "tcp", "[fd00:10:96:2::163]:7", 1<<15, 6*time.Second),
	carries("datagrams", "centos", "udp", "172.23.96.164:7", 1200, 2400*time.Millisecond),
	carries("fragments", "nginx1a", "udp", "172.23.96.24:7", 4000, 4*time.Second),
	carries("ping", "centos", "ping", "172.23.96.163", 0, 4000*time.Millisecond),
	carries("ping-same-node", "nginx1a", "ping", "172.23.96.164", 0, 4000*time.Millisecond),
}

func cmdHealthy(args []string) error {
	fs := flags("healthy")
	file := fs.String("o", "", "write the connections to `FILE`, one object a line")
	lasts := fs.Duration("for", time.Minute, "begin nothing later than this")
	if _, err := parse(fs, args, 0, "[-for TIME] [-o FILE]"); err != nil {
		return err
	}
	h := healthyRun{until: time.Now().Add(*lasts)}
	var wg sync.WaitGroup
	for _, c := range chores {
		wg.Go(func() { h.repeat(c) })
	}
	wg.Go(h.rounds)
	wg.Wait()
	fmt.Fprintf(os.Stderr, "lab: %d connections and questions, %d went wrong\n", h.count, len(h.errs))
	if *file != "" {
		h.errs = append(h.errs, writeFile(*file, h.lines.String()))
	}
	return errors.Join(h.errs...)
}

// A healthyRun gathers what all chores did.
type healthyRun struct {
	until time.Time

	mu    sync.Mutex
	lines strings.Builder
	count int
	errs  []error
}

// repeat does a chore until the time is over.
func (h *healthyRun) repeat(c chore) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for seq := 1; time.Now().Before(h.until); seq++ {
		h.do(c, seq)
		<-tick.C
	}
}

// rounds makes the cases that go well, one after the other: the load balancer
// does what each needs.
func (h *healthyRun) rounds() {
	pace := time.NewTicker(600 * time.Millisecond)
	defer pace.Stop()
	for seq := 1; time.Now().Before(h.until); seq++ {
		for _, c := range cases {
			if len(c.servers) == 0 || time.Now().After(h.until) {
				continue
			}
			if err := prepareCase(c); err != nil {
				h.note(healthyConn{}, err)
				return
			}
			h.do(chore{c.id, c.from, 0, func(seq int) (result, error) {
				r := connect(c, seq)
				return r, c.check(r)
			}}, seq)
			<-pace.C
		}
	}
}

func (h *healthyRun) do(c chore, seq int) {
	var conn healthyConn
	err := inNetns(c.from, func() error {
		r, err := c.once(seq)
		conn = healthyConn{c.name, "tcp", r.ClientLocal, r.Dialed, withoutPort(r.ClientLocal) != withoutPort(r.SawClient)}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s, number %d: %w", c.name, seq, err)
	}
	h.note(conn, err)
}

func (h *healthyRun) note(conn healthyConn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	if err != nil {
		h.errs = append(h.errs, err)
		return
	}
	text, err := json.Marshal(conn)
	if err != nil {
		h.errs = append(h.errs, err)
	}
	fmt.Fprintf(&h.lines, "%s\n", text)
}

// withoutPort is an address without its port, if it has one.
func withoutPort(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		return addr[:i]
	}
	return addr
}
