// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stackhop/stackhop/events"
)

// recordings: a replay shows what was seen live, two nodes' recordings make one
// picture whatever their clocks say, and what is made of recordings holds.
func (c *checker) recordings() (err error) {
	dir, err := os.MkdirTemp("", "lab-recordings-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := slowTCP(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quickTCP()) }()
	r := &recordingsCheck{checker: c, dir: dir, cases: []string{"4", "5", "6", "9"}, selection: "tcp or udp"}
	r.lose = r.unroute
	start := time.Now()
	for _, step := range []func() error{r.live, r.pair, r.merged, r.skewed, r.redacted, r.report, r.killed} {
		if err := step(); err != nil {
			return errors.Join(err, faultsError(r.faults))
		}
		c.fact("after %.0f s", time.Since(start).Seconds())
	}
	return faultsError(r.faults)
}

// recordingsCheck is one run of that check.
type recordingsCheck struct {
	*checker
	dir     string
	faults  []string
	seconds []string

	cases     []string                       // that two nodes record
	selection string                         // of their recordings
	lose      func(while func() error) error // loses what n1 sends to pods on n2
	// maxDoubt is up to what the clocks may differ as a merge itself says; 0: maxClockError.
	maxDoubt time.Duration

	list     []*verified         // what the oracle says of the cases that both nodes recorded
	lost     []string            // the clients' addresses of the SYNs that were lost between them
	together []*events.Traversal // of both nodes
}

func (r *recordingsCheck) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// path is that of a file of the check.
func (r *recordingsCheck) path(name string) string { return filepath.Join(r.dir, name) }

// outPath is that of a file for the caller, who may not want any.
func (r *recordingsCheck) outPath(name string) string {
	if r.outDir == "" {
		return r.path(name)
	}
	return filepath.Join(r.outDir, name)
}

// replay runs `replay -o json`.
func (r *recordingsCheck) replay(files ...string) (*session, []*events.Traversal, error) {
	s, err := r.tool.run(append([]string{"replay", "-o", "json"}, files...)...)
	if err != nil {
		return nil, nil, err
	}
	all, err := s.traversals()
	return s, all, err
}

// live records cases and shows them at the same time: the cases are as the
// scenarios say, and a replay shows the same, byte for byte.
func (r *recordingsCheck) live() error {
	file, results := r.path("live.hop"), r.path("live.results")
	s, err := r.tool.run("record", "--names", r.tool.names, "--print", "-o", "json", "-w", file, "tcp or icmp",
		"--", r.me, "cases", "-json", "-o", results, "1", "2", "3", "5", "6", "7")
	if err != nil {
		return err
	}
	all, err := s.traversals()
	if err != nil {
		return err
	}
	if r.list, err = readResults(results); err != nil {
		return err
	}
	assign(r.list, all)
	for _, v := range r.list {
		v.compare()
		for _, f := range v.faults() {
			r.fault("live, case %s: %s", v.c.id, f)
		}
	}
	again, _, err := r.replay(file)
	if err != nil {
		return err
	}
	if d := firstDifference(s.stdout.Bytes(), again.stdout.Bytes()); d != "" {
		r.fault("the replay is not what was live: %s", d)
	}
	r.fact("%d traversals of six cases live, and again in the replay", len(all))
	if err := r.inside(file); err != nil {
		return err
	}
	return r.export(file)
}

// firstDifference tells where two texts begin to differ; empty: nowhere.
func firstDifference(want, got []byte) string {
	wants, gots := bytes.Split(want, []byte{'\n'}), bytes.Split(got, []byte{'\n'})
	for i := range min(len(wants), len(gots)) {
		w, g := wants[i], gots[i]
		at := 0
		for at < min(len(w), len(g)) && w[at] == g[at] {
			at++
		}
		if at < len(w) || at < len(g) {
			from := max(0, at-80)
			return fmt.Sprintf("line %d is …%.200s, want …%.200s", i+1, g[from:], w[from:])
		}
	}
	if len(wants) != len(gots) {
		return fmt.Sprintf("%d lines, want %d", len(gots)-1, len(wants)-1)
	}
	return ""
}

// export makes a pcapng, and leaves it and the number of packets in it to the
// caller, who can read it with other programs.
func (r *recordingsCheck) export(file string) error {
	s, err := r.tool.run("export", file, "-o", r.outPath("live.pcapng"))
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`(?m)^stackhop: (\d+) packets on (\d+) interfaces written`).FindStringSubmatch(s.stderr.String())
	if m == nil {
		return fmt.Errorf("export does not say what it wrote: %s", s.stderr.String())
	}
	r.fact("export: %s packets on %s interfaces", m[1], m[2])
	return r.leave("exported", m[1]+"\n")
}

