// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

const (
	// mostMemory is what the tool may take of a node's, in KiB, with all hooks and
	// the names of a large cluster.
	mostMemory = 100 << 10
	// manyConnections are made while it is measured.
	manyConnections = 300
)

// manyNames: what the tool takes of a node's memory with all hooks, while it
// learns the names of a large cluster and traffic runs. The API server lists the
// lab's own pods and services last.
func (c *checker) manyNames() error {
	byAPI, remove, err := c.askingAPI()
	if err != nil {
		return err
	}
	defer remove()
	start := time.Now()
	s, err := byAPI.tool.start("--kubeconfig", kubeconfigFile, everything)
	if err != nil {
		return err
	}
	c.fact("ready after %.1f s, with %s so far", time.Since(start).Seconds(), mebibytes(s.memory("VmHWM")))
	var failed error
	err = s.await(func() bool {
		var all []*events.Traversal
		if failed = c.connections("5", 1); failed == nil {
			all, failed = s.soFar()
		}
		return failed != nil || slices.ContainsFunc(all, func(t *events.Traversal) bool {
			return t.Src.Pod == "default/centos" && t.Dst.Service == "default/nginx1"
		})
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	c.fact("all names are known after %.1f s, with %s so far", time.Since(start).Seconds(), mebibytes(s.memory("VmHWM")))
	failed = c.connections("5", manyConnections)
	most, now := s.memory("VmHWM"), s.memory("VmRSS")
	if err := errors.Join(failed, s.interrupt()); err != nil {
		return err
	}
	all, err := s.traversals()
	if err != nil {
		return err
	}
	c.fact("after %d more connections, %d traversals in all: at most %s of memory, %s now", manyConnections, len(all), mebibytes(most), mebibytes(now))
	if len(all) < manyConnections {
		return fmt.Errorf("%d traversals of %d connections", len(all), manyConnections)
	}
	if most == 0 || most > mostMemory {
		return fmt.Errorf("the tool took up to %s of memory, want at most %s", mebibytes(most), mebibytes(mostMemory))
	}
	return nil
}

// connections makes some of a case, one after the other.
func (c *checker) connections(id string, count int) error {
	one, err := findCase(id)
	if err != nil {
		return err
	}
	return startCase(one, count, io.Discard)
}

// memory is a figure of the tool's memory in KiB; 0: the kernel does not tell.
func (s *session) memory(field string) int { return memoryOf(s.cmd.Process.Pid, field) }

// memoryOf is a figure of a process's memory in KiB; 0: the kernel does not tell.
func memoryOf(pid int, field string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

func mebibytes(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// patch changes an object.
func (s apiServer) patch(path, body string) error {
	req, err := http.NewRequest(http.MethodPatch, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is the test's own
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // for the message
		return fmt.Errorf("change %s: %s: %s", path, resp.Status, text)
	}
	return nil
}
