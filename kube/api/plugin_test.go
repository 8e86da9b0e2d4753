// SPDX-License-Identifier: Apache-2.0

//go:build unix

package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/internal/cpubound"
	"github.com/stackhop/stackhop/kube"
)

// insecure is of a cluster: the library drops credentials where there is no TLS.
const insecure = `,"insecure-skip-tls-verify":true`

const plugV1 = "client.authentication.k8s.io/v1"

// execUser is a kubeconfig's user whose plugin is a shell script.
func execUser(t *testing.T, script, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"exec":{"apiVersion":%q,"command":%q,"args":["one"],"env":[{"name":"TOKEN","value":"secret"}],"interactiveMode":"IfAvailable"%s}}`, plugV1, file, more)
}

func handsOut(token string) string {
	return fmt.Sprintf(`printf '{"apiVersion":%q,"kind":"ExecCredential","status":{"token":"%%s"}}' %s`, plugV1, token)
}

// What the plugin hands out is shown to the server, and asked for again when it is refused.
func TestPlugin(t *testing.T) {
	f := newFake(t, true)
	runs := filepath.Join(t.TempDir(), "runs")
	script := `echo "$1 $KUBERNETES_EXEC_INFO" >>` + runs + "\n" + handsOut(`$TOKEN-$(wc -l <`+runs+")")
	f.when(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.TrimSpace(r.Header.Get("Authorization")) != "Bearer secret-2" && status(w, 401, "Unauthorized")
	})
	b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, insecure, execUser(t, script, `,"provideClusterInfo":true`))})
	eventually(t, "current with the second token", func() bool { return b.state() == kube.Current })
	said, err := os.ReadFile(runs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "one {") || !strings.Contains(lines[0], `"server":"`+f.URL+`"`) || !strings.Contains(lines[0], `"interactive":false`) {
		t.Errorf("the plugin was run with %q", lines)
	}
}

// A file with a token is read again when the server refuses what was in it.
func TestTokenFile(t *testing.T) {
	f := newFake(t, true)
	f.when(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") != "Bearer new" && status(w, 401, "Unauthorized")
	})
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, insecure, fmt.Sprintf(`{"tokenFile":%q}`, file))})
	eventually(t, "the old token is refused", func() bool { return len(b.warnings()) > 0 })
	write("new")
	eventually(t, "current with the new token", func() bool { return b.state() == kube.Current })
}

// A plugin that does not work costs one warning, and nothing on standard error.
func TestPluginTrouble(t *testing.T) {
	tests := []struct{ name, script, more, warning string }{
		{"fails", "echo one >&2; echo 'log in first' >&2; exit 3", "", "exit status 3: log in first"},
		{"asks", "printf 'Password: ' >&2; read answer || exit 4", "", "exit status 4: Password:"},
		{"asks at the terminal", "cat /dev/tty", "", "/dev/tty"},
		{"must ask", "exit 0", `,"interactiveMode":"Always"`, "has to ask at a terminal"},
		{"hangs", "sleep 1000", "", "it has not ended after 300ms"},
		{"says nothing", "exit 0", "", "parse what it wrote"},
		{"writes without end", "cat /dev/zero", "", "it has not ended after 300ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			defer func(old *os.File) { os.Stderr = old }(os.Stderr)
			os.Stderr = stderr

			f := newFake(t, true)
			timeout := 300 * time.Millisecond
			if !strings.Contains(tt.warning, "300ms") {
				timeout = patience
			}
			b, stop := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, insecure, execUser(t, tt.script, tt.more)), Timeout: timeout})
			eventually(t, "told", func() bool { return len(b.warnings()) > 0 && b.state() == kube.Absent })
			if w := b.warnings(); len(w) != 1 || !strings.Contains(w[0], tt.warning) || !strings.Contains(w[0], "credential plugin failed") {
				t.Errorf("warnings %q, want one with %q", w, tt.warning)
			}
			stop()
			if text, err := os.ReadFile(stderr.Name()); err != nil || len(text) > 0 {
				t.Errorf("standard error has %q (%v)", text, err)
			}
			if n := f.requests(""); n > 0 {
				t.Errorf("%d requests were made without credentials", n)
			}
		})
	}
}

// Run ends at once, even while a plugin hangs.
func TestPluginStop(t *testing.T) {
	f := newFake(t, true)
	began := filepath.Join(t.TempDir(), "began")
	_, stop := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, insecure, execUser(t, "touch "+began+"; sleep 1000", ""))})
	eventually(t, "the plugin runs", func() bool { _, err := os.Stat(began); return err == nil })
	from := time.Now()
	stop()
	if d := time.Since(from); d > 2*time.Second {
		t.Errorf("it took %v to stop", d)
	}
}

func TestParseCredential(t *testing.T) {
	good := func(status string) string {
		return fmt.Sprintf(`{"apiVersion":%q,"kind":"ExecCredential","status":%s}`, plugV1, status)
	}
	for _, bad := range []string{
		"", "null", "{}", good("null"), good("{}"), good(`{"token":7}`), good(`{"clientCertificateData":"x","clientKeyData":"y"}`),
		strings.Replace(good(`{"token":"x"}`), plugV1, plugV1+"beta1", 1), strings.Replace(good(`{"token":"x"}`), "ExecCredential", "Pod", 1),
	} {
		if c, err := parseCredential([]byte(bad), plugV1); err == nil {
			t.Errorf("%s: %+v, want an error", bad, c)
		}
	}
	c, err := parseCredential([]byte(good(`{"token":"x","expirationTimestamp":"2026-01-02T03:04:05Z"}`)), plugV1)
	if err != nil || c.token != "x" || !c.expires.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzParseCredential(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"` + plugV1 + `","kind":"ExecCredential","status":{"token":"x","expirationTimestamp":"2026-01-02T03:04:05Z"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer cpubound.Run(t)()
		c, err := parseCredential(data, plugV1)
		if (c == nil) == (err == nil) {
			t.Fatalf("%+v, %v: want one of both", c, err)
		}
		if c != nil && c.token == "" && c.cert == nil {
			t.Fatal("a credential that has nothing")
		}
	})
}

func TestLimitedBuffer(t *testing.T) {
	b := limitedBuffer{limit: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := b.Write([]byte(s)); n != 3 || err != nil {
			t.Fatal(n, err)
		}
	}
	if string(b.data) != "abcde" {
		t.Errorf("%q", b.data)
	}
}

// An answer that never ends is given up.
func TestLongAnswer(t *testing.T) {
	body := &limitedBody{ReadCloser: http.NoBody, left: 3}
	body.ReadCloser = readCloser{strings.NewReader("abcdef")}
	p := make([]byte, 2)
	if n, err := body.Read(p); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := body.Read(p); !errors.Is(err, errLong) {
		t.Fatalf("%v, want %v", err, errLong)
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
