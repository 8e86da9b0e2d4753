// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// unpackFile returns all that a recording holds: the file itself, and behind it what its
// blocks are when unpacked. It reads blocks by their description (events/record/FORMAT.md),
// not by the package that wrote them.
func unpackFile(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	const magic, head, compressed = "SHB\n", 20, 1
	all, blocks := bytes.Clone(raw), 0
	for at := bytes.Index(raw, []byte(magic)); at >= 0; blocks++ {
		stored := int(binary.LittleEndian.Uint32(raw[at+8:]))
		block := raw[at+head : at+head+stored]
		if raw[at+5] == compressed {
			if block, err = dec.DecodeAll(block, nil); err != nil {
				t.Fatalf("block at %d: %v", at, err)
			}
		}
		all = append(all, block...)
		if at += head + stored; at >= len(raw) {
			break
		}
		if string(raw[at:at+4]) != magic {
			t.Fatalf("no block at %d of %d", at, len(raw))
		}
	}
	if blocks < 3 {
		t.Fatalf("%d blocks in %d bytes", blocks, len(raw))
	}
	return all
}

// TestNativeNoPayload: nothing of what packets carry is in a recording, unless it is asked
// for: then it is found.
func TestNativeNoPayload(t *testing.T) {
	bin := buildTool(t)
	node := newSpace(t, "node")
	pod, _ := newPod(t, node, 1)
	sent := regexp.MustCompile(`stackhop: [2-9]\d packets matched`) // 20 datagrams, and errors about some of them
	const secret = "correct-horse-battery-staple"
	for _, tt := range []struct {
		name string
		args []string
		want bool
	}{{"by default", nil, false}, {"with --snaplen 256", []string{"--snaplen", "256"}, true}} {
		dir := t.TempDir()
		file, ready := filepath.Join(dir, "a.hop"), filepath.Join(dir, "ready")
		args := append([]string{"record", "-w", file, "--no-kube", "--hooks", "tracepoints", "--ready-file", ready}, tt.args...)
		r := startTool(t, bin, node, append(args, "udp port 9")...)
		r.until("ready", func() bool { _, err := os.Stat(ready); return err == nil })
		for n := range 20 {
			inSpace(t, pod, func() error {
				conn, err := net.Dial("udp", "10.99.1.1:9")
				if err != nil {
					return err
				}
				defer conn.Close()
				_, err = fmt.Fprint(conn, strings.Repeat("-", n), secret, secret)
				return err
			})
		}
		if said := r.interrupt(); !sent.MatchString(said) {
			t.Errorf("%s: %s", tt.name, said)
		}
		all := unpackFile(t, file)
		found := 0
		for from := range len(secret) - 4 { // five bytes of it in a row are too many
			found += bytes.Count(all, []byte(secret[from:from+5]))
		}
		if (found > 0) != tt.want {
			t.Errorf("%s: payload in %d places of %d bytes", tt.name, found, len(all))
		}
		t.Logf("%s: payload of 20 datagrams in %d places of %d bytes", tt.name, found, len(all))
	}
}
