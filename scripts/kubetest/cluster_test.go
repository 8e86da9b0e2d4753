// SPDX-License-Identifier: Apache-2.0

//go:build kube

// Package kubetest runs what speaks to Kubernetes against a real API server,
// with a real etcd behind it, on loopback:
//
//	go test -tags kube -timeout 20m ./scripts/kubetest
package kubetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Who the token file of a cluster knows.
const (
	adminToken = "admin-token" // may do everything, without limits of rate
	userToken  = "user-token"  // a user without groups: "user"
)

// patience is how long a test waits for what must come: the machine may be busy.
const patience = 90 * time.Second

// cluster is an API server and its etcd.
type cluster struct {
	owner         *testing.T // with whom it ends
	dir           string
	authorization string
	etcdPort      int
	apiPort       int
	binary        string
	api           *process
}

// startCluster starts one that ends with the test, and waits until it is ready.
// authorization is an --authorization-mode.
func startCluster(t *testing.T, authorization string) *cluster {
	t.Helper()
	c := &cluster{owner: t, dir: t.TempDir(), authorization: authorization, etcdPort: freePort(t), apiPort: freePort(t), binary: apiserver(t)}
	c.write(t, "tokens", fmt.Sprintf("%s,admin,1,system:masters\n%s,user,2\n", adminToken, userToken))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "account.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	startProcess(c.owner, filepath.Join(c.dir, "etcd.log"), "etcd",
		"--data-dir", filepath.Join(c.dir, "etcd"), "--quota-backend-bytes", "2147483648",
		"--listen-client-urls", c.etcdURL(), "--advertise-client-urls", c.etcdURL(),
		"--listen-peer-urls", "http://127.0.0.1:0")
	c.startAPI(t)
	return c
}

func (c *cluster) etcdURL() string { return fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort) }

// url is where the API server is.
func (c *cluster) url() string { return fmt.Sprintf("https://127.0.0.1:%d", c.apiPort) }

// ca is the file with the certificate that signed the API server's.
func (c *cluster) ca() string { return filepath.Join(c.dir, "certs", "apiserver.crt") }

func (c *cluster) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startAPI starts the API server, also again after killAPI, and waits until it is ready.
func (c *cluster) startAPI(t *testing.T) {
	t.Helper()
	c.api = startProcess(c.owner, filepath.Join(c.dir, "apiserver.log"), c.binary,
		"--etcd-servers", c.etcdURL(), "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", fmt.Sprint(c.apiPort), "--cert-dir", filepath.Join(c.dir, "certs"),
		"--token-auth-file", filepath.Join(c.dir, "tokens"), "--authorization-mode", c.authorization,
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", filepath.Join(c.dir, "account.key"),
		"--service-account-signing-key-file", filepath.Join(c.dir, "account.key"),
		"--service-cluster-ip-range", "10.96.0.0/16,fd00:96::/108", "--endpoint-reconciler-type", "none",
		"--disable-admission-plugins", "ServiceAccount")
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	eventually(t, "the API server is ready", func() bool {
		select {
		case <-c.api.done:
			t.Fatalf("the API server ended: %v\n%s", c.api.err, c.api.tail())
		default:
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url()+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// killAPI kills the API server as a crash does.
func (c *cluster) killAPI() { c.api.kill() }

// compact makes etcd forget all old versions: who watches from one is told that it expired.
func (c *cluster) compact(t *testing.T) {
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

// kubeconfig writes a kubeconfig for the server at url with a user, which is
// JSON, and the CA file; empty: the cluster's.
func (c *cluster) kubeconfig(t *testing.T, url, ca, user string) string {
	t.Helper()
	if ca == "" {
		ca = c.ca()
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

// token is the user of a kubeconfig who shows a token.
func token(token string) string { return fmt.Sprintf(`{"token":%q}`, token) }

// client is the administrator's.
func (c *cluster) client(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig(t, c.url(), "", token(adminToken)))
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

// process is a program that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended, with err
	err  error
}

// startProcess starts one that ends with the test. What it says is shown if the test fails.
func startProcess(t *testing.T, log, name string, args ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v: scripts/setup installs what the tests need", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, p.tail())
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error: it has ended
	<-p.done
}

// tail is the end of what it said.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-30):], nil))
}

var build = sync.OnceValues(func() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("../kube/build")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/kube/build: %w\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
})

// apiserver builds kube-apiserver, or finds it in the cache.
func apiserver(t *testing.T) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
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

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}
