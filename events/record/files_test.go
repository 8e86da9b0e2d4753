// SPDX-License-Identifier: Apache-2.0

//go:build unix

package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFileMode: a file is its owner's alone, whatever the umask.
func TestFileMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "x.hop")
	if err := os.WriteFile(path, nil, 0o666); err != nil { //nolint:gosec // which must not be kept
		t.Fatal(err)
	}
	r, err := Create(Options{Path: path, Force: true}, &Meta{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// TestInTheWay: what is there already is refused with a way out, and not touched.
func TestInTheWay(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	const was = "what was there"
	if err := errors.Join(
		os.WriteFile(in("file"), []byte(was), 0o600), os.WriteFile(in("target"), []byte(was), 0o600),
		os.Symlink("target", in("link")), os.Symlink("nothing", in("dangling")), os.Symlink("/dev/null", in("link to a device")),
		os.Mkdir(in("directory"), 0o700), syscall.Mkfifo(in("pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, want string
		forced     string // with Force; empty: it is replaced
	}{
		{in("file"), "choose another name, or --force", ""},
		{in("link"), "symbolic link, which is not followed", "choose another name, or remove the link"},
		{in("dangling"), "symbolic link, which is not followed", "choose another name, or remove the link"},
		{in("link to a device"), "symbolic link, which is not followed", "choose another name, or remove the link"},
		{in("directory"), "is a directory: give the name of a file in it", "is a directory"},
		{in("pipe"), "not a file: choose another name, or - for standard output", "not a file"},
		{"/dev/null", "not a file: choose another name, or - for standard output", "not a file"},
		{in("no/where"), "no such file or directory", "no such file or directory"},
	} {
		for _, force := range []bool{false, true} {
			want := tt.want
			if force {
				want = tt.forced
			}
			r, err := Create(Options{Path: tt.path, Force: force}, &Meta{}, nil)
			switch {
			case err == nil && want != "":
				t.Errorf("%s, force %v: no error", tt.path, force)
			case err == nil:
				err = r.Close(&End{})
				fallthrough
			default:
				if (err != nil) != (want != "") || (err != nil && !strings.Contains(err.Error(), want)) {
					t.Errorf("%s, force %v: %v", tt.path, force, err)
				}
			}
		}
	}
	if data, err := os.ReadFile(in("target")); err != nil || string(data) != was {
		t.Errorf("behind the link there is %q, %v", data, err)
	}
	if _, err := os.Lstat(in("nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dangling link was followed: %v", err)
	}
	replay(t, mustRead(t, in("file")), &counter{})
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPartsInTheWay: the parts of another run of that name are refused at once, or
// all removed, and nothing else is.
func TestPartsInTheWay(t *testing.T) {
	dir := t.TempDir()
	const mark = "another's"
	others := []string{"x.hop", "x.0001.hop.gz", "x.001.hop", "x.00a1.hop", "y.0001.hop", "x.0001.png"}
	parts := []string{"x.0001.hop", "x.0007.hop", "x.12345.hop"}
	for _, name := range append(others, parts...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(mark), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Path: filepath.Join(dir, "x.hop"), Parts: 2, PartBytes: 1 << 20}
	if _, err := Create(o, &Meta{}, nil); err == nil || !strings.Contains(err.Error(), "x.0001.hop is there already") {
		t.Errorf("%v", err)
	}
	o.Force = true
	r, err := Create(o, &Meta{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range others {
		if got := string(mustRead(t, filepath.Join(dir, name))); got != mark {
			t.Errorf("%s was changed", name)
		}
	}
	for _, name := range parts[1:] {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

// TestNextPartInTheWay: if the next part cannot be begun, the run is told, and the
// parts before it are whole.
func TestNextPartInTheWay(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 20, 1, 20*time.Second)
	path := filepath.Join(t.TempDir(), "x.hop")
	r := create(t, Options{Path: path, Parts: 5, PartBytes: 10 << 10}, w)
	if err := os.Symlink("elsewhere", partPath(path, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := drive(t, r, w, nil); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("%v", err)
	}
	n, size := r.Written()
	r.Event(&w.events[0])
	if err := r.Close(&End{}); err != nil {
		t.Error(err)
	}
	if again, sizeAgain := r.Written(); again != n || sizeAgain != size || len(r.Files()) != 1 {
		t.Errorf("%d events, then %d; %d bytes, then %d; %v", n, again, size, sizeAgain, r.Files())
	}
	c := &counter{}
	if rd := replay(t, mustRead(t, partPath(path, 0)), c); rd.End() == nil || uint64(c.events) != n { //nolint:gosec // not negative
		t.Errorf("%d events, end %v", c.events, rd.End())
	}
}

// TestOwn: what is to be done with a file that was created is done, and if it
// fails there is none.
func TestOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.hop")
	var got string
	fails := errors.New("it fails")
	o := Options{Path: path, Own: func(f *os.File) error { got = f.Name(); return fails }}
	if _, err := Create(o, &Meta{}, nil); !errors.Is(err, fails) || got != path {
		t.Errorf("%v, %q", err, got)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
}
