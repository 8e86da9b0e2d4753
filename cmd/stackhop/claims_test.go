// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// recordRounds records eight rounds of case 5, as one node has them.
func recordRounds(t *testing.T, node string, keep func(int, *events.Event) bool, prep func(*world), args ...string) string {
	t.Helper()
	c := readCapture(t, "6.12-case5")
	toldAgain(c)
	w := newWorldOf(t, rounds(c, 8, 5*time.Second, 1, func(r int, e *events.Event) bool {
		if e.Ext == events.ExtHeader {
			e.Header.IPID += uint16(r * 1000)
			e.Header.Seq += uint32(r * 100000)
		}
		return keep(r, e)
	}))
	w.tr.paced = true
	w.tr.devices = map[uint32][]uint32{4026532361: {2}, 4026532160: {2, 3, 4}, 4026532227: {2, 3, 4}, 4026532495: {2}}
	if prep != nil {
		prep(w)
	}
	path := filepath.Join(t.TempDir(), node+".hop")
	w.must(t, append([]string{"record", "-w", path, "--names", namesFile(t, someNames), "--only-node", node, "--for", "60s"}, args...)...)
	return path
}

// TestNeverArrived: it is claimed only where the other node's recording must have
// had the packet: not for what was shed, sampled out, may not have been selected,
// or stands in a part that was not given.
func TestNeverArrived(t *testing.T) {
	n1 := recordRounds(t, "n1", all, nil, "--all")
	c := readCapture(t, "6.12-case5")
	few := func(r int, e *events.Event) bool { return r == 0 || r == 7 || c.Names.Namespace(e.Netns).Node != "n2" }
	shed := func(w *world) {
		w.tr.afterTick = func(n int) { w.tr.stats.Lost = map[string]uint64{"rate": uint64(n)} }
	}
	// Between two packets that are missing, 4 s behind the first.
	shedOnce := func(w *world) {
		w.tr.afterTick = func(n int) { w.tr.stats.Lost = map[string]uint64{"rate": uint64(n / int(9*time.Second/tick))} }
	}
	ring := recordRounds(t, "n2", all, nil, "--all", "--ring", "1000x1k")
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(ring), "*"))
	if err != nil || len(parts) < 9 {
		t.Fatal(parts, err)
	}
	k := len(parts) / 3
	const missing = 6 * 4 // rounds, packets that come to n2
	for name, tt := range map[string]struct {
		n2   []string
		gone int
	}{
		"whole":         {[]string{recordRounds(t, "n2", few, nil, "--all")}, missing},
		"rate":          {[]string{recordRounds(t, "n2", few, shed, "--all", "--rate", "100")}, 0},
		"rate, later":   {[]string{recordRounds(t, "n2", few, shedOnce, "--all", "--rate", "100")}, missing},
		"sample":        {[]string{recordRounds(t, "n2", few, nil, "--all", "--sample", "1/100")}, 0},
		"by length":     {[]string{recordRounds(t, "n2", few, nil, "greater 9000")}, 0},
		"by flags":      {[]string{recordRounds(t, "n2", few, nil, "tcp[tcpflags] & tcp-rst != 0")}, 0},
		"all parts":     {parts, 0},
		"parts missing": {append(append([]string{}, parts[:k]...), parts[2*k:]...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).must(t, append([]string{"replay", n1}, tt.n2...)...)
			if n := strings.Count(w.stdout.String(), "never arrived at"); n != tt.gone {
				t.Errorf("%d are said never to have arrived, want %d\n%s", n, tt.gone, w.stderr.String())
			}
		})
	}
}

// TestNeverArrivedDamaged: what was in a damaged place of the other recording is not
// said never to have arrived; what is missing elsewhere in it is.
func TestNeverArrivedDamaged(t *testing.T) {
	n1 := recordRounds(t, "n1", all, nil, "--all")
	c := readCapture(t, "6.12-case5")
	// Of n2's rounds one is missing, 25 s behind the first, and another is damaged.
	path := recordRounds(t, "n2", func(r int, e *events.Event) bool { return r != 5 || c.Names.Namespace(e.Netns).Node != "n2" }, nil, "--all")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const kindEvents, header = 3, 20
	damaged, packets := false, 0
	for at := 16; at < len(data); at += header + int(binary.LittleEndian.Uint32(data[at+8:])) {
		if size := binary.LittleEndian.Uint32(data[at+8:]); data[at+4] == kindEvents && size > 200 {
			if packets++; packets == 3 {
				data[at+header] ^= 1
				damaged = true
			}
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil || !damaged {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.run("replay", n1, path)
	if n := strings.Count(w.stdout.String(), "never arrived at"); n != 4 {
		t.Errorf("%d are said never to have arrived, want 4\n%s", n, w.stderr.String())
	}
	if n := strings.Count(w.stdout.String(), "not whole at that time"); n != 4 {
		t.Errorf("%d were in the damaged place, want 4\n%s", n, w.stdout.String())
	}
}

// TestStageNames: the stages that a file says something was lost in are text too.
func TestStageNames(t *testing.T) {
	f, err := os.ReadFile(recorded(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.NewReader(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := record.NewWriter(&b, r.Meta())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Status(&record.Status{Lost: map[string]uint64{"\x1b]0;pwned\a": 5}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(&record.End{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "evil.hop")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	x := newWorld(t)
	x.run("replay", path)
	if said := x.stderr.String(); strings.ContainsAny(said, "\x1b\a") || !strings.Contains(said, "pwned") {
		t.Errorf("%q", said)
	}
}

// TestKeyIsKept: --force replaces no file that is needed.
func TestKeyIsKept(t *testing.T) {
	in := recorded(t)
	key := filepath.Join(t.TempDir(), "key")
	newWorld(t).must(t, "redact", in, "-o", filepath.Join(t.TempDir(), "x"), "--key", key)
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"redact", in, "-o", key, "--key", key, "--force"},
		{"record", "-w", key, "--force", "--redact=" + key, "--for", "1s", "tcp"},
	} {
		if status := newWorld(t).run(args...); status != exitError {
			t.Errorf("%v: status %d", args, status)
		}
		if after, err := os.ReadFile(key); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%v: the key is gone: %v", args, err)
		}
	}
}
