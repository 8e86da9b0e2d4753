// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// source is a capture as a Source, and how many packets it shows at devices.
func source(t *testing.T, file string) (Source, int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := events.ReadCapture(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	stations := map[events.HookID]events.Station{}
	for _, h := range c.Hooks {
		stations[h.ID] = h.Station
	}
	want := 0
	for i := range c.Events {
		switch stations[c.Events[i].Hook] {
		case events.StationReceive, events.StationTransmit:
			want++
		}
	}
	return Source{
		Config: events.Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: c.Header.HasFunctions, Node: strings.TrimSuffix(filepath.Base(file), ".jsonl")},
		Kernel: c.Header.Kernel, Arch: "x86_64", Replay: replay(c.Events),
	}, want
}

func replay(evs []events.Event) func(Sink) error {
	return func(s Sink) error {
		for i := range evs {
			e := evs[i]
			e.Bytes = append([]byte(nil), e.Bytes...)
			s.Event(&e)
			for k := range e.Bytes { // they are the reader's again
				e.Bytes[k] = 0xee
			}
		}
		return nil
	}
}

// export writes a file for the tools.
func export(t *testing.T, in Input) (path string, stats Stats) {
	t.Helper()
	var b bytes.Buffer
	stats, err := Export(&b, in)
	if err != nil {
		t.Fatal(err)
	}
	readBlocks(t, b.Bytes())
	path = filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, stats
}

// run runs a tool that scripts/setup installs, and returns its output's lines.
// What it says on standard error is an error, but for what it says about root.
func run(t *testing.T, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, errs.Bytes())
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, "Running as user") && !strings.HasPrefix(line, "reading from file") {
			t.Errorf("%s %q: %s", name, args, line)
		}
	}
	text := strings.TrimSuffix(out.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// tshark lists the numbers of the packets for which a display filter holds.
func tshark(t *testing.T, path, filter string) []string {
	t.Helper()
	return run(t, "tshark", "-n", "-r", path, "-o", "ip.check_checksum:TRUE", "-Y", filter, "-T", "fields", "-e", "frame.number")
}

// checkTools holds a file against tcpdump and tshark: both show all packets,
// and nothing is wrong with any.
func checkTools(t *testing.T, path string, packets int) {
	t.Helper()
	if got := len(run(t, "tcpdump", "-n", "-t", "-r", path)); got != packets {
		t.Errorf("tcpdump shows %d packets, not %d", got, packets)
	}
	if got := len(tshark(t, path, "frame")); got != packets {
		t.Errorf("tshark shows %d packets, not %d", got, packets)
	}
	if bad := tshark(t, path, `_ws.malformed or ip.checksum.status == "Bad" or frame.time_delta < 0`); bad != nil {
		t.Errorf("tshark complains of packets %v", bad)
	}
}

// TestCaptures exports the captures of all cases of each kernel, as if every
// case were a node's recording.
func TestCaptures(t *testing.T) {
	for _, kernel := range []string{"5.10", "6.1", "6.12", "6.18", "7"} {
		t.Run(kernel, func(t *testing.T) {
			files, err := filepath.Glob("../testdata/captures/" + kernel + "-case*.jsonl")
			if err != nil || len(files) < 10 {
				t.Fatalf("captures %v: %v", files, err)
			}
			var in Input
			want, case7 := 0, 0
			for _, f := range files {
				s, n := source(t, f)
				in.Sources = append(in.Sources, s)
				want += n
				if strings.HasSuffix(f, "case7.jsonl") {
					case7 = n
				}
			}
			path, stats := export(t, in)
			if stats.Packets != want || stats.Rebuilt != want || stats.NoHeaders != 0 || stats.Unselected != 0 {
				t.Errorf("%+v, want %d packets, all rebuilt", stats, want)
			}
			checkTools(t, path, want)
			found := tshark(t, path, `frame.comment contains "terminated in IPVS"`)
			at7 := tshark(t, path, `frame.comment contains "terminated in IPVS" and frame.interface_name == "centos/eth0" and tcp.flags.syn == 1 and ip.dst == 8.219.164.113`)
			if len(found) == 0 || len(found) >= case7 || len(at7) != 1 {
				t.Errorf("terminated in IPVS: packets %v, of them case 7's SYN at the client %v", found, at7)
			}
		})
	}
}

// TestCase7 shows the whole file.
func TestCase7(t *testing.T) {
	s, _ := source(t, "../testdata/captures/6.12-case7.jsonl")
	s.Config.Node, s.Filter = "n1", "tcp port 80"
	s.Lost, s.Matched, s.Delivered = map[string]uint64{"ring": 3, "stitch": 0}, 2, 59
	path, _ := export(t, Input{Tool: "stackhop v1.2.3", Sources: []Source{s}})
	golden(t, "case7", path)
	ids := run(t, "tshark", "-n", "-r", path, "-Y", `frame.comment contains "terminated in IPVS"`, "-T", "fields", "-e", "frame.packet_id")
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
		t.Fatalf("packet ids %v, want the same one at three devices", ids)
	}
	if got := tshark(t, path, "frame.packet_id == "+ids[0]); len(got) != 3 {
		t.Errorf("packets %v have the id of a traversal of three", got)
	}
	counts := run(t, "tshark", "-X", "read_format:MIME Files Format", "-r", path, "-T", "fields",
		"-e", "pcapng.options.option.data.interface.dropped", "-e", "pcapng.options.option.data.interface.dropped_by_os",
		"-e", "pcapng.options.option.data.interface.accepted_by_filter", "-e", "pcapng.options.option.data.interface.delivered_to_user")
	// Of each device what passed it; then of the run.
	if want := []string{"3\t3\t2\t2,2,2,59"}; !slices.Equal(counts, want) {
		t.Errorf("tshark reads %q as what was dropped, dropped by the OS, accepted and delivered, want %q", counts, want)
	}
}

// golden compares a file's dump with testdata/NAME.golden.
func golden(t *testing.T, name, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := dump(t, file)
	at := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(at, []byte(got), 0o644); err != nil { //nolint:gosec // test data is public
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("other than in %s (-update rewrites it):\n%s", at, got)
	}
}
