// SPDX-License-Identifier: Apache-2.0

//go:build kube || lab

// Package apitest gives tests a real API server, with a real etcd behind it, on
// loopback. It is for tests in the folders beside scripts/kube.
package apitest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The tokens of those whom a cluster knows.
const (
	AdminToken = "admin-token" // may do everything, without limits of rate
	UserToken  = "user-token"  // a user without groups: "user"
)

// Patience is how long a test waits for what must come: the machine may be busy.
const Patience = 90 * time.Second

// Config says what kind of cluster it is.
type Config struct {
	Authorization string // --authorization-mode; empty: AlwaysAllow
	ServiceRange  string // --service-cluster-ip-range; empty: some
}

// Cluster is an API server and its etcd.
type Cluster struct {
	owner    *testing.T // with whom it ends
	dir      string
	config   Config
	etcdPort int
	APIPort  int // on 127.0.0.1
	binary   string
	api      *Process
}

// Start starts one that ends with the test, and waits until it is ready.
func Start(t *testing.T, config Config) *Cluster {
	t.Helper()
	config.Authorization = cmp.Or(config.Authorization, "AlwaysAllow")
	config.ServiceRange = cmp.Or(config.ServiceRange, "10.96.0.0/16,fd00:96::/108")
	c := &Cluster{owner: t, dir: t.TempDir(), config: config, etcdPort: freePort(t), APIPort: freePort(t), binary: Program(t, "kube-apiserver")}
	c.write(t, "tokens", fmt.Sprintf("%s,admin,1,system:masters\n%s,user,2\n", AdminToken, UserToken))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "account.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	StartProcess(c.owner, filepath.Join(c.dir, "etcd.log"), "etcd",
		"--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--quota-backend-bytes", "2147483648",
		"--listen-client-urls", c.etcdURL(), "--advertise-client-urls", c.etcdURL(),
		"--listen-peer-urls", "http://127.0.0.1:0")
	c.StartAPI(t)
	return c
}

func (c *Cluster) etcdURL() string { return fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort) }

// URL is where the API server is.
func (c *Cluster) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.APIPort) }

// CA is the file with the certificate that signed the API server's.
func (c *Cluster) CA() string { return filepath.Join(c.dir, "certs", "apiserver.crt") }

func (c *Cluster) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// StartAPI starts the API server, also again after KillAPI, and waits until it is ready.
func (c *Cluster) StartAPI(t *testing.T) {
	t.Helper()
	c.api = StartProcess(c.owner, filepath.Join(c.dir, "apiserver.log"), c.binary,
		"--etcd-servers", c.etcdURL(), "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", fmt.Sprint(c.APIPort), "--cert-dir", filepath.Join(c.dir, "certs"),
		"--token-auth-file", filepath.Join(c.dir, "tokens"), "--authorization-mode", c.config.Authorization,
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", filepath.Join(c.dir, "account.key"),
		"--service-account-signing-key-file", filepath.Join(c.dir, "account.key"),
		"--service-cluster-ip-range", c.config.ServiceRange, "--endpoint-reconciler-type", "none",
		"--disable-admission-plugins", "ServiceAccount")
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	Eventually(t, "the API server is ready", func() bool {
		select {
		case <-c.api.Done:
			t.Fatalf("the API server ended: %v\n%s", c.api.Err, c.api.Tail())
		default:
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL()+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+AdminToken)
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// KillAPI kills the API server as a crash does.
func (c *Cluster) KillAPI() { c.api.Kill() }

// Compact makes etcd forget all old versions: who watches from one is told that it expired.
func (c *Cluster) Compact(t *testing.T) {
	t.Helper()
	post := func(path, body string) (answer struct {
		Header struct{ Revision json.Number }
	}) {
		resp, err := http.Post(c.etcdURL()+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		if err == nil {
			err = json.Unmarshal(text, &answer)
		}
		if err != nil {
			t.Fatalf("etcd %s: %v", path, err)
		}
		return answer
	}
	now := post("/v3/kv/range", `{"key":"AA=="}`).Header.Revision
	post("/v3/kv/compaction", fmt.Sprintf(`{"revision":%s,"physical":true}`, now))
}

// Kubeconfig writes a kubeconfig for the server at url with a user, which is
// JSON, and the CA file; empty: the cluster's.
func (c *Cluster) Kubeconfig(t *testing.T, url, ca, user string) string {
	t.Helper()
	if ca == "" {
		ca = c.CA()
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"test",
		"clusters":[{"name":"test","cluster":{"server":%q,"certificate-authority":%q}}],
		"users":[{"name":"test","user":%s}],
		"contexts":[{"name":"test","context":{"cluster":"test","user":"test","namespace":"shop"}}]}`, url, ca, user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// GuestKubeconfig writes the administrator's kubeconfig for a guest that reaches
// this machine's port as 10.0.2.100 (scripts/vm -g). It needs no other file.
func (c *Cluster) GuestKubeconfig(t *testing.T) string {
	t.Helper()
	ca, err := os.ReadFile(c.CA())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	// The certificate is not made out to the address that the guest knows.
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"test",
		"clusters":[{"name":"test","cluster":{"server":"https://10.0.2.100:%d","tls-server-name":"kubernetes.default.svc","certificate-authority-data":%q}}],
		"users":[{"name":"test","user":%s}],
		"contexts":[{"name":"test","context":{"cluster":"test","user":"test"}}]}`,
		c.APIPort, base64.StdEncoding.EncodeToString(ca), Token(AdminToken))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Token is the user of a kubeconfig who shows a token.
func Token(token string) string { return fmt.Sprintf(`{"token":%q}`, token) }

// Client is the administrator's.
func (c *Cluster) Client(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig(t, c.URL(), "", Token(AdminToken)))
	if err != nil {
		t.Fatal(err)
	}
	rc.QPS = -1
	rc.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Process is a program that runs beside the test.
type Process struct {
	Cmd  *exec.Cmd
	Log  string        // the file with what it says
	Done chan struct{} // closed when it has ended, with Err
	Err  error
}

// StartProcess starts one that ends with the test. What it says is shown if the test fails.
func StartProcess(t *testing.T, log, name string, args ...string) *Process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &Process{Cmd: exec.Command(name, args...), Log: log, Done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = out, out
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("start %s: %v: scripts/setup installs what the tests need", name, err)
	}
	go func() {
		p.Err = p.Cmd.Wait()
		close(p.Done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, p.Tail())
		}
	})
	return p
}

// Kill ends it, and returns when it has ended.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // an error: it has ended
	<-p.Done
}

// Tail is the end of what it said.
func (p *Process) Tail() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-30):], nil))
}

// Program builds one of Kubernetes's programs, or finds it in the cache.
func Program(t *testing.T, name string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("../kube/build", name)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scripts/kube/build: %v\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Eventually waits for a condition.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", Patience, what)
		}
	}
}