// pair records cases on two nodes at the same time, each by itself, and loses a
// packet between them.
func (r *recordingsCheck) pair() error {
	var recorders []*session
	for _, node := range []string{"n1", "n2"} {
		s, err := r.startRecorder(node, "--only-node", node, "--print", "-o", "json")
		if err != nil {
			return err
		}
		recorders = append(recorders, s)
	}
	if err := r.ready(recorders, "n1", "n2"); err != nil {
		return err
	}
	results := r.path("pair.results")
	if _, err := output(r.me, append([]string{"cases", "-json", "-o", results}, r.cases...)...); err != nil {
		return err
	}
	var err error
	if r.list, err = readResults(results); err != nil {
		return err
	}
	if err := r.loseSYNs(); err != nil {
		return err
	}
	// Both at once: to detach takes its time.
	for _, s := range recorders {
		if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
			return err
		}
	}
	for i, node := range []string{"n1", "n2"} {
		if err := recorders[i].good(); err != nil {
			return fmt.Errorf("recorder of %s: %w", node, err)
		}
		if err := r.alone(node, recorders[i]); err != nil {
			return err
		}
	}
	return nil
}

// startRecorder starts `record -w NAME.hop`, without waiting for it.
func (r *recordingsCheck) startRecorder(name string, args ...string) (*session, error) {
	args = append([]string{"record", "--names", r.tool.names, "-w", r.path(name + ".hop"), "--ready-file", r.path(name + ".ready")}, args...)
	return r.tool.launch(append(args, r.selection)...)
}

// ready waits until recorders are.
func (r *recordingsCheck) ready(recorders []*session, names ...string) error {
	for i, s := range recorders {
		if err := s.await(func() bool { _, err := os.Stat(r.path(names[i] + ".ready")); return err == nil }); err != nil {
			return fmt.Errorf("recorder %s did not get ready: %w", names[i], err)
		}
	}
	return nil
}

// lostWait is long enough for a packet to be missed on the other node, and so
// short that the client does not send it again.
const lostWait = 700 * time.Millisecond

// lostSYNs: on preemptible kernels a hook is left out now and then, on n2 too,
// and near that moment nothing is claimed. Not near each of several.
const lostSYNs = 3

// loseSYNs sends SYNs from n1 to a pod on n2 that do not come there.
func (r *recordingsCheck) loseSYNs() (err error) {
	return r.lose(func() error {
		for range lostSYNs {
			if err := r.loseSYN(); err != nil {
				return err
			}
		}
		return nil
	})
}

// unroute lets the network have no route to the pods on n2.
func (r *recordingsCheck) unroute(while func() error) (err error) {
	n2, err := findNode("n2")
	if err != nil {
		return err
	}
	vpc := openHost("vpc")
	defer vpc.close()
	route := hop{to: n2.cidr, dev: n2.name, via: n2.ip}
	vpc.unroute(route)
	if vpc.err != nil {
		return vpc.err
	}
	defer func() {
		vpc.route(route)
		err = errors.Join(err, vpc.err)
	}()
	return while()
}

func (r *recordingsCheck) loseSYN() error {
	// Only from then on is a packet missed.
	missed := time.After(lostWait)
	err := inNetns("centos", func() error {
		conn, local, err := dial("tcp", vipNginx1+":80", lostWait)
		if err == nil {
			conn.Close()
			return errors.New("a connection was made although its packets are lost")
		}
		r.lost = append(r.lost, local)
		return nil
	})
	<-missed
	return err
}

// isBeside says whether a packet comes beside those of the cases: the network's
// answer to a SYN that it has no route for, and redirects of case 9, whose
// packets n1 sends back where they came from.
func (r *recordingsCheck) isBeside(t *events.Traversal) bool {
	return strings.HasPrefix(t.ICMP, "5/") || t.ICMP == "3/0" && t.Src.IP == gateway && t.Dst.IP == hostOf(r.lost[0])
}

// alone compares what one node recorded with its part of the cases, and with what
// was seen live.
func (r *recordingsCheck) alone(node string, live *session) error {
	s, all, err := r.replay(r.path(node + ".hop"))
	if err != nil {
		return err
	}
	if d := firstDifference(live.stdout.Bytes(), s.stdout.Bytes()); d != "" {
		r.fault("%s alone: the replay is not what was live: %s", node, d)
	}
	lost := 0
	all = slices.DeleteFunc(all, func(t *events.Traversal) bool {
		if r.isBeside(t) {
			return true
		}
		if !slices.Contains(r.lost, address(t.Src)) {
			return false
		}
		lost++
		if t.Verdict != events.LeftNode || t.Node != node {
			r.fault("%s alone: a lost SYN: %s, %s", node, t.Node, t.Summary)
		}
		return true
	})
	if want := map[string]int{"n1": lostSYNs, "n2": 0}[node]; lost != want {
		r.fault("%s alone: %d lost SYNs, want %d", node, lost, want)
	}
	r.faults = append(r.faults, compareNode(node, r.list, all)...)
	r.fact("%s alone: %d traversals", node, len(all)+lost)
	return nil
}

// report makes a page of both nodes, and leaves it to the caller.
func (r *recordingsCheck) report() error {
	path := r.outPath("merged.html")
	if _, err := r.tool.run("report", r.path("n1.hop"), r.path("n2.hop"), "-o", path); err != nil {
		return err
	}
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(page, []byte("never arrived at n2")) || !bytes.Contains(page, []byte("</html>")) {
		r.fault("the page is not whole, or does not tell of a lost SYN")
	}
	r.fact("report: %d bytes", len(page))
	return nil
}
