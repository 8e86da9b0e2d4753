// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// besidesAPI leaves out what the kube-proxies say to the API server.
const besidesAPI = "(" + everything + ") and not tcp port 6443 and not net 10.0.2.0/24"

// wholeCapture is the file with the events of all of them.
const wholeCapture = "whole"

// kubeProxy: the connections to services go as a real kube-proxy lets them, and
// the tool says so, with the names that the API server knows.
func (c *checker) kubeProxy() error {
	mode := proxyMode()
	if mode == "" {
		return errors.New("no kube-proxy runs here: lab up -proxy MODE")
	}
	list := proxyCases(mode)
	// Neighbours are known then, as in any cluster that has been up for a while.
	spoken := slices.DeleteFunc(slices.Clone(list), func(one testCase) bool { return one.silent })
	if err := runCases(spoken, true, io.Discard); err != nil {
		return err
	}
	byAPI, remove, err := c.askingAPI()
	if err != nil {
		return err
	}
	defer remove()
	var ids []string
	for _, one := range list {
		ids = append(ids, one.id)
	}
	args := []string{"--kubeconfig", kubeconfigFile, besidesAPI}
	if c.outDir != "" {
		args = append([]string{"--capture", filepath.Join(c.outDir, wholeCapture)}, args...)
	}
	verified, all, s, err := byAPI.runTraced(args, ids...)
	if err != nil {
		return err
	}
	left := assign(verified, all)
	var faults []string
	for _, v := range verified {
		v.compare()
		for _, f := range v.faults() {
			faults = append(faults, v.c.id+": "+f)
		}
		c.fact("%s, %s → %s: %d packets", v.c.id, v.r.ClientLocal, v.r.Dialed, len(v.packet))
		if err := c.firstLines(v); err != nil {
			return err
		}
	}
	for _, t := range left {
		if t.Proto == "tcp" || t.Proto == "udp" {
			faults = append(faults, fmt.Sprintf("of no case: %s %s → %s: %s", kindOf(t), address(t.Src), address(t.Dst), t.Summary))
		}
	}
	for _, line := range s.summary() {
		if strings.Contains(line, "LOST") || strings.HasPrefix(line, "warning: ") {
			faults = append(faults, line)
		}
	}
	if err := faultsError(faults); err != nil || c.outDir == "" {
		return err
	}
	return cutCapture(filepath.Join(c.outDir, wholeCapture), c.outDir, verified)
}

// firstLines shows what the tool says of the first packets each way.
func (c *checker) firstLines(v *verified) error {
	shown := map[string]bool{}
	for _, t := range v.packet {
		if shown[t.Direction] {
			continue
		}
		shown[t.Direction] = true
		var text bytes.Buffer
		if err := (&events.LineRenderer{W: &text}).Render(t); err != nil {
			return err
		}
		c.fact("%s", strings.TrimSpace(text.String()))
	}
	return nil
}
