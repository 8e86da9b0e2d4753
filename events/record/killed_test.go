// SPDX-License-Identifier: Apache-2.0

//go:build unix

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// childEnv says what this program does in place of its tests: it is a recorder that
// another of its kind kills, or lets run out of room.
const childEnv = "STACKHOP_RECORD_CHILD"

func TestMain(m *testing.M) {
	switch what, arg, _ := strings.Cut(os.Getenv(childEnv), ":"); what {
	case "":
		os.Exit(m.Run())
	case "forever":
		childForever(arg)
	case "limited":
		childLimited(arg)
	}
}

// child prepares this program to be such a child.
func child(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(me)
	c.Env = append(os.Environ(), childEnv+"="+what)
	c.Stderr = os.Stderr
	return c
}

// childEvent is the event with a number: packets that look different, and a number
// in each by which it is known again.
func childEvent(n uint64, now uint64) events.Event {
	e := events.Event{
		Time: now, Packet: n / 4, Seq: uint16(n % 4), Hook: 1, Netns: 1, Ifindex: 2, CPU: uint16(n % 7), //nolint:gosec // small
	}
	if e.Seq == 0 {
		e.Ext = events.ExtHeader
		e.Header.Seq = uint32(n * 2654435761) //nolint:gosec // any bits will do
	}
	return e
}

func childMeta() *Meta {
	return &Meta{Tool: "test", RunID: "run", Hooks: []Hook{{ID: 1, Name: "f", Station: "receive"}}}
}

func die(err error) {
	fmt.Fprintln(os.Stderr, "child:", err)
	os.Exit(1)
}

// childForever records at full rate until it is killed. Beside the file it says up
// to which tick it has come.
func childForever(path string) {
	said, err := os.Create(path + ".said")
	if err != nil {
		die(err)
	}
	r, err := Create(Options{Path: path}, childMeta(), anyOf(nil))
	if err != nil {
		die(err)
	}
	fmt.Println("ready")
	begin := time.Now()
	for n := uint64(0); ; {
		now := uint64(time.Since(begin)) + 1 //nolint:gosec // not negative
		for range 2000 {
			e := childEvent(n, now)
			r.Event(&e)
			n++
		}
		if err := r.Tick(now); err != nil {
			die(err)
		}
		if _, err := said.WriteAt(binary.LittleEndian.AppendUint64(nil, now), 0); err != nil {
			die(err)
		}
	}
}

// numbered checks that the events are those of a child, in their order.
type numbered struct {
	t    *testing.T
	n    uint64
	last uint64 // tick
}

func (c *numbered) Tick(now uint64) { c.last = now }
func (c *numbered) Event(e *events.Event) {
	want := childEvent(c.n, e.Time)
	if !sameEvent(e, &want) {
		c.t.Errorf("event %d is %+v", c.n, *e)
	}
	c.n++
}

// TestKilled: of a recorder that is killed at any moment at full rate, the file is
// replayed, and at most a second of it is missing.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // a test repeats
	var all sync.WaitGroup
	var mu sync.Mutex
	var worst time.Duration
	total, cut := uint64(0), 0
	two := make(chan struct{}, 2)
	for i := range 50 {
		after := 200*time.Millisecond + time.Duration(rnd.Int64N(int64(1300*time.Millisecond)))
		two <- struct{}{}
		all.Go(func() {
			defer func() { <-two }()
			n, missing, damaged := killedAfter(t, filepath.Join(dir, strconv.Itoa(i)), after)
			mu.Lock()
			defer mu.Unlock()
			worst, total = max(worst, missing), total+n
			if damaged {
				cut++
			}
		})
	}
	all.Wait()
	t.Logf("%d events; at most %v is missing; %d files are cut within a block", total, worst, cut)
	if worst > time.Second || total == 0 {
		t.Errorf("%v is missing, of %d events", worst, total)
	}
}

// killedAfter kills a child after a time, and reads what it left.
func killedAfter(t *testing.T, path string, after time.Duration) (n uint64, missing time.Duration, damaged bool) {
	c := child(t, "forever:"+path)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Error(err)
		return 0, 0, false
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Error(err)
	}
	time.Sleep(after) // the moment is what is tried
	err = errors.Join(c.Process.Kill(), c.Wait())
	if st, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
		t.Errorf("it was not killed: %v", err)
	}
	said, err := os.ReadFile(path + ".said")
	if err != nil || len(said) != 8 {
		t.Errorf("after %v it had said %d bytes, %v", after, len(said), err)
		return 0, 0, false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return 0, 0, false
	}
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		t.Errorf("after %v: %v", after, err)
		return 0, 0, false
	}
	got := &numbered{t: t}
	if err = r.Run(got); err != nil {
		d, ok := errors.AsType[*Damage](err)
		if !ok || d.Offset+d.Length != int64(len(data)) || !strings.Contains(d.What, "cut off") {
			t.Errorf("after %v: %v", after, err)
		}
	}
	if r.End() != nil {
		t.Error("it says that it was closed")
	}
	reached := binary.LittleEndian.Uint64(said)
	return got.n, max(0, time.Duration(reached-got.last)), err != nil //nolint:gosec // seconds
}

// childLimited records until no more fits into its file.
func childLimited(arg string) {
	limit, path, _ := strings.Cut(arg, ":")
	n, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		die(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		die(err)
	}
	o := Options{Path: path}
	if n%2 == 1 {
		o.OnFailure = time.Hour
	}
	r, err := Create(o, childMeta(), anyOf(nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	for n := uint64(0); err == nil; {
		r.Failed()
		now := n * 1_000_000
		for range 100 {
			e := childEvent(n, now)
			r.Event(&e)
			n++
		}
		err = r.Tick(now)
	}
	fmt.Println(err)
	if err := r.Close(&End{}); err != nil {
		fmt.Println("close:", err)
	}
	if _, size := r.Written(); size > int64(n) || r.file != nil { //nolint:gosec // small
		fmt.Println("it wrote", size)
	}
}

// TestNoRoom: a recording that has no more room ends behind its last whole block.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	for _, limit := range []int64{3, 100, 5000, 10001, 20000, 33333, 1 << 20, 1<<19 + 1} {
		path := filepath.Join(dir, strconv.FormatInt(limit, 10))
		out, err := child(t, fmt.Sprintf("limited:%d:%s", limit, path)).Output()
		if err != nil {
			t.Fatal(err)
		}
		text := string(out)
		if limit <= 100 { // not even the beginning
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) || strings.Count(text, "file too large") != 1 {
				t.Errorf("limit %d: %v, %s", limit, err, text)
			}
			continue
		}
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if len(lines) != 2 || !strings.HasPrefix(lines[1], "close: ") || strings.Count(text, "file too large") != 2 {
			t.Errorf("limit %d: it says %q", limit, text)
		}
		data := mustRead(t, path)
		got := &numbered{t: t}
		if r := replay(t, data, got); r.End() != nil || int64(len(data)) > limit {
			t.Errorf("limit %d: %d bytes, end %v", limit, len(data), r.End())
		}
		if got.n == 0 && limit > 10_000 {
			t.Errorf("limit %d: no events are there", limit)
		}
	}
}
