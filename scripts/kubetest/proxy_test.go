// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kubetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// proxy passes TCP connections to the API server, slowly or not at all.
type proxy struct {
	listener net.Listener
	target   string
	ctx      context.Context

	mu    sync.Mutex
	delay time.Duration // before anything passes
	shut  bool          // connections are closed at once
	open  map[net.Conn]bool
}

func startProxy(t *testing.T, c *apitest.Cluster) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: fmt.Sprintf("127.0.0.1:%d", c.APIPort), ctx: t.Context(), open: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.set(0, true)
		wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "https://" + p.listener.Addr().String() }

// set says how the proxy is from now on, and cuts all connections.
func (p *proxy) set(delay time.Duration, shut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.shut = delay, shut
	for c := range p.open {
		c.Close()
	}
	clear(p.open)
}

// keep takes note of a connection, or closes it.
func (p *proxy) keep(c net.Conn) (delay time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		c.Close()
		return 0, false
	}
	p.open[c] = true
	return p.delay, true
}

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	delay, ok := p.keep(in)
	if !ok {
		return
	}
	select {
	case <-time.After(delay):
	case <-p.ctx.Done():
		return
	}
	out, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	if _, ok := p.keep(out); !ok {
		return
	}
	var wg sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // ends when either is closed
		to.Close()
		from.Close()
	}
	wg.Go(func() { pass(out, in) })
	wg.Go(func() { pass(in, out) })
	wg.Wait()
}
