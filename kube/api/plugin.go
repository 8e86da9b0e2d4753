// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	clientauth "k8s.io/client-go/pkg/apis/clientauthentication/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// maxCredential is what a plugin may write, in bytes.
	maxCredential = 1 << 20
	// failureStands is how long a plugin's failure is believed before it is run
	// again: the watchers ask side by side.
	failureStands = 5 * time.Second
)

// plugin is a kubeconfig's command that hands out credentials.
type plugin struct {
	config  *clientcmdapi.ExecConfig
	info    string // for its environment
	timeout time.Duration

	turn    chan struct{} // has room for the one that runs it
	current atomic.Pointer[credential]
	failure error // of the last run, guarded by turn
	failed  time.Time
}

// credential is what it handed out.
type credential struct {
	token   string
	cert    *tls.Certificate
	expires time.Time // zero: never
}

// pluginError is a failure of the plugin, not of the API server.
type pluginError struct {
	command string
	cause   error
}

func (e *pluginError) Error() string { return e.command + ": " + e.cause.Error() }
func (e *pluginError) Unwrap() error { return e.cause }

// takePlugin takes the plugin out of a configuration; nil: it has none, or
// other credentials that come first.
func takePlugin(rc *rest.Config, timeout time.Duration) (*plugin, error) {
	config := rc.ExecProvider
	if config == nil {
		return nil, nil
	}
	version := config.APIVersion
	if version != "client.authentication.k8s.io/v1" && version != "client.authentication.k8s.io/v1beta1" {
		return nil, fmt.Errorf("read kubeconfig: the credential plugin %s has the unknown apiVersion %q", config.Command, version)
	}
	request := clientauth.ExecCredential{}
	request.APIVersion, request.Kind = version, "ExecCredential"
	if config.ProvideClusterInfo {
		cluster, err := rest.ConfigToExecCluster(rc)
		if err != nil {
			return nil, fmt.Errorf("describe the cluster for the credential plugin %s: %w", config.Command, err)
		}
		request.Spec.Cluster = &clientauth.Cluster{
			Server: cluster.Server, TLSServerName: cluster.TLSServerName, InsecureSkipTLSVerify: cluster.InsecureSkipTLSVerify,
			CertificateAuthorityData: cluster.CertificateAuthorityData, ProxyURL: cluster.ProxyURL,
			DisableCompression: cluster.DisableCompression,
		}
		request.Spec.Cluster.Config.Object = cluster.Config
	}
	info, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("describe the cluster for the credential plugin %s: %w", config.Command, err)
	}
	rc.ExecProvider = nil
	if rc.BearerToken != "" || rc.BearerTokenFile != "" || rc.Username != "" || len(rc.CertData) > 0 {
		return nil, nil
	}
	return &plugin{config: config, info: string(info), timeout: timeout, turn: make(chan struct{}, 1)}, nil
}

// credential runs the plugin if there is none that is still good.
func (p *plugin) credential(ctx context.Context) (*credential, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done(): // another request has run it for all this time
		return nil, &pluginError{p.config.Command, p.slow()}
	}
	if c := p.current.Load(); c != nil && (c.expires.IsZero() || time.Now().Before(c.expires)) {
		return c, nil
	}
	if p.failure != nil && time.Since(p.failed) < failureStands {
		return nil, p.failure
	}
	c, err := p.run(ctx)
	if err != nil {
		p.failure, p.failed = &pluginError{p.config.Command, err}, time.Now()
		return nil, p.failure
	}
	p.failure = nil
	p.current.Store(c)
	return c, nil
}

func (p *plugin) slow() error { return fmt.Errorf("it has not ended after %v", p.timeout) }

// refused drops a credential that the API server does not take.
func (p *plugin) refused(c *credential) { p.current.CompareAndSwap(c, nil) }

// certificate is asked for while a connection is made, after credential.
func (p *plugin) certificate() (*tls.Certificate, error) {
	if c := p.current.Load(); c != nil {
		return c.cert, nil
	}
	return nil, nil
}

// run runs it without a standard input, and for a limited time.
func (p *plugin) run(ctx context.Context) (*credential, error) {
	if p.config.InteractiveMode == clientcmdapi.AlwaysExecInteractiveMode {
		return nil, errors.New("it has to ask at a terminal (interactiveMode: Always)")
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.config.Command, p.config.Args...)
	cmd.Env = os.Environ()
	for _, e := range p.config.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.Env = append(cmd.Env, "KUBERNETES_EXEC_INFO="+p.info)
	stdout, stderr := &limitedBuffer{limit: maxCredential}, &limitedBuffer{limit: 4096}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // its children may hold the pipes open
	alone(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, p.slow()
		}
		if said := lastLine(string(stderr.data)); said != "" {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		return nil, err
	}
	return parseCredential(stdout.data, p.config.APIVersion)
}

// parseCredential reads what a plugin wrote.
func parseCredential(data []byte, version string) (*credential, error) {
	var answer clientauth.ExecCredential
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("parse what it wrote: %w", err)
	}
	status := answer.Status
	switch {
	case answer.Kind != "ExecCredential" || answer.APIVersion != version:
		return nil, fmt.Errorf("it wrote no ExecCredential of %s", version)
	case status == nil || status.Token == "" && status.ClientCertificateData == "":
		return nil, errors.New("it wrote neither a token nor a certificate")
	}
	c := &credential{token: status.Token}
	if status.ExpirationTimestamp != nil {
		c.expires = status.ExpirationTimestamp.Time
	}
	if status.ClientCertificateData != "" {
		cert, err := tls.X509KeyPair([]byte(status.ClientCertificateData), []byte(status.ClientKeyData))
		if err != nil {
			return nil, fmt.Errorf("read the certificate that it wrote: %w", err)
		}
		c.cert = &cert
	}
	return c, nil
}

// lastLine is the last line that has something: the ones before tell how it came.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

// limitedBuffer keeps the beginning of what is written.
type limitedBuffer struct {
	data  []byte
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p[:min(len(p), b.limit-len(b.data))]...)
	return len(p), nil
}
