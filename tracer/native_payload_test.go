// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// TestNativeNoPayload: unless bytes of packets are asked for, none of what is sent
// leaves the kernel: not of UDP, of TCP, of an ICMP error's quotation, or of ICMP.
func TestNativeNoPayload(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	secret := bytes.Repeat([]byte{0xa5, 0x5a, 0xa7}, 400) // in no header of these packets
	find := func(snap int) (kept, found int) {
		r := startRun(t, Config{Select: expression(t, "host "+b.addr.String()), Record: true, SnapLen: snap}, nil)
		udp := c.listenUDP(b, 4700+snap)
		if _, err := c.dialUDP(a, b, 4700+snap).Write(secret[:600]); err != nil {
			t.Fatal(err)
		}
		udp.SetReadDeadline(time.Now().Add(patience))
		if _, err := udp.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.dialUDP(a, b, 9).Write(secret[:600]) // is answered with an ICMP error
		sendTCP(t, c, a, b, secret)
		eventually(t, "all has been seen", func() bool {
			return r.any(func(e *events.Event) bool { return e.Ext == events.ExtHeader && e.Header.Proto == 1 }) &&
				r.any(func(e *events.Event) bool {
					return e.Ext == events.ExtHeader && e.Header.Proto == 6 && e.Header.Length > 600
				})
		})
		r.stop()
		for _, e := range r.seen() {
			kept += len(e.Bytes)
			if bytes.Contains(e.Bytes, secret[:3]) || bytes.Contains(e.Bytes, secret[1:4]) || bytes.Contains(e.Bytes, secret[2:5]) {
				found++
			}
		}
		return kept, found
	}
	kept, found := find(0)
	t.Logf("%d bytes of headers kept, in %d events bytes of payload", kept, found)
	if kept == 0 || found != 0 {
		t.Errorf("%d bytes kept, payload in %d events", kept, found)
	}
	if _, found := find(200); found == 0 {
		t.Error("the search finds nothing where there is something")
	}
}
