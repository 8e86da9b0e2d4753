// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// endPatience is longer than a slow guest takes for the end of a connection, of which
// it may send parts again.
const endPatience = 15 * time.Second

// awaitTCPEnds waits until no TCP connection of these namespaces is open: whoever ends a
// connection has its answer before the last packets have gone to and fro.
func awaitTCPEnds(namespaces ...string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(endPatience)
	for _, name := range namespaces {
		for {
			open, err := openTCP(name)
			if err != nil {
				return err
			}
			if len(open) == 0 {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s: after %v TCP connections are open still: %v", name, endPatience, open)
			}
			<-tick.C
		}
	}
	return nil
}

// openTCP lists the TCP connections of a namespace with something to come.
func openTCP(namespace string) (open []string, err error) {
	err = inNetns(namespace, func() error {
		for _, file := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			open = append(open, openSockets(string(text))...)
		}
		return nil
	})
	return open, err
}

// openSockets picks the lines of /proc/net/tcp whose sockets neither listen nor keep
// an ended connection in mind (TCP_LISTEN and TCP_TIME_WAIT, include/net/tcp_states.h).
func openSockets(text string) (open []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[0] != "sl" && fields[3] != "0A" && fields[3] != "06" {
			open = append(open, strings.Join(fields[1:4], " "))
		}
	}
	return open
}
